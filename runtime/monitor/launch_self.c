/* Operations of a launch spec: what the process itself becomes, and the last two, waiting and executing. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/monitor/launch.h"

/* Without CAP_SYS_RESOURCE the hard limit can only be lowered: then as much as is allowed. */
int
launch_rlimit(struct launch *l, const struct spec_op *op)
{
    (void)l;
    int resource = (int)op->number[0];
    struct rlimit limit = {.rlim_cur = op->number[1], .rlim_max = op->number[2]}, now;
    if (setrlimit((__rlimit_resource_t)resource, &limit) == 0)
        return 0;
    if (errno != EPERM || getrlimit((__rlimit_resource_t)resource, &now) < 0)
        return errno;
    if (limit.rlim_max > now.rlim_max)
        limit.rlim_max = now.rlim_max;
    if (limit.rlim_cur > limit.rlim_max)
        limit.rlim_cur = limit.rlim_max;
    return failed(setrlimit((__rlimit_resource_t)resource, &limit));
}

/* After the pivot: "/" is the root. */
static int
make_directory(const struct spec_op *op, const char *path)
{
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return ENAMETOOLONG;
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        if (mkdir(prefix, 0755) == 0) {
            if (chown(prefix, (uid_t)op->number[1], (gid_t)op->number[2]) < 0)
                return errno;
        } else if (errno != EEXIST) {
            return errno;
        }
    }
    return 0;
}

int
launch_chdir(struct launch *l, const struct spec_op *op)
{
    const char *path = op_text(l, op, 0);
    char where[PATH_MAX];
    int errnum = failed(chdir(path));
    if (errnum == ENOENT && op->number[0]) {
        errnum = make_directory(op, path);
        if (!errnum)
            errnum = failed(chdir(path));
    }
    if (errnum)
        return errnum;
    /* A directory outside the root ("/proc/self/fd/7" of an image's WORKDIR) has no path from here: the system call then says "(unreachable)…". */
    if (syscall(SYS_getcwd, where, sizeof where) < 0)
        return errno;
    return where[0] == '/' ? 0 : EPERM;
}

/* Root of the host, who is not in the container, may look for it by name: execs find it so. */
int
launch_keyring(struct launch *l, const struct spec_op *op)
{
    static const unsigned possessor_all = 0x3f000000, user_view_read_search_link = 0x001b0000;
    long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op_text(l, op, 0));
    if (ring < 0)
        return errno == ENOSYS ? 0 : errno; /* a kernel without keyrings shares none */
    return failed(syscall(SYS_keyctl, KEYCTL_SETPERM, ring, possessor_all | user_view_read_search_link));
}

int
launch_groups(struct launch *l, const struct spec_op *op)
{
    return failed(syscall(SYS_setgroups, (size_t)op->number[0], spec_list(l->spec, op)));
}

int
launch_bounding(struct launch *l, const struct spec_op *op)
{
    (void)l;
    for (unsigned cap = 0; cap < 64; cap++) {
        if (op->number[0] >> cap & 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return errno == EINVAL ? 0 : errno; /* the kernel knows no more */
    }
    return 0;
}

void
give_pipes(uid_t uid)
{
    for (int fd = 0; fd < 3; fd++) {
        struct stat st;
        if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
            (void)fchown(fd, uid, (gid_t)-1);
    }
}

int
launch_user(struct launch *l, const struct spec_op *op)
{
    (void)l;
    long uid = (long)op->number[0], gid = (long)op->number[1];
    give_pipes((uid_t)uid);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return errno;
    if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
        return errno;
    return 0;
}

int
launch_caps(struct launch *l, const struct spec_op *op)
{
    (void)l;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (unsigned i = 0; i < 2; i++)
        data[i] = (struct __user_cap_data_struct){
            .effective = (uint32_t)(op->number[0] >> 32 * i),
            .permitted = (uint32_t)(op->number[1] >> 32 * i),
            .inheritable = (uint32_t)(op->number[2] >> 32 * i),
        };
    if (syscall(SYS_capset, &header, data) < 0)
        return errno;
    for (unsigned cap = 0; cap < 64; cap++)
        if (op->number[3] >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return errno;
    return 0;
}

int
launch_no_new_privs(struct launch *l, const struct spec_op *op)
{
    (void)l;
    (void)op;
    return failed(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* After the last change of credentials, which would clear it. The monitor may have died before: then its end of the channel is closed. */
static int
die_with_monitor(struct launch *l)
{
    struct pollfd channel = {.fd = l->channel};
    if (l->armed)
        return 0;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return errno;
    if (poll(&channel, 1, 0) > 0 && channel.revents & POLLHUP)
        _exit(1);
    l->armed = true;
    return 0;
}

/* The filter need not allow more than execve: all else is done before. */
int
launch_seccomp(struct launch *l, const struct spec_op *op)
{
    int errnum = die_with_monitor(l);
    if (errnum)
        return errnum;
    struct sock_fprog program = {
        .len = (unsigned short)(op->list_bytes / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(uintptr_t)spec_list(l->spec, op),
    };
    return failed(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)op->number[0], &program));
}

int
launch_umask(struct launch *l, const struct spec_op *op)
{
    (void)l;
    (void)umask((mode_t)op->number[0]);
    return 0;
}

/* The byte says that all is there; the end of the stream, that crispd failed or died. */
int
launch_gate(struct launch *l, const struct spec_op *op)
{
    (void)op;
    char go;
    ssize_t n;
    do
        n = read(l->gate, &go, 1);
    while (n < 0 && errno == EINTR);
    (void)close(l->gate);
    return n < 0 ? errno : n == 0 ? ECANCELED : 0;
}

int
launch_wait(struct launch *l, const struct spec_op *op)
{
    struct launch_report report = {.kind = REPORT_WAITING, .op = (int32_t)(op - l->spec->ops)};
    char go;
    ssize_t n;
    if (send(l->channel, &report, sizeof report, MSG_NOSIGNAL) < 0)
        return errno;
    do
        n = recv(l->channel, &go, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return 0;
    _exit(1); /* the monitor is gone */
}

/* The offsets of argv and envp become pointers, in this process' private mapping of the spec. */
static char **
relocate(const struct spec *spec, const struct spec_op *op, char ***envp)
{
    uint64_t *slot = (uint64_t *)(uintptr_t)spec_list(spec, op);
    size_t count = op->list_bytes / sizeof *slot;
    for (size_t i = 0; i < count; i++) {
        if (slot[i])
            slot[i] += (uint64_t)(uintptr_t)spec;
        else if (i + 1 < count)
            *envp = (char **)(void *)&slot[i + 1];
    }
    return (char **)(void *)slot;
}

static const char *
search_path(char **envp)
{
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* As execvpe(3) does, but a file without an interpreter is not given to a shell. */
static int
exec_along(const char *path, char **argv, char **envp)
{
    char file[PATH_MAX];
    int denied = 0;
    for (const char *at = path;;) {
        int length = (int)strcspn(at, ":");
        int n = snprintf(file, sizeof file, "%.*s%s%s", length, at, length ? "/" : "./", argv[0]);
        if (n > 0 && (size_t)n < sizeof file) {
            (void)execve(file, argv, envp);
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return errno;
            denied = errno == EACCES ? EACCES : denied;
        }
        if (!at[length])
            return denied ? denied : ENOENT;
        at += length + 1;
    }
}

int
launch_exec(struct launch *l, const struct spec_op *op)
{
    char **envp = NULL, **argv = relocate(l->spec, op, &envp);
    int errnum = die_with_monitor(l);
    if (errnum)
        return errnum;
    if (!argv[0][0])
        return ENOENT;
    if (!strchr(argv[0], '/'))
        return exec_along(search_path(envp), argv, envp);
    (void)execve(argv[0], argv, envp);
    return errno;
}
