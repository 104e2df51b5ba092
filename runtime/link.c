#include "runtime/link.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/hub.h"
#include "runtime/spawn.h"

/* One call: begin it, put fields into request, then exchange_run (or send, wait and check by themselves). */
struct exchange {
    struct link *link;
    struct call call;
    struct message request, answer;
};

static int
exchange_begin(struct exchange *x, struct link *link, enum protocol_type type, struct error *err)
{
    x->link = link;
    x->call = (struct call){.answer = &x->answer, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (x->call.wake < 0)
        return error_errno(err, errno, "eventfd");
    (void)pthread_mutex_lock(&link->lock);
    link->references++;
    if (++link->last_serial == 0) /* 0 is nobody's */
        ++link->last_serial;
    x->call.serial = link->last_serial;
    (void)pthread_mutex_unlock(&link->lock);
    message_begin(&x->request, (uint16_t)type, x->call.serial);
    return 0;
}

static void
exchange_end(struct exchange *x)
{
    if (x->call.wake < 0)
        return;
    (void)pthread_mutex_lock(&x->link->lock);
    for (struct call **at = &x->link->calls; *at; at = &(*at)->next)
        if (*at == &x->call) {
            *at = x->call.next;
            break;
        }
    (void)pthread_mutex_unlock(&x->link->lock);
    (void)close(x->call.wake);
    link_unref(x->link);
}

#define EXCHANGE(name)                          \
    cleanup(exchange_end) struct exchange name; \
    name.call.wake = -1

static int
lost(struct error *err)
{
    return error_set(err, ERR_UNAVAILABLE, "its monitor is dead");
}

static int
exchange_send(struct exchange *x, struct error *err)
{
    struct link *link = x->link;
    (void)pthread_mutex_lock(&link->lock);
    bool alive = link->state != LINK_DEAD;
    if (alive) {
        x->call.next = link->calls;
        link->calls = &x->call;
    }
    (void)pthread_mutex_unlock(&link->lock);
    if (!alive)
        return lost(err);
    if (message_send(link->socket, &x->request, err) == 0)
        return 0;
    /* A full socket: the monitor has not read for long. */
    return err && err->errnum == EAGAIN ? error_set(err, ERR_UNAVAILABLE, "its monitor (pid %d) does not answer", link->pid) : -1;
}

static int
exchange_wait(struct exchange *x, const struct cancel *cancel, int64_t timeout_ns, const char *stage, struct error *err)
{
    int n = cancel_wait(cancel, x->call.wake, timeout_ns, stage, err);
    if (n < 0)
        return -1;
    if (n == 0)
        return error_set(err, ERR_UNAVAILABLE, "its monitor (pid %d) has not answered for %lld s while %s", x->link->pid,
                         (long long)(timeout_ns / NS_PER_SECOND), stage);
    (void)pthread_mutex_lock(&x->link->lock);
    bool answered = x->call.answered, unread = x->call.unread;
    (void)pthread_mutex_unlock(&x->link->lock);
    if (unread)
        return error_set(err, ERR_UNSUPPORTED, "its monitor's answer cannot be read: it is malformed, or of another version of crisp");
    return answered ? 0 : lost(err);
}

/* What the errno of a refusal means. */
static const struct {
    int errnum;
    enum error_kind kind;
} refusals[] = {
    {EBUSY, ERR_PRECONDITION}, {ENOENT, ERR_NOT_FOUND},   {EEXIST, ERR_EXISTS},      {EINVAL, ERR_INVALID},
    {EAGAIN, ERR_EXHAUSTED},   {ETIMEDOUT, ERR_DEADLINE}, {ENOSYS, ERR_UNSUPPORTED}, {EBADMSG, ERR_UNSUPPORTED},
};

static int
error_of_refusal(const char *sentence, int errnum, struct error *err)
{
    enum error_kind kind = ERR_INTERNAL;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (refusals[i].errnum == errnum)
            kind = refusals[i].kind;
    (void)error_set(err, kind, "%s", sentence);
    if (err)
        err->errnum = errnum;
    return -1;
}

static int
error_of_answer(const struct message *answer, int errnum, struct error *err)
{
    const char *words = message_string(answer, TAG_WORDS), *refusal = message_string(answer, TAG_REFUSAL);
    if (*refusal)
        return error_of_refusal(refusal, errnum, err);
    if (*words)
        return error_errno(err, errnum, "%s", words);
    /* An operation's words are the caller's (spec_explain): only the reason is put here. */
    (void)error_errno(err, errnum, "monitor");
    if (err) {
        const char *reason = strerrordesc_np(errnum);
        (void)snprintf(err->message, sizeof err->message, "%s", reason ? reason : "unknown error");
    }
    return -1;
}

static int
exchange_check(const struct exchange *x, int *failed_op, struct error *err)
{
    int errnum = (int)message_u64(&x->answer, TAG_ERRNUM);
    if (failed_op)
        *failed_op = (int)message_u64(&x->answer, TAG_FAILED_OP) - 1;
    return errnum ? error_of_answer(&x->answer, errnum, err) : 0;
}

static int
exchange_run(struct exchange *x, int64_t timeout_ns, const char *stage, int *failed_op, struct error *err)
{
    if (failed_op)
        *failed_op = -1;
    TRY(exchange_send(x, err));
    TRY(exchange_wait(x, NULL, timeout_ns, stage, err));
    return exchange_check(x, failed_op, err);
}

static int64_t
patience(const struct link *link)
{
    return link->hub->options.answer_timeout_ns;
}

/* Wait for the hub to see the monitor's death; false when it still lives after the time. */
static bool
wait_dead(struct link *link, int64_t timeout_ns)
{
    int64_t until = clock_monotonic_ns() + timeout_ns;
    struct timespec ts = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    (void)pthread_mutex_lock(&link->lock);
    int timed_out = 0;
    while (link->state != LINK_DEAD && !timed_out)
        timed_out = pthread_cond_timedwait(&link->ended, &link->lock, &ts);
    bool dead = link->state == LINK_DEAD;
    (void)pthread_mutex_unlock(&link->lock);
    return dead;
}

static void
expect_death(struct link *link)
{
    (void)pthread_mutex_lock(&link->lock);
    if (link->state == LINK_UP)
        link->state = LINK_ENDING;
    (void)pthread_mutex_unlock(&link->lock);
}

static void
kill_monitor(struct link *link)
{
    expect_death(link);
    (void)syscall(SYS_pidfd_send_signal, link->pidfd, SIGKILL, NULL, 0);
    (void)wait_dead(link, patience(link));
}

void
link_free(struct link *link)
{
    if (!link)
        return;
    hub_remove(link);
    link_unref(link);
}

/* Spawn. */

static int
make_pod(struct link *link, const struct link_spawn *spawn, int *failed_op, struct error *err)
{
    EXCHANGE(x);
    TRY(exchange_begin(&x, link, PROTOCOL_POD, err));
    message_put_u64(&x.request, TAG_SHARED_PID, spawn->shared_pid);
    protocol_put_fd(&x.request, FD_POD_SPEC, spawn->pod_spec);
    protocol_put_fd(&x.request, FD_STATE_DIR, spawn->state_dir);
    protocol_put_fd(&x.request, FD_CONTAINERS_DIR, spawn->containers_dir);
    TRY(exchange_send(&x, err));
    if (spawn->meanwhile)
        spawn->meanwhile(spawn->arg);
    TRY(exchange_wait(&x, NULL, patience(link), "making the pod's namespaces", err));
    return exchange_check(&x, failed_op, err);
}

static int
start_monitor(struct hub *hub, const struct link_spawn *spawn, struct link **out, struct error *err)
{
    int ends[2], pidfd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_errno(err, errno, "socketpair");
    cleanup_close int ours = ends[0];
    cleanup_close int theirs = ends[1];
    struct spawn how = {.program = hub->program, .name = "crisp-monitor", .argument = spawn->pod_id, .connection = theirs, .cgroup = spawn->cgroup};
    pid_t pid = TRY(spawn_monitor(&how, &pidfd, err));
    (void)fcntl(ours, F_SETFL, O_NONBLOCK);
    *out = hub_add(hub, spawn->pod_id, pid, pidfd, steal(ours));
    return 0;
}

int
link_spawn(struct hub *hub, const struct link_spawn *spawn, struct link **out, struct process_identity *identity, int *failed_op, struct error *err)
{
    struct link *link = NULL;
    *failed_op = -1;
    TRY(start_monitor(hub, spawn, &link, err));
    if (process_identify(link->pid, identity, err) < 0 || make_pod(link, spawn, failed_op, err) < 0) {
        kill_monitor(link);
        link_free(link);
        return -1;
    }
    *out = link;
    return 0;
}

/* Adopt. */

static int
connect_monitor(int state_dir, const char *pod_id, const struct process_identity *identity, struct error *err)
{
    struct sockaddr_un address;
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "socket");
    protocol_address(&address, state_dir, pod_id);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_errno(err, errno, "connect to the monitor of pod %.12s", pod_id);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return error_errno(err, errno, "SO_PEERCRED");
    if (peer.pid != identity->pid || peer.uid != 0)
        return error_set(err, ERR_DENIED, "the socket of pod %.12s is held by pid %d, not by its monitor %d", pod_id, peer.pid, identity->pid);
    return steal(fd);
}

static struct link_container
container_of_entry(const void *bytes, size_t length)
{
    struct protocol_container entry = {.state = 0};
    memcpy(&entry, bytes, length < sizeof entry ? length : sizeof entry);
    struct link_container container = {
        .state = entry.state == STATE_CREATED   ? LINK_CREATED
                 : entry.state == STATE_RUNNING ? LINK_RUNNING
                                                : LINK_EXITED,
        .pid = entry.pid,
        .started_ns = entry.started_ns,
        .exit = {.status = entry.status, .oom_killed = entry.oom_killed != 0, .finished_ns = entry.finished_ns},
    };
    (void)snprintf(container.id, sizeof container.id, "%.*s", ID_LENGTH, entry.id);
    return container;
}

static int
list_containers(struct link *link, const struct cancel *cancel, struct link_container **containers, size_t *count, struct error *err)
{
    EXCHANGE(x);
    TRY(exchange_begin(&x, link, PROTOCOL_LIST, err));
    TRY(exchange_send(&x, err));
    TRY(exchange_wait(&x, cancel, patience(link), "asking a monitor for its containers", err));
    TRY(exchange_check(&x, NULL, err));
    size_t cursor = 0, length, n = 0;
    const void *entry;
    *containers = NULL;
    while ((entry = message_next(&x.answer, TAG_CONTAINER, &cursor, &length))) {
        *containers = mem_realloc(*containers, n + 1, sizeof **containers);
        (*containers)[n++] = container_of_entry(entry, length);
    }
    *count = n;
    return 0;
}

int
link_adopt(struct hub *hub, const char *pod_id, int state_dir, const struct process_identity *identity, const struct cancel *cancel,
           struct link **out, struct link_container **containers, size_t *count, struct error *err)
{
    cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, identity->pid, 0);
    if (pidfd < 0)
        return error_errno(err, errno == ESRCH ? ENOENT : errno, "the monitor of pod %.12s (pid %d)", pod_id, identity->pid);
    /* After the pidfd is open the pid cannot become another's unseen. */
    if (!process_is(identity))
        return error_set(err, ERR_NOT_FOUND, "the monitor of pod %.12s is gone: pid %d is another process now", pod_id, identity->pid);
    cleanup_close int socket = TRY(connect_monitor(state_dir, pod_id, identity, err));
    struct link *link = hub_add(hub, pod_id, identity->pid, steal(pidfd), steal(socket));
    if (list_containers(link, cancel, containers, count, err) < 0) {
        expect_death(link);
        link_free(link);
        return -1;
    }
    *out = link;
    return 0;
}

/* Containers. */

static int
begin_named(struct exchange *x, struct link *link, enum protocol_type type, const char *container_id, struct error *err)
{
    TRY(exchange_begin(x, link, type, err));
    message_put_string(&x->request, TAG_ID, container_id);
    return 0;
}

static int
simple_call(struct link *link, enum protocol_type type, const char *container_id, const char *stage, struct error *err)
{
    EXCHANGE(x);
    TRY(begin_named(&x, link, type, container_id, err));
    return exchange_run(&x, patience(link), stage, NULL, err);
}

static void
close_if_open(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

/* What is made meanwhile, and the gate opened for it; where that fails it stays shut, and the request fails. */
static void
open_gate(const struct link_create *create, int gate)
{
    if (create->meanwhile(create->arg) == 0)
        (void)send(gate, "g", 1, MSG_NOSIGNAL); /* the init may have failed before */
}

/* `gate`: two sockets, closed here; -1 where nothing is made meanwhile. */
static int
send_create(struct exchange *x, const struct link_create *create, int gate[2], struct error *err)
{
    uint64_t flags = (create->tty ? FLAG_TTY : 0U) | (create->stdin_open ? FLAG_STDIN_OPEN : 0U) | (create->stdin_once ? FLAG_STDIN_ONCE : 0U) |
                     (create->host_pid ? FLAG_HOST_PID : 0U) | (create->new_pid_ns ? FLAG_NEW_PID_NS : 0U) | (create->enters ? FLAG_ENTERS : 0U);
    message_put_u64(&x->request, TAG_FLAGS, flags);
    message_put_string(&x->request, TAG_LOG, create->log_path);
    message_put_u64(&x->request, TAG_LOG_DIR, create->log_directory_length);
    message_put_i64(&x->request, TAG_LOG_RATE, create->log_bytes_per_second);
    message_put_u64(&x->request, TAG_LOG_BUFFER, create->log_buffer_bytes);
    message_put_string(&x->request, TAG_OOM_FILE, create->oom_file);
    protocol_put_fd(&x->request, FD_SPEC, create->spec);
    protocol_put_fd(&x->request, FD_CGROUP, create->cgroup);
    protocol_put_fd(&x->request, FD_PID_NS, create->target_pid_ns);
    protocol_put_fd(&x->request, FD_HOLD, create->hold);
    protocol_put_fd(&x->request, FD_GATE, gate[0]);
    int sent = exchange_send(x, err);
    close_if_open(steal(gate[0]));
    if (sent == 0 && create->meanwhile)
        open_gate(create, gate[1]);
    close_if_open(steal(gate[1]));
    return sent;
}

int
link_hold(struct link *link, int pipe, pid_t *pid, struct error *err)
{
    EXCHANGE(x);
    TRY(exchange_begin(&x, link, PROTOCOL_HOLD, err));
    protocol_put_fd(&x.request, FD_HOLD, pipe);
    TRY(exchange_run(&x, patience(link), "holding a cgroup", NULL, err));
    *pid = (pid_t)message_u64(&x.answer, TAG_PID);
    return 0;
}

int
link_create(struct link *link, const struct link_create *create, pid_t *pid, int *failed_op, struct error *err)
{
    EXCHANGE(x);
    int gate[2] = {-1, -1};
    *failed_op = -1;
    TRY(begin_named(&x, link, PROTOCOL_CREATE, create->container_id, err));
    if (create->meanwhile && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) < 0)
        return error_errno(err, errno, "socketpair");
    TRY(send_create(&x, create, gate, err));
    TRY(exchange_wait(&x, NULL, INT64_MAX, "creating the container", err));
    TRY(exchange_check(&x, failed_op, err));
    *pid = (pid_t)message_u64(&x.answer, TAG_PID);
    return 0;
}

int
link_start(struct link *link, const char *container_id, int64_t *started_ns, int *failed_op, struct error *err)
{
    EXCHANGE(x);
    TRY(begin_named(&x, link, PROTOCOL_START, container_id, err));
    TRY(exchange_run(&x, INT64_MAX, "starting the container", failed_op, err));
    *started_ns = message_i64(&x.answer, TAG_STARTED_NS);
    return 0;
}

int
link_signal(struct link *link, const char *container_id, int signal, struct error *err)
{
    EXCHANGE(x);
    TRY(begin_named(&x, link, PROTOCOL_SIGNAL, container_id, err));
    message_put_u64(&x.request, TAG_SIGNAL, (uint64_t)signal);
    return exchange_run(&x, patience(link), "sending a signal", NULL, err);
}

int
link_kill(struct link *link, const char *container_id, struct error *err)
{
    return simple_call(link, PROTOCOL_KILL, container_id, "killing the container", err);
}

int
link_delete(struct link *link, const char *container_id, struct error *err)
{
    return simple_call(link, PROTOCOL_DELETE, container_id, "forgetting the container", err);
}

int
link_reopen_log(struct link *link, const char *container_id, struct error *err)
{
    return simple_call(link, PROTOCOL_REOPEN, container_id, "opening the log again", err);
}

/* Execs. */

static void
kill_exec(struct link *link, uint32_t serial)
{
    struct error ignored;
    EXCHANGE(x);
    if (exchange_begin(&x, link, PROTOCOL_EXEC_KILL, &ignored) < 0)
        return;
    message_put_u64(&x.request, TAG_TARGET, serial);
    (void)exchange_run(&x, patience(link), "killing an exec", NULL, &ignored);
}

static void
put_stdio(struct message *request, const int stdio[3], int console)
{
    static const enum protocol_fd roles[3] = {FD_STDIN, FD_STDOUT, FD_STDERR};
    for (int i = 0; i < 3; i++)
        protocol_put_fd(request, roles[i], stdio[i]);
    protocol_put_fd(request, FD_CONSOLE, console);
}

static void
close_stdio(int stdio[3], int *console)
{
    for (int i = 0; i < 3; i++)
        close_if_open(steal(stdio[i]));
    close_if_open(steal(*console));
}

static int
send_exec(struct exchange *x, struct link *link, const struct link_exec *exec, struct error *err)
{
    TRY(begin_named(x, link, PROTOCOL_EXEC, exec->container_id, err));
    protocol_put_fd(&x->request, FD_SPEC, exec->spec);
    protocol_put_fd(&x->request, FD_CGROUP, exec->cgroup);
    put_stdio(&x->request, exec->stdio, exec->console);
    return exchange_send(x, err);
}

int
link_exec(struct link *link, struct link_exec *exec, const struct cancel *cancel, int *status, int *failed_op, struct error *err)
{
    EXCHANGE(x);
    *failed_op = -1;
    int sent = send_exec(&x, link, exec, err);
    if (exec->take_fds)
        close_stdio(exec->stdio, &exec->console);
    if (sent < 0)
        return -1;
    if (exec->meanwhile)
        exec->meanwhile(exec->arg, x.call.wake);
    struct error why = {0}, ignored;
    if (exchange_wait(&x, cancel, INT64_MAX, "running the command", &why) < 0) {
        if (why.kind == ERR_DEADLINE || why.kind == ERR_CANCELLED) {
            kill_exec(link, x.call.serial);
            (void)exchange_wait(&x, NULL, patience(link), "killing the command", &ignored);
        }
        if (err)
            *err = why;
        return -1;
    }
    TRY(exchange_check(&x, failed_op, err));
    *status = (int)message_i64(&x.answer, TAG_STATUS);
    return 0;
}

/* Attached clients. */

static int
send_attach(struct exchange *x, struct link *link, const struct link_attach *attach, struct error *err)
{
    TRY(begin_named(x, link, PROTOCOL_ATTACH, attach->container_id, err));
    put_stdio(&x->request, attach->stdio, attach->console);
    return exchange_send(x, err);
}

int
link_attach(struct link *link, struct link_attach *attach, struct error *err)
{
    EXCHANGE(x);
    int sent = send_attach(&x, link, attach, err);
    close_stdio(attach->stdio, &attach->console);
    if (sent < 0)
        return -1;
    TRY(exchange_wait(&x, NULL, INT64_MAX, "attached", err));
    return exchange_check(&x, NULL, err);
}

/* The end. */

/* Its death is the answer. */
static void
ask_end(struct link *link)
{
    struct error ignored;
    EXCHANGE(x);
    if (exchange_begin(&x, link, PROTOCOL_END, &ignored) == 0)
        (void)exchange_send(&x, &ignored);
}

bool
link_is_up(struct link *link)
{
    (void)pthread_mutex_lock(&link->lock);
    bool up = link->state == LINK_UP;
    (void)pthread_mutex_unlock(&link->lock);
    return up;
}

int
link_end(struct link *link, struct error *err)
{
    expect_death(link);
    ask_end(link);
    if (!wait_dead(link, patience(link)))
        kill_monitor(link);
    bool dead = wait_dead(link, 0);
    pid_t pid = link->pid;
    link_free(link);
    return dead ? 0 : error_set(err, ERR_UNAVAILABLE, "its monitor (pid %d) cannot be killed", pid);
}
