/* Carrying out a launch spec (runtime/spec.h): a loop over its operations and a table of what each does. Runs in the monitor itself for a pod's spec
 * and in the cloned process for a container's or exec's. Nothing is allocated and no lock taken: the process was cloned from one with threads. For
 * the same reason changes of credentials are raw system calls; glibc's would wait for threads that the clone does not have.
 *
 * An operation returns 0 or an errno. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/spec_block.h"

enum { TAKEN_TREES_MAX = 64 };

struct launch {
    const struct spec *spec; /* a private, writable mapping */
    int channel;             /* to the monitor; -1 in the monitor itself */
    int init_pidfd;          /* of the container that an exec enters; -1 */
    int gate;                /* for SPEC_GATE; -1 */
    int shm;                 /* the pod's shm, as SPEC_POD_SHM made it; -1 */
    int userns;              /* the pod's user namespace, as SPEC_USERNS made it; -1 */
    int pid_ns;              /* for SPEC_ENTER: a namespace's fd or a pidfd; -1: none, or a new one */
    int pod_init_pidfd;      /* of the init that SPEC_USERNS left in a pid namespace; -1 */
    pid_t pod_init;          /* 0 */
    bool entered;            /* SPEC_ENTER was done */
    int root;                /* where the root file system is; SPEC_ROOT */
    bool armed;              /* it dies with the monitor from here on */
    int masked_dir;          /* an empty read-only tmpfs that masks directories; -1 before the first */
    int null;                /* the host's /dev/null, taken where it may be out of reach when SPEC_MASK wants it; -1 */
    bool null_placed;
    int taken_trees[TAKEN_TREES_MAX]; /* at SPEC_PROPAGATION, used in order */
    unsigned taken_count, taken_used;
};
#define LAUNCH_NONE \
    .channel = -1, .init_pidfd = -1, .gate = -1, .shm = -1, .userns = -1, .pid_ns = -1, .pod_init_pidfd = -1, .root = -1, .masked_dir = -1, .null = -1

/* What a launched process tells the monitor on its channel, one datagram each. REPORT_CONSOLE carries the terminal's master, REPORT_CLONED the pidfd
 * of the process that takes its place and is let go by one byte. A channel that closes without REPORT_FAILED says that the program has been executed.
 */
struct launch_report {
    enum { REPORT_WAITING = 1, REPORT_CONSOLE, REPORT_FAILED, REPORT_CLONED } kind;
    int32_t op; /* of REPORT_CLONED: the pid */
    int32_t errnum;
};

/* Map a spec's memfd and check it; NULL with *errnum. */
const struct spec *launch_map(int fd, size_t *size, int *errnum);

/* Carry out the operations; 0, or the errno of the one that failed with *failed_op. Returns only for specs without SPEC_EXEC, or on failure. */
int launch_run(struct launch *l, int *failed_op);

/* What the cloned process does from its first instruction: takes its stdio, closes all else, runs the spec, reports and ends where that fails. */
struct launch_child {
    int spec, channel, init_pidfd, gate, shm, userns, pid_ns;
    int stdio[3];
};
_Noreturn void launch_child(const struct launch_child *child);

/* Close all fds but 0–2 and those kept (any order, -1 is skipped). */
void launch_close_others(const int *kept, unsigned count);

/* launch_path.c: paths in the root. An fd (O_PATH) or -errno. */
int root_open(const struct launch *l, const char *path, int flags);
int root_mkdirs(const struct launch *l, const char *path, mode_t mode);
/* The place for a mount: what is there, else a directory or an empty file. */
int root_target(const struct launch *l, const char *path, bool directory);
/* The directory of a path's last component, made where missing, and that component. */
int root_parent(const struct launch *l, const char *path, const char **name);

/* launch_mount.c: a detached clone of what is mounted at `path` (an fd, or -1 with errno), and its mount onto an fd (0 or an errno). */
int tree_open(int dirfd, const char *path, unsigned flags);
int tree_attach(int tree, int target);

/* launch_self.c: stdio's pipes to their new owner; those of the root user cannot be opened again by another ("echo > /dev/stderr"). */
void give_pipes(uid_t uid);

/* launch_enter.c: into the pod's user namespace, as its root. 0 or an errno. */
int userns_join(const struct launch *l);

/* task.c: the life of a shared pid namespace's init. */
_Noreturn void pod_init_run(void);

/* What an operation returns for a system call's result. */
static inline int
failed(long result)
{
    return result < 0 ? errno : 0;
}

/* Less those errnos that an operation's SPEC_MAY_* flags forgive. */
static inline int
forgiven(int errnum, uint64_t may)
{
    bool fine = ((may & SPEC_MAY_EPERM) && (errnum == EPERM || errnum == EACCES)) || ((may & SPEC_MAY_ENOENT) && errnum == ENOENT);
    return fine ? 0 : errnum;
}

/* launch_mount.c, launch_make.c, launch_enter.c, launch_self.c: the operations. */
#define LAUNCH_OPS(OP)                           \
    OP(SPEC_WRITE, launch_write)                 \
    OP(SPEC_SYSCTL, launch_sysctl)               \
    OP(SPEC_UNSHARE, launch_unshare)             \
    OP(SPEC_SETNS, launch_setns)                 \
    OP(SPEC_HOSTNAME, launch_hostname)           \
    OP(SPEC_LINK_UP, launch_link_up)             \
    OP(SPEC_PIN_NETNS, launch_pin_netns)         \
    OP(SPEC_POD_SHM, launch_pod_shm)             \
    OP(SPEC_PROPAGATION, launch_propagation)     \
    OP(SPEC_OVERLAY, launch_overlay)             \
    OP(SPEC_ROOT, launch_root)                   \
    OP(SPEC_MOUNT, launch_mount)                 \
    OP(SPEC_BIND, launch_bind)                   \
    OP(SPEC_SHM, launch_shm)                     \
    OP(SPEC_MKDIR, launch_mkdir)                 \
    OP(SPEC_MKNOD, launch_mknod)                 \
    OP(SPEC_SYMLINK, launch_symlink)             \
    OP(SPEC_MASK, launch_mask)                   \
    OP(SPEC_READONLY, launch_readonly)           \
    OP(SPEC_PIVOT, launch_pivot)                 \
    OP(SPEC_ROOT_READONLY, launch_root_readonly) \
    OP(SPEC_CONSOLE, launch_console)             \
    OP(SPEC_RLIMIT, launch_rlimit)               \
    OP(SPEC_CHDIR, launch_chdir)                 \
    OP(SPEC_GROUPS, launch_groups)               \
    OP(SPEC_BOUNDING, launch_bounding)           \
    OP(SPEC_USER, launch_user)                   \
    OP(SPEC_CAPS, launch_caps)                   \
    OP(SPEC_NO_NEW_PRIVS, launch_no_new_privs)   \
    OP(SPEC_SECCOMP, launch_seccomp)             \
    OP(SPEC_UMASK, launch_umask)                 \
    OP(SPEC_WAIT, launch_wait)                   \
    OP(SPEC_EXEC, launch_exec)                   \
    OP(SPEC_KEYRING, launch_keyring)             \
    OP(SPEC_IMAGE, launch_image)                 \
    OP(SPEC_GATE, launch_gate)                   \
    OP(SPEC_LABEL, launch_label)                 \
    OP(SPEC_USERNS, launch_userns)               \
    OP(SPEC_IDMAP, launch_idmap)                 \
    OP(SPEC_FS_USER, launch_fs_user)             \
    OP(SPEC_ENTER, launch_enter)

#define LAUNCH_DECLARE(type, function) int function(struct launch *l, const struct spec_op *op);
LAUNCH_OPS(LAUNCH_DECLARE)
#undef LAUNCH_DECLARE

/* op's text i, where it must exist (spec_check saw to that). */
static inline const char *
op_text(const struct launch *l, const struct spec_op *op, unsigned i)
{
    return spec_text(l->spec, op, i);
}
