/* The rpcs of crisp's own Admin service. */
#include "admin.pb-c.h"
#include "base/str.h"
#include "cri/handlers.h"
#include "imageservice/imageservice.h"

int
admin_tag_image(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__TagImageRequest *in = request;
    Crisp__V1__TagImageResponse *out = response;
    call_about(call, in->source);
    char *name = TRY_PTR(images_tag(call->services->images, in->source, in->name, err));
    call_defer(call, free, name);
    out->name = name;
    return 0;
}
