#include <stdlib.h>

#include "api.pb-c.h"
#include "base/cleanup.h"
#include "base/id.h"
#include "cri/check.h"
#include "cri/configuration.h"
#include "cri/container_request.h"
#include "cri/convert.h"
#include "cri/handlers.h"

CLEANUP_DEFINE(container_config_freep, struct container_config *, container_config_free)

static void
release_pod(void *pod)
{
    pod_status_free(pod);
}

static void
release_image(void *image)
{
    image_release(image);
}

static int
check_create(const Runtime__V1__CreateContainerRequest *in, struct error *err)
{
    TRY(check_id(in->pod_sandbox_id, "pod_sandbox_id", err));
    if (!in->config)
        return error_set(err, ERR_INVALID, "config is missing");
    if (!in->config->image || !*in->config->image->image)
        return error_set(err, ERR_INVALID, "config: image is missing");
    return 0;
}

static struct container_config *
read_request(struct call *call, Runtime__V1__CreateContainerRequest *in, struct pod_status *pod, struct error *err)
{
    TRY_OR_NULL(check_create(in, err));
    TRY_OR_NULL(pod_status(call->services->runtime, in->pod_sandbox_id, pod, err));
    call_defer(call, release_pod, pod);
    /* The default one may confine it less. */
    if (configuration_check_handler(call->services->configuration, pod->config->runtime_handler, err) < 0) {
        error_as(err, ERR_PRECONDITION);
        return NULL;
    }
    const struct image *image = TRY_PTR_OR_NULL(images_find_trusted(call->services->images, in->config->image->image,
                                                                    in->config->image->user_specified_image, pod->config->key.namespace, err));
    call_defer(call, release_image, (void *)(uintptr_t)image);
    if (image->config.is_artifact) {
        (void)error_set(err, ERR_PRECONDITION, "image %s is an artifact: it can be mounted into a container, but there is nothing in it to run",
                        in->config->image->image);
        return NULL;
    }
    return container_request_read(in, pod->id, pod->config, image, err);
}

int
containers_create(struct call *call, const void *request, void *response, struct error *err)
{
    /* Its maps are put in order; nobody else reads it. */
    Runtime__V1__CreateContainerRequest *in = (Runtime__V1__CreateContainerRequest *)(uintptr_t)request;
    Runtime__V1__CreateContainerResponse *out = response;
    const char *name = in->config && in->config->metadata ? in->config->metadata->name : "";
    call_about(call, arena_printf(&call->arena, "%s in pod %s", name, in->pod_sandbox_id));
    struct pod_status *pod = call_alloc(call, sizeof *pod);
    cleanup(container_config_freep) struct container_config *container = read_request(call, in, pod, err);
    if (!container) {
        (void)error_prefix(err, "container %s", call->object);
        return err->kind == ERR_SIGNATURE ? error_prefix(err, "SignatureValidationFailed") : -1;
    }
    if (container_request_find_images(container, in, pod->config->key.namespace, call->services->images, err) < 0) {
        /* The kubelet knows this word at the beginning (cri-api, pkg/errors). */
        (void)error_prefix(err, "container %s", call->object);
        return error_prefix(err, "ImageVolumeMountFailed");
    }
    char *id = call_alloc(call, ID_SIZE);
    TRY(container_create(call->services->runtime, steal(container), id, call->cancel, err));
    out->container_id = id;
    return 0;
}

int
containers_start(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__StartContainerRequest *in = request;
    (void)response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    return container_start(call->services->runtime, in->container_id, call->cancel, err);
}

int
containers_stop(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__StopContainerRequest *in = request;
    (void)response;
    call_about(call, in->container_id);
    int64_t grace_ns;
    TRY(check_seconds(in->timeout, "timeout", &grace_ns, err));
    if (check_id(in->container_id, "container_id", err) < 0)
        return forgive_absence(err);
    return container_stop(call->services->runtime, in->container_id, grace_ns, call->cancel, err);
}

int
containers_remove(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__RemoveContainerRequest *in = request;
    (void)response;
    call_about(call, in->container_id);
    if (check_id(in->container_id, "container_id", err) < 0)
        return forgive_absence(err);
    return container_remove(call->services->runtime, in->container_id, call->cancel, err);
}

int
containers_reopen_log(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ReopenContainerLogRequest *in = request;
    (void)response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    return container_reopen_log(call->services->runtime, in->container_id, err);
}

int
containers_update_resources(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__UpdateContainerResourcesRequest *in = request;
    (void)response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    if (!in->linux)
        return error_set(err, ERR_INVALID, "linux is missing");
    struct resources resources = {0};
    int result = resources_read(&resources, in->linux, err);
    if (result == 0)
        result = container_update(call->services->runtime, in->container_id, &resources, err);
    resources_free(&resources);
    return result;
}
