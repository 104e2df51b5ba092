#include "imageservice/pull/layer.h"

#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/layer_inside.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/space.h"

/* "trusted." needs CAP_SYS_ADMIN both to write and to read, so no container sees or forges it. */
const char layer_implied_xattr[] = "trusted.crisp.implied";
const char layer_opaque_xattr[] = "trusted.overlay.opaque";

struct layer *
layer_begin(int incoming, const char *name, struct error *err)
{
    if (mkdirat(incoming, name, 0755) < 0) {
        (void)error_errno(err, errno, "make directory %s", name);
        return NULL;
    }
    cleanup_close int root = file_open(incoming, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err);
    if (root < 0)
        return NULL;
    if (fsetxattr(root, layer_implied_xattr, "", 0, 0) < 0) {
        (void)error_errno(err, errno, "set %s (the file system of the store must carry extended attributes)", layer_implied_xattr);
        return NULL;
    }
    cleanup_free char *notes_name = str_printf("%s.notes", name);
    struct notes *notes = notes_open(incoming, notes_name, err);
    if (!notes)
        return NULL;
    struct layer *layer = mem_zalloc(1, sizeof *layer);
    layer->root = steal(root);
    layer->parent = -1;
    layer->notes = notes;
    layer->small = small_files_new();
    layer->bytes = 4096;
    layer->inodes = 1;
    return notes_add(notes, NOTE_IMPLIED, "", "", NULL, err) < 0 ? (layer_close(layer), NULL) : layer;
}

void
layer_close(struct layer *layer)
{
    (void)close(layer->root);
    if (layer->parent >= 0)
        (void)close(layer->parent);
    if (layer->small)
        small_files_free(layer->small);
    notes_close(layer->notes);
    free(layer);
}

int
layer_root(const struct layer *layer)
{
    return layer->root;
}

void
layer_usage(const struct layer *layer, uint64_t *bytes, uint64_t *inodes)
{
    *bytes = layer->bytes;
    *inodes = layer->inodes;
}

/* Drops the last component of out[0…*length]. */
static void
drop_component(const char *out, size_t *length)
{
    while (*length && out[*length - 1] != '/')
        (*length)--;
    if (*length)
        (*length)--;
}

int
layer_clean_path(const char *path, char *out, struct error *err)
{
    size_t length = 0, depth = 0;
    for (const char *component = path; *component;) {
        const char *end = strchrnul(component, '/');
        size_t n = (size_t)(end - component);
        if (n == 2 && memcmp(component, "..", 2) == 0) {
            if (length == 0)
                return error_set(err, ERR_INVALID, "its path leads out of the layer");
            drop_component(out, &length);
            depth--;
        } else if (n > 0 && !(n == 1 && *component == '.')) {
            if (n > NAME_MAX || length + n + 2 > PATH_MAX || ++depth > LIMIT_DEPTH)
                return error_set(err, ERR_INVALID, "its path is longer than %d bytes, deeper than %d or has a name above %d", PATH_MAX, LIMIT_DEPTH,
                                 NAME_MAX);
            if (length)
                out[length++] = '/';
            memcpy(out + length, component, n);
            length += n;
        }
        component = *end ? end + 1 : end;
    }
    out[length] = '\0';
    return 0;
}

bool
layer_is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

bool
layer_xattr_wanted(const char *name)
{
    if (str_starts(name, "trusted.overlay.") || str_starts(name, "trusted.crisp.") || str_starts(name, "user.overlay."))
        return false;
    return str_starts(name, "user.") || str_starts(name, "trusted.") || str_eq(name, "security.capability") || str_starts(name, "system.posix_acl_");
}

int
layer_grew(struct layer *layer, uint64_t bytes, struct error *err)
{
    layer->unwatched += bytes;
    if (layer->unwatched < LIMIT_UNWATCHED_BYTES)
        return 0;
    layer->unwatched = 0;
    return space_check(layer->root, 0, err);
}

int
layer_set_opaque(int parent, const char *name, struct error *err)
{
    cleanup_close int fd = TRY(file_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    return fsetxattr(fd, layer_opaque_xattr, "y", 1, 0) < 0 ? error_errno(err, errno, "set %s", layer_opaque_xattr) : 0;
}

int
layer_await(struct layer *layer, const char *name, struct error *err)
{
    return small_files_has(layer->small, layer->parent_inode, name) ? small_files_finish(layer->small, err) : 0;
}

int
layer_await_all(struct layer *layer, struct error *err)
{
    return layer->small ? small_files_finish(layer->small, err) : 0;
}

int
layer_finish(struct layer *layer, struct error *err)
{
    int result = layer_await_all(layer, err);
    if (layer->small)
        small_files_free(steal(layer->small));
    return result;
}

static void
forget_parent(struct layer *layer)
{
    if (layer->parent >= 0)
        (void)close(layer->parent);
    layer->parent = -1;
}

int
layer_clear(struct layer *layer, int parent, const char *name, struct error *err)
{
    TRY(layer_await_all(layer, err));
    (void)strcpy(layer->parent_path, "/"); /* no cleaned path: the next entry's parent is looked up again, as it may have led through what goes */
    if (unlinkat(parent, name, 0) == 0)
        return 0;
    if (errno != EISDIR)
        return error_errno(err, errno, "remove %s", name);
    return file_remove_tree(parent, name, err);
}

/* Make the directory at `name` of `at` unless it is there. A whiteout of this layer gives way: the directory then hides what is below. */
static int
imply_directory(struct layer *layer, int at, const char *name, const char *path, struct error *err)
{
    struct stat st;
    bool opaque = false;
    if (mkdirat(at, name, 0755) < 0) {
        if (errno != EEXIST || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return error_errno(err, errno, "make directory %s", path);
        if (!layer_is_whiteout(&st))
            return 0;
        TRY(layer_clear(layer, at, name, err));
        if (mkdirat(at, name, 0755) < 0)
            return error_errno(err, errno, "make directory %s", path);
        opaque = true;
    }
    layer->bytes += 4096;
    layer->inodes++;
    cleanup_close int fd = TRY(file_open(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    if (fsetxattr(fd, layer_implied_xattr, "", 0, 0) < 0 || (opaque && fsetxattr(fd, layer_opaque_xattr, "y", 1, 0) < 0))
        return error_errno(err, errno, "set attributes of %s", path);
    return notes_add(layer->notes, NOTE_IMPLIED, path, "", NULL, err);
}

/* Every prefix is resolved from the root again: what stands before it may be a symlink. */
static int
imply_directories(struct layer *layer, const char *path, struct error *err)
{
    TRY(layer_await_all(layer, err));
    cleanup_close int at = TRY(file_open_beneath(layer->root, ".", O_PATH | O_DIRECTORY, 0, err));
    char prefix[PATH_MAX];
    for (const char *component = path; *component;) {
        const char *end = strchrnul(component, '/');
        cleanup_free char *name = str_ndup(component, (size_t)(end - component));
        memcpy(prefix, path, (size_t)(end - path));
        prefix[end - path] = '\0';
        TRY(imply_directory(layer, at, name, prefix, err));
        int next = file_open_beneath(layer->root, prefix, O_PATH | O_DIRECTORY, 0, err);
        if (next < 0)
            return error_as(err, ERR_INVALID);
        (void)close(at);
        at = next;
        component = *end ? end + 1 : end;
    }
    return steal(at);
}

static int
enter_parent(struct layer *layer, const char *path, struct error *err)
{
    struct error missing;
    int fd = file_open_beneath(layer->root, *path ? path : ".", O_PATH | O_DIRECTORY, 0, &missing);
    if (fd < 0)
        fd = TRY(imply_directories(layer, path, err));
    struct stat st;
    if (fstat(fd, &st) < 0) {
        (void)close(fd);
        return error_errno(err, errno, "look at directory %s", path);
    }
    layer->parent_inode = st.st_ino;
    layer->parent_inherits = st.st_mode & S_ISGID;
    layer->parent = fd;
    (void)strcpy(layer->parent_path, path); /* both hold PATH_MAX */
    return fd;
}

int
layer_parent(struct layer *layer, const char *path, const char **name, struct error *err)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    *name = slash ? slash + 1 : path;
    if (layer->parent >= 0 && strncmp(layer->parent_path, path, length) == 0 && layer->parent_path[length] == '\0')
        return layer->parent;
    forget_parent(layer);
    char parent[PATH_MAX];
    memcpy(parent, path, length);
    parent[length] = '\0';
    return enter_parent(layer, parent, err);
}
