#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/fd_pass.h"
#include "runtime/monitor/launch.h"
#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

static struct exec *
slot_take(struct monitor *m)
{
    for (size_t i = 0; i < EXECS_MAX; i++) {
        if (m->execs[i].task.pid)
            continue;
        if (i >= m->execs_used)
            m->execs_used = i + 1;
        return &m->execs[i];
    }
    return NULL;
}

static void
console_close(struct exec *e)
{
    if (e->console >= 0)
        (void)close(e->console);
    e->console = -1;
}

static void
channel_ready(struct monitor *m, struct source *source)
{
    struct exec *e = container_of(source, struct exec, task.channel);
    struct launch_report report;
    int passed;
    ssize_t n = fd_receive(source->fd, &report, sizeof report, &passed);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof report) {
        source_close(m, source);
        return;
    }
    if (report.kind == REPORT_FAILED) {
        e->task.failed_op = report.op;
        e->task.failed_errno = report.errnum;
    }
    if (report.kind == REPORT_CONSOLE && passed >= 0)
        (void)fd_send(e->console, "c", 1, passed);
    if (passed >= 0)
        (void)close(passed);
}

static int
clone_exec(struct monitor *m, struct exec *e, const struct container *c, struct message *request)
{
    static const enum protocol_fd roles[3] = {FD_STDIN, FD_STDOUT, FD_STDERR};
    struct task_plan plan = {.spec = protocol_take_fd(request, FD_SPEC), .pid_ns = -1, .init_pidfd = c->task.pidfd, .gate = -1};
    for (int i = 0; i < 3; i++)
        plan.stdio[i] = protocol_take_fd(request, roles[i]);
    e->task.cgroup = protocol_take_fd(request, FD_CGROUP);
    e->console = protocol_take_fd(request, FD_CONSOLE);
    int errnum = task_clone(m, &e->task, &plan, channel_ready);
    for (int i = 0; i < 3; i++)
        if (plan.stdio[i] >= 0)
            (void)close(plan.stdio[i]);
    if (plan.spec >= 0)
        (void)close(plan.spec);
    return errnum;
}

void
exec_start(struct monitor *m, struct message *request, struct asker asker)
{
    struct container *c = container_find(m, message_string(request, TAG_ID));
    if (!c || (c->state != CONTAINER_RUNNING && c->state != CONTAINER_STARTING)) {
        answer_refusal(m, &asker, c ? EBUSY : ENOENT, c ? "it is not running" : "no such container");
        return;
    }
    struct exec *e = slot_take(m);
    if (!e) {
        answer_refusal(m, &asker, EAGAIN, "too many commands run in its pod at once");
        return;
    }
    e->asker = asker;
    int errnum = clone_exec(m, e, c, request);
    if (!errnum)
        return;
    task_close(m, &e->task);
    console_close(e);
    answer_error(m, &e->asker, errnum, -1, "clone a process");
}

void
exec_kill(struct monitor *m, uint32_t serial)
{
    for (size_t i = 0; i < m->execs_used; i++)
        if (m->execs[i].task.pid && m->execs[i].asker.serial == serial && m->execs[i].asker.connection == m->connection_number)
            task_kill(&m->execs[i].task);
}

void
exec_kill_all(struct monitor *m)
{
    for (size_t i = 0; i < m->execs_used; i++)
        if (m->execs[i].task.pid)
            task_kill(&m->execs[i].task);
}

void
exec_reaped(struct monitor *m, struct exec *e, int status)
{
    for (int i = 0; i < 2 && e->task.channel.fd >= 0; i++)
        channel_ready(m, &e->task.channel);
    if (e->task.failed_errno == ESRCH) /* the namespaces' owner was gone */
        answer_refusal(m, &e->asker, EBUSY, "it is not running");
    else if (e->task.failed_errno)
        answer_error(m, &e->asker, e->task.failed_errno, e->task.failed_op, "");
    else if (e->asker.serial) {
        answer_begin(m, e->asker);
        message_put_i64(&m->answer, TAG_STATUS, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        answer_send(m, &e->asker);
    }
    e->task.pid = 0;
    task_close(m, &e->task);
    console_close(e);
}
