#include "cri/rpc.h"

#include "api.pb-c.h"
#include "base/str.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/limits.h"
#include "cri/wire.h"

#define RUNTIME &runtime__v1__runtime_service__descriptor
#define IMAGE   &runtime__v1__image_service__descriptor

const struct rpc rpcs[] = {
    {RUNTIME, "Version", RPC_QUICK, status_version},
    {RUNTIME, "RunPodSandbox", RPC_BLOCKING, pods_run},
    {RUNTIME, "StopPodSandbox", RPC_BLOCKING, pods_stop},
    {RUNTIME, "RemovePodSandbox", RPC_BLOCKING, pods_remove},
    {RUNTIME, "PodSandboxStatus", RPC_QUICK, pods_status},
    {RUNTIME, "ListPodSandbox", RPC_QUICK, pods_list},
    {RUNTIME, "StreamPodSandboxes", RPC_STREAMING, NULL},
    {RUNTIME, "CreateContainer", RPC_BLOCKING, containers_create},
    {RUNTIME, "StartContainer", RPC_BLOCKING, containers_start},
    {RUNTIME, "StopContainer", RPC_BLOCKING, containers_stop},
    {RUNTIME, "RemoveContainer", RPC_BLOCKING, containers_remove},
    {RUNTIME, "ListContainers", RPC_QUICK, containers_list},
    {RUNTIME, "StreamContainers", RPC_STREAMING, NULL},
    {RUNTIME, "ContainerStatus", RPC_QUICK, containers_status},
    {RUNTIME, "UpdateContainerResources", RPC_BLOCKING, containers_update_resources},
    {RUNTIME, "ReopenContainerLog", RPC_BLOCKING, containers_reopen_log},
    {RUNTIME, "ExecSync", RPC_BLOCKING, exec_sync},
    {RUNTIME, "Exec", RPC_QUICK, streaming_exec},
    {RUNTIME, "Attach", RPC_QUICK, streaming_attach},
    {RUNTIME, "PortForward", RPC_QUICK, streaming_port_forward},
    {RUNTIME, "ContainerStats", RPC_BLOCKING, stats_container},
    {RUNTIME, "ListContainerStats", RPC_BLOCKING, stats_list_containers},
    {RUNTIME, "StreamContainerStats", RPC_STREAMING, NULL},
    {RUNTIME, "PodSandboxStats", RPC_BLOCKING, NULL},
    {RUNTIME, "ListPodSandboxStats", RPC_BLOCKING, NULL},
    {RUNTIME, "StreamPodSandboxStats", RPC_STREAMING, NULL},
    {RUNTIME, "UpdateRuntimeConfig", RPC_QUICK, NULL},
    {RUNTIME, "Status", RPC_QUICK, status_status},
    {RUNTIME, "CheckpointContainer", RPC_BLOCKING, NULL},
    {RUNTIME, "CheckpointPod", RPC_BLOCKING, NULL},
    {RUNTIME, "RestorePod", RPC_BLOCKING, NULL},
    {RUNTIME, "GetContainerEvents", RPC_STREAMING, NULL},
    {RUNTIME, "ListMetricDescriptors", RPC_QUICK, NULL},
    {RUNTIME, "ListPodSandboxMetrics", RPC_BLOCKING, NULL},
    {RUNTIME, "StreamPodSandboxMetrics", RPC_STREAMING, NULL},
    {RUNTIME, "RuntimeConfig", RPC_QUICK, status_runtime_config},
    {RUNTIME, "UpdatePodSandboxResources", RPC_BLOCKING, NULL},
    {IMAGE, "ListImages", RPC_QUICK, images_rpc_list},
    {IMAGE, "StreamImages", RPC_STREAMING, NULL},
    {IMAGE, "ImageStatus", RPC_QUICK, images_rpc_status},
    {IMAGE, "PullImage", RPC_BLOCKING, images_rpc_pull},
    {IMAGE, "RemoveImage", RPC_BLOCKING, images_rpc_remove},
    {IMAGE, "ImageFsInfo", RPC_QUICK, images_rpc_fs_info},
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
    return rpc->handler(call, request, *response, err);
}
