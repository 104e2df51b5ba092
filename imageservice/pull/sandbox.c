#include "imageservice/pull/sandbox.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

/* What the resolver, OpenSSL and shared libraries (NSS modules are loaded late) read. What is missing on a host is left out. */
static const char *const read_only_paths[] = {
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
};

/* Unpacking makes files as the archive says: owners, modes, file capabilities, devices.
 * CAP_SYS_ADMIN is for trusted.* attributes only: overlayfs in the initial user namespace reads opaque directories there (user.overlay.* would need
 * every container mount to say userxattr, which such mounts then trust whoever may write user.* in a layer). What else it allows (mount, bpf, setns,
 * …) is not among the system calls below. */
static const int kept_capabilities[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP, CAP_MKNOD, CAP_SYS_ADMIN};

static const int allowed_calls[] = {
    /* memory, threads, time */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    SCMP_SYS(membarrier),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    /* files */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(fstatfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(fchdir),
    SCMP_SYS(getdents64),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    SCMP_SYS(memfd_create),
    SCMP_SYS(ftruncate),
    SCMP_SYS(mkdirat),
    SCMP_SYS(mknodat),
    SCMP_SYS(symlinkat),
    SCMP_SYS(linkat),
    SCMP_SYS(unlinkat),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(fchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(utimensat),
    SCMP_SYS(fsetxattr),
    SCMP_SYS(fgetxattr),
    SCMP_SYS(flistxattr),
    SCMP_SYS(fremovexattr),
    SCMP_SYS(lsetxattr),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(syncfs),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(sendfile),
    SCMP_SYS(umask),
    SCMP_SYS(fallocate),
    SCMP_SYS(flock),
    SCMP_SYS(copy_file_range),
    /* the network and crispd */
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(shutdown),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(socketpair),
};

/* One thing to be seen in the new root. All are taken before the new root is mounted, which may hide where they are on the host. */
struct shown {
    int mount; /* a detached clone (open_tree(2)) */
    bool is_directory;
    char *to;
    char *link; /* instead of all that: a symlink to make again */
};

enum { VIEW_MAX = 256 };

struct view {
    struct shown items[VIEW_MAX];
    size_t count;
};

/* Show `from`, following symlinks, at `to`, with these restrictions more than it has on the host. */
static int
show(struct view *view, const char *from, const char *to, uint64_t attributes, struct error *err)
{
    struct stat st;
    if (view->count == VIEW_MAX)
        return error_set(err, ERR_INTERNAL, "too many paths to show");
    cleanup_close int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || fstat(tree, &st) < 0)
        return error_errno(err, errno, "clone the mount of %s", from);
    struct mount_attr attr = {.attr_set = attributes};
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return error_errno(err, errno, "restrict the mount of %s", from);
    view->items[view->count++] = (struct shown){.mount = steal(tree), .is_directory = S_ISDIR(st.st_mode), .to = str_dup(to)};
    return 0;
}

/* A symlink of the root (/lib → usr/lib) is made again; all else is shown. What the host doesn't have is left out. */
static int
show_host_path(struct view *view, const char *path, struct error *err)
{
    char link[PATH_MAX];
    if (access(path, F_OK) < 0)
        return 0;
    ssize_t length = strchr(path + 1, '/') ? -1 : readlink(path, link, sizeof link - 1);
    if (length < 0)
        return show(view, path, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    view->items[view->count++] = (struct shown){.mount = -1, .to = str_dup(path), .link = str_ndup(link, (size_t)length)};
    return 0;
}

static bool
is_beneath(const char *path, const char *dir)
{
    size_t length = strlen(dir);
    return strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* A file that certificate directories name; not where it is seen anyway, nor the hundreds that nobody has. */
static int
show_certificate(struct view *view, const struct sandbox *sandbox, const char *path, struct error *err)
{
    for (size_t i = 0; i < sizeof read_only_paths / sizeof *read_only_paths; i++)
        if (is_beneath(path, read_only_paths[i]))
            return 0;
    for (size_t i = 0; i < sandbox->certs_dirs->count; i++)
        if (is_beneath(path, sandbox->certs_dirs->items[i]))
            return 0;
    for (size_t i = 0; i < view->count; i++)
        if (str_eq(path, view->items[i].to))
            return 0;
    if (access(path, F_OK) < 0 || view->count == VIEW_MAX)
        return 0;
    return show(view, path, path, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY, err);
}

static int
show_all(struct view *view, const struct sandbox *sandbox, struct error *err)
{
    const uint64_t inert = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
    TRY(show(view, sandbox->incoming, SANDBOX_INCOMING, inert, err));
    TRY(show(view, sandbox->partial, SANDBOX_PARTIAL, inert, err));
    TRY(show(view, sandbox->layers, SANDBOX_LAYERS, inert | MOUNT_ATTR_RDONLY, err));
    TRY(show(view, sandbox->blobs, SANDBOX_BLOBS, inert | MOUNT_ATTR_RDONLY, err));
    for (size_t i = 0; i < sizeof read_only_paths / sizeof *read_only_paths; i++)
        TRY(show_host_path(view, read_only_paths[i], err));
    for (size_t i = 0; i < sandbox->certs_dirs->count; i++)
        if (access(sandbox->certs_dirs->items[i], F_OK) == 0)
            TRY(show(view, sandbox->certs_dirs->items[i], sandbox->certs_dirs->items[i], inert | MOUNT_ATTR_RDONLY, err));
    for (size_t i = 0; i < sandbox->certificates->count; i++)
        TRY(show_certificate(view, sandbox, sandbox->certificates->items[i], err));
    return 0;
}

/* Paths begin with a slash and are made below the working directory, which is the new root. */
static int
place(const struct shown *item, struct error *err)
{
    const char *to = item->to + 1, *slash = strrchr(to, '/');
    cleanup_close int parent = TRY(file_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0, err));
    cleanup_free char *directory = item->is_directory ? str_dup(to) : str_ndup(to, slash ? (size_t)(slash - to) : 0);
    (void)close(TRY(file_mkdirs_beneath(parent, *directory ? directory : ".", 0755, err)));
    if (item->link)
        return symlink(item->link, to) < 0 ? error_errno(err, errno, "link %s", item->to) : 0;
    if (!item->is_directory)
        (void)close(TRY(file_open(AT_FDCWD, to, O_WRONLY | O_CREAT, 0644, err)));
    return move_mount(item->mount, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? error_errno(err, errno, "show %s", item->to) : 0;
}

/* The new root is a small tmpfs, mounted over the session's directory for the moment, as that one is there for sure. */
static int
build_root(const struct view *view, const char *stage, struct error *err)
{
    if (mount("crisp-pull", stage, "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "size=1m,mode=0755") < 0 || chdir(stage) < 0)
        return error_errno(err, errno, "mount the new root");
    for (size_t i = 0; i < view->count; i++)
        TRY(place(&view->items[i], err));
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return error_errno(err, errno, "change the root");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC, NULL) < 0)
        return error_errno(err, errno, "make the root read-only");
    return 0;
}

static int
change_root(const struct sandbox *sandbox, struct error *err)
{
    struct view view = {.count = 0};
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return error_errno(err, errno, "make a mount namespace");
    int result = show_all(&view, sandbox, err);
    if (result == 0)
        result = build_root(&view, sandbox->incoming, err);
    for (size_t i = 0; i < view.count; i++) {
        if (view.items[i].mount >= 0)
            (void)close(view.items[i].mount);
        free(view.items[i].to);
        free(view.items[i].link);
    }
    return result;
}

static int
keep_few_capabilities(struct error *err)
{
    uint64_t kept = 0;
    for (size_t i = 0; i < sizeof kept_capabilities / sizeof *kept_capabilities; i++)
        kept |= UINT64_C(1) << kept_capabilities[i];
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!(kept & (UINT64_C(1) << cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return error_errno(err, errno, "drop capability %d", cap);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) < 0)
        return error_errno(err, errno, "read capabilities");
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(kept >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) < 0 ? error_errno(err, errno, "set capabilities") : 0;
}

static int
add_special_rules(scmp_filter_ctx filter)
{
    const unsigned long namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
    int bad = 0;
    /* Threads only, and glibc falls back from clone3, whose flags a filter can't see, to clone. */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | namespaces, CLONE_THREAD));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(unshare), 1, SCMP_A0(SCMP_CMP_EQ, CLONE_FS, 0));
    /* Signals and limits only for ourselves: uid 0 may send them to any of root's processes without a capability. */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_EQ, 0, 0));
    /* getaddrinfo looks by netlink which addresses this machine has. */
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0), SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE, 0));
    const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
    const unsigned long requests[] = {FIONBIO, FIONREAD};
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, requests[i], 0));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    return bad;
}

/* What is not allowed fails with EPERM: a library that tries something newer then falls back, and the pull fails with words instead of a dead
 * process. */
static int
filter_calls(struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter)
        return error_set(err, ERR_INTERNAL, "no memory for the seccomp filter");
    int bad = 0;
    for (size_t i = 0; i < sizeof allowed_calls / sizeof *allowed_calls; i++)
        if (allowed_calls[i] >= 0) /* libseccomp's mark of a call that this architecture lacks */
            bad |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    bad |= add_special_rules(filter);
    int status = bad ? bad : seccomp_load(filter);
    seccomp_release(filter);
    return status ? error_errno(err, bad ? EINVAL : -status, "load the seccomp filter") : 0;
}

static int
limit_process(struct error *err)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, errno, "give up privileges");
    return 0;
}

static int
enter(const struct sandbox *sandbox, struct error *err)
{
    TRY(change_root(sandbox, err));
    TRY(limit_process(err));
    TRY(keep_few_capabilities(err));
    return filter_calls(err);
}

int
sandbox_enter(const struct sandbox *sandbox, struct error *err)
{
    return enter(sandbox, err) < 0 ? error_prefix(err, "sandbox") : 0;
}
