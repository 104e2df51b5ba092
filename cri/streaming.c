/* Exec, Attach and PortForward: what is asked for is checked and kept under a token; the streaming server does it (streaming/server.h). */
#include "api.pb-c.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/streaming/server.h"
#include "runtime/runtime.h"

static int
check_streams(bool tty, bool in, bool out, bool err_wanted, struct error *err)
{
    if (tty && err_wanted)
        return error_set(err, ERR_INVALID, "tty and stderr exclude each other: a terminal has one stream of output");
    if (!in && !out && !err_wanted)
        return error_set(err, ERR_INVALID, "one of stdin, stdout and stderr must be set");
    return 0;
}

static int
check_running(struct call *call, const char *id, struct error *err)
{
    struct container_status status;
    TRY(container_status(call->services->runtime, id, &status, err));
    bool runs = status.state == CONTAINER_RUNNING;
    container_status_free(&status);
    return runs ? 0 : error_set(err, ERR_PRECONDITION, "container %.12s is not running", id);
}

static int
check_ready(struct call *call, const char *id, struct error *err)
{
    struct pod_status status;
    TRY(pod_status(call->services->runtime, id, &status, err));
    bool ready = status.state == POD_READY;
    pod_status_free(&status);
    return ready ? 0 : error_set(err, ERR_PRECONDITION, "pod %.12s is not ready", id);
}

static struct errand *
errand_new(enum errand_kind kind, const char *id)
{
    struct errand *errand = mem_zalloc(1, sizeof *errand);
    errand->kind = kind;
    errand->id = str_dup(id);
    return errand;
}

/* An exec or attach. */
static struct errand *
errand_new_streams(enum errand_kind kind, const char *id, bool tty, bool in, bool out, bool err_wanted)
{
    struct errand *errand = errand_new(kind, id);
    errand->tty = tty;
    errand->in = in;
    errand->out = out;
    errand->err = err_wanted;
    return errand;
}

static int
answer_url(struct call *call, struct errand *errand, const char **out, struct error *err)
{
    char *url = TRY_PTR(streaming_url(call->services->streaming, errand, err));
    call_defer(call, free, url);
    *out = url;
    return 0;
}

int
streaming_exec(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ExecRequest *in = request;
    Runtime__V1__ExecResponse *out = response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    TRY(check_streams(in->tty, in->stdin, in->stdout, in->stderr, err));
    TRY(check_count(in->n_cmd, "cmd", err));
    if (in->n_cmd == 0 || !*in->cmd[0])
        return error_set(err, ERR_INVALID, "cmd is empty");
    TRY(check_running(call, in->container_id, err));
    cleanup_strv struct strv command = {0};
    TRY(list_read(&command, in->cmd, in->n_cmd, "cmd", err));
    struct errand *errand = errand_new_streams(ERRAND_EXEC, in->container_id, in->tty, in->stdin, in->stdout, in->stderr);
    strv_copy(&errand->command, &command);
    return answer_url(call, errand, &out->url, err);
}

int
streaming_attach(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__AttachRequest *in = request;
    Runtime__V1__AttachResponse *out = response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    TRY(check_streams(in->tty, in->stdin, in->stdout, in->stderr, err));
    TRY(check_running(call, in->container_id, err));
    struct errand *errand = errand_new_streams(ERRAND_ATTACH, in->container_id, in->tty, in->stdin, in->stdout, in->stderr);
    return answer_url(call, errand, &out->url, err);
}

int
streaming_port_forward(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__PortForwardRequest *in = request;
    Runtime__V1__PortForwardResponse *out = response;
    call_about(call, in->pod_sandbox_id);
    TRY(check_id(in->pod_sandbox_id, "pod_sandbox_id", err));
    if (in->n_port > PORTS_MAX)
        return error_set(err, ERR_INVALID, "port: at most %d may be given", PORTS_MAX);
    for (size_t i = 0; i < in->n_port; i++)
        TRY(check_range(in->port[i], 1, UINT16_MAX, "port", err));
    TRY(check_ready(call, in->pod_sandbox_id, err));
    struct errand *errand = errand_new(ERRAND_PORT_FORWARD, in->pod_sandbox_id);
    for (size_t i = 0; i < in->n_port; i++)
        errand->ports[errand->port_count++] = (uint16_t)in->port[i];
    return answer_url(call, errand, &out->url, err);
}
