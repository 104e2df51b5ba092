#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/monitor/launch.h"

enum { SYMLINKS_MAX = 40 /* as the kernel's */ };

static int
open_in_root(const struct launch *l, const char *path, int flags, mode_t mode)
{
    struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC, .mode = mode, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    for (int attempt = 0;; attempt++) {
        int fd = (int)syscall(SYS_openat2, l->root, path, &how, sizeof how);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN || attempt == 100) /* EAGAIN: a rename or mount elsewhere raced; openat2(2) */
            return -errno;
    }
}

int
root_open(const struct launch *l, const char *path, int flags)
{
    return open_in_root(l, path, flags, 0);
}

/* The component that starts at `start` and ends at `end` is a symlink to what is not there (/var/run → /run in an image without /run): the path with
 * its target in its place, which is then made inside the root. */
static int
replace_symlink(int parent, const char *name, const char *path, size_t start, size_t end, char out[PATH_MAX])
{
    char target[PATH_MAX], joined[PATH_MAX];
    ssize_t n = readlinkat(parent, name, target, sizeof target - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    size_t kept = target[0] == '/' ? 0 : start;
    size_t rest = strlen(path + end);
    if (kept + (size_t)n + rest >= sizeof joined)
        return -ENAMETOOLONG;
    memcpy(joined, path, kept);
    memcpy(joined + kept, target, (size_t)n);
    memcpy(joined + kept + (size_t)n, path + end, rest + 1);
    memcpy(out, joined, kept + (size_t)n + rest + 1);
    return 0;
}

/* Each prefix of the path is resolved by itself, so that a symlink in it means what it means inside the root. The directory's fd, an error, or
 * -EAGAIN where `path` was replaced. */
static int
mkdirs_once(const struct launch *l, char path[PATH_MAX], mode_t mode)
{
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    int at = root_open(l, "/", O_PATH | O_DIRECTORY);
    for (size_t start = 0; at >= 0 && start < length;) {
        size_t end = start + strcspn(path + start, "/");
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        const char *name = prefix + start;
        if (*name && mkdirat(at, name, mode) < 0 && errno != EEXIST && errno != EROFS) {
            int errnum = errno;
            (void)close(at);
            return -errnum;
        }
        if (*name) {
            int next = root_open(l, prefix, O_PATH | O_DIRECTORY);
            int replaced = next == -ENOENT ? replace_symlink(at, name, path, start, end, path) : 0;
            (void)close(at);
            at = next == -ENOENT && replaced == 0 ? -EAGAIN : next;
        }
        start = end + 1;
    }
    return at;
}

/* Only the last component is missing: the common case, in three calls. -ENOENT where it is not so. */
static int
mkdir_last(const struct launch *l, const char *path, mode_t mode)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash || !slash[1] || length >= sizeof parent)
        return -ENOENT;
    memcpy(parent, path, length);
    parent[length] = '\0';
    cleanup_close int at = root_open(l, length ? parent : "/", O_PATH | O_DIRECTORY);
    if (at < 0 || mkdirat(at, slash + 1, mode) < 0)
        return -ENOENT;
    return root_open(l, path, O_PATH | O_DIRECTORY);
}

int
root_mkdirs(const struct launch *l, const char *path, mode_t mode)
{
    char resolved[PATH_MAX];
    if (strlen(path) >= sizeof resolved)
        return -ENAMETOOLONG;
    memcpy(resolved, path, strlen(path) + 1);
    int at = root_open(l, path, O_PATH | O_DIRECTORY);
    if (at == -ENOENT)
        at = mkdir_last(l, path, mode);
    for (int links = 0; (at == -ENOENT && links == 0) || (at == -EAGAIN && links < SYMLINKS_MAX); links++)
        at = mkdirs_once(l, resolved, mode);
    return at == -EAGAIN ? -ELOOP : at;
}

int
root_parent(const struct launch *l, const char *path, const char **name)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof parent)
        return -ENAMETOOLONG;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
        return -EINVAL;
    memcpy(parent, path, length);
    parent[length] = '\0';
    return root_mkdirs(l, length ? parent : "/", 0755);
}

/* With its parents; a dangling symlink at its end is followed inside the root, and its target made: /etc/resolv.conf is one to
 * ../run/systemd/resolve/… in many an image. */
static int
make_file(const struct launch *l, const char *path)
{
    char resolved[PATH_MAX];
    if (strlen(path) >= sizeof resolved)
        return ENAMETOOLONG;
    memcpy(resolved, path, strlen(path) + 1);
    for (int links = 0; links < SYMLINKS_MAX; links++) {
        const char *name;
        cleanup_close int parent = root_parent(l, resolved, &name);
        if (parent < 0)
            return -parent;
        cleanup_close int made = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (made >= 0 || errno != EEXIST)
            return made >= 0 ? 0 : errno;
        int replaced = replace_symlink(parent, name, resolved, (size_t)(name - resolved), strlen(resolved), resolved);
        if (replaced < 0)
            return replaced == -EINVAL ? 0 : -replaced; /* no symlink: somebody else made it */
    }
    return ELOOP;
}

int
root_target(const struct launch *l, const char *path, bool directory)
{
    if (directory)
        return root_mkdirs(l, path, 0755);
    int fd = root_open(l, path, O_PATH);
    if (fd != -ENOENT)
        return fd;
    int errnum = make_file(l, path);
    return errnum ? -errnum : root_open(l, path, O_PATH);
}
