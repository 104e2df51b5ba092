#include "api.pb-c.h"
#include "base/id.h"
#include "cri/check.h"
#include "cri/configuration.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/id_mappings.h"
#include "cri/pod_request.h"
#include "cri/select.h"
#include "runtime/idmap.h"
#include "runtime/runtime.h"

int
pods_run(struct call *call, const void *request, void *response, struct error *err)
{
    /* Its maps are put in order; nobody else reads it. */
    Runtime__V1__RunPodSandboxRequest *in = (Runtime__V1__RunPodSandboxRequest *)(uintptr_t)request;
    Runtime__V1__RunPodSandboxResponse *out = response;
    bool has_handler = configuration_check_handler(call->services->configuration, in->runtime_handler, err) == 0;
    struct pod_config *pod = has_handler ? pod_request_read(in, err) : NULL;
    const Runtime__V1__PodSandboxMetadata *metadata = in->config ? in->config->metadata : NULL;
    const char *name = metadata ? arena_printf(&call->arena, "%s/%s", metadata->namespace_, metadata->name) : "";
    call_about(call, name);
    if (!pod)
        return error_prefix(err, "pod %s", name);
    char *id = call_alloc(call, ID_SIZE);
    TRY(pod_run(call->services->runtime, pod, id, call->cancel, err));
    out->pod_sandbox_id = id;
    return 0;
}

int
pods_stop(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__StopPodSandboxRequest *in = request;
    (void)response;
    call_about(call, in->pod_sandbox_id);
    if (check_id(in->pod_sandbox_id, "pod_sandbox_id", err) < 0)
        return forgive_absence(err);
    return pod_stop(call->services->runtime, in->pod_sandbox_id, call->cancel, err);
}

int
pods_remove(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__RemovePodSandboxRequest *in = request;
    (void)response;
    call_about(call, in->pod_sandbox_id);
    if (check_id(in->pod_sandbox_id, "pod_sandbox_id", err) < 0)
        return forgive_absence(err);
    return pod_remove(call->services->runtime, in->pod_sandbox_id, call->cancel, err);
}

/* The kubelet tells this after it has set the cgroup that it named as the pod's parent itself. */
int
pods_update_resources(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__UpdatePodSandboxResourcesRequest *in = request;
    (void)response;
    call_about(call, in->pod_sandbox_id);
    TRY(check_id(in->pod_sandbox_id, "pod_sandbox_id", err));
    struct resources overhead = {0}, resources = {0};
    int result = resources_read(&overhead, in->overhead, err) < 0 || resources_read(&resources, in->resources, err) < 0 ? -1 : 0;
    if (result == 0)
        result = pod_update(call->services->runtime, in->pod_sandbox_id, in->overhead ? &overhead : NULL, in->resources ? &resources : NULL, err);
    resources_free(&overhead);
    resources_free(&resources);
    return result;
}

/* ---- status ---- */

static void
release_snapshot(void *snapshot)
{
    pod_snapshot_free(snapshot);
}

static Runtime__V1__PodSandboxMetadata *
metadata_write(struct call *call, const struct pod_key *key)
{
    Runtime__V1__PodSandboxMetadata *out = answer_new(call, &runtime__v1__pod_sandbox_metadata__descriptor);
    out->name = key->name;
    out->uid = key->uid;
    out->namespace_ = key->namespace;
    out->attempt = key->attempt;
    return out;
}

static Runtime__V1__PodSandboxState
state_of(const struct pod_status *pod)
{
    return pod->state == POD_READY ? RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY : RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_NOTREADY;
}

static Runtime__V1__PodSandboxNetworkStatus *
network_write(struct call *call, const struct strv *ips)
{
    Runtime__V1__PodSandboxNetworkStatus *out = answer_new(call, &runtime__v1__pod_sandbox_network_status__descriptor);
    if (ips->count == 0)
        return out;
    out->ip = ips->items[0];
    out->n_additional_ips = ips->count - 1;
    out->additional_ips = answer_list(call, out->n_additional_ips);
    for (size_t i = 0; i < out->n_additional_ips; i++) {
        out->additional_ips[i] = answer_new(call, &runtime__v1__pod_ip__descriptor);
        out->additional_ips[i]->ip = ips->items[i + 1];
    }
    return out;
}

static Runtime__V1__UserNamespace *
userns_write(struct call *call, const struct id_maps *maps)
{
    Runtime__V1__UserNamespace *out = answer_new(call, &runtime__v1__user_namespace__descriptor);
    out->mode = idmap_is_set(maps) ? RUNTIME__V1__NAMESPACE_MODE__POD : RUNTIME__V1__NAMESPACE_MODE__NODE;
    out->n_uids = id_mappings_write(call, maps->uids, maps->uid_count, &out->uids);
    out->n_gids = id_mappings_write(call, maps->gids, maps->gid_count, &out->gids);
    return out;
}

static Runtime__V1__LinuxPodSandboxStatus *
linux_write(struct call *call, const struct pod_config *pod)
{
    static const Runtime__V1__NamespaceMode modes[] = {
        [NAMESPACE_POD] = RUNTIME__V1__NAMESPACE_MODE__POD,
        [NAMESPACE_CONTAINER] = RUNTIME__V1__NAMESPACE_MODE__CONTAINER,
        [NAMESPACE_NODE] = RUNTIME__V1__NAMESPACE_MODE__NODE,
        [NAMESPACE_TARGET] = RUNTIME__V1__NAMESPACE_MODE__TARGET,
    };
    Runtime__V1__LinuxPodSandboxStatus *out = answer_new(call, &runtime__v1__linux_pod_sandbox_status__descriptor);
    out->namespaces = answer_new(call, &runtime__v1__namespace__descriptor);
    out->namespaces->options = answer_new(call, &runtime__v1__namespace_option__descriptor);
    out->namespaces->options->network = modes[pod->network];
    out->namespaces->options->pid = modes[pod->pid];
    out->namespaces->options->ipc = modes[pod->ipc];
    out->namespaces->options->userns_options = userns_write(call, &pod->userns);
    return out;
}

Runtime__V1__PodSandboxStatus *
pod_status_write(struct call *call, const struct pod_status *pod)
{
    Runtime__V1__PodSandboxStatus *out = answer_new(call, &runtime__v1__pod_sandbox_status__descriptor);
    out->id = pod->id;
    out->metadata = metadata_write(call, &pod->config->key);
    out->state = state_of(pod);
    out->created_at = pod->created_ns;
    out->network = network_write(call, &pod->ips);
    out->linux = linux_write(call, pod->config);
    out->n_labels = map_write(call, &pod->config->labels, &runtime__v1__pod_sandbox_status__labels_entry__descriptor, &out->labels);
    out->n_annotations =
        map_write(call, &pod->config->annotations, &runtime__v1__pod_sandbox_status__annotations_entry__descriptor, &out->annotations);
    out->runtime_handler = pod->config->runtime_handler;
    return out;
}

int
pods_status(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__PodSandboxStatusRequest *in = request;
    Runtime__V1__PodSandboxStatusResponse *out = response;
    call_about(call, in->pod_sandbox_id);
    TRY(check_id(in->pod_sandbox_id, "pod_sandbox_id", err));
    struct pod_snapshot *now = call_alloc(call, sizeof *now);
    TRY(pod_snapshot(call->services->runtime, in->pod_sandbox_id, now, err));
    call_defer(call, release_snapshot, now);
    out->status = pod_status_write(call, &now->pod);
    out->containers_statuses = container_statuses_write(call, now->containers, now->container_count);
    out->n_containers_statuses = now->container_count;
    out->timestamp = now->time_ns;
    if (!in->verbose)
        return 0;
    char *json = TRY_PTR(pod_info_json(call->services->runtime, now->pod.id, err));
    info_add(call, &runtime__v1__pod_sandbox_status_response__info_entry__descriptor, &out->info, &out->n_info, "info", json);
    return 0;
}

/* ---- lists ---- */

struct pods {
    struct pod_status *items;
    size_t count;
};

static void
release_pods(void *list)
{
    const struct pods *pods = list;
    pod_list_free(pods->items, pods->count);
}

static Runtime__V1__PodSandbox *
item_write(struct call *call, const struct pod_status *pod)
{
    Runtime__V1__PodSandbox *out = answer_new(call, &runtime__v1__pod_sandbox__descriptor);
    out->id = pod->id;
    out->metadata = metadata_write(call, &pod->config->key);
    out->state = state_of(pod);
    out->created_at = pod->created_ns;
    out->n_labels = map_write(call, &pod->config->labels, &runtime__v1__pod_sandbox__labels_entry__descriptor, &out->labels);
    out->n_annotations = map_write(call, &pod->config->annotations, &runtime__v1__pod_sandbox__annotations_entry__descriptor, &out->annotations);
    out->runtime_handler = pod->config->runtime_handler;
    return out;
}

int
pods_list(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListPodSandboxRequest *in = request;
    struct pods *pods = call_alloc(call, sizeof *pods);
    pods->items = pod_list(call->services->runtime, &pods->count);
    call_defer(call, release_pods, pods);
    for (size_t i = 0; i < pods->count; i++)
        if (select_pod(in->filter, &pods->items[i]))
            TRY(answer_add(call, response, item_write(call, &pods->items[i]), err));
    return 0;
}
