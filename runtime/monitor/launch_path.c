#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/monitor/launch.h"

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

/* Each prefix of the path is resolved by itself, so that a symlink in it means what it means inside the root. */
int
root_mkdirs(const struct launch *l, const char *path, mode_t mode)
{
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return -ENAMETOOLONG;
    int at = root_open(l, path, O_PATH | O_DIRECTORY);
    if (at != -ENOENT)
        return at;
    at = root_open(l, "/", O_PATH | O_DIRECTORY);
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
            (void)close(at);
            at = root_open(l, prefix, O_PATH | O_DIRECTORY);
        }
        start = end + 1;
    }
    return at;
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

int
root_target(const struct launch *l, const char *path, bool directory)
{
    if (directory)
        return root_mkdirs(l, path, 0755);
    int fd = root_open(l, path, O_PATH);
    if (fd != -ENOENT)
        return fd;
    const char *name;
    int parent = root_parent(l, path, &name);
    if (parent < 0)
        return parent;
    (void)close(parent);
    /* By the whole path once more: a dangling symlink at its end is followed inside the root, and its target made. */
    fd = open_in_root(l, path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0644);
    if (fd < 0)
        return fd;
    (void)close(fd);
    return root_open(l, path, O_PATH);
}
