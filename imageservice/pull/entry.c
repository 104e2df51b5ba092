/* layer_apply: one entry of an archive, by its type. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/flush.h"
#include "imageservice/pull/layer_inside.h"
#include "imageservice/pull/limits.h"

enum {
    WRITE_BACK_BYTES = 1 << 20, /* a file of this size is sent to the disk at once, so that the last flush is short */
    FLUSH_BYTES = 32 << 20,     /* and so many bytes of small ones together */
};

/* Where the entry is being made. */
struct place {
    struct layer *layer;
    const struct layer_entry *entry;
    const char *path; /* cleaned */
    int parent;
    const char *name;
};

static int
failed(const char *what, struct error *err)
{
    return error_errno(err, errno, "%s", what);
}

static bool
owner_differs(const struct place *p)
{
    return p->entry->uid || p->entry->gid || p->layer->parent_inherits;
}

/* open, mkdir and mknod set the mode but for what chown takes away again, setgid parents and default ACLs change. */
static bool
mode_differs(const struct place *p)
{
    return (p->entry->mode & (S_ISUID | S_ISGID | S_ISVTX)) || p->layer->parent_inherits || p->layer->acl_seen;
}

static int
set_xattrs(const struct place *p, int fd, struct error *err)
{
    for (size_t i = 0; i < p->entry->xattr_count; i++) {
        const struct layer_xattr *x = &p->entry->xattrs[i];
        if (!layer_xattr_wanted(x->name))
            continue;
        if (str_eq(x->name, "system.posix_acl_default"))
            p->layer->acl_seen = true;
        if (fsetxattr(fd, x->name, x->value, x->size, 0) < 0 && errno != EOPNOTSUPP)
            return error_errno(err, errno, "set attribute %.64s", x->name);
    }
    return 0;
}

/* Owner before mode and capabilities: chown clears setuid and security.capability. */
static int
set_attributes(const struct place *p, int fd, bool is_new, struct error *err)
{
    const struct layer_entry *e = p->entry;
    if ((!is_new || owner_differs(p)) && fchown(fd, (uid_t)e->uid, (gid_t)e->gid) < 0)
        return failed("set owner", err);
    if ((!is_new || mode_differs(p)) && fchmod(fd, e->mode & 07777) < 0)
        return failed("set mode", err);
    return set_xattrs(p, fd, err);
}

static int
write_block(int fd, const char *data, size_t length, int64_t offset, struct error *err)
{
    while (length) {
        ssize_t n = pwrite(fd, data, length, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed("write", err);
        data += n;
        offset += n;
        length -= (size_t)n;
    }
    return 0;
}

static int
write_contents(const struct place *p, int fd, layer_read *read, void *arg, struct error *err)
{
    const void *data;
    size_t length;
    int64_t offset = 0, end = 0, sent = 0;
    while (TRY(read(arg, &data, &length, &offset, err)) > 0) {
        TRY(write_block(fd, data, length, offset, err));
        end = offset + (int64_t)length;
        p->layer->bytes += length;
        TRY(layer_grew(p->layer, length, err));
        if (end - sent >= WRITE_BACK_BYTES) {
            (void)sync_file_range(fd, sent, end - sent, SYNC_FILE_RANGE_WRITE);
            sent = end;
        }
    }
    p->layer->bytes = (p->layer->bytes + 4095) & ~UINT64_C(4095);
    if (end < p->entry->size && ftruncate(fd, p->entry->size) < 0)
        return failed("set size", err);
    return 0;
}

/* Make the thing by `make`; what stands there gives way once. */
static int
make_over(const struct place *p, int (*make)(const struct place *p), struct error *err)
{
    int result = make(p);
    if (result < 0 && errno == EEXIST) {
        TRY(layer_clear(p->layer, p->parent, p->name, err));
        result = make(p);
    }
    return result < 0 ? failed("make", err) : result;
}

static int
make_file(const struct place *p)
{
    return openat(p->parent, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, p->entry->mode & 0777);
}

static int
make_symlink(const struct place *p)
{
    return symlinkat(p->entry->link, p->parent, p->name);
}

static int
make_node(const struct place *p)
{
    return mknodat(p->parent, p->name, p->entry->mode & (S_IFMT | 0777), p->entry->device);
}

/* Is this a file of which the thread for small ones can make all? */
static bool
is_small(const struct place *p)
{
    struct stat st;
    const struct layer_entry *e = p->entry;
    return e->size >= 0 && e->size <= SMALL_FILE_BYTES && !e->xattr_count && fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
           errno == ENOENT;
}

/* All of a small file's contents, into room[SMALL_FILE_BYTES]. */
static int
read_small(const struct place *p, char *room, layer_read *read, void *arg, struct error *err)
{
    const void *data;
    size_t length, size = (size_t)p->entry->size;
    int64_t offset = 0;
    memset(room, 0, size);
    while (TRY(read(arg, &data, &length, &offset, err)) > 0) {
        if (offset < 0 || (uint64_t)offset > size || length > size - (uint64_t)offset)
            return error_set(err, ERR_INVALID, "it is longer than it says");
        memcpy(room + offset, data, length);
    }
    return 0;
}

static int
add_small(const struct place *p, layer_read *read, void *arg, struct error *err)
{
    struct layer *layer = p->layer;
    const struct layer_entry *e = p->entry;
    char *room = TRY_PTR(small_files_room(layer->small, err));
    TRY(read_small(p, room, read, arg, err));
    struct small_file file = {
        .parent = p->parent,
        .directory = layer->parent_inode,
        .path = p->path,
        .name = p->name,
        .length = (size_t)e->size,
        .mode = e->mode & 07777,
        .chmod = mode_differs(p),
        .chown = owner_differs(p),
        .uid = (uid_t)e->uid,
        .gid = (gid_t)e->gid,
        .mtime = e->mtime,
    };
    small_files_add(layer->small, &file);
    uint64_t bytes = (file.length + 4095) & ~UINT64_C(4095);
    layer->inodes++;
    layer->bytes += bytes;
    TRY(layer_grew(layer, file.length, err));
    layer->unflushed += bytes;
    if (layer->unflushed >= FLUSH_BYTES) {
        layer->unflushed = 0;
        flush_soon(layer->root);
    }
    return 0;
}

static int
apply_file(const struct place *p, layer_read *read, void *arg, struct error *err)
{
    if (is_small(p))
        return add_small(p, read, arg, err);
    cleanup_close int fd = TRY(make_over(p, make_file, err));
    p->layer->inodes++;
    TRY(write_contents(p, fd, read, arg, err));
    TRY(set_attributes(p, fd, true, err));
    struct timespec times[2] = {p->entry->mtime, p->entry->mtime};
    return futimens(fd, times) < 0 ? failed("set time", err) : 0;
}

/* Attributes of what can't be opened (symlinks, devices): by name in the working directory, which is this thread's own. setxattrat(2) is too new. */
static int
set_xattrs_by_name(const struct place *p, struct error *err)
{
    bool any = false;
    for (size_t i = 0; i < p->entry->xattr_count; i++)
        any = any || str_starts(p->entry->xattrs[i].name, "trusted.");
    if (!any)
        return 0;
    cleanup_close int directory = TRY(file_open(p->parent, ".", O_RDONLY | O_DIRECTORY, 0, err));
    if (unshare(CLONE_FS) < 0 || fchdir(directory) < 0)
        return failed("enter its directory", err);
    for (size_t i = 0; i < p->entry->xattr_count; i++) {
        const struct layer_xattr *x = &p->entry->xattrs[i];
        if (str_starts(x->name, "trusted.") && layer_xattr_wanted(x->name) && lsetxattr(p->name, x->name, x->value, x->size, 0) < 0 &&
            errno != EOPNOTSUPP)
            return error_errno(err, errno, "set attribute %.64s", x->name);
    }
    return 0;
}

/* Symlinks, devices, fifos, sockets. */
static int
apply_special(const struct place *p, struct error *err)
{
    bool link = S_ISLNK(p->entry->mode);
    if (link && str_empty(p->entry->link))
        return error_set(err, ERR_INVALID, "a symlink to nothing");
    TRY(make_over(p, link ? make_symlink : make_node, err));
    p->layer->inodes++;
    if (owner_differs(p) && fchownat(p->parent, p->name, (uid_t)p->entry->uid, (gid_t)p->entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return failed("set owner", err);
    /* fchmodat follows a symlink, but this is none: it was just made. */
    if (!link && mode_differs(p) && fchmodat(p->parent, p->name, p->entry->mode & 07777, 0) < 0)
        return failed("set mode", err);
    TRY(set_xattrs_by_name(p, err));
    struct timespec times[2] = {p->entry->mtime, p->entry->mtime};
    return utimensat(p->parent, p->name, times, AT_SYMLINK_NOFOLLOW) < 0 ? failed("set time", err) : 0;
}

/* 1 made anew, 0 it was there. In place of something else it hides what is below, as that did. */
static int
make_directory(const struct place *p, struct error *err)
{
    struct stat st;
    if (mkdirat(p->parent, p->name, p->entry->mode & 0777) == 0)
        return 1;
    if (errno != EEXIST || fstatat(p->parent, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed("make", err);
    if (S_ISDIR(st.st_mode))
        return 0;
    TRY(layer_clear(p->layer, p->parent, p->name, err));
    if (mkdirat(p->parent, p->name, p->entry->mode & 0777) < 0)
        return failed("make", err);
    TRY(layer_set_opaque(p->parent, p->name, err));
    return 1;
}

static int
apply_directory(const struct place *p, struct error *err)
{
    int is_new = TRY(make_directory(p, err));
    bool plain = is_new && !owner_differs(p) && !mode_differs(p) && !p->entry->xattr_count;
    if (is_new) {
        p->layer->inodes++;
        p->layer->bytes += 4096;
    }
    if (!plain) {
        cleanup_close int fd = TRY(file_open(p->parent, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
        if (!is_new)
            (void)fremovexattr(fd, layer_implied_xattr);
        TRY(set_attributes(p, fd, is_new, err));
    }
    return notes_add(p->layer->notes, NOTE_TIME, p->path, "", &p->entry->mtime, err);
}

static int
apply_root(struct layer *layer, const struct layer_entry *entry, struct error *err)
{
    if (!S_ISDIR(entry->mode))
        return error_set(err, ERR_INVALID, "the layer's root is no directory");
    struct place p = {layer, entry, "", -1, "."};
    (void)fremovexattr(layer->root, layer_implied_xattr);
    TRY(set_attributes(&p, layer->root, false, err));
    return notes_add(layer->notes, NOTE_TIME, "", "", &entry->mtime, err);
}

/* Until the layers below are there: see layer_implied_xattr. */
static int
await_target(const struct place *p, const char *target, struct error *err)
{
    cleanup_close int fd = TRY(make_over(p, make_file, err));
    if (fsetxattr(fd, layer_implied_xattr, target, strlen(target), 0) < 0)
        return failed("set attributes", err);
    p->layer->inodes++;
    p->layer->links_wait = true;
    return notes_add(p->layer->notes, NOTE_LINK, p->path, target, NULL, err);
}

/* What the file at `name` waits for, into out[PATH_MAX]; "" where it doesn't. */
static void
awaited_target(const struct place *p, int from, const char *name, const struct stat *there, char *out)
{
    *out = '\0';
    if (!p->layer->links_wait || !S_ISREG(there->st_mode) || there->st_size > 0)
        return;
    cleanup_close int fd = file_open(from, name, O_RDONLY | O_NOFOLLOW, 0, NULL);
    ssize_t length = fd < 0 ? -1 : fgetxattr(fd, layer_implied_xattr, out, PATH_MAX - 1);
    out[length > 0 ? length : 0] = '\0';
}

/* The link's target stands in this layer, or, rarely, in one below: that is seen to when those are there. */
static int
apply_hard_link(const struct place *p, struct error *err)
{
    char target[PATH_MAX];
    TRY(layer_await_all(p->layer, err));
    TRY(layer_clean_path(p->entry->link, target, err));
    char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    if (slash)
        *slash = '\0';
    cleanup_close int from = file_open_beneath(p->layer->root, slash ? target : ".", O_PATH | O_DIRECTORY, 0, NULL);
    if (slash)
        *slash = '/';
    struct stat there;
    if (!*name || from < 0 || fstatat(from, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
        return await_target(p, target, err);
    if (S_ISDIR(there.st_mode))
        return error_set(err, ERR_INVALID, "a hard link to the directory %s", target);
    char awaited[PATH_MAX];
    awaited_target(p, from, name, &there, awaited);
    if (*awaited)
        TRY(notes_add(p->layer->notes, NOTE_LINK, p->path, awaited, NULL, err));
    if (linkat(from, name, p->parent, p->name, 0) == 0)
        return 0;
    struct stat here;
    if (errno != EEXIST || fstatat(p->parent, p->name, &here, AT_SYMLINK_NOFOLLOW) < 0)
        return failed("link", err);
    if (here.st_ino == there.st_ino)
        return 0;
    TRY(layer_clear(p->layer, p->parent, p->name, err));
    return linkat(from, name, p->parent, p->name, 0) < 0 ? failed("link", err) : 0;
}

/* ".wh.NAME": below this layer there is no NAME. What the layer itself has under the name stays; as a directory it hides what is below. */
static int
apply_whiteout(const struct place *p, struct error *err)
{
    const char *hidden = p->name + strlen(".wh.");
    if (str_eq(hidden, ".wh..opq"))
        return layer_set_opaque(p->parent, ".", err);
    if (str_starts(hidden, ".wh."))
        return 0; /* aufs' own book-keeping */
    if (!*hidden || str_eq(hidden, ".") || str_eq(hidden, ".."))
        return error_set(err, ERR_INVALID, "a whiteout of no name");
    TRY(layer_await(p->layer, hidden, err));
    struct stat st;
    if (mknodat(p->parent, hidden, S_IFCHR, 0) < 0) {
        if (errno != EEXIST || fstatat(p->parent, hidden, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return failed("make the whiteout", err);
        return S_ISDIR(st.st_mode) ? layer_set_opaque(p->parent, hidden, err) : 0;
    }
    p->layer->inodes++;
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%.*s%s", (int)(p->name - p->path), p->path, hidden);
    return notes_add(p->layer->notes, NOTE_WHITEOUT, path, "", NULL, err);
}

static int
apply(struct layer *layer, const struct layer_entry *entry, layer_read *read, void *arg, struct error *err)
{
    char path[PATH_MAX];
    if (++layer->entries > LIMIT_ENTRIES)
        return error_set(err, ERR_EXHAUSTED, "the layer has more than %d entries", LIMIT_ENTRIES);
    TRY(layer_clean_path(entry->path, path, err));
    TRY(layer_grew(layer, LIMIT_ENTRY_BYTES, err));
    if (entry->uid < 0 || entry->uid > UINT32_MAX - 1 || entry->gid < 0 || entry->gid > UINT32_MAX - 1)
        return error_set(err, ERR_INVALID, "its owner %lld:%lld is out of range", (long long)entry->uid, (long long)entry->gid);
    if (!*path)
        return apply_root(layer, entry, err);
    struct place p = {layer, entry, path, -1, NULL};
    p.parent = TRY(layer_parent(layer, path, &p.name, err));
    if (str_starts(p.name, ".wh."))
        return apply_whiteout(&p, err);
    if (entry->hard_link)
        return apply_hard_link(&p, err);
    TRY(layer_await(layer, p.name, err));
    switch (entry->mode & S_IFMT) {
    case S_IFREG:
        return apply_file(&p, read, arg, err);
    case S_IFDIR:
        return apply_directory(&p, err);
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return apply_special(&p, err);
    default:
        return error_set(err, ERR_INVALID, "it is of a type that no file has");
    }
}

int
layer_apply(struct layer *layer, const struct layer_entry *entry, layer_read *read, void *arg, struct error *err)
{
    if (apply(layer, entry, read, arg, err) == 0)
        return 0;
    return small_files_failed(layer->small) ? -1 : error_prefix(err, "entry %.256s", entry->path);
}
