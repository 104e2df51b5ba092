#include "cri/rpc.h"

#include "admin.pb-c.h"
#include "api.pb-c.h"
#include "base/str.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/limits.h"
#include "cri/wire.h"

#define RUNTIME &runtime__v1__runtime_service__descriptor
#define IMAGE   &runtime__v1__image_service__descriptor
#define ADMIN   &crisp__v1__admin__descriptor

/* A stream's messages look like those of the list it stands for, so that one handler serves both. */
#define SAME_LIST(a, a_items, b, b_items)                                                                                \
    _Static_assert(sizeof(Runtime__V1__##a##Response) == sizeof(Runtime__V1__##b##Response) &&                           \
                       offsetof(Runtime__V1__##a##Response, a_items) == offsetof(Runtime__V1__##b##Response, b_items) && \
                       sizeof(Runtime__V1__##a##Request) == sizeof(Runtime__V1__##b##Request),                           \
                   #b " is " #a " in pieces")
SAME_LIST(ListPodSandbox, items, StreamPodSandboxes, pod_sandboxes);
SAME_LIST(ListContainers, containers, StreamContainers, containers);
SAME_LIST(ListContainerStats, stats, StreamContainerStats, container_stats);
SAME_LIST(ListPodSandboxStats, stats, StreamPodSandboxStats, pod_sandbox_stats);
SAME_LIST(ListPodSandboxMetrics, pod_metrics, StreamPodSandboxMetrics, pod_sandbox_metrics);
SAME_LIST(ListImages, images, StreamImages, images);

const struct rpc rpcs[] = {
    {RUNTIME, "Version", RPC_QUICK, status_version},
    {RUNTIME, "RunPodSandbox", RPC_BLOCKING, pods_run},
    {RUNTIME, "StopPodSandbox", RPC_BLOCKING, pods_stop},
    {RUNTIME, "RemovePodSandbox", RPC_BLOCKING, pods_remove},
    {RUNTIME, "PodSandboxStatus", RPC_QUICK, pods_status},
    {RUNTIME, "ListPodSandbox", RPC_QUICK, pods_list},
    {RUNTIME, "StreamPodSandboxes", RPC_STREAMING, pods_list},
    {RUNTIME, "CreateContainer", RPC_BLOCKING, containers_create},
    {RUNTIME, "StartContainer", RPC_BLOCKING, containers_start},
    {RUNTIME, "StopContainer", RPC_BLOCKING, containers_stop},
    {RUNTIME, "RemoveContainer", RPC_BLOCKING, containers_remove},
    {RUNTIME, "ListContainers", RPC_QUICK, containers_list},
    {RUNTIME, "StreamContainers", RPC_STREAMING, containers_list},
    {RUNTIME, "ContainerStatus", RPC_QUICK, containers_status},
    {RUNTIME, "UpdateContainerResources", RPC_BLOCKING, containers_update_resources},
    {RUNTIME, "ReopenContainerLog", RPC_BLOCKING, containers_reopen_log},
    {RUNTIME, "ExecSync", RPC_BLOCKING, exec_sync},
    {RUNTIME, "Exec", RPC_QUICK, streaming_exec},
    {RUNTIME, "Attach", RPC_QUICK, streaming_attach},
    {RUNTIME, "PortForward", RPC_QUICK, streaming_port_forward},
    {RUNTIME, "ContainerStats", RPC_BLOCKING, stats_container},
    {RUNTIME, "ListContainerStats", RPC_BLOCKING, stats_list_containers},
    {RUNTIME, "StreamContainerStats", RPC_STREAMING, stats_list_containers},
    {RUNTIME, "PodSandboxStats", RPC_BLOCKING, stats_pod},
    {RUNTIME, "ListPodSandboxStats", RPC_BLOCKING, stats_list_pods},
    {RUNTIME, "StreamPodSandboxStats", RPC_STREAMING, stats_list_pods},
    {RUNTIME, "UpdateRuntimeConfig", RPC_QUICK, status_update_runtime_config},
    {RUNTIME, "Status", RPC_QUICK, status_status},
    {RUNTIME, "CheckpointContainer", RPC_BLOCKING, NULL},
    {RUNTIME, "CheckpointPod", RPC_BLOCKING, NULL},
    {RUNTIME, "RestorePod", RPC_BLOCKING, NULL},
    {RUNTIME, "GetContainerEvents", RPC_STREAMING, events_get},
    {RUNTIME, "ListMetricDescriptors", RPC_QUICK, metrics_descriptors},
    {RUNTIME, "ListPodSandboxMetrics", RPC_BLOCKING, metrics_list},
    {RUNTIME, "StreamPodSandboxMetrics", RPC_STREAMING, metrics_list},
    {RUNTIME, "RuntimeConfig", RPC_QUICK, status_runtime_config},
    {RUNTIME, "UpdatePodSandboxResources", RPC_BLOCKING, pods_update_resources},
    {IMAGE, "ListImages", RPC_QUICK, images_rpc_list},
    {IMAGE, "StreamImages", RPC_STREAMING, images_rpc_list},
    {IMAGE, "ImageStatus", RPC_QUICK, images_rpc_status},
    {IMAGE, "PullImage", RPC_BLOCKING, images_rpc_pull},
    {IMAGE, "RemoveImage", RPC_BLOCKING, images_rpc_remove},
    {IMAGE, "ImageFsInfo", RPC_BLOCKING, images_rpc_fs_info},
    {ADMIN, "TagImage", RPC_BLOCKING, admin_tag_image},
    {ADMIN, "ExplainPull", RPC_BLOCKING, admin_explain_pull},
    {ADMIN, "ImportImages", RPC_BLOCKING, admin_import_images},
    {ADMIN, "ExportImages", RPC_BLOCKING, admin_export_images},
    {ADMIN, "CheckImages", RPC_BLOCKING, store_check_images},
    {ADMIN, "CollectGarbage", RPC_BLOCKING, store_collect_garbage},
};
const size_t rpc_count = sizeof rpcs / sizeof *rpcs;

char *
rpc_path(const struct rpc *rpc)
{
    return str_printf("/%s/%s", rpc->service->name, rpc->name);
}

static const ProtobufCMessage *
unpack(const ProtobufCMessageDescriptor *type, struct call *call, const void *bytes, size_t length, struct error *err)
{
    TRY_OR_NULL(wire_check(type, bytes, length, err));
    struct arena_allocator allocator;
    arena_allocator_init(&allocator, &call->arena, REQUEST_MEMORY_MAX);
    const ProtobufCMessage *request = protobuf_c_message_unpack(type, &allocator.base, length, bytes);
    if (!request && allocator.exhausted)
        (void)error_set(err, ERR_EXHAUSTED, "the request takes more than %d bytes of memory", REQUEST_MEMORY_MAX);
    else if (!request)
        (void)error_set(err, ERR_INVALID, "the bytes are no %s", type->short_name);
    return request;
}

int
rpc_serve(const struct rpc *rpc, struct call *call, const void *bytes, size_t length, ProtobufCMessage **response, struct error *err)
{
    if (!rpc->handler)
        return error_set(err, ERR_UNSUPPORTED, "%s is not implemented in crisp %s", rpc->name, CRISP_VERSION);
    const ProtobufCMethodDescriptor *method = protobuf_c_service_descriptor_get_method_by_name(rpc->service, rpc->name);
    const ProtobufCMessage *request = TRY_PTR(unpack(method->input, call, bytes, length, err));
    *response = answer_new(call, method->output);
    TRY(rpc->handler(call, request, *response, err));
    return rpc->kind == RPC_STREAMING ? answer_flush(call, *response, err) : 0;
}
