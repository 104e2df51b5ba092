#include <string.h>

#include "api.pb-c.h"
#include "base/clock.h"
#include "cri/check.h"
#include "cri/configuration.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/limits.h"
#include "imageservice/imageservice.h"
#include "runtime/runtime.h"

static const char *
reference_of(const struct call *call, const Runtime__V1__ImageSpec *spec, struct error *err)
{
    if (!spec || !*spec->image)
        (void)error_set(err, ERR_INVALID, "image: its name is missing");
    else if (configuration_check_handler(call->services->configuration, spec->runtime_handler, err) == 0)
        return spec->image;
    return NULL;
}

/* "1000:1000" → uid 1000; "www-data:www-data" → username; nothing → neither. */
static void
user_write(struct call *call, const char *user, Runtime__V1__Image *out)
{
    char *name = arena_printf(&call->arena, "%.*s", (int)strcspn(user, ":"), user);
    int64_t uid;
    if (str_to_i64(name, "user", &uid, NULL) < 0) {
        out->username = name;
        return;
    }
    out->uid = answer_new(call, &runtime__v1__int64_value__descriptor);
    out->uid->value = uid;
}

static Runtime__V1__Image *
image_write(struct call *call, const struct image *image)
{
    Runtime__V1__Image *out = answer_new(call, &runtime__v1__image__descriptor);
    out->id = image->id;
    out->n_repo_tags = image->repo_tags.count;
    out->repo_tags = (const char **)image->repo_tags.items;
    out->n_repo_digests = image->repo_digests.count;
    out->repo_digests = (const char **)image->repo_digests.items;
    out->size = image->size_bytes;
    user_write(call, image->config.user, out);
    out->spec = answer_new(call, &runtime__v1__image_spec__descriptor);
    out->spec->image = image->id;
    out->spec->n_annotations = map_write(call, &image->annotations, &runtime__v1__image_spec__annotations_entry__descriptor, &out->spec->annotations);
    out->pinned = image->pinned;
    return out;
}

static void
release_image(void *image)
{
    image_release(image);
}

struct image_list {
    const struct image **items;
    size_t count;
};

static void
release_list(void *list)
{
    const struct image_list *images = list;
    images_list_free(images->items, images->count);
}

int
images_rpc_list(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListImagesRequest *in = request;
    const char *wanted = in->filter && in->filter->image ? in->filter->image->image : "";
    struct image_list *list = call_alloc(call, sizeof *list);
    list->items = images_list(call->services->images, wanted, &list->count);
    call_defer(call, release_list, list);
    for (size_t i = 0; i < list->count; i++)
        TRY(answer_add(call, response, image_write(call, list->items[i]), err));
    return 0;
}

/* For verbose status, in the words of containerd where it has them: {"imageSpec": …, "layers": […]}. */
static char *
info_write(const struct image *image)
{
    cleanup_buf struct buf layers = BUF(MESSAGE_BYTES_MAX);
    for (size_t i = 0; i < image->layers.count; i++)
        (void)buf_addf(&layers, "%s{\"directory\":\"%s\",\"size\":%llu}", i ? "," : "", image->layers.items[i],
                       (unsigned long long)image->layer_bytes[i]);
    return str_printf("{\"imageSpec\":%s,\"layers\":[%s]}", image->config_json, layers.length ? layers.data : "");
}

int
images_rpc_status(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ImageStatusRequest *in = request;
    Runtime__V1__ImageStatusResponse *out = response;
    const char *reference = TRY_PTR(reference_of(call, in->image, err));
    call_about(call, reference);
    const struct image *image = images_find(call->services->images, reference, err);
    if (!image)
        return forgive_absence(err);
    call_defer(call, release_image, (void *)(uintptr_t)image);
    out->image = image_write(call, image);
    if (in->verbose && !str_empty(image->config_json))
        info_add(call, &runtime__v1__image_status_response__info_entry__descriptor, &out->info, &out->n_info, "info", info_write(image));
    return 0;
}

/* The kubelet knows this word, with this code, at the beginning (cri-api, pkg/errors). */
static int
word_for_kubelet(struct error *err)
{
    if (err->kind == ERR_UNAVAILABLE) {
        (void)error_prefix(err, "RegistryUnavailable");
        (void)error_as(err, ERR_UNKNOWN);
    }
    return -1;
}

char *
images_rpc_pull_for(struct call *call, const void *pull_image_request, struct strv *account, struct error *err)
{
    const Runtime__V1__PullImageRequest *in = pull_image_request;
    call->arena.secret = in->auth != NULL;
    const char *reference = TRY_PTR_OR_NULL(reference_of(call, in->image, err));
    call_about(call, reference);
    struct image_auth auth = {0};
    if (in->auth)
        auth = (struct image_auth){
            .username = in->auth->username,
            .password = in->auth->password,
            .auth = in->auth->auth,
            .server_address = in->auth->server_address,
            .identity_token = in->auth->identity_token,
            .registry_token = in->auth->registry_token,
        };
    char *id = images_pull_explained(call->services->images, reference, in->auth ? &auth : NULL, call->cancel, account, err);
    if (!id)
        (void)word_for_kubelet(err);
    return id;
}

int
images_rpc_pull(struct call *call, const void *request, void *response, struct error *err)
{
    Runtime__V1__PullImageResponse *out = response;
    char *id = TRY_PTR(images_rpc_pull_for(call, request, NULL, err));
    call_defer(call, free, id);
    out->image_ref = id;
    return 0;
}

/* CRI wants every name of the image to go, also where it was named by one of them. */
int
images_rpc_remove(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__RemoveImageRequest *in = request;
    (void)response;
    const char *reference = TRY_PTR(reference_of(call, in->image, err));
    call_about(call, reference);
    cleanup_free char *id = images_id(call->services->images, reference, err);
    return id ? images_remove(call->services->images, id, err) : forgive_absence(err);
}

static Runtime__V1__FilesystemUsage **
usage_write(struct call *call, uint64_t bytes, uint64_t inodes)
{
    Runtime__V1__FilesystemUsage **list = answer_list(call, 1);
    Runtime__V1__FilesystemUsage *out = list[0] = answer_new(call, &runtime__v1__filesystem_usage__descriptor);
    out->timestamp = clock_now_ns();
    out->fs_id = answer_new(call, &runtime__v1__filesystem_identifier__descriptor);
    out->fs_id->mountpoint = call->services->configuration->root;
    out->used_bytes = answer_new(call, &runtime__v1__uint64_value__descriptor);
    out->used_bytes->value = bytes;
    out->inodes_used = answer_new(call, &runtime__v1__uint64_value__descriptor);
    out->inodes_used->value = inodes;
    return list;
}

int
images_rpc_fs_info(struct call *call, const void *request, void *response, struct error *err)
{
    Runtime__V1__ImageFsInfoResponse *out = response;
    uint64_t bytes = 0, inodes = 0;
    (void)request;
    (void)err;
    images_usage(call->services->images, &bytes, &inodes);
    out->image_filesystems = usage_write(call, bytes, inodes);
    out->n_image_filesystems = 1;
    runtime_writable_usage(call->services->runtime, &bytes, &inodes);
    out->container_filesystems = usage_write(call, bytes, inodes);
    out->n_container_filesystems = 1;
    return 0;
}
