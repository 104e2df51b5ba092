/* ExecSync: a command in a running container, its output collected with a limit, its whole tree killed at its deadline. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/container_spec.h"
#include "runtime/container_steps.h"
#include "runtime/exec.h"
#include "runtime/objects.h"
#include "runtime/spec.h"

/* After the command's end, what it wrote is in the pipe; only a child it left behind can write more. */
static const int64_t drain_ns = 100 * NS_PER_MS;

enum { OUT, ERR, STREAMS };

/* Both streams, read by the thread that waits for the command. */
struct collector {
    const struct cancel *cancel;
    int pipes[STREAMS]; /* read ends */
    struct buf streams[STREAMS];
};

/* What is beyond the limit of both together is read and thrown away. */
static void
keep(struct collector *c, int stream, const char *data, size_t length)
{
    size_t used = c->streams[OUT].length + c->streams[ERR].length;
    size_t room = used < EXEC_OUTPUT_MAX ? EXEC_OUTPUT_MAX - used : 0;
    (void)buf_add(&c->streams[stream], data, length < room ? length : room);
}

static void
read_stream(struct collector *c, int stream)
{
    char chunk[65536];
    ssize_t n = read(c->pipes[stream], chunk, sizeof chunk);
    if (n > 0) {
        keep(c, stream, chunk, (size_t)n);
        return;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    (void)close(c->pipes[stream]);
    c->pipes[stream] = -1;
}

/* Until both streams have ended, `stop` is readable, the patience or the time is over. */
static void
collect_until(struct collector *c, int stop, const struct cancel *cancel, int64_t until_ns)
{
    while (c->pipes[OUT] >= 0 || c->pipes[ERR] >= 0) {
        int64_t left = until_ns == INT64_MAX ? INT64_MAX : until_ns - clock_monotonic_ns();
        if (left <= 0)
            return;
        struct timespec timeout = {.tv_sec = left / NS_PER_SECOND, .tv_nsec = left % NS_PER_SECOND};
        struct pollfd p[] = {{.fd = c->pipes[OUT], .events = POLLIN},
                             {.fd = c->pipes[ERR], .events = POLLIN},
                             {.fd = stop, .events = POLLIN},
                             {.fd = cancel ? cancel->fd : -1, .events = POLLIN}};
        int n = ppoll(p, sizeof p / sizeof *p, &timeout, NULL);
        if (n < 0 && errno != EINTR)
            return;
        for (int stream = OUT; n > 0 && stream < STREAMS; stream++)
            if (p[stream].revents)
                read_stream(c, stream);
        if (n > 0 && (p[2].revents || p[3].revents))
            return;
    }
}

/* link_exec's meanwhile. */
static void
collect(void *arg, int ended)
{
    struct collector *c = arg;
    collect_until(c, ended, c->cancel, c->cancel->deadline_ns);
}

static int
collector_open(struct collector *c, const struct cancel *cancel, struct link_exec *order, struct error *err)
{
    *c = (struct collector){.cancel = cancel, .pipes = {-1, -1}, .streams = {BUF(EXEC_OUTPUT_MAX), BUF(EXEC_OUTPUT_MAX)}};
    *order = (struct link_exec){.stdio = {-1, -1, -1}, .console = -1, .take_fds = true, .meanwhile = collect, .arg = c};
    for (int i = 0; i < STREAMS; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return error_errno(err, errno, "make a pipe");
        c->pipes[i] = ends[0];
        order->stdio[1 + i] = ends[1];
    }
    return 0;
}

/* The write ends are still here when the command was not begun. */
static void
collector_close(struct collector *c, struct link_exec *order)
{
    for (int i = 0; i < STREAMS; i++) {
        cleanup_closep(&c->pipes[i]);
        cleanup_closep(&order->stdio[1 + i]);
        buf_free(&c->streams[i]);
    }
}

/* ---- the command ---- */

static int
run(const struct exec *e, struct link *link, const struct spec_builder *b, struct link_exec *order, int *status, struct error *err)
{
    int failed_op = -1;
    order->container_id = e->container->id;
    if (link_exec(link, order, e->cancel, status, &failed_op, err) == 0)
        return 0;
    return container_launch_error(b, failed_op, err);
}

/* A cgroup of its own, to be killed as a whole; its name ends in .mount, as the kubelet's cAdvisor adopts any other. */
static int
run_in_cgroup(const struct exec *e, struct link *link, const struct spec_builder *b, struct link_exec *order, int *status, struct error *err)
{
    struct runtime *rt = e->rt;
    cleanup_close int cgroup = cgroup_make_child(&rt->cgroups, e->container->cgroup, e->cgroup_name, err);
    if (cgroup < 0 && rt->cgroups.unified >= 0)
        return -1;
    cleanup_close int spec = spec_finish((struct spec_builder *)(uintptr_t)b, err);
    order->spec = spec;
    order->cgroup = cgroup;
    int result = spec < 0 ? -1 : run(e, link, b, order, status, err);
    cgroup_remove_child(&rt->cgroups, e->container->cgroup, e->cgroup_name);
    return result;
}

int
exec_run(const struct exec *e, struct link_exec *order, int *status, struct error *err)
{
    struct spec_builder *b = TRY_PTR(exec_spec(e->rt, e->container, e->command, e->tty, err));
    struct link *link = pod_take_link(e->rt, e->container->pod, err);
    int result = link ? run_in_cgroup(e, link, b, order, status, err) : -1;
    if (link)
        pod_release_link(e->rt, e->container->pod);
    spec_free(b);
    return result;
}

static void
take_output(struct collector *c, struct exec_result *result)
{
    result->out_length = c->streams[OUT].length;
    result->out = steal(c->streams[OUT].data);
    result->err_length = c->streams[ERR].length;
    result->err = steal(c->streams[ERR].data);
}

static int
exec_and_collect(struct exec *e, struct exec_result *result, struct error *err)
{
    struct collector collector;
    struct link_exec order;
    int outcome = collector_open(&collector, e->cancel, &order, err);
    if (outcome == 0)
        outcome = exec_run(e, &order, &result->exit_code, err);
    if (outcome == 0) {
        collect_until(&collector, -1, NULL, clock_monotonic_ns() + drain_ns);
        take_output(&collector, result);
    }
    collector_close(&collector, &order);
    return outcome;
}

/* ---- the call ---- */

int
exec_begin(struct exec *e, struct error *err)
{
    const struct strv *command = e->command;
    if (command->count == 0 || str_empty(command->items[0]))
        return error_set(err, ERR_INVALID, "exec: the command is missing");
    HOLD(&e->rt->lock);
    if (e->container->phase != CONTAINER_PHASE_RUNNING)
        return error_set(err, ERR_PRECONDITION, "exec: it is not running");
    /* The clock tells it from those that an earlier crispd left behind with a child in them. */
    (void)snprintf(e->cgroup_name, sizeof e->cgroup_name, "exec-%" PRIx64 "-%" PRIu64 ".mount", clock_monotonic_ns(), ++e->container->execs);
    return 0;
}

/* The earlier of the command's own timeout and the caller's patience. */
static struct cancel
patience_of(const struct cancel *cancel, int64_t timeout_ns)
{
    struct cancel both = cancel ? *cancel : (struct cancel){.fd = -1, .deadline_ns = INT64_MAX};
    int64_t now = clock_monotonic_ns();
    if (timeout_ns > 0 && timeout_ns < INT64_MAX - now && now + timeout_ns < both.deadline_ns)
        both.deadline_ns = now + timeout_ns;
    return both;
}

int
container_exec(struct runtime *rt, const char *id, const struct strv *command, int64_t timeout_ns, const struct cancel *cancel,
               struct exec_result *result, struct error *err)
{
    *result = (struct exec_result){0};
    struct container *c = TRY_PTR(container_get(rt, id, err));
    struct cancel patience = patience_of(cancel, timeout_ns);
    struct exec e = {.rt = rt, .container = c, .command = command, .cancel = &patience};
    int outcome = exec_begin(&e, err);
    if (outcome == 0)
        outcome = exec_and_collect(&e, result, err);
    if (outcome < 0) {
        if (err && err->kind == ERR_DEADLINE && timeout_ns > 0)
            error_prefix(err, "exec \"%.64s\": it was killed after %.1f s", command->items[0], (double)timeout_ns / (double)NS_PER_SECOND);
        container_error(c, err);
    }
    container_put(rt, c);
    return outcome;
}

void
exec_result_free(struct exec_result *result)
{
    free(result->out);
    free(result->err);
    *result = (struct exec_result){0};
}
