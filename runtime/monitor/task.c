#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/monitor/launch.h"
#include "runtime/monitor/monitor.h"

/* Like fork, into a cgroup and with a pidfd; the child's copy of memory is not shared with the writers' threads. */
static pid_t
clone_process(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0ULL),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (unsigned)cgroup : 0U,
    };
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static int
launch(struct monitor *m, struct task *task, const struct task_plan *plan, int channel)
{
    struct launch_child child = {
        .spec = plan->spec, .channel = channel, .init_pidfd = plan->init_pidfd, .gate = plan->gate, .shm = m->shm, .userns = m->userns};
    int pid_ns = plan->enters ? -1 : plan->pid_ns;
    child.pid_ns = plan->enters ? plan->pid_ns : -1;
    for (int i = 0; i < 3; i++)
        child.stdio[i] = plan->stdio[i] >= 0 ? plan->stdio[i] : m->null;
    /* A namespace entered here is that of children cloned from now on; the monitor itself stays where it is (setns(2)). */
    if (pid_ns >= 0 && setns(pid_ns, CLONE_NEWPID) < 0)
        return errno;
    task->pid = clone_process(plan->new_pid_ns && !plan->enters ? CLONE_NEWPID : 0, task->cgroup, &task->pidfd);
    int errnum = task->pid < 0 ? errno : 0;
    if (task->pid == 0)
        launch_child(&child);
    if (pid_ns >= 0)
        (void)setns(m->home_pid_ns, CLONE_NEWPID);
    return errnum;
}

int
task_clone(struct monitor *m, struct task *task, const struct task_plan *plan, void (*ready)(struct monitor *m, struct source *channel))
{
    int ends[2];
    *task = (struct task){.pidfd = -1, .cgroup = task->cgroup, .channel.fd = -1, .failed_op = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return errno;
    int errnum = launch(m, task, plan, ends[1]);
    (void)close(ends[1]);
    if (errnum) {
        (void)close(ends[0]);
        task->pid = 0;
        return errnum;
    }
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    source_open(m, &task->channel, ends[0], ready);
    return 0;
}

void
task_kill(const struct task *task)
{
    cleanup_close int fd = task->cgroup >= 0 ? openat(task->cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC) : -1;
    if (fd >= 0)
        (void)!write(fd, "1", 1);
    /* As well: there may be no cgroup of its own, or the process was moved out of it. */
    if (task->pid && task->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, task->pidfd, SIGKILL, NULL, 0);
}

void
task_close(struct monitor *m, struct task *task)
{
    source_close(m, &task->channel);
    if (task->pidfd >= 0)
        (void)close(task->pidfd);
    if (task->cgroup >= 0)
        (void)close(task->cgroup);
    task->pidfd = task->cgroup = -1;
    task->pid = 0;
}

/* For a process that only is: it has no file system, no capability, and ends with the monitor. */
static void
give_up_all(const char *name)
{
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) == 0 &&
        mount("none", "/proc", "tmpfs", MS_RDONLY, NULL) == 0 && chdir("/proc") == 0 && syscall(SYS_pivot_root, ".", ".") == 0)
        (void)umount2(".", MNT_DETACH);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    (void)prctl(PR_SET_NAME, name);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)syscall(SYS_capset, &header, none);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

/* The init of a shared pid namespace: it reaps what containers leave, and holds nothing, no fd either. */
_Noreturn void
pod_init_run(void)
{
    sigset_t all;
    launch_close_others(NULL, 0);
    give_up_all("crisp-init");
    (void)sigfillset(&all);
    for (;;) {
        int signal;
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
        (void)sigwait(&all, &signal);
    }
}

int
task_clone_pod_init(struct monitor *m)
{
    int pidfd = -1;
    m->pod_init = clone_process(CLONE_NEWPID, -1, &pidfd);
    if (m->pod_init == 0)
        pod_init_run();
    if (m->pod_init < 0)
        return errno;
    /* The pidfd serves as its namespace for setns. */
    m->pod_pid_ns = pidfd;
    return 0;
}

/* With this score not even memory.oom.group takes it (kernel, cgroup-v2.rst): the count of kills is to be read when all else is dead. */
_Noreturn static void
holder_run(int pipe)
{
    static const char least[] = "-1000";
    char byte;
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0)
        (void)!write(score, least, sizeof least - 1);
    launch_close_others(&pipe, 1);
    give_up_all("crisp-hold");
    while (read(pipe, &byte, 1) < 0 && errno == EINTR)
        continue;
    _exit(0);
}

int
task_clone_holder(int pipe, pid_t *pid)
{
    int pidfd = -1;
    *pid = clone_process(0, -1, &pidfd);
    if (*pid == 0)
        holder_run(pipe);
    if (*pid < 0)
        return errno;
    (void)close(pidfd);
    return 0;
}
