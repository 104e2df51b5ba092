#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/monitor/launch.h"
#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

static int
pod_setup(struct monitor *m, struct message *request, int *failed_op, const char **words)
{
    struct launch l = {LAUNCH_NONE};
    size_t size = 0;
    int errnum = 0, spec = protocol_take_fd(request, FD_POD_SPEC);
    *words = "read the pod's launch spec";
    l.spec = launch_map(spec, &size, &errnum);
    (void)close(spec);
    if (!l.spec)
        return errnum;
    errnum = launch_run(&l, failed_op);
    (void)munmap((void *)(uintptr_t)l.spec, size);
    m->shm = l.shm;
    m->userns = l.userns;
    m->pod_init = l.pod_init;
    m->pod_pid_ns = l.pod_init_pidfd;
    *words = "";
    if (!errnum && !m->pod_init && message_u64(request, TAG_SHARED_PID)) {
        *words = "clone the init of the shared pid namespace";
        errnum = task_clone_pod_init(m);
    }
    if (errnum)
        return errnum;
    *words = "listen for the next crispd";
    errnum = connection_listen(m);
    if (errnum)
        return errnum;
    *words = "start its writers";
    errnum = writer_start(m, &m->records);
    return errnum ? errnum : writer_start(m, &m->logs);
}

static void
handle_pod(struct monitor *m, struct message *request, struct asker asker)
{
    int failed_op = -1;
    const char *words = "";
    if (m->has_pod) {
        answer_refusal(m, &asker, EEXIST, "the pod has been made");
        return;
    }
    m->state_dir = protocol_take_fd(request, FD_STATE_DIR);
    m->containers_dir = protocol_take_fd(request, FD_CONTAINERS_DIR);
    int errnum = pod_setup(m, request, &failed_op, &words);
    if (!errnum) {
        m->has_pod = true;
        answer_ok(m, &asker);
        return;
    }
    answer_error(m, &asker, errnum, failed_op, words);
    _exit(1);
}

static void
handle_list(struct monitor *m, struct message *request, struct asker asker)
{
    (void)request;
    answer_begin(m, asker);
    for (size_t i = 0; i < m->containers_used; i++) {
        const struct container *c = &m->containers[i];
        if (c->state < CONTAINER_CREATED || c->state > CONTAINER_EXITED || c->deleting)
            continue;
        /* One that settles is told when its record is written. */
        enum protocol_state state = c->state == CONTAINER_CREATED ? STATE_CREATED : c->state == CONTAINER_EXITED ? STATE_EXITED : STATE_RUNNING;
        struct protocol_container entry = {
            .state = state,
            .pid = c->task.pid,
            .started_ns = c->started_ns,
            .finished_ns = c->exit.finished_ns,
            .status = c->exit.status,
            .oom_killed = c->exit.oom_killed,
        };
        memcpy(entry.id, c->id, sizeof c->id);
        message_put(&m->answer, TAG_CONTAINER, &entry, sizeof entry);
    }
    answer_send(m, &asker);
}

/* The container a request is about; NULL and answered where there is none. */
static struct container *
container_named(struct monitor *m, const struct message *request, struct asker *asker)
{
    struct container *c = container_find(m, message_string(request, TAG_ID));
    if (!c)
        answer_refusal(m, asker, ENOENT, "no such container");
    return c;
}

static void
handle_hold(struct monitor *m, struct message *request, struct asker asker)
{
    pid_t pid = 0;
    int pipe = protocol_take_fd(request, FD_HOLD);
    int errnum = pipe >= 0 ? task_clone_holder(pipe, &pid) : EINVAL;
    if (pipe >= 0)
        (void)close(pipe);
    if (errnum) {
        answer_error(m, &asker, errnum, -1, "clone the holder of a cgroup");
        return;
    }
    answer_begin(m, asker);
    message_put_u64(&m->answer, TAG_PID, (uint64_t)pid);
    answer_send(m, &asker);
}

static void
handle_start(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (c)
        container_start(m, c, asker);
}

static void
handle_signal(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (!c)
        return;
    int number = (int)message_u64(request, TAG_SIGNAL), errnum = 0;
    if (c->task.pid && syscall(SYS_pidfd_send_signal, c->task.pidfd, number, NULL, 0) < 0 && errno != ESRCH)
        errnum = errno;
    if (errnum)
        answer_error(m, &asker, errnum, -1, "send the signal");
    else
        answer_ok(m, &asker);
}

static void
handle_kill(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (!c)
        return;
    container_kill(c);
    answer_ok(m, &asker);
}

static void
handle_delete(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (c)
        container_delete(m, c, asker);
}

static void
handle_reopen(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (!c)
        return;
    if (c->stdio.log.open_job.busy) {
        answer_refusal(m, &asker, EBUSY, "its log is being opened");
        return;
    }
    if (!c->stdio.log.path[0]) {
        answer_ok(m, &asker);
        return;
    }
    c->reopening = asker;
    stdio_log_reopen(m, c);
}

static void
handle_exec_kill(struct monitor *m, struct message *request, struct asker asker)
{
    exec_kill(m, (uint32_t)message_u64(request, TAG_TARGET));
    answer_ok(m, &asker);
}

static void
handle_attach(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_named(m, request, &asker);
    if (c)
        attach_begin(m, c, request, asker);
}

static void
handle_end(struct monitor *m, struct message *request, struct asker asker)
{
    (void)request;
    m->ending = true;
    m->end_for = asker;
    m->end_deadline_ns = clock_monotonic_ns() + END_NS;
    exec_kill_all(m);
    for (size_t i = 0; i < m->containers_used; i++)
        container_kill(&m->containers[i]);
    monitor_maybe_end(m);
}

static void (*const handlers[PROTOCOL_TYPE_COUNT])(struct monitor *m, struct message *request, struct asker asker) = {
    [PROTOCOL_POD] = handle_pod,          [PROTOCOL_LIST] = handle_list,
    [PROTOCOL_CREATE] = container_create, [PROTOCOL_START] = handle_start,
    [PROTOCOL_SIGNAL] = handle_signal,    [PROTOCOL_KILL] = handle_kill,
    [PROTOCOL_DELETE] = handle_delete,    [PROTOCOL_REOPEN] = handle_reopen,
    [PROTOCOL_EXEC] = exec_start,         [PROTOCOL_EXEC_KILL] = handle_exec_kill,
    [PROTOCOL_END] = handle_end,          [PROTOCOL_ATTACH] = handle_attach,
    [PROTOCOL_HOLD] = handle_hold,
};

void
request_handle(struct monitor *m, struct message *request)
{
    struct asker asker = {.serial = request->serial, .connection = m->connection_number};
    if (request->type >= PROTOCOL_TYPE_COUNT || !handlers[request->type])
        answer_refusal(m, &asker, ENOSYS, "its monitor is older and does not know the request");
    else if (!m->has_pod && request->type != PROTOCOL_POD)
        answer_refusal(m, &asker, EBUSY, "the pod has not been made");
    else
        handlers[request->type](m, request, asker);
}
