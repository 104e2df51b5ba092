#include "api.pb-c.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "runtime/runtime.h"

static void
release_result(void *result)
{
    exec_result_free(result);
}

static int
check_exec(const Runtime__V1__ExecSyncRequest *in, int64_t *timeout_ns, struct error *err)
{
    TRY(check_id(in->container_id, "container_id", err));
    TRY(check_count(in->n_cmd, "cmd", err));
    if (in->n_cmd == 0 || !*in->cmd[0])
        return error_set(err, ERR_INVALID, "cmd is empty");
    return check_seconds(in->timeout, "timeout", timeout_ns, err);
}

int
exec_sync(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ExecSyncRequest *in = request;
    Runtime__V1__ExecSyncResponse *out = response;
    call_about(call, in->container_id);
    int64_t timeout_ns;
    TRY(check_exec(in, &timeout_ns, err));
    cleanup_strv struct strv command = {0};
    TRY(list_read(&command, in->cmd, in->n_cmd, "cmd", err));
    struct exec_result *result = call_alloc(call, sizeof *result);
    TRY(container_exec(call->services->runtime, in->container_id, &command, timeout_ns, call->cancel, result, err));
    call_defer(call, release_result, result);
    out->exit_code = result->exit_code;
    out->stdout = (ProtobufCBinaryData){result->out_length, (uint8_t *)result->out};
    out->stderr = (ProtobufCBinaryData){result->err_length, (uint8_t *)result->err};
    return 0;
}
