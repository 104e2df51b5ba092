/* crisp-monitor POD_ID, with crispd's connection as fd 3. Started by crispd only (runtime/spawn.c); everything else comes by messages
 * (runtime/protocol.h). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

enum { CONNECTION_FD = 3 };

static bool
all_settled(const struct monitor *m)
{
    for (size_t i = 0; i < m->containers_used; i++) {
        const struct container *c = &m->containers[i];
        if (c->state != CONTAINER_NONE && c->state != CONTAINER_DELETED && (c->state != CONTAINER_EXITED || !stdio_drained(c)))
            return false;
    }
    return true;
}

void
monitor_maybe_end(struct monitor *m)
{
    struct sockaddr_un address;
    if (!m->ending && !m->terminated)
        return;
    if (!all_settled(m) && !(m->ending && clock_monotonic_ns() >= m->end_deadline_ns))
        return;
    protocol_address(&address, m->state_dir, m->pod_id);
    (void)unlink(address.sun_path);
    answer_ok(m, &m->end_for);
    _exit(0);
}

/* Nothing of crispd's session, terminal, signals or files is kept; orphans of the containers come here; nobody looks into this process (a container
 * that joins the host's pid namespace could). */
static void
become_monitor(void)
{
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    (void)setsid();
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)umask(022);
    (void)prctl(PR_SET_NAME, "crisp-monitor");
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (chdir("/") < 0)
        _exit(1);
}

static void
monitor_init(struct monitor *m, const char *pod_id)
{
    (void)snprintf(m->pod_id, sizeof m->pod_id, "%s", pod_id);
    m->pod_pid_ns = m->shm = m->userns = m->state_dir = m->containers_dir = -1;
    m->signals.fd = m->listener.fd = m->connection.fd = -1;
    m->epoll = epoll_create1(EPOLL_CLOEXEC);
    m->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->home_pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    block_pool_open(&m->blocks);
    if (m->epoll < 0 || m->null < 0 || m->home_pid_ns < 0 || reap_open(m) != 0)
        _exit(1);
    for (int fd = 0; fd < 3; fd++)
        (void)dup2(m->null, fd);
    (void)fcntl(CONNECTION_FD, F_SETFD, FD_CLOEXEC);
    connection_open(m, CONNECTION_FD);
}

/* The next moment at which something is due without an event; INT64_MAX: none. */
static int64_t
next_due(const struct monitor *m)
{
    int64_t due = m->ending ? m->end_deadline_ns : INT64_MAX;
    for (size_t i = 0; i < m->containers_used; i++) {
        const struct container *c = &m->containers[i];
        if (c->state == CONTAINER_NONE)
            continue;
        due = clock_earlier(due, c->deadline_ns ? c->deadline_ns : INT64_MAX);
        due = clock_earlier(due, c->sync_ns ? c->sync_ns : INT64_MAX);
        due = clock_earlier(due, stdio_due(c));
        if (c->exit_untold)
            due = clock_earlier(due, clock_monotonic_ns() + 100 * NS_PER_MS);
    }
    return clock_earlier(due, attach_due(m));
}

static void
handle_due(struct monitor *m)
{
    int64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < m->containers_used; i++) {
        struct container *c = &m->containers[i];
        if (c->state == CONTAINER_NONE)
            continue;
        stdio_advance(m, c, now);
        if (c->exit_untold && c->state == CONTAINER_EXITED)
            container_tell_exit(m, c);
        container_advance(m, c);
    }
    attach_advance(m, now);
    monitor_maybe_end(m);
}

static void
monitor_loop(struct monitor *m)
{
    for (;;) {
        int64_t due = next_due(m), left = due == INT64_MAX ? -1 : due - clock_monotonic_ns();
        int timeout = due == INT64_MAX ? -1 : left <= 0 ? 0 : (int)(left / NS_PER_MS) + 1;
        struct epoll_event event;
        int n = epoll_wait(m->epoll, &event, 1, timeout);
        if (n > 0) {
            struct source *source = event.data.ptr;
            source->ready(m, source);
        }
        if (due != INT64_MAX && clock_monotonic_ns() >= due)
            handle_due(m);
    }
}

int
main(int argc, char **argv)
{
    if (argc != 2 || !id_valid(argv[1]) || fcntl(CONNECTION_FD, F_GETFD) < 0) {
        static const char usage[] = "crisp-monitor: started by crispd only\n";
        (void)!write(STDERR_FILENO, usage, sizeof usage - 1);
        return 2;
    }
    struct monitor *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED)
        return 1;
    become_monitor();
    monitor_init(m, argv[1]);
    monitor_loop(m);
}
