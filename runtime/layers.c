#include "runtime/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { SYMLINKS_MAX = 40 /* as the kernel's */ };

/* An entry of one layer by a path whose components are no symlinks; -1 with errno. Magic links and mounts below are no part of a layer. */
static int
open_entry(int layer, const char *path)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    return (int)syscall(SYS_openat2, layer, path, &how, sizeof how);
}

static bool
is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static bool
is_opaque(int layer, const char *path)
{
    char value[2] = "";
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    cleanup_close int fd = (int)syscall(SYS_openat2, layer, path, &how, sizeof how);
    return fd >= 0 && fgetxattr(fd, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

/* Whether this layer hides what lower ones have at `path`: some parent is deleted, replaced by a file, or opaque here. */
static bool
hides_below(int layer, const char *path)
{
    char prefix[PATH_MAX];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        (void)snprintf(prefix, sizeof prefix, "%.*s", (int)(slash - path), path);
        cleanup_close int fd = open_entry(layer, prefix);
        struct stat st;
        if (fd < 0)
            return errno == ENOTDIR;
        if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || is_opaque(layer, prefix))
            return true;
    }
    return false;
}

struct view {
    int layers_dir;
    const struct strv *layers;
};

/* A layer that is gone is not the same as a file that no layer has: no errno. */
static int
open_layer(const struct view *view, size_t i, struct error *err)
{
    int fd = openat(view->layers_dir, view->layers->items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : error_set(err, ERR_NOT_FOUND, "layer %s: %s", view->layers->items[i], strerrordesc_np(errno));
}

/* The topmost layer's entry at `path` (relative, no symlinks in its parents): an fd, or -1 with errnum ENOENT. */
static int
view_open(const struct view *view, const char *path, struct stat *st, struct error *err)
{
    for (size_t i = view->layers->count; i-- > 0;) {
        cleanup_close int layer = TRY(open_layer(view, i, err));
        cleanup_close int entry = open_entry(layer, path);
        if (entry >= 0 && fstat(entry, st) == 0)
            return is_whiteout(st) ? error_errno(err, ENOENT, "%s", path) : steal(entry);
        if (hides_below(layer, path))
            break;
    }
    return error_errno(err, ENOENT, "%s", path);
}

/* One step: `done` is resolved, `rest` is not. At a symlink its target goes in front of the rest. */
struct walk {
    char done[PATH_MAX], rest[PATH_MAX];
    int symlinks;
};

static int
walk_symlink(struct walk *walk, int link, const char *rest, struct error *err)
{
    char target[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target - 1);
    if (n < 0 || ++walk->symlinks > SYMLINKS_MAX)
        return error_errno(err, n < 0 ? errno : ELOOP, "%s", walk->done);
    target[n] = '\0';
    if (target[0] == '/')
        walk->done[0] = '\0';
    if (snprintf(joined, sizeof joined, "%s/%s", target, rest) >= PATH_MAX)
        return error_errno(err, ENAMETOOLONG, "%s", target);
    memcpy(walk->rest, joined, strlen(joined) + 1);
    return 0;
}

static void
walk_up(struct walk *walk)
{
    char *slash = strrchr(walk->done, '/');
    *(slash ? slash : walk->done) = '\0';
}

/* Resolves the next component; the entry's fd where it was the last one, -2 where there are more, -1 on error. */
static int
walk_step(const struct view *view, struct walk *walk, struct stat *st, struct error *err)
{
    enum { MORE = -2 };
    char name[NAME_MAX + 1], rest[PATH_MAX], next[2 * PATH_MAX];
    const char *begin = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(begin, "/");
    if (length == 0)
        return error_errno(err, ENOENT, "%s", walk->done);
    if (length > NAME_MAX)
        return error_errno(err, ENAMETOOLONG, "%s", begin);
    (void)snprintf(name, sizeof name, "%.*s", (int)length, begin);
    (void)snprintf(rest, sizeof rest, "%s", begin + length + strspn(begin + length, "/"));
    memcpy(walk->rest, rest, strlen(rest) + 1);
    if (str_eq(name, "."))
        return MORE;
    if (str_eq(name, "..")) {
        walk_up(walk);
        return MORE;
    }
    if (snprintf(next, sizeof next, "%s%s%s", walk->done, walk->done[0] ? "/" : "", name) >= PATH_MAX)
        return error_errno(err, ENAMETOOLONG, "%s", name);
    cleanup_close int entry = TRY(view_open(view, next, st, err));
    if (S_ISLNK(st->st_mode))
        return walk_symlink(walk, entry, rest, err) < 0 ? -1 : MORE;
    memcpy(walk->done, next, strlen(next) + 1);
    return *rest ? MORE : steal(entry);
}

static int
walk_open(const struct view *view, const char *path, struct stat *st, struct error *err)
{
    struct walk walk = {.symlinks = 0};
    if (strlen(path) >= sizeof walk.rest)
        return error_errno(err, ENAMETOOLONG, "%s", path);
    memcpy(walk.rest, path, strlen(path) + 1);
    int entry;
    while ((entry = walk_step(view, &walk, st, err)) == -2)
        ;
    return entry;
}

int
layers_have(const char *layers_dir, const struct strv *layers, const char *path, struct error *err)
{
    struct stat st;
    if (str_empty(path))
        return 0;
    cleanup_close int dir = TRY(file_open(AT_FDCWD, layers_dir, O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_close int entry = walk_open(&(struct view){dir, layers}, path, &st, err);
    if (entry >= 0)
        return 0;
    (void)error_prefix(err, "%s in the image", path);
    return err && err->errnum ? error_as(err, ERR_INVALID) : -1;
}

int
layers_read(const char *layers_dir, const struct strv *layers, const char *path, size_t limit, char **out, struct error *err)
{
    struct error failed = {0};
    struct stat st;
    cleanup_close int dir = TRY(file_open(AT_FDCWD, layers_dir, O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_close int entry = walk_open(&(struct view){dir, layers}, path, &st, &failed);
    if (entry < 0 && failed.errnum == ENOENT)
        return 0;
    if (entry < 0) {
        if (err)
            *err = failed;
        return error_prefix(err, "%s in the image", path);
    }
    /* A pipe or device would block or answer without end. */
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERR_INVALID, "%s in the image is no regular file", path);
    char own[64];
    (void)snprintf(own, sizeof own, "/proc/self/fd/%d", entry);
    cleanup_close int fd = TRY(file_open(AT_FDCWD, own, O_RDONLY, 0, err));
    return file_read_fd(fd, path, limit, out, NULL, err) < 0 ? -1 : 1;
}
