/* Operations of a launch spec: files, devices, sysctls, namespaces, the network's loopback, the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/fd_pass.h"
#include "runtime/monitor/launch.h"

static int
write_text(const char *path, const char *text)
{
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return errno;
    return failed(write(fd, text, strlen(text)));
}

int
launch_write(struct launch *l, const struct spec_op *op)
{
    return forgiven(write_text(op_text(l, op, 0), op_text(l, op, 1)), op->number[0]);
}

/* By a child that is root in the pod's user namespace: ids in values are those of inside, and the kernel asks for that root in its IPC namespace. */
static int
write_in_userns(const struct launch *l, const char *path, const char *text)
{
    struct clone_args args = {0};
    siginfo_t end = {0};
    long child = syscall(SYS_clone3, &args, sizeof args);
    if (child < 0)
        return errno;
    if (child == 0) {
        int errnum = userns_join(l);
        _exit(errnum ? errnum : write_text(path, text));
    }
    while (waitid(P_PID, (id_t)child, &end, WEXITED | __WALL) < 0 && errno == EINTR)
        continue;
    return end.si_status;
}

/* As sysctl(8) has it: the first separator tells which of '.' and '/' separates, so that net/ipv4/conf/eth0.1/forwarding can be named. */
int
launch_sysctl(struct launch *l, const struct spec_op *op)
{
    char path[PATH_MAX];
    const char *name = op_text(l, op, 0);
    bool dots = name[strcspn(name, "./")] == '.';
    int n = snprintf(path, sizeof path, "/proc/sys/%s", name);
    if (n < 0 || (size_t)n >= sizeof path || strstr(name, ".."))
        return EINVAL;
    for (char *at = path + strlen("/proc/sys/"); dots && *at; at++)
        *at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
    return l->userns >= 0 ? write_in_userns(l, path, op_text(l, op, 1)) : write_text(path, op_text(l, op, 1));
}

int
launch_unshare(struct launch *l, const struct spec_op *op)
{
    (void)l;
    return failed(unshare((int)op->number[0]));
}

int
launch_hostname(struct launch *l, const struct spec_op *op)
{
    const char *name = op_text(l, op, 0);
    return failed(sethostname(name, strlen(name)));
}

int
launch_link_up(struct launch *l, const struct spec_op *op)
{
    struct ifreq request = {0};
    const char *name = op_text(l, op, 0);
    if (strlen(name) >= sizeof request.ifr_name)
        return EINVAL;
    memcpy(request.ifr_name, name, strlen(name));
    cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return errno;
    request.ifr_flags |= IFF_UP;
    return failed(ioctl(fd, SIOCSIFFLAGS, &request));
}

int
launch_mkdir(struct launch *l, const struct spec_op *op)
{
    cleanup_close int fd = root_mkdirs(l, op_text(l, op, 0), (mode_t)op->number[0]);
    return fd < 0 ? -fd : 0;
}

/* Where devices cannot be made the host's, of the same path, is bound. */
static int
bind_device(struct launch *l, const char *path)
{
    cleanup_close int tree = tree_open(AT_FDCWD, path, 0);
    if (tree < 0)
        return errno;
    cleanup_close int target = root_target(l, path, false);
    if (target < 0)
        return -target;
    return tree_attach(tree, target);
}

int
launch_mknod(struct launch *l, const struct spec_op *op)
{
    const char *name, *path = op_text(l, op, 0);
    cleanup_close int parent = root_parent(l, path, &name);
    if (parent < 0)
        return -parent;
    if (mknodat(parent, name, (mode_t)op->number[0], (dev_t)op->number[1]) < 0 && errno != EEXIST)
        return errno == EPERM ? bind_device(l, path) : errno;
    if (fchownat(parent, name, (uid_t)op->number[2], (gid_t)op->number[3], AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    /* mknod was subject to the umask. */
    return failed(fchmodat(parent, name, (mode_t)op->number[0] & 07777, 0));
}

int
launch_symlink(struct launch *l, const struct spec_op *op)
{
    const char *name;
    cleanup_close int parent = root_parent(l, op_text(l, op, 0), &name);
    if (parent < 0)
        return -parent;
    if (symlinkat(op_text(l, op, 1), parent, name) < 0 && errno != EEXIST)
        return errno;
    return 0;
}

/* The master goes to the monitor, the slave becomes stdin, stdout and stderr. The slave is opened through the master (TIOCGPTPEER), so that no path
 * in the container can name another device. */
static int
send_master(struct launch *l, const struct spec_op *op, int master)
{
    struct launch_report report = {.kind = REPORT_CONSOLE, .op = (int32_t)(op - l->spec->ops)};
    return failed(fd_send(l->channel, &report, sizeof report, master));
}

static int
bind_console(struct launch *l, int slave)
{
    cleanup_close int tree = tree_open(slave, "", (unsigned)AT_EMPTY_PATH);
    if (tree < 0)
        return errno;
    cleanup_close int target = root_target(l, "/dev/console", false);
    if (target < 0)
        return -target;
    return tree_attach(tree, target);
}

int
launch_console(struct launch *l, const struct spec_op *op)
{
    enum { TTY_MODE = 0620 };
    int unlocked = 0;
    cleanup_close int master = l->root >= 0 ? root_open(l, "/dev/pts/ptmx", O_RDWR | O_NOCTTY) : open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        return l->root >= 0 ? -master : errno;
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        return errno;
    cleanup_close int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || fchown(slave, (uid_t)op->number[0], (gid_t)-1) < 0 || fchmod(slave, TTY_MODE) < 0)
        return errno;
    int errnum = l->root >= 0 ? bind_console(l, slave) : 0;
    if (!errnum)
        errnum = send_master(l, op, master);
    if (errnum)
        return errnum;
    for (int i = 0; i < 3; i++)
        if (dup2(slave, i) < 0)
            return errno;
    return failed(ioctl(STDIN_FILENO, TIOCSCTTY, 0));
}
