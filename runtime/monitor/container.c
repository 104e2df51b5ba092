#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/fd_pass.h"
#include "runtime/monitor/launch.h"
#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

/* Slots. */

struct container *
container_find(struct monitor *m, const char *id)
{
    for (size_t i = 0; i < m->containers_used; i++) {
        struct container *c = &m->containers[i];
        if (c->state != CONTAINER_NONE && c->state != CONTAINER_DELETED && strcmp(c->id, id) == 0)
            return c;
    }
    return NULL;
}

static struct container *
slot_take(struct monitor *m)
{
    for (size_t i = 0; i < CONTAINERS_MAX; i++) {
        struct container *c = &m->containers[i];
        if (c->state != CONTAINER_NONE)
            continue;
        if (i >= m->containers_used)
            m->containers_used = i + 1;
        return c;
    }
    return NULL;
}

/* Its cgroup may go. */
static void
let_go(struct container *c)
{
    if (c->hold >= 0)
        (void)close(c->hold);
    c->hold = -1;
}

static void
slot_free(struct monitor *m, struct container *c)
{
    task_close(m, &c->task);
    if (c->oom_file >= 0)
        (void)close(c->oom_file);
    let_go(c);
    c->oom_file = -1;
    c->state = CONTAINER_NONE;
    monitor_maybe_end(m);
}

/* The container is gone as far as crispd knows; its slot is free once no job refers to it. */
static void
forget(struct monitor *m, struct container *c)
{
    c->state = CONTAINER_DELETED;
    c->deadline_ns = c->sync_ns = 0;
    c->stdio.log.abandon = true;
    stdio_close(m, c);
    container_advance(m, c);
}

/* How often the kernel has killed in this cgroup: the number behind "oom_kill " (memory.events in v2, memory.oom_control in v1). */
static uint64_t
oom_count(int fd)
{
    char text[512];
    ssize_t n = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : -1;
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *line = strstr(text, "oom_kill ");
    uint64_t count = 0;
    for (const char *at = line ? line + strlen("oom_kill ") : ""; *at >= '0' && *at <= '9'; at++)
        count = count * 10 + (uint64_t)(*at - '0');
    return count;
}

/* CREATE. */

static void channel_ready(struct monitor *m, struct source *source);

static void
slot_fill(struct monitor *m, struct container *c, struct message *request, struct asker asker)
{
    uint64_t flags = message_u64(request, TAG_FLAGS);
    const char *oom_file = message_string(request, TAG_OOM_FILE);
    (void)snprintf(c->id, sizeof c->id, "%s", message_string(request, TAG_ID));
    c->task = (struct task){.pidfd = -1, .cgroup = protocol_take_fd(request, FD_CGROUP), .channel.fd = -1, .failed_op = -1};
    c->hold = protocol_take_fd(request, FD_HOLD);
    c->own_pid_ns = flags & FLAG_NEW_PID_NS;
    c->deleting = c->exit_untold = false;
    c->creating = asker;
    c->starting = c->deleting_for = c->reopening = (struct asker){0};
    c->started_ns = c->deadline_ns = c->sync_ns = 0;
    c->exit = (struct exit_report){0};
    c->record_job = c->sync_job = (struct job){0};
    c->records_dir = m->containers_dir;
    c->oom_file = oom_file[0] ? open(oom_file, O_RDONLY | O_CLOEXEC) : -1;
    c->oom_before = oom_count(c->oom_file);
    c->state = CONTAINER_CREATING;
}

static int
clone_init(struct monitor *m, struct container *c, struct message *request, int spec, int target_pid_ns, int gate)
{
    uint64_t flags = message_u64(request, TAG_FLAGS);
    struct task_plan plan = {
        .spec = spec, .pid_ns = target_pid_ns, .new_pid_ns = flags & FLAG_NEW_PID_NS, .enters = flags & FLAG_ENTERS, .init_pidfd = -1, .gate = gate};
    if (!plan.new_pid_ns && !(flags & FLAG_HOST_PID) && target_pid_ns < 0)
        plan.pid_ns = m->pod_pid_ns;
    int errnum = stdio_open(m, c, flags & FLAG_TTY, flags & FLAG_STDIN_OPEN, plan.stdio);
    c->stdio.stdin_once = flags & FLAG_STDIN_ONCE;
    c->stdio.rate = message_i64(request, TAG_LOG_RATE);
    if (!errnum)
        errnum = backlog_open(&c->stdio.backlog, message_u64(request, TAG_LOG_BUFFER));
    if (!errnum)
        errnum = task_clone(m, &c->task, &plan, channel_ready);
    for (int i = 0; i < 3; i++)
        if (plan.stdio[i] >= 0)
            (void)close(plan.stdio[i]);
    return errnum;
}

void
container_create(struct monitor *m, struct message *request, struct asker asker)
{
    const char *id = message_string(request, TAG_ID);
    if (!id_valid(id) || container_find(m, id)) {
        answer_refusal(m, &asker, id_valid(id) ? EEXIST : EINVAL, id_valid(id) ? "its monitor has one of that id" : "not an id");
        return;
    }
    struct container *c = m->ending ? NULL : slot_take(m);
    int spec = protocol_take_fd(request, FD_SPEC), pid_ns = protocol_take_fd(request, FD_PID_NS), gate = protocol_take_fd(request, FD_GATE);
    int errnum = c ? 0 : EAGAIN;
    if (c) {
        slot_fill(m, c, request, asker);
        errnum = clone_init(m, c, request, spec, pid_ns, gate);
    }
    if (spec >= 0)
        (void)close(spec);
    if (pid_ns >= 0)
        (void)close(pid_ns);
    if (gate >= 0)
        (void)close(gate);
    if (!errnum) {
        stdio_log_open(m, c, message_string(request, TAG_LOG), message_u64(request, TAG_LOG_DIR));
        return;
    }
    if (!c) {
        answer_refusal(m, &asker, errnum, "its pod ends, or has too many containers");
        return;
    }
    answer_error(m, &c->creating, errnum, -1, "clone its init process");
    forget(m, c);
}

/* Both are needed: the process waits for its START, and the log is open. */
static void
maybe_created(struct monitor *m, struct container *c)
{
    if (c->state != CONTAINER_CREATED || c->stdio.log.open_job.busy || !c->creating.serial)
        return;
    answer_begin(m, c->creating);
    message_put_u64(&m->answer, TAG_PID, (uint64_t)c->task.pid);
    answer_send(m, &c->creating);
}

static void
answer_log(struct monitor *m, const struct container *c, struct asker *asker, int errnum)
{
    char words[ERROR_MESSAGE_MAX];
    const char *path = c->stdio.log.path;
    if (errnum == EINVAL)
        (void)snprintf(words, sizeof words, "its log %.1000s: what is there is no regular file of the pod's log directory", path);
    else
        (void)snprintf(words, sizeof words, "open its log %.1000s", path);
    if (errnum == EINVAL)
        answer_refusal(m, asker, errnum, words);
    else
        answer_error(m, asker, errnum, -1, words);
}

void
container_log_opened(struct monitor *m, struct container *c, int errnum)
{
    if (c->reopening.serial && errnum)
        answer_log(m, c, &c->reopening, errnum);
    else
        answer_ok(m, &c->reopening);
    if (c->creating.serial && errnum) {
        answer_log(m, c, &c->creating, errnum);
        c->deleting = true;
        container_kill(c);
    }
    maybe_created(m, c);
    container_advance(m, c);
}

/* What the process being launched reports. */

static void
launch_failed(struct monitor *m, struct container *c, const struct launch_report *report)
{
    c->task.failed_op = report->op;
    c->task.failed_errno = report->errnum;
    if (c->state == CONTAINER_STARTING)
        answer_error(m, &c->starting, report->errnum, report->op, "");
}

/* The process that was cloned has done its part outside the pod's namespaces; this is the container's init, and our child too. */
static void
adopt(struct container *c, pid_t pid, int pidfd)
{
    (void)close(c->task.pidfd);
    c->task.pid = pid;
    c->task.pidfd = pidfd;
    if (c->deleting)
        container_kill(c);
    (void)send(c->task.channel.fd, "g", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
channel_closed(struct monitor *m, struct container *c)
{
    source_close(m, &c->task.channel);
    if (c->state != CONTAINER_STARTING || c->task.failed_errno)
        return;
    c->state = CONTAINER_RUNNING;
    answer_begin(m, c->starting);
    message_put_i64(&m->answer, TAG_STARTED_NS, c->started_ns);
    answer_send(m, &c->starting);
}

static void
channel_ready(struct monitor *m, struct source *source)
{
    struct container *c = container_of(source, struct container, task.channel);
    struct launch_report report;
    int passed;
    ssize_t n = fd_receive(source->fd, &report, sizeof report, &passed);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof report) {
        channel_closed(m, c);
        return;
    }
    if (report.kind == REPORT_FAILED)
        launch_failed(m, c, &report);
    if (report.kind == REPORT_CONSOLE && passed >= 0)
        stdio_console(m, c, passed);
    if (report.kind == REPORT_CLONED && passed >= 0)
        adopt(c, report.op, passed);
    if (report.kind == REPORT_WAITING && c->state == CONTAINER_CREATING) {
        c->state = CONTAINER_CREATED;
        maybe_created(m, c);
    }
}

/* START, KILL, DELETE. */

void
container_start(struct monitor *m, struct container *c, struct asker asker)
{
    if (c->state != CONTAINER_CREATED || c->creating.serial || c->deleting) {
        answer_refusal(m, &asker, EBUSY, "it is not waiting to be started");
        return;
    }
    c->starting = asker;
    c->state = CONTAINER_STARTING;
    c->started_ns = clock_now_ns();
    /* Where this fails the process is dead and its reaping answers. */
    (void)send(c->task.channel.fd, "g", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void
container_kill(struct container *c)
{
    if (c->state >= CONTAINER_CREATING && c->state <= CONTAINER_SETTLING)
        task_kill(&c->task);
}

void
container_delete(struct monitor *m, struct container *c, struct asker asker)
{
    if (c->state == CONTAINER_RUNNING || c->state == CONTAINER_STARTING || c->deleting) {
        answer_refusal(m, &asker, EBUSY, c->deleting ? "it is being deleted" : "it is running");
        return;
    }
    c->deleting = true;
    c->deleting_for = asker;
    if (c->state == CONTAINER_EXITED)
        c->deadline_ns = clock_monotonic_ns() + DELETE_NS;
    container_kill(c);
    container_advance(m, c);
}

/* The end. */

static int
exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void
answer_creation_failed(struct monitor *m, struct container *c, int status)
{
    char words[64];
    if (c->task.failed_errno) {
        answer_error(m, &c->creating, c->task.failed_errno, c->task.failed_op, "");
        return;
    }
    (void)snprintf(words, sizeof words, "its init ended with status %d before it was created", exit_status(status));
    answer_refusal(m, &c->creating, ECHILD, words);
}

/* A report may still be in the channel when its sender is reaped. */
static void
drain_channel(struct monitor *m, struct container *c)
{
    for (int i = 0; i < 4 && c->task.channel.fd >= 0; i++)
        channel_ready(m, &c->task.channel);
}

void
containers_hear(struct monitor *m)
{
    for (size_t i = 0; i < m->containers_used; i++)
        if (m->containers[i].state == CONTAINER_CREATING && m->containers[i].task.channel.fd >= 0)
            channel_ready(m, &m->containers[i].task.channel);
}

void
container_reaped(struct monitor *m, struct container *c, pid_t pid, int status)
{
    drain_channel(m, c);
    if (c->task.pid != pid) /* another has taken its place */
        return;
    c->exit = (struct exit_report){
        .status = exit_status(status),
        .oom_killed = oom_count(c->oom_file) > c->oom_before,
        .finished_ns = clock_now_ns(),
    };
    let_go(c);
    if (!c->own_pid_ns)
        task_kill(&(struct task){.pidfd = -1, .cgroup = c->task.cgroup});
    c->task.pid = 0;
    source_close(m, &c->task.channel);
    if (c->creating.serial)
        answer_creation_failed(m, c, status);
    else if (c->state != CONTAINER_CREATING && !c->deleting) {
        c->state = CONTAINER_SETTLING;
        attach_exited(m, c);
        c->deadline_ns = clock_monotonic_ns() + SETTLE_NS;
        container_advance(m, c);
        return;
    }
    answer_ok(m, &c->deleting_for);
    forget(m, c);
}

/* containers/ID/exit, whole or not at all; flushed to the disk by the other writer, off the path. */

static void
record_work(struct job *job)
{
    struct container *c = container_of(job, struct container, record_job);
    char text[EXIT_RECORD_MAX], path[ID_SIZE + 16], temporary[ID_SIZE + 16];
    size_t length = exit_record_format(&c->exit, text);
    (void)snprintf(path, sizeof path, "%s/exit", c->id);
    (void)snprintf(temporary, sizeof temporary, "%s/.exit.tmp", c->id);
    int fd = openat(c->records_dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool written = fd >= 0 && write(fd, text, length) == (ssize_t)length;
    c->record_errno = written ? 0 : fd >= 0 ? ENOSPC : errno;
    if (fd >= 0)
        (void)close(fd);
    if (written && renameat(c->records_dir, temporary, c->records_dir, path) < 0)
        c->record_errno = errno;
}

static void
sync_work(struct job *job)
{
    const struct container *c = container_of(job, struct container, sync_job);
    exit_record_sync(c->records_dir, c->id);
}

static void
synced(struct monitor *m, struct job *job)
{
    container_advance(m, container_of(job, struct container, sync_job));
}

static void
sync_record(struct monitor *m, struct container *c)
{
    c->sync_ns = 0;
    c->sync_job = (struct job){.work = sync_work, .done = synced};
    writer_submit_urgent(&m->logs, &c->sync_job);
}

void
container_tell_exit(struct monitor *m, struct container *c)
{
    message_begin(&m->answer, PROTOCOL_EXITED, 0);
    message_put_string(&m->answer, TAG_ID, c->id);
    message_put_i64(&m->answer, TAG_STATUS, c->exit.status);
    message_put_u64(&m->answer, TAG_OOM, c->exit.oom_killed);
    message_put_i64(&m->answer, TAG_FINISHED_NS, c->exit.finished_ns);
    c->exit_untold = !event_send(m);
}

static void
recorded(struct monitor *m, struct job *job)
{
    struct container *c = container_of(job, struct container, record_job);
    if (c->record_errno)
        warn(m, c->id, "its exit record cannot be written", c->record_errno);
    c->state = CONTAINER_EXITED;
    if (c->starting.serial) /* killed before it executed anything */
        answer_refusal(m, &c->starting, ECHILD, "it was killed before its program was executed");
    container_tell_exit(m, c);
    if (c->deleting)
        c->deadline_ns = clock_monotonic_ns() + DELETE_NS;
    c->sync_ns = clock_monotonic_ns() + SYNC_NS;
    container_advance(m, c);
}

static void
record(struct monitor *m, struct container *c)
{
    c->deadline_ns = 0;
    c->record_job = (struct job){.work = record_work, .done = recorded};
    writer_submit(&m->records, &c->record_job);
}

void
container_advance(struct monitor *m, struct container *c)
{
    bool due = c->deadline_ns && clock_monotonic_ns() >= c->deadline_ns;
    switch (c->state) {
    case CONTAINER_SETTLING:
        if (!c->record_job.busy && (due || stdio_drained(c)))
            record(m, c);
        break;
    case CONTAINER_EXITED:
        if (c->sync_ns && clock_monotonic_ns() >= c->sync_ns)
            sync_record(m, c);
        if (c->deleting && (due || stdio_drained(c))) {
            answer_ok(m, &c->deleting_for);
            forget(m, c);
        }
        monitor_maybe_end(m);
        break;
    case CONTAINER_DELETED:
        if (stdio_closed(c) && !c->record_job.busy && !c->sync_job.busy)
            slot_free(m, c);
        break;
    default:
        break;
    }
}
