#include "imageservice/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/str.h"

enum {
    BLOCK_BYTES = 64 << 10,
    DEPTH_MAX = 600, /* more than a layer may have */
};

struct tree {
    XXH3_state_t *state;
    XXH128_hash_t sum; /* the exclusive or of the hashes of all entries and attributes, each of which has its path in it */
    bool from_disk;
    const struct cancel *cancel;
    char path[PATH_MAX];
    char block[BLOCK_BYTES], names[XATTR_LIST_MAX], value[XATTR_SIZE_MAX];
};

/* What of an inode is in the digest; without gaps. */
struct head {
    uint64_t size, device;
    int64_t mtime_s, mtime_ns;
    uint32_t mode, uid, gid, links;
};

static void
add(struct tree *tree, const void *data, size_t length)
{
    (void)XXH3_128bits_update(tree->state, data, length);
}

static void
begin(struct tree *tree, char kind)
{
    (void)XXH3_128bits_reset(tree->state);
    add(tree, &kind, 1);
    add(tree, tree->path, strlen(tree->path) + 1);
}

static void
finish(struct tree *tree)
{
    XXH128_hash_t hash = XXH3_128bits_digest(tree->state);
    tree->sum.low64 ^= hash.low64;
    tree->sum.high64 ^= hash.high64;
}

/* A directory's size and link count are the file system's own affair. */
static void
begin_entry(struct tree *tree, const struct stat *st)
{
    bool directory = S_ISDIR(st->st_mode), device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
    struct head head = {
        .size = directory ? 0 : (uint64_t)st->st_size,
        .device = device ? st->st_rdev : 0,
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = st->st_mtim.tv_nsec,
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .links = directory ? 0 : (uint32_t)st->st_nlink,
    };
    begin(tree, 'e');
    add(tree, &head, sizeof head);
}

/* Labels and signatures of this host's own security modules come and go. */
static bool
is_the_layers(const char *xattr)
{
    return !str_starts(xattr, "security.") || str_eq(xattr, "security.capability");
}

/* Of files and directories only: elsewhere the kernel has none but trusted.*, which images have no use for. */
static int
add_xattrs(struct tree *tree, int fd, struct error *err)
{
    ssize_t length = flistxattr(fd, tree->names, sizeof tree->names);
    if (length < 0 && errno != EOPNOTSUPP)
        return error_errno(err, errno, "list attributes");
    for (const char *name = tree->names; length > 0 && name < tree->names + length; name += strlen(name) + 1) {
        if (!is_the_layers(name))
            continue;
        ssize_t size = fgetxattr(fd, name, tree->value, sizeof tree->value);
        if (size < 0)
            return error_errno(err, errno, "read attribute %.64s", name);
        begin(tree, 'x');
        add(tree, name, strlen(name) + 1);
        add(tree, tree->value, (size_t)size);
        finish(tree);
    }
    return 0;
}

static int
read_block(struct tree *tree, int fd, int64_t at, size_t length, struct error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, tree->block + done, length - done, at + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "read");
        done += (size_t)n;
    }
    return 0;
}

static bool
is_zero(const char *data, size_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Blocks of zeros are left out, and holes with them, which a file system may fill or dig as it likes. */
static int
add_contents(struct tree *tree, int fd, int64_t size, bool sparse, struct error *err)
{
    for (int64_t at = 0; at < size;) {
        if (sparse) {
            int64_t data = lseek(fd, at, SEEK_DATA);
            if (data < 0 && errno == ENXIO)
                return 0;
            at = data > at ? data / BLOCK_BYTES * BLOCK_BYTES : at;
        }
        size_t length = size - at < BLOCK_BYTES ? (size_t)(size - at) : BLOCK_BYTES;
        TRY(read_block(tree, fd, at, length, err));
        if (!is_zero(tree->block, length)) {
            add(tree, &at, sizeof at);
            add(tree, tree->block, length);
        }
        at += (int64_t)length;
        if (tree->cancel)
            TRY(cancel_check(tree->cancel, "reading a layer", err));
    }
    return 0;
}

static int
add_file(struct tree *tree, int dir, const char *name, const struct stat *st, struct error *err)
{
    cleanup_close int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open");
    TRY(add_xattrs(tree, fd, err));
    if (tree->from_disk)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    begin_entry(tree, st);
    TRY(add_contents(tree, fd, st->st_size, st->st_blocks * 512 < st->st_size, err));
    finish(tree);
    if (tree->from_disk)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int
add_symlink(struct tree *tree, int dir, const char *name, const struct stat *st, struct error *err)
{
    ssize_t length = readlinkat(dir, name, tree->block, sizeof tree->block);
    if (length < 0)
        return error_errno(err, errno, "read link");
    begin_entry(tree, st);
    add(tree, tree->block, (size_t)length);
    finish(tree);
    return 0;
}

static int add_directory(struct tree *tree, int fd, int depth, struct error *err);

static int
enter(struct tree *tree, int dir, const char *name, const struct stat *above, const struct stat *st, int depth, struct error *err)
{
    if (st->st_dev != above->st_dev)
        return error_set(err, ERR_PRECONDITION, "something is mounted here");
    if (depth == DEPTH_MAX)
        return error_set(err, ERR_EXHAUSTED, "deeper than %d directories", DEPTH_MAX);
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
    return fd < 0 ? error_errno(err, errno, "open") : add_directory(tree, fd, depth + 1, err);
}

static int
add_any(struct tree *tree, int dir, const char *name, const struct stat *above, int depth, struct error *err)
{
    struct stat st;
    if (tree->cancel)
        TRY(cancel_check(tree->cancel, "reading a layer", err));
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_errno(err, errno, "look at it");
    if (S_ISREG(st.st_mode))
        return add_file(tree, dir, name, &st, err);
    if (S_ISLNK(st.st_mode))
        return add_symlink(tree, dir, name, &st, err);
    if (S_ISDIR(st.st_mode))
        return enter(tree, dir, name, above, &st, depth, err);
    begin_entry(tree, &st);
    finish(tree);
    return 0;
}

/* The words that come from below are about tree->path as it was there. */
static int
add_named(struct tree *tree, int dir, const char *name, const struct stat *above, int depth, struct error *err)
{
    size_t length = strlen(tree->path);
    int n = snprintf(tree->path + length, sizeof tree->path - length, "/%s", name);
    int result = n < 0 || (size_t)n >= sizeof tree->path - length ? error_set(err, ERR_EXHAUSTED, "a path is too long")
                                                                  : add_any(tree, dir, name, above, depth, err);
    if (result == 0)
        tree->path[length] = '\0';
    return result;
}

/* Takes the fd. */
static int
add_directory(struct tree *tree, int fd, int depth, struct error *err)
{
    struct stat st;
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        int errnum = errno;
        (void)close(fd);
        return error_errno(err, errnum, "read the directory");
    }
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "look at it");
    begin_entry(tree, &st);
    finish(tree);
    TRY(add_xattrs(tree, fd, err));
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)); errno = 0)
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            TRY(add_named(tree, fd, entry->d_name, &st, depth, err));
    return errno ? error_errno(err, errno, "read the directory") : 0;
}

int
tree_digest(int root, bool from_disk, const struct cancel *cancel, char out[TREE_DIGEST_SIZE], struct error *err)
{
    cleanup_free struct tree *tree = mem_zalloc(1, sizeof *tree);
    tree->from_disk = from_disk;
    tree->cancel = cancel;
    tree->state = XXH3_createState();
    if (!tree->state)
        return error_set(err, ERR_EXHAUSTED, "no memory for a hash");
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
    int result = fd < 0 ? error_errno(err, errno, "open") : add_directory(tree, fd, 0, err);
    (void)XXH3_freeState(tree->state);
    if (result < 0)
        return error_prefix(err, "%.512s", *tree->path ? tree->path : "/");
    (void)snprintf(out, TREE_DIGEST_SIZE, "%016llx%016llx", (unsigned long long)tree->sum.high64, (unsigned long long)tree->sum.low64);
    return 0;
}

bool
tree_digest_valid(const char *text)
{
    return strlen(text) == TREE_DIGEST_SIZE - 1 && strspn(text, "0123456789abcdef") == TREE_DIGEST_SIZE - 1;
}
