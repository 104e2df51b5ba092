#include "runtime/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/fd_pass.h"

/* Its /proc/self goes to the parent as an fd, since the parent may be in another pid namespace than /proc shows. The other namespaces are made by
 * somebody who is root inside: what the kernel puts into them (the directory of message queues) is its maker's. */
_Noreturn static void
child_run(int channel, uint64_t flags, void (*life)(void))
{
    char go;
    int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (self < 0 || fd_send(channel, "u", 1, self) < 0 || recv(channel, &go, 1, 0) != 1)
        _exit(1);
    int errnum = life ? userns_become_root() : 0;
    if (!errnum && unshare((int)flags) < 0)
        errnum = errno;
    if (send(channel, &errnum, sizeof errnum, MSG_NOSIGNAL) < 0 || recv(channel, &go, 1, 0) != 1)
        _exit(1);
    life();
    _exit(0);
}

static int
write_map(int proc, const char *name, const char *map)
{
    cleanup_close int fd = openat(proc, name, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, map, strlen(map)) < 0 ? errno : 0;
}

static int
write_maps(struct userns *u, const char *uid_map, const char *gid_map)
{
    char word;
    int passed = -1;
    struct pollfd channel = {.fd = u->channel, .events = POLLIN};
    while (poll(&channel, 1, -1) < 0 && errno == EINTR)
        continue;
    if (fd_receive(u->channel, &word, 1, &passed) != 1 || passed < 0)
        return ECHILD;
    cleanup_close int proc = passed;
    int errnum = write_map(proc, "uid_map", uid_map);
    if (!errnum)
        errnum = write_map(proc, "gid_map", gid_map);
    if (errnum)
        return errnum;
    u->fd = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
    return u->fd < 0 ? errno : 0;
}

/* Lets the child go on, and says how it fared. */
static int
make_others(struct userns *u)
{
    int errnum = 0;
    if (send(u->channel, "m", 1, MSG_NOSIGNAL) < 0)
        return errno;
    ssize_t n;
    do
        n = recv(u->channel, &errnum, sizeof errnum, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof errnum ? errnum : ECHILD;
}

void
userns_begin(struct userns *u)
{
    (void)send(u->channel, "g", 1, MSG_NOSIGNAL);
    (void)close(u->channel);
}

void
userns_end(struct userns *u)
{
    siginfo_t end;
    (void)close(u->channel);
    (void)syscall(SYS_pidfd_send_signal, u->pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)u->pidfd, &end, WEXITED | __WALL) < 0 && errno == EINTR)
        continue;
    (void)close(u->pidfd);
    u->pid = 0;
    u->pidfd = u->channel = -1;
}

int
userns_make(struct userns *u, uint64_t flags, const char *uid_map, const char *gid_map, void (*life)(void))
{
    int ends[2];
    *u = (struct userns){.fd = -1, .pidfd = -1, .channel = -1};
    const uint64_t of_clone = flags & CLONE_NEWPID;
    struct clone_args args = {
        .flags = of_clone | CLONE_NEWUSER | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&u->pidfd, .exit_signal = life ? SIGCHLD : 0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return errno;
    u->pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    int errnum = errno;
    if (u->pid == 0) {
        (void)close(ends[0]);
        child_run(ends[1], flags & ~of_clone, life);
    }
    (void)close(ends[1]);
    u->channel = ends[0];
    if (u->pid < 0) {
        (void)close(ends[0]);
        return errnum;
    }
    errnum = write_maps(u, uid_map, gid_map);
    if (!errnum)
        errnum = make_others(u);
    if (!errnum)
        return 0;
    userns_end(u);
    if (u->fd >= 0)
        (void)close(u->fd);
    return errnum;
}

int
userns_become_root(void)
{
    /* Raw: glibc's would wait for threads that a clone does not have. */
    if (syscall(SYS_setgroups, (size_t)0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
        return errno;
    return 0;
}

int
userns_map_tree(int tree, int userns, int recursive)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)(unsigned)userns};
    if (mount_setattr(tree, "", (unsigned)AT_EMPTY_PATH | (recursive ? (unsigned)AT_RECURSIVE : 0U), &attr, sizeof attr) == 0)
        return 0;
    return errno == EINVAL || errno == EPERM ? EOPNOTSUPP : errno;
}
