#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/monitor/monitor.h"

static bool
reaped_known(struct monitor *m, pid_t pid, int status)
{
    for (size_t i = 0; i < m->containers_used; i++)
        if (m->containers[i].task.pid == pid) {
            container_reaped(m, &m->containers[i], pid, status);
            return true;
        }
    for (size_t i = 0; i < m->execs_used; i++)
        if (m->execs[i].task.pid == pid) {
            exec_reaped(m, &m->execs[i], status);
            return true;
        }
    return false;
}

/* Who it was: an exec, a container's init (maybe one not heard of yet), the pod's, or an orphan that the host's pid namespace gave to its subreaper.
 */
static void
reaped(struct monitor *m, pid_t pid, int status)
{
    if (reaped_known(m, pid, status))
        return;
    if (pid == m->pod_init)
        m->pod_init = 0;
    containers_hear(m);
    (void)reaped_known(m, pid, status);
}

static void
signals_ready(struct monitor *m, struct source *source)
{
    struct signalfd_siginfo info;
    if (read(source->fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    if (info.ssi_signo == SIGTERM) { /* the machine goes down: with the last container, not before */
        m->terminated = true;
        monitor_maybe_end(m);
        return;
    }
    /* Signals merge, so all that have died. */
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        reaped(m, pid, status);
}

int
reap_open(struct monitor *m)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return errno;
    source_open(m, &m->signals, fd, signals_ready);
    return 0;
}
