/* The rpcs of crisp's own Admin service that look after the image store. */
#include "admin.pb-c.h"
#include "base/str.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "imageservice/imageservice.h"

/* What is made of a check's or a collection's words; their strings live no longer than the callback. */
struct collected {
    struct call *call;
    void *response;
    struct error *err;
    int result;
};

static void
add(struct collected *c, void *item)
{
    if (c->result == 0)
        c->result = answer_add(c->call, c->response, item, c->err);
}

static void
add_finding(void *arg, const struct images_finding *finding)
{
    struct collected *c = arg;
    Crisp__V1__Finding *out = answer_new(c->call, &crisp__v1__finding__descriptor);
    out->image = arena_printf(&c->call->arena, "%s", finding->image);
    out->object = arena_printf(&c->call->arena, "%s", finding->object);
    out->words = arena_printf(&c->call->arena, "%s", finding->words);
    out->mended = finding->mended;
    add(c, out);
}

int
store_check_images(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__CheckImagesRequest *in = request;
    Crisp__V1__CheckImagesResponse *out = response;
    struct images_checked checked;
    struct collected c = {call, response, err, 0};
    call_about(call, in->image);
    TRY(images_check(call->services->images, in->image, !in->dry_run, call->cancel, add_finding, &c, &checked, err));
    out->objects = checked.objects;
    out->bytes = checked.bytes;
    return c.result;
}

static void
add_garbage(void *arg, const char *kind, const char *name, uint64_t bytes)
{
    struct collected *c = arg;
    Crisp__V1__Garbage *out = answer_new(c->call, &crisp__v1__garbage__descriptor);
    out->kind = kind;
    out->name = arena_printf(&c->call->arena, "%s", name);
    out->bytes = bytes;
    add(c, out);
}

int
store_collect_garbage(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__CollectGarbageRequest *in = request;
    struct collected c = {call, response, err, 0};
    images_gc(call->services->images, in->dry_run, add_garbage, &c);
    return c.result;
}
