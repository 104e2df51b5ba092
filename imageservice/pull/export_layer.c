/* export_layer: the other way of layer_apply. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "imageservice/digest.h"
#include "imageservice/pull/export.h"
#include "imageservice/pull/layer_inside.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/spool.h"

/* The first name of a file with several. */
struct linked {
    ino_t inode;
    char path[];
};

struct tree {
    struct archive *out;
    int file;
    struct digest *digest;
    const struct http_scope *scope;
    void *links; /* of struct linked, by tsearch */
    char path[PATH_MAX];
    unsigned depth;
    char *block;
};

enum { BLOCK_BYTES = 64 << 10 };

static la_ssize_t
write_out(struct archive *archive, void *arg, const void *data, size_t length)
{
    struct tree *tree = arg;
    struct error err;
    digest_add(tree->digest, data, length);
    if (spool_write(tree->file, data, length, &err) == 0)
        return (la_ssize_t)length;
    archive_set_error(archive, err.errnum ? err.errnum : EIO, "%s", err.message);
    return -1;
}

static int
failed(const struct tree *tree, struct error *err)
{
    int errnum = archive_errno(tree->out);
    return error_errno(err, errnum > 0 ? errnum : EIO, "write the layer's archive at %.256s", tree->path);
}

static int
by_inode(const void *a, const void *b)
{
    const struct linked *x = a, *y = b;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* The name that this file had already, or NULL: now it has one. */
static const char *
name_before(struct tree *tree, const struct stat *st)
{
    size_t length = strlen(tree->path) + 1;
    struct linked *link = mem_alloc(sizeof *link + length);
    link->inode = st->st_ino;
    memcpy(link->path, tree->path, length);
    struct linked **found = tsearch(link, &tree->links, by_inode);
    if (!found || *found == link)
        return NULL;
    free(link);
    return (*found)->path;
}

static void
add_xattrs(int fd, struct archive_entry *e)
{
    cleanup_free char *names = mem_alloc(XATTR_LIST_MAX), *value = mem_alloc(XATTR_SIZE_MAX);
    ssize_t length = flistxattr(fd, names, XATTR_LIST_MAX);
    for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t n = layer_xattr_wanted(name) ? fgetxattr(fd, name, value, XATTR_SIZE_MAX) : -1;
        if (n >= 0)
            archive_entry_xattr_add_entry(e, name, value, (size_t)n);
    }
}

static int
write_header(struct tree *tree, struct archive_entry *e, struct error *err)
{
    if (atomic_load(&tree->scope->cancelled))
        return error_set(err, ERR_CANCELLED, "the export was cancelled");
    return archive_write_header(tree->out, e) < ARCHIVE_WARN ? failed(tree, err) : 0;
}

static int
write_contents(struct tree *tree, int fd, struct error *err)
{
    for (ssize_t n; (n = read(fd, tree->block, BLOCK_BYTES)) != 0;) {
        if (n < 0)
            return error_errno(err, errno, "read %.256s", tree->path);
        if (atomic_load(&tree->scope->cancelled))
            return error_set(err, ERR_CANCELLED, "the export was cancelled");
        if (archive_write_data(tree->out, tree->block, (size_t)n) < 0)
            return failed(tree, err);
    }
    return 0;
}

CLEANUP_DEFINE(entry_freep, struct archive_entry *, archive_entry_free)

static struct archive_entry *
entry_new(const struct tree *tree, const struct stat *st)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, *tree->path ? tree->path : "./");
    archive_entry_set_mode(e, st->st_mode);
    archive_entry_set_uid(e, st->st_uid);
    archive_entry_set_gid(e, st->st_gid);
    archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
    archive_entry_set_size(e, S_ISREG(st->st_mode) ? st->st_size : 0);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        archive_entry_set_rdev(e, st->st_rdev);
    return e;
}

static int
write_file(struct tree *tree, int dir, const char *name, const struct stat *st, struct error *err)
{
    cleanup(entry_freep) struct archive_entry *e = entry_new(tree, st);
    const char *before = st->st_nlink > 1 ? name_before(tree, st) : NULL;
    if (before) {
        archive_entry_set_hardlink(e, before);
        archive_entry_set_size(e, 0);
        return write_header(tree, e, err);
    }
    cleanup_close int fd = TRY(file_open(dir, name, O_RDONLY | O_NOFOLLOW, 0, err));
    add_xattrs(fd, e);
    TRY(write_header(tree, e, err));
    return write_contents(tree, fd, err);
}

static int
write_other(struct tree *tree, int dir, const char *name, const struct stat *st, struct error *err)
{
    char link[PATH_MAX];
    cleanup(entry_freep) struct archive_entry *e = entry_new(tree, st);
    if (S_ISLNK(st->st_mode)) {
        ssize_t length = readlinkat(dir, name, link, sizeof link - 1);
        if (length < 0)
            return error_errno(err, errno, "read symlink %.256s", tree->path);
        link[length] = '\0';
        archive_entry_set_symlink(e, link);
    }
    return write_header(tree, e, err);
}

/* An empty file whose name says what is hidden (OCI image spec, "Whiteouts"). */
static int
write_mark(struct tree *tree, size_t parent_length, const char *prefix, const char *name, struct error *err)
{
    cleanup_free char *path = str_printf("%.*s%s%s", (int)parent_length, tree->path, prefix, name);
    cleanup(entry_freep) struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, path);
    archive_entry_set_mode(e, S_IFREG | 0600);
    archive_entry_set_size(e, 0);
    return write_header(tree, e, err);
}

static int
list_directory(int fd, struct strv *names, struct error *err)
{
    int copy = TRY(file_open(fd, ".", O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_closedir DIR *dir = fdopendir(copy);
    if (!dir) {
        (void)close(copy);
        return error_errno(err, errno, "read a directory");
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            strv_add(names, entry->d_name);
    strv_sort(names);
    return 0;
}

static int write_directory(struct tree *tree, int fd, struct error *err);

static int
write_one(struct tree *tree, int dir, size_t parent_length, const char *name, struct error *err)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "look at %.256s", tree->path);
    if (layer_is_whiteout(&st))
        return write_mark(tree, parent_length, ".wh.", name, err);
    if (S_ISREG(st.st_mode))
        return write_file(tree, dir, name, &st, err);
    if (!S_ISDIR(st.st_mode))
        return S_ISSOCK(st.st_mode) ? 0 : write_other(tree, dir, name, &st, err);
    cleanup_close int fd = TRY(file_open(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    return write_directory(tree, fd, err);
}

/* tree->path is the directory's; "" for the root. */
static int
write_directory(struct tree *tree, int fd, struct error *err)
{
    struct stat st;
    char opaque;
    size_t length = strlen(tree->path);
    cleanup_strv struct strv names = {0};
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "look at %.256s", tree->path);
    if (++tree->depth > LIMIT_DEPTH)
        return error_set(err, ERR_INTERNAL, "%.256s: deeper than %d directories", tree->path, LIMIT_DEPTH);
    if (length)
        tree->path[length++] = '/';
    tree->path[length] = '\0';
    cleanup(entry_freep) struct archive_entry *e = entry_new(tree, &st);
    add_xattrs(fd, e);
    TRY(write_header(tree, e, err));
    if (fgetxattr(fd, layer_opaque_xattr, &opaque, 1) == 1 && opaque == 'y')
        TRY(write_mark(tree, length, ".wh..wh.", ".opq", err));
    TRY(list_directory(fd, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        if (length + strlen(names.items[i]) + 2 > sizeof tree->path)
            return error_set(err, ERR_INTERNAL, "%.256s: its path is too long", tree->path);
        (void)strcpy(tree->path + length, names.items[i]);
        TRY(write_one(tree, fd, length, names.items[i], err));
    }
    tree->depth--;
    return 0;
}

static int
write_tree(struct tree *tree, int root, struct error *err)
{
    (void)archive_write_set_format_pax(tree->out);
    (void)archive_write_set_options(tree->out, "hdrcharset=BINARY"); /* names are bytes, whatever the locale */
    (void)archive_write_set_bytes_in_last_block(tree->out, 1);
    if (archive_write_open(tree->out, tree, NULL, write_out, NULL) != ARCHIVE_OK)
        return failed(tree, err);
    TRY(write_directory(tree, root, err));
    return archive_write_close(tree->out) != ARCHIVE_OK ? failed(tree, err) : 0;
}

int
export_layer(int root, int file, const struct http_scope *scope, struct digest *digest, struct error *err)
{
    struct tree tree = {.out = archive_write_new(), .file = file, .digest = digest, .scope = scope, .block = mem_alloc(BLOCK_BYTES)};
    int result = write_tree(&tree, root, err);
    if (result < 0)
        (void)archive_write_fail(tree.out);
    (void)archive_write_free(tree.out);
    tdestroy(tree.links, free);
    free(tree.block);
    return result;
}
