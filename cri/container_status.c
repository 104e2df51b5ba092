#include <string.h>

#include "api.pb-c.h"
#include "base/id.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/id_mappings.h"
#include "cri/select.h"
#include "imageservice/imageservice.h"
#include "runtime/runtime.h"

_Static_assert((int)CONTAINER_CREATED == (int)RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED &&
                   (int)CONTAINER_RUNNING == (int)RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING &&
                   (int)CONTAINER_EXITED == (int)RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED &&
                   (int)CONTAINER_UNKNOWN == (int)RUNTIME__V1__CONTAINER_STATE__CONTAINER_UNKNOWN,
               "states of a container are numbered as CRI numbers them");

static Runtime__V1__ContainerMetadata *
metadata_write(struct call *call, const struct container_config *config)
{
    Runtime__V1__ContainerMetadata *out = answer_new(call, &runtime__v1__container_metadata__descriptor);
    out->name = config->name;
    out->attempt = config->attempt;
    return out;
}

/* `annotations`: NULL where the request's are not kept. */
static Runtime__V1__ImageSpec *
image_write(struct call *call, const char *name, const struct strmap *annotations)
{
    Runtime__V1__ImageSpec *out = answer_new(call, &runtime__v1__image_spec__descriptor);
    out->image = name;
    out->user_specified_image = name;
    if (annotations)
        out->n_annotations = map_write(call, annotations, &runtime__v1__image_spec__annotations_entry__descriptor, &out->annotations);
    return out;
}

/* A digest by which a registry knows the image. The image may be gone meanwhile; its id then does. */
static const char *
image_ref(struct call *call, const struct container_config *config)
{
    struct error ignored;
    const struct image *image = images_find(call->services->images, config->image_id, &ignored);
    if (!image)
        return config->image_id;
    const char *ref = image->repo_digests.count ? arena_strdup(&call->arena, image->repo_digests.items[0]) : config->image_id;
    image_release(image);
    return ref;
}

static void
mounts_write(struct call *call, const struct container_config *config, Runtime__V1__ContainerStatus *out)
{
    static const Runtime__V1__MountPropagation propagations[] = {
        [PROPAGATION_PRIVATE] = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE,
        [PROPAGATION_HOST_TO_CONTAINER] = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER,
        [PROPAGATION_BIDIRECTIONAL] = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL,
    };
    out->n_mounts = config->mount_count;
    out->mounts = answer_list(call, config->mount_count);
    for (size_t i = 0; i < config->mount_count; i++) {
        const struct mount_request *mount = &config->mounts[i];
        out->mounts[i] = answer_new(call, &runtime__v1__mount__descriptor);
        out->mounts[i]->container_path = mount->container_path;
        out->mounts[i]->host_path = mount->host_path;
        out->mounts[i]->readonly = mount->readonly;
        out->mounts[i]->recursive_read_only = mount->recursive_read_only;
        out->mounts[i]->propagation = propagations[mount->propagation];
        out->mounts[i]->n_uidmappings = id_mappings_write(call, mount->maps.uids, mount->maps.uid_count, &out->mounts[i]->uidmappings);
        out->mounts[i]->n_gidmappings = id_mappings_write(call, mount->maps.gids, mount->maps.gid_count, &out->mounts[i]->gidmappings);
        out->mounts[i]->selinux_relabel = mount->selinux_relabel;
        out->mounts[i]->image_sub_path = mount->image_sub_path;
        if (!str_empty(mount->image))
            out->mounts[i]->image = image_write(call, mount->image, NULL);
    }
}

static Runtime__V1__ContainerUser *
user_write(struct call *call, const struct container_status *container)
{
    Runtime__V1__ContainerUser *out = answer_new(call, &runtime__v1__container_user__descriptor);
    out->linux = answer_new(call, &runtime__v1__linux_container_user__descriptor);
    out->linux->uid = container->uid;
    out->linux->gid = container->gid;
    int64_t *groups = call_alloc(call, container->groups.count * sizeof *groups);
    for (size_t i = 0; i < container->groups.count; i++)
        if (str_to_i64(container->groups.items[i], "group", &groups[out->linux->n_supplemental_groups], NULL) == 0)
            out->linux->n_supplemental_groups++;
    out->linux->supplemental_groups = groups;
    return out;
}

static Runtime__V1__ContainerStatus *
status_write(struct call *call, const struct container_status *container)
{
    const struct container_config *config = container->config;
    Runtime__V1__ContainerStatus *out = answer_new(call, &runtime__v1__container_status__descriptor);
    out->id = container->id;
    out->metadata = metadata_write(call, config);
    out->state = (Runtime__V1__ContainerState)container->state;
    out->created_at = container->created_ns;
    out->started_at = container->started_ns;
    out->finished_at = container->finished_ns;
    out->exit_code = container->exit_code;
    out->image = image_write(call, config->image_name, &config->image_annotations);
    out->image_ref = image_ref(call, config);
    out->image_id = config->image_id;
    out->reason = container->reason;
    out->message = container->message;
    out->n_labels = map_write(call, &config->labels, &runtime__v1__container_status__labels_entry__descriptor, &out->labels);
    out->n_annotations = map_write(call, &config->annotations, &runtime__v1__container_status__annotations_entry__descriptor, &out->annotations);
    mounts_write(call, config, out);
    out->log_path = container->log_path;
    out->resources = answer_new(call, &runtime__v1__container_resources__descriptor);
    out->resources->linux = resources_write(call, &container->resources);
    out->user = user_write(call, container);
    out->stop_signal = signal_number(str_empty(config->stop_signal) ? "SIGTERM" : config->stop_signal);
    return out;
}

Runtime__V1__ContainerStatus **
container_statuses_write(struct call *call, const struct container_status *containers, size_t count)
{
    Runtime__V1__ContainerStatus **list = answer_list(call, count);
    for (size_t i = 0; i < count; i++)
        list[i] = status_write(call, &containers[i]);
    return list;
}

static void
release_status(void *status)
{
    container_status_free(status);
}

int
containers_status(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ContainerStatusRequest *in = request;
    Runtime__V1__ContainerStatusResponse *out = response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    struct container_status *container = call_alloc(call, sizeof *container);
    TRY(container_status(call->services->runtime, in->container_id, container, err));
    call_defer(call, release_status, container);
    out->status = status_write(call, container);
    if (!in->verbose)
        return 0;
    char *json = TRY_PTR(container_info_json(call->services->runtime, container->id, err));
    info_add(call, &runtime__v1__container_status_response__info_entry__descriptor, &out->info, &out->n_info, "info", json);
    return 0;
}

/* ---- lists ---- */

struct containers {
    struct container_status *items;
    size_t count;
};

static void
release_containers(void *list)
{
    const struct containers *containers = list;
    container_list_free(containers->items, containers->count);
}

static Runtime__V1__Container *
item_write(struct call *call, const struct container_status *container)
{
    const struct container_config *config = container->config;
    Runtime__V1__Container *out = answer_new(call, &runtime__v1__container__descriptor);
    out->id = container->id;
    out->pod_sandbox_id = config->pod_id;
    out->metadata = metadata_write(call, config);
    out->image = image_write(call, config->image_name, &config->image_annotations);
    out->image_ref = image_ref(call, config);
    out->image_id = config->image_id;
    out->state = (Runtime__V1__ContainerState)container->state;
    out->created_at = container->created_ns;
    out->n_labels = map_write(call, &config->labels, &runtime__v1__container__labels_entry__descriptor, &out->labels);
    out->n_annotations = map_write(call, &config->annotations, &runtime__v1__container__annotations_entry__descriptor, &out->annotations);
    return out;
}

int
containers_list(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListContainersRequest *in = request;
    struct containers *containers = call_alloc(call, sizeof *containers);
    containers->items = container_list(call->services->runtime, &containers->count);
    call_defer(call, release_containers, containers);
    for (size_t i = 0; i < containers->count; i++)
        if (select_container(in->filter, &containers->items[i]))
            TRY(answer_add(call, response, item_write(call, &containers->items[i]), err));
    return 0;
}
