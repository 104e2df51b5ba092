/* Operations of a launch spec: into namespaces that others live in, or that a user namespace owns. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/fd_pass.h"
#include "runtime/monitor/launch.h"
#include "runtime/userns.h"

int
userns_join(const struct launch *l)
{
    return setns(l->userns, CLONE_NEWUSER) < 0 ? errno : userns_become_root();
}

/* What only the host's root may still do is done before: inside, the pipes are nobody's. */
static int
enter_userns(const struct launch *l, uid_t pipes_owner)
{
    if (l->userns < 0)
        return 0;
    give_pipes(pipes_owner);
    return userns_join(l);
}

/* Ends as the child does, and when the monitor or the whole cgroup does. */
_Noreturn static void
stand_for(pid_t child)
{
    siginfo_t end = {0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)close_range(0, ~0U, 0);
    while (waitid(P_PID, (id_t)child, &end, WEXITED) < 0 && errno == EINTR)
        continue;
    _exit(end.si_code == CLD_EXITED ? end.si_status : 128 + end.si_status);
}

/* A process is seen in the container, by all who may trace there (CAP_SYS_PTRACE), from its first moment in the pid namespace. So it must not have
 * the host's root then, nor anything else of ours: this process enters the other namespaces and stays outside; its child is the first to be seen. */
int
launch_setns(struct launch *l, const struct spec_op *op)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    if (setns(l->init_pidfd, (int)op->number[0] | CLONE_NEWPID) < 0)
        return errno;
    int errnum = enter_userns(l, (uid_t)op->number[1]);
    if (errnum)
        return errnum;
    (void)close(l->init_pidfd);
    (void)close(l->shm);
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child > 0)
        stand_for((pid_t)child);
    if (child < 0)
        return errno == ENOMEM ? ESRCH : errno; /* ENOMEM: the namespace's init is gone */
    return failed(setsid());
}

/* The network, IPC and host names of the pod are its user namespace's: its root rules them, also mounts their sysfs and sets their sysctls. The
 * monitor enters them but stays the host's. */
int
launch_userns(struct launch *l, const struct spec_op *op)
{
    struct userns u;
    uint64_t flags = op->number[0], entered = flags & ~(uint64_t)CLONE_NEWPID;
    bool stays = flags & CLONE_NEWPID;
    int errnum = userns_make(&u, flags, op_text(l, op, 0), op_text(l, op, 1), pod_init_run);
    if (errnum)
        return errnum;
    l->userns = u.fd;
    errnum = entered ? failed(setns(u.pidfd, (int)entered)) : 0;
    if (errnum || !stays) {
        userns_end(&u);
        return errnum;
    }
    userns_begin(&u);
    l->pod_init = u.pid;
    l->pod_init_pidfd = u.pidfd;
    return 0;
}

/* In this mount namespace only, over itself: layers are named by paths, and an overlay takes no mount that is not in its maker's namespace. */
int
launch_idmap(struct launch *l, const struct spec_op *op)
{
    cleanup_close int target = open(op_text(l, op, 0), O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int tree = target < 0 ? -1 : tree_open(target, "", (unsigned)AT_EMPTY_PATH);
    if (tree < 0)
        return errno;
    int errnum = userns_map_tree(tree, l->userns, false);
    return errnum ? errnum : tree_attach(tree, target);
}

/* The kernel takes from who is not root the capabilities over files; what is permitted can be had again. */
int
launch_fs_user(struct launch *l, const struct spec_op *op)
{
    (void)l;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    uid_t uid = (uid_t)op->number[0];
    gid_t gid = (gid_t)op->number[1];
    (void)setfsgid(gid);
    (void)setfsuid(uid);
    if ((uid_t)setfsuid((uid_t)-1) != uid || (gid_t)setfsgid((gid_t)-1) != gid)
        return EPERM;
    if (syscall(SYS_capget, &header, data) < 0)
        return errno;
    for (unsigned i = 0; i < 2; i++)
        data[i].effective = data[i].permitted;
    return failed(syscall(SYS_capset, &header, data));
}

/* In a mount namespace that the user namespace owns all mounts that were copied are locked: a container's root cannot take away what makes one of
 * them read-only. The root itself must not be, or it could not be pivoted into: so it is mounted once more, over itself. */
static int
take_root(struct launch *l)
{
    cleanup_close int beneath = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int tree = beneath < 0 ? -1 : tree_open(beneath, "", (unsigned)AT_EMPTY_PATH | (unsigned)AT_RECURSIVE);
    if (tree < 0)
        return errno;
    (void)close(l->root);
    l->root = tree;
    return tree_attach(tree, beneath);
}

static int
begin_life(struct launch *l, uint64_t flags)
{
    char go;
    ssize_t n;
    do
        n = recv(l->channel, &go, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(1); /* the monitor is gone */
    l->entered = true;
    int errnum = failed(setsid());
    return !errnum && flags & CLONE_NEWNS ? take_root(l) : errnum;
}

/* In the mount namespace that is copied, the root is found by the working directory: an fd would still be of the old one. */
int
launch_enter(struct launch *l, const struct spec_op *op)
{
    int pidfd = -1;
    struct clone_args args = {.flags = op->number[0] | CLONE_PARENT | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd};
    if ((l->pid_ns >= 0 && setns(l->pid_ns, CLONE_NEWPID) < 0) || fchdir(l->root) < 0)
        return errno;
    int errnum = enter_userns(l, (uid_t)op->number[1]);
    if (errnum)
        return errnum;
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child < 0)
        return errno == ENOMEM ? ESRCH : errno; /* ENOMEM: the namespace's init is gone */
    if (child == 0)
        return begin_life(l, op->number[0]);
    struct launch_report report = {.kind = REPORT_CLONED, .op = (int32_t)child};
    _exit(fd_send(l->channel, &report, sizeof report, pidfd) < 0);
}
