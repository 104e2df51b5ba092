/* Operations of a launch spec: mounts. File systems are attached to fds that were resolved inside the root (fchdir and ".", or move_mount), never to
 * path strings, so that no symlink of an image redirects them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/xattr.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/monitor/launch.h"
#include "runtime/userns.h"

int
tree_open(int dirfd, const char *path, unsigned flags)
{
    return open_tree(dirfd, path, OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC | flags);
}

static int
tree_set(int tree, struct mount_attr *attr, bool recursive)
{
    return failed(mount_setattr(tree, "", (unsigned)AT_EMPTY_PATH | (recursive ? (unsigned)AT_RECURSIVE : 0U), attr, sizeof *attr));
}

int
tree_attach(int tree, int target)
{
    return failed(move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

/* Owners as the bind's maps say. */
static int
map_owners(const struct launch *l, const struct spec_op *op, int tree)
{
    const char *uid_map = op_text(l, op, 2), *gid_map = op_text(l, op, 3);
    struct userns u;
    if (!uid_map || !gid_map)
        return userns_map_tree(tree, l->userns, op->number[0] & SPEC_BIND_RECURSIVE);
    int errnum = userns_make(&u, 0, uid_map, gid_map, NULL);
    if (errnum)
        return errnum;
    errnum = userns_map_tree(tree, u.fd, op->number[0] & SPEC_BIND_RECURSIVE);
    (void)close(u.fd);
    userns_end(&u);
    return errnum;
}

/* The tree of a bind, or -1 with errno. */
static int
bind_take(const struct launch *l, const struct spec_op *op)
{
    cleanup_close int tree = tree_open(AT_FDCWD, op_text(l, op, 0), op->number[0] & SPEC_BIND_RECURSIVE ? (unsigned)AT_RECURSIVE : 0);
    if (tree >= 0 && op->number[0] & SPEC_BIND_IDMAP) {
        errno = map_owners(l, op, tree);
        if (errno)
            return -1;
    }
    return steal(tree);
}

/* Binds that shall be peers of the host's mounts are taken while these are still shared here; afterwards a clone would only be a slave. Those that
 * come after SPEC_ENTER are taken while the host's files are in reach. */
static int
take_trees(struct launch *l)
{
    bool late = false;
    for (uint32_t i = 0; i < l->spec->op_count; i++) {
        const struct spec_op *op = &l->spec->ops[i];
        late = late || op->type == SPEC_ENTER;
        if (op->type == SPEC_ENTER)
            l->null = tree_open(AT_FDCWD, "/dev/null", 0);
        if (op->type != SPEC_BIND || !(late || op->number[1] & MS_SHARED))
            continue;
        if (l->taken_count == TAKEN_TREES_MAX)
            return E2BIG;
        int tree = bind_take(l, op);
        /* What is missing is named by the bind itself. */
        if (tree < 0 && errno != ENOENT)
            return errno;
        l->taken_trees[l->taken_count++] = tree;
    }
    return 0;
}

int
launch_propagation(struct launch *l, const struct spec_op *op)
{
    int errnum = take_trees(l);
    return errnum ? errnum : failed(mount(NULL, op_text(l, op, 0), NULL, op->number[0], NULL));
}

int
launch_overlay(struct launch *l, const struct spec_op *op)
{
    if (chdir(op_text(l, op, 0)) < 0)
        return errno;
    return failed(mount("overlay", op_text(l, op, 1), "overlay", op->number[0], op_text(l, op, 2)));
}

int
launch_root(struct launch *l, const struct spec_op *op)
{
    l->root = open(op_text(l, op, 0), O_PATH | O_DIRECTORY | O_CLOEXEC);
    return failed(l->root);
}

/* A place for a mount that crispd asked for by name. An image's symlink must not lead it onto procfs, where it would hide what masks and labels rely
 * on (CVE-2019-19921); a path that says /proc/… itself is crispd's decision. */
static int
place(const struct launch *l, const char *path, bool directory)
{
    struct statfs fs;
    int fd = root_target(l, path, directory);
    if (fd < 0 || strncmp(path, "/proc/", strlen("/proc/")) == 0)
        return fd;
    int errnum = fstatfs(fd, &fs) < 0 ? errno : fs.f_type == PROC_SUPER_MAGIC ? EACCES : 0;
    if (!errnum)
        return fd;
    (void)close(fd);
    return -errnum;
}

/* /proc and /sys must be directories of the image: through a symlink what masks them could be led away from them (CVE-2019-16884). */
static int
kernel_place(const struct launch *l, const char *fstype, const char *path)
{
    struct stat st;
    if (strcmp(fstype, "proc") != 0 && strcmp(fstype, "sysfs") != 0)
        return 0;
    cleanup_close int fd = root_open(l, path, O_PATH | O_NOFOLLOW);
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode) ? ENOTDIR : 0;
}

int
launch_mount(struct launch *l, const struct spec_op *op)
{
    int errnum = kernel_place(l, op_text(l, op, 2), op_text(l, op, 1));
    if (errnum)
        return errnum;
    cleanup_close int target = place(l, op_text(l, op, 1), true);
    if (target < 0)
        return -target;
    if (fchdir(target) < 0)
        return errno;
    return forgiven(failed(mount(op_text(l, op, 0), ".", op_text(l, op, 2), op->number[0], op_text(l, op, 3))), op->number[1]);
}

static int
bind_open(struct launch *l, const struct spec_op *op)
{
    bool was_taken = (l->entered || op->number[1] & MS_SHARED) && l->taken_used < l->taken_count;
    int taken = was_taken ? l->taken_trees[l->taken_used++] : -1;
    return taken >= 0 ? taken : bind_take(l, op);
}

/* Propagation first: a private or slave tree before it is attached anywhere. */
static int
bind_set(int tree, const struct spec_op *op)
{
    struct mount_attr propagation = {.propagation = op->number[1] & (MS_PRIVATE | MS_SLAVE | MS_SHARED)};
    struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
    struct mount_attr without = {.attr_set = (op->number[0] & SPEC_BIND_NOSUID ? MOUNT_ATTR_NOSUID : 0U) |
                                             (op->number[0] & SPEC_BIND_NODEV ? MOUNT_ATTR_NODEV : 0U) |
                                             (op->number[0] & SPEC_BIND_NOEXEC ? MOUNT_ATTR_NOEXEC : 0U)};
    int errnum = propagation.propagation ? tree_set(tree, &propagation, op->number[1] & MS_REC) : 0;
    if (!errnum && op->number[0] & (SPEC_BIND_READONLY | SPEC_BIND_READONLY_RECURSIVE))
        errnum = tree_set(tree, &readonly, op->number[0] & SPEC_BIND_READONLY_RECURSIVE);
    if (!errnum && without.attr_set)
        errnum = tree_set(tree, &without, op->number[0] & SPEC_BIND_RECURSIVE);
    return errnum;
}

static int
bind_tree(const struct launch *l, const struct spec_op *op, int tree)
{
    struct stat st;
    if (tree < 0 || fstat(tree, &st) < 0)
        return errno;
    cleanup_close int target = place(l, op_text(l, op, 1), S_ISDIR(st.st_mode));
    if (target < 0)
        return -target;
    int errnum = bind_set(tree, op);
    return errnum ? errnum : tree_attach(tree, target);
}

int
launch_bind(struct launch *l, const struct spec_op *op)
{
    cleanup_close int tree = bind_open(l, op);
    return bind_tree(l, op, tree);
}

/* A clone of what is at the sub path; no symlink of the image leads it out. */
static int
image_tree(const char *mounted, const char *sub_path)
{
    cleanup_close int image = open(mounted, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int at = image < 0 ? -errno : root_open(&(struct launch){.root = image}, sub_path && *sub_path ? sub_path : "/", O_PATH);
    if (at >= 0)
        return tree_open(at, "", (unsigned)AT_EMPTY_PATH);
    errno = -at;
    return -1;
}

/* The image is mounted over the layers' own directory, which this process alone sees so, and taken from there. The layers' names are relative to what
 * is beneath. */
int
launch_image(struct launch *l, const struct spec_op *op)
{
    const char *layers = op_text(l, op, 0);
    if (chdir(layers) < 0 || mount("overlay", layers, "overlay", MS_RDONLY, op_text(l, op, 2)) < 0)
        return errno;
    cleanup_close int tree = image_tree(layers, op_text(l, op, 3));
    int errnum = bind_tree(l, op, tree);
    return umount2(layers, MNT_DETACH) < 0 && !errnum ? errno : errnum;
}

/* The pod's shm is a tmpfs that every container of the pod mounts and the host's table does not show. Where the kernel can clone a detached mount
 * (Linux 6.15) the monitor holds such a mount; else a mount namespace with nothing but the tmpfs in it, which a container's process visits to clone
 * it. */

/* Owned by the pod's root. */
static bool
shm_owner(int context, const struct spec_op *op)
{
    static const char *const keys[] = {"uid", "gid"};
    for (unsigned i = 0; i < 2; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%u", (unsigned)op->number[1 + i]);
        if (op->number[1 + i] && fsconfig(context, FSCONFIG_SET_STRING, keys[i], id, 0) < 0)
            return false;
    }
    return true;
}

static int
shm_detached(const char *size, const char *label, const struct spec_op *op)
{
    cleanup_close int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (label && context >= 0 && fsconfig(context, FSCONFIG_SET_STRING, "context", label, 0) < 0)
        return -1;
    if (context < 0 || fsconfig(context, FSCONFIG_SET_STRING, "source", "shm", 0) < 0 ||
        fsconfig(context, FSCONFIG_SET_STRING, "mode", "1777", 0) < 0 || fsconfig(context, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
        !shm_owner(context, op) || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    return fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static int
shm_only_mount(const char *size, const char *label, const struct spec_op *op)
{
    char options[PATH_MAX];
    int n = snprintf(options, sizeof options, "mode=1777,size=%s,uid=%u,gid=%u", size, (unsigned)op->number[1], (unsigned)op->number[2]);
    if (label)
        (void)snprintf(options + n, sizeof options - (size_t)n, ",context=\"%s\"", label);
    int errnum = failed(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL));
    if (!errnum)
        errnum = failed(mount("shm", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options));
    if (!errnum)
        errnum = failed(chdir("/proc"));
    if (!errnum)
        errnum = failed(syscall(SYS_pivot_root, ".", "."));
    return errnum ? errnum : failed(umount2(".", MNT_DETACH));
}

static int
shm_in_namespace(struct launch *l, const char *size, const char *label, const struct spec_op *op)
{
    cleanup_close int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0 || unshare(CLONE_NEWNS) < 0)
        return errno;
    l->shm = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    int errnum = failed(l->shm);
    if (!errnum)
        errnum = shm_only_mount(size, label, op);
    return setns(home, CLONE_NEWNS) < 0 ? errno : errnum;
}

int
launch_pod_shm(struct launch *l, const struct spec_op *op)
{
    char size[32];
    const char *label = op_text(l, op, 0);
    (void)snprintf(size, sizeof size, "%llu", (unsigned long long)op->number[0]);
    cleanup_close int detached = shm_detached(size, label, op);
    cleanup_close int trial = detached < 0 ? -1 : tree_open(detached, "", (unsigned)AT_EMPTY_PATH);
    if (trial < 0)
        return shm_in_namespace(l, size, label, op);
    l->shm = steal(detached);
    return 0;
}

/* The clone from inside the namespace that holds it. */
static int
shm_visit(int shm)
{
    cleanup_close int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(shm, CLONE_NEWNS) < 0)
        return -1;
    int tree = tree_open(AT_FDCWD, "/", 0);
    return setns(home, CLONE_NEWNS) < 0 ? -1 : tree;
}

int
launch_shm(struct launch *l, const struct spec_op *op)
{
    struct mount_attr private = {.propagation = MS_PRIVATE};
    bool in_namespace = ioctl(l->shm, NS_GET_NSTYPE) == CLONE_NEWNS;
    cleanup_close int tree = in_namespace ? shm_visit(l->shm) : tree_open(l->shm, "", (unsigned)AT_EMPTY_PATH);
    if (tree < 0)
        return errno;
    cleanup_close int target = place(l, op_text(l, op, 0), true);
    if (target < 0)
        return -target;
    int errnum = tree_set(tree, &private, false);
    return errnum ? errnum : tree_attach(tree, target);
}

/* One empty read-only tmpfs a container: the first masked directory gets the mount, the others clones of it. */
static int
mask_directory(struct launch *l, const struct spec_op *op, int target)
{
    if (l->masked_dir < 0) {
        if (fchdir(target) < 0 || mount("tmpfs", ".", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, op_text(l, op, 1)) < 0)
            return errno;
        l->masked_dir = root_open(l, op_text(l, op, 0), O_PATH); /* `target` is what lies beneath */
        return l->masked_dir < 0 ? -l->masked_dir : 0;
    }
    cleanup_close int tree = tree_open(l->masked_dir, "", (unsigned)AT_EMPTY_PATH);
    return tree < 0 ? errno : tree_attach(tree, target);
}

/* What was taken can be cloned only once it is mounted (Linux before 6.15). */
static int
mask_file(struct launch *l, int target)
{
    if (l->null >= 0 && !l->null_placed) {
        l->null_placed = true;
        return tree_attach(l->null, target);
    }
    cleanup_close int tree = l->null >= 0 ? tree_open(l->null, "", (unsigned)AT_EMPTY_PATH) : tree_open(AT_FDCWD, "/dev/null", 0);
    return tree < 0 ? errno : tree_attach(tree, target);
}

int
launch_mask(struct launch *l, const struct spec_op *op)
{
    struct stat st;
    cleanup_close int target = root_open(l, op_text(l, op, 0), O_PATH);
    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR ? 0 : -target;
    if (fstat(target, &st) < 0)
        return errno;
    if (S_ISDIR(st.st_mode))
        return mask_directory(l, op, target);
    return mask_file(l, target);
}

int
launch_readonly(struct launch *l, const struct spec_op *op)
{
    struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
    cleanup_close int target = root_open(l, op_text(l, op, 0), O_PATH);
    if (target < 0)
        return target == -ENOENT || target == -ENOTDIR ? 0 : -target;
    if (op->number[0])
        return tree_set(target, &readonly, false);
    cleanup_close int tree = tree_open(target, "", (unsigned)AT_EMPTY_PATH | (unsigned)AT_RECURSIVE);
    if (tree < 0)
        return errno;
    int errnum = tree_set(tree, &readonly, true);
    return errnum ? errnum : tree_attach(tree, target);
}

int
launch_label(struct launch *l, const struct spec_op *op)
{
    char own[64];
    const char *label = op_text(l, op, 1);
    cleanup_close int target = root_open(l, op_text(l, op, 0), O_PATH);
    if (target < 0)
        return target == -ENOENT ? 0 : -target;
    (void)snprintf(own, sizeof own, "/proc/self/fd/%d", target);
    return failed(setxattr(own, XATTR_NAME_SELINUX, label, strlen(label) + 1, 0));
}

int
launch_pivot(struct launch *l, const struct spec_op *op)
{
    (void)op;
    if (fchdir(l->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return errno;
    /* "." is now the old root, mounted over the new one: pivot_root(2), "pivot_root(".", ".")". */
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return errno;
    return 0;
}

int
launch_root_readonly(struct launch *l, const struct spec_op *op)
{
    (void)l;
    (void)op;
    struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
    return failed(mount_setattr(AT_FDCWD, "/", 0, &readonly, sizeof readonly));
}

int
launch_pin_netns(struct launch *l, const struct spec_op *op)
{
    const char *path = op_text(l, op, 0);
    int fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0)
        return errno;
    (void)close(fd);
    int errnum = failed(mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL));
    if (errnum)
        (void)unlink(path);
    return errnum;
}
