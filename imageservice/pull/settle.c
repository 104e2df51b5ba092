/* layer_settle: what depends on the layers below and on the layer being whole. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/layer_inside.h"

struct below {
    const int *roots;
    size_t count;
};

/* What look_below has found. */
struct below_file {
    int fd, where; /* O_PATH; the root of its layer */
    struct stat st;
};

enum lookup { ABSENT, FOUND, HIDDEN };

/* Look `path` up in one layer, following no symlink. HIDDEN: it is not here, and what stands here hides what is further down. FOUND gives an O_PATH
 * fd. */
static enum lookup
look_in(int root, const char *path, int *out)
{
    cleanup_close int at = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool opaque = false;
    for (const char *component = path; *component;) {
        const char *end = strchrnul(component, '/');
        cleanup_free char *name = str_ndup(component, (size_t)(end - component));
        int next = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;
        if (next < 0)
            return opaque || errno != ENOENT ? HIDDEN : ABSENT;
        (void)close(at);
        at = next;
        if (fstat(at, &st) < 0 || layer_is_whiteout(&st) || (*end && !S_ISDIR(st.st_mode)))
            return HIDDEN;
        if (S_ISDIR(st.st_mode)) {
            cleanup_close int readable = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            char value;
            opaque = opaque || (readable >= 0 && fgetxattr(readable, layer_opaque_xattr, &value, 1) == 1 && value == 'y');
        }
        component = *end ? end + 1 : end;
    }
    *out = steal(at);
    return FOUND;
}

/* What a container would see at `path` without the layer: an O_PATH fd, or -1. *where is the layer it was found in. */
static int
look_below(const struct below *below, const char *path, int *where)
{
    int fd = -1;
    for (size_t i = below->count; i-- > 0;) {
        *where = below->roots[i];
        enum lookup result = look_in(*where, path, &fd);
        if (result != ABSENT)
            return result == FOUND ? fd : -1;
    }
    return -1;
}

static int
copy_xattrs(int from, int to, struct error *err)
{
    cleanup_free char *names = mem_alloc(XATTR_LIST_MAX);
    cleanup_free char *value = mem_alloc(XATTR_SIZE_MAX);
    ssize_t length = flistxattr(from, names, XATTR_LIST_MAX);
    for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t n = layer_xattr_wanted(name) ? fgetxattr(from, name, value, XATTR_SIZE_MAX) : -1;
        if (n >= 0 && fsetxattr(to, name, value, (size_t)n, 0) < 0)
            return error_errno(err, errno, "copy attribute %.64s", name);
    }
    return 0;
}

static int
copy_attributes(int from, const struct stat *st, int to, struct error *err)
{
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
        return error_errno(err, errno, "copy owner and mode");
    TRY(copy_xattrs(from, to, err));
    struct timespec times[2] = {st->st_mtim, st->st_mtim};
    return futimens(to, times) < 0 ? error_errno(err, errno, "copy times") : 0;
}

/* A directory without an entry looks as it does below. */
static int
settle_implied(struct layer *layer, const struct below *below, const struct note *note, struct error *err)
{
    cleanup_close int fd = file_open_beneath(layer->root, *note->path ? note->path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
    if (fd < 0 || fremovexattr(fd, layer_implied_xattr) < 0)
        return 0; /* it is gone again, or had its entry later */
    int where;
    cleanup_close int lower = look_below(below, note->path, &where);
    struct stat st;
    if (lower < 0 || fstat(lower, &st) < 0 || !S_ISDIR(st.st_mode))
        return 0;
    cleanup_close int from = TRY(file_open(lower, ".", O_RDONLY | O_DIRECTORY, 0, err));
    return copy_attributes(from, &st, fd, err);
}

/* The directory that a note's path stands in, and its last component. -1 when it is gone. */
static int
open_place(const struct layer *layer, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    cleanup_free char *parent = slash ? str_ndup(path, (size_t)(slash - path)) : str_dup(".");
    *name = slash ? slash + 1 : path;
    return file_open_beneath(layer->root, parent, O_PATH | O_DIRECTORY, 0, NULL);
}

/* Nothing of a layer is called ".wh.": where that is hidden, all is. */
static bool
in_opaque_directory(const struct layer *layer, const char *path, const char *name)
{
    int fd = -1;
    cleanup_free char *beside = str_printf("%.*s.wh.", (int)(name - path), path);
    return look_in(layer->root, beside, &fd) == HIDDEN;
}

/* overlayfs shows a whiteout as a broken file where the directory it stands in exists in one layer only. */
static int
settle_whiteout(struct layer *layer, const struct below *below, const struct note *note, struct error *err)
{
    const char *name;
    cleanup_close int parent = open_place(layer, note->path, &name);
    struct stat st;
    if (parent < 0 || fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !layer_is_whiteout(&st))
        return 0;
    int where;
    cleanup_close int lower = look_below(below, note->path, &where);
    if (lower >= 0 && !in_opaque_directory(layer, note->path, name))
        return 0;
    layer->inodes--;
    return unlinkat(parent, name, 0) < 0 ? error_errno(err, errno, "remove whiteout %s", note->path) : 0;
}

static int
copy_file(int from, const struct stat *st, int to, struct error *err)
{
    for (off_t left = st->st_size; left > 0;) {
        ssize_t n = sendfile(to, from, NULL, left < (1 << 20) ? (size_t)left : 1 << 20);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy from the layer below");
        left -= n;
    }
    return copy_attributes(from, st, to, err);
}

/* A symlink, device or fifo in the place of the file that waited for it. */
static int
copy_special(const struct below_file *from, int parent, const char *name, struct error *err)
{
    char target[PATH_MAX];
    ssize_t length = S_ISLNK(from->st.st_mode) ? readlinkat(from->fd, "", target, sizeof target - 1) : 0;
    target[length > 0 ? length : 0] = '\0';
    if (length < 0 || unlinkat(parent, name, 0) < 0 ||
        (length ? symlinkat(target, parent, name) : mknodat(parent, name, from->st.st_mode, from->st.st_rdev)) < 0 ||
        fchownat(parent, name, from->st.st_uid, from->st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (!length && fchmodat(parent, name, from->st.st_mode & 07777, 0) < 0))
        return error_errno(err, errno, "copy from the layer below");
    struct timespec times[2] = {from->st.st_mtim, from->st.st_mtim};
    return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? error_errno(err, errno, "copy times") : 0;
}

/* A hard link to a file of a lower layer: overlayfs has no link across layers, so the file is copied up under the link's own names. */
static int
settle_link(struct layer *layer, const struct below *below, const struct note *note, struct error *err)
{
    const char *name;
    cleanup_close int parent = open_place(layer, note->path, &name);
    cleanup_close int to = parent < 0 ? -1 : openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (to < 0 || fstat(to, &st) < 0 || !S_ISREG(st.st_mode))
        return 0; /* something else took its place */
    (void)close(to);
    to = TRY(file_open(parent, name, O_RDWR | O_NOFOLLOW, 0, err));
    if (fgetxattr(to, layer_implied_xattr, NULL, 0) < 0)
        return 0; /* or another note was for the same file */
    struct below_file from;
    cleanup_close int lower = from.fd = look_below(below, note->target, &from.where);
    if (lower < 0 || fstat(lower, &from.st) < 0 || S_ISDIR(from.st.st_mode))
        return error_set(err, ERR_INVALID, "entry %.256s: a hard link to %.256s, which is not there", note->path, note->target);
    if (!S_ISREG(from.st.st_mode))
        return copy_special(&from, parent, name, err);
    cleanup_close int contents = TRY(file_open_beneath(from.where, note->target, O_RDONLY | O_NOFOLLOW, 0, err));
    if (fremovexattr(to, layer_implied_xattr) < 0)
        return error_errno(err, errno, "remove %s", layer_implied_xattr);
    layer->bytes += ((uint64_t)from.st.st_size + 4095) & ~UINT64_C(4095);
    return copy_file(contents, &from.st, to, err);
}

/* overlayfs heeds no opaque root: what stands there below is hidden name by name. */
static int
hide_name(struct layer *layer, const char *name, struct error *err)
{
    struct stat st;
    if (fstatat(layer->root, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISDIR(st.st_mode) ? layer_set_opaque(layer->root, name, err) : 0;
    layer->inodes++;
    return mknodat(layer->root, name, S_IFCHR, 0) < 0 ? error_errno(err, errno, "make the whiteout of %s", name) : 0;
}

static int
settle_root(struct layer *layer, const struct below *below, struct error *err)
{
    char value;
    if (fgetxattr(layer->root, layer_opaque_xattr, &value, 1) != 1)
        return 0;
    for (size_t i = 0; i < below->count; i++) {
        cleanup_close int fd = TRY(file_open(below->roots[i], ".", O_RDONLY | O_DIRECTORY, 0, err));
        cleanup_closedir DIR *dir = fdopendir(fd);
        if (!dir)
            return error_errno(err, errno, "list the root of a layer below");
        (void)steal(fd);
        for (struct dirent *entry; (entry = readdir(dir));)
            if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
                TRY(hide_name(layer, entry->d_name, err));
    }
    return 0;
}

static int
settle_time(struct layer *layer, const struct note *note, struct error *err)
{
    cleanup_close int fd = file_open_beneath(layer->root, *note->path ? note->path : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
    struct timespec times[2] = {note->time, note->time};
    return fd >= 0 && utimensat(fd, "", times, AT_EMPTY_PATH) < 0 ? error_errno(err, errno, "set time of %s", note->path) : 0;
}

static int
settle(struct layer *layer, const struct below *below, const struct note *note, struct error *err)
{
    switch (note->kind) {
    case NOTE_IMPLIED:
        return settle_implied(layer, below, note, err);
    case NOTE_WHITEOUT:
        return settle_whiteout(layer, below, note, err);
    case NOTE_LINK:
        return settle_link(layer, below, note, err);
    case NOTE_TIME:
        return 0;
    }
    return 0;
}

int
layer_settle(struct layer *layer, const int lower[], size_t lower_count, struct error *err)
{
    struct below below = {lower, lower_count};
    cleanup_free struct note *note = mem_alloc(sizeof *note);
    TRY(settle_root(layer, &below, err));
    TRY(notes_rewind(layer->notes, err));
    while (TRY(notes_next(layer->notes, note, err)) > 0)
        TRY(settle(layer, &below, note, err));
    TRY(notes_rewind(layer->notes, err));
    while (TRY(notes_next(layer->notes, note, err)) > 0)
        if (note->kind == NOTE_TIME)
            TRY(settle_time(layer, note, err));
    return 0;
}
