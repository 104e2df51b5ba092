#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

int
file_open(int dirfd, const char *path, int flags, mode_t mode, struct error *err)
{
    int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
    return fd >= 0 ? fd : error_errno(err, errno, "open %s", path);
}

int
file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error *err)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
        .mode = flags & O_CREAT ? mode : 0, /* openat2 refuses one that it does not need */
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    /* EAGAIN: a rename or mount elsewhere raced with the lookup (openat2(2)); trying again is the documented answer. */
    for (int attempt = 0;; attempt++) {
        int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0)
            return fd;
        if (errno != EAGAIN || attempt == 100)
            return error_errno(err, errno, "open %s", path);
    }
}

int
file_mkdirs_beneath(int dirfd, const char *path, mode_t mode, struct error *err)
{
    struct error ignored;
    int fd = file_open_beneath(dirfd, path, O_PATH | O_DIRECTORY, 0, &ignored);
    if (fd >= 0)
        return fd;
    cleanup_close int at = file_open_beneath(dirfd, "/", O_PATH | O_DIRECTORY, 0, err);
    if (at < 0)
        return -1;
    cleanup_free char *prefix = mem_zalloc(strlen(path) + 1, 1);
    for (const char *component = path; *component;) {
        const char *end = strchrnul(component, '/');
        memcpy(prefix, path, (size_t)(end - path));
        cleanup_free char *name = str_ndup(component, (size_t)(end - component));
        if (*name && !str_eq(name, ".") && !str_eq(name, "..") && mkdirat(at, name, mode) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make directory %s", prefix);
        int next = TRY(file_open_beneath(dirfd, prefix[0] ? prefix : "/", O_PATH | O_DIRECTORY, 0, err));
        (void)close(at);
        at = next;
        component = *end ? end + 1 : end;
    }
    return steal(at);
}

int
file_mkdirs(const char *path, mode_t mode, struct error *err)
{
    cleanup_free char *copy = str_dup(path);
    for (char *slash = copy + 1; *copy;) {
        slash = strchrnul(slash, '/');
        char kept = *slash;
        *slash = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make directory %s", copy);
        *slash = kept;
        if (!kept)
            break;
        slash++;
    }
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return error_set(err, ERR_EXISTS, "make directory %s: something else is there", path);
    return 0;
}

int
file_read_fd(int fd, const char *what, size_t limit, char **out, size_t *out_length, struct error *err)
{
    cleanup_buf struct buf content = BUF(limit);
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read %s", what);
        if (!buf_add(&content, chunk, (size_t)n))
            return error_set(err, ERR_EXHAUSTED, "read %s: it is larger than the limit of %zu bytes", what, limit);
        if (n == 0)
            break;
    }
    if (out_length)
        *out_length = content.length;
    *out = steal(content.data);
    return 0;
}

int
file_read(int dirfd, const char *path, size_t limit, char **out, size_t *out_length, struct error *err)
{
    cleanup_close int fd = TRY(file_open(dirfd, path, O_RDONLY, 0, err));
    return file_read_fd(fd, path, limit, out, out_length, err);
}

int
file_write_all(int fd, const char *what, const void *data, size_t length, struct error *err)
{
    for (const char *at = data; length;) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "write %s", what);
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

int
file_put(int dirfd, const char *path, const char *text, struct error *err)
{
    cleanup_close int fd = TRY(file_open(dirfd, path, O_WRONLY, 0, err));
    if (write(fd, text, strlen(text)) < 0)
        return error_errno(err, errno, "write %s to %s", text, path);
    return 0;
}

/* "dir/name" → an open fd of dir and a pointer to name; so that rename and fsync work on the directory itself. */
static int
open_parent(int dirfd, const char *path, const char **name, struct error *err)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    cleanup_free char *parent = slash ? str_ndup(path, slash == path ? 1 : (size_t)(slash - path)) : str_dup(".");
    return file_open(dirfd, parent, O_RDONLY | O_DIRECTORY, 0, err);
}

static int
write_new(int parent, const char *name, const void *data, size_t length, mode_t mode, bool durable, struct error *err)
{
    cleanup_close int fd = TRY(file_open(parent, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode, err));
    TRY(file_write_all(fd, name, data, length, err));
    if (durable && fsync(fd) < 0)
        return error_errno(err, errno, "fsync %s", name);
    return 0;
}

int
file_replace(int dirfd, const char *path, const void *data, size_t length, mode_t mode, bool durable, struct error *err)
{
    const char *name;
    cleanup_close int parent = TRY(open_parent(dirfd, path, &name, err));
    cleanup_free char *temporary = str_printf(".%s.%lx.tmp", name, (unsigned long)gettid());
    if (write_new(parent, temporary, data, length, mode, durable, err) < 0) {
        (void)unlinkat(parent, temporary, 0);
        return error_prefix(err, "write %s", path);
    }
    if (renameat(parent, temporary, parent, name) < 0) {
        int errnum = errno;
        (void)unlinkat(parent, temporary, 0);
        return error_errno(err, errnum, "rename to %s", path);
    }
    if (durable && fsync(parent) < 0)
        return error_errno(err, errno, "fsync directory of %s", path);
    return 0;
}

/* ".NAME.TID.tmp", as file_replace names it. */
static bool
is_temporary(const char *name)
{
    return name[0] == '.' && str_ends(name, ".tmp");
}

void
file_sweep_replaced(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (is_temporary(entry->d_name))
            (void)unlinkat(dirfd, entry->d_name, 0);
}

/* Trees are walked depth first, with an open directory a level, and never into another mount. */
static int
open_same_mount(int dirfd, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH};
    return (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
}

/* A tree that is being removed. What lies too deep is moved up to its top first and then removed from there, so that a program that nests directories
 * without end costs neither fds nor stack. */
struct removal {
    int top;
    unsigned moved;
};

enum { DEPTH_MAX = 128 };

static int
move_up(struct removal *removal, int dirfd, const char *name, struct error *err)
{
    char up[32];
    (void)snprintf(up, sizeof up, ".too-deep.%u", removal->moved++);
    if (renameat2(dirfd, name, removal->top, up, RENAME_NOREPLACE) == 0 || errno == ENOENT)
        return 0;
    return errno == EEXIST ? move_up(removal, dirfd, name, err) : error_errno(err, errno, "remove %s", name);
}

static int remove_directory(struct removal *removal, int dirfd, const char *name, int depth, struct error *err);

static int
remove_entry(struct removal *removal, int dirfd, const struct dirent *entry, int depth, struct error *err)
{
    if (entry->d_type != DT_DIR) {
        if (unlinkat(dirfd, entry->d_name, 0) == 0 || errno == ENOENT)
            return 0;
        if (errno != EISDIR)
            return error_errno(err, errno, "remove %s", entry->d_name);
    }
    return depth < DEPTH_MAX ? remove_directory(removal, dirfd, entry->d_name, depth + 1, err) : move_up(removal, dirfd, entry->d_name, err);
}

/* Takes the fd. */
static int
remove_below(struct removal *removal, int fd, int depth, struct error *err)
{
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        int errnum = errno;
        (void)close(fd);
        return error_errno(err, errnum, "read a directory");
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            TRY(remove_entry(removal, fd, entry, depth, err));
    return 0;
}

static int
remove_directory(struct removal *removal, int dirfd, const char *name, int depth, struct error *err)
{
    int fd = open_same_mount(dirfd, name);
    if (fd < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno == EXDEV ? EBUSY : errno, "remove %s", name);
    if (remove_below(removal, fd, depth, err) < 0)
        return error_prefix(err, "%s", name);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove directory %s", name);
    return 0;
}

/* As often as something was moved up meanwhile. */
static int
remove_tree(int parent, const char *name, struct error *err)
{
    cleanup_close int top = open_same_mount(parent, name);
    if (top < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno == EXDEV ? EBUSY : errno, "remove %s", name);
    struct removal removal = {.top = top};
    for (unsigned before = ~0U; before != removal.moved;) {
        before = removal.moved;
        int fd = TRY(file_open(top, ".", O_RDONLY | O_DIRECTORY, 0, err));
        if (remove_below(&removal, fd, 0, err) < 0)
            return error_prefix(err, "%s", name);
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove directory %s", name);
    return 0;
}

static char *
without_trailing_slashes(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return str_ndup(path, length);
}

int
file_remove_tree(int dirfd, const char *path, struct error *err)
{
    const char *name;
    struct error missing = {0};
    cleanup_free char *plain = without_trailing_slashes(path);
    cleanup_close int parent = open_parent(dirfd, plain, &name, &missing);
    if (parent < 0) {
        if (missing.errnum == ENOENT)
            return 0;
        if (err)
            *err = missing;
        return -1;
    }
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return error_errno(err, errno, "remove %s", path);
    return remove_tree(parent, name, err);
}

static void
usage_below(int fd, int depth, uint64_t *bytes, uint64_t *inodes)
{
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        struct stat st;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        *bytes += (uint64_t)st.st_blocks * 512;
        *inodes += 1;
        int below = S_ISDIR(st.st_mode) && depth < DEPTH_MAX ? open_same_mount(fd, entry->d_name) : -1;
        if (below >= 0)
            usage_below(below, depth + 1, bytes, inodes);
    }
}

int
file_usage(int dirfd, const char *path, uint64_t *bytes, uint64_t *inodes, struct error *err)
{
    int fd = TRY(file_open(dirfd, path, O_RDONLY | O_DIRECTORY, 0, err));
    struct stat st;
    *bytes = fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    *inodes = 1;
    usage_below(fd, 1, bytes, inodes);
    return 0;
}

int
file_sealed_memfd(const char *name, const void *data, size_t length, struct error *err)
{
    cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return error_errno(err, errno, "memfd %s", name);
    TRY(file_write_all(fd, name, data, length, err));
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return error_errno(err, errno, "seal memfd %s", name);
    return steal(fd);
}
