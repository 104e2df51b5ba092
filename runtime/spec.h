/* The launch spec: everything a process needs to become what it shall be, compiled by crispd into one flat list of operations, carried out in order
 * by crisp-monitor or by a child it cloned (runtime/monitor/launch.c). Between clone and exec there is only the loop over the operations: no
 * allocation, no parsing, no lock, no decision that crispd could have made.
 *
 * A spec is one block of memory without pointers (strings and lists are offsets), so it travels as a sealed memfd and is checked as a whole once
 * (spec_check) before anything of it is carried out. An operation that fails is named by its number; spec_explain makes the words.
 *
 * Three kinds of spec use the same operations: a pod's (carried out by the monitor itself, once), a container's (by its init), an exec's. A
 * container's init is cloned with the pid namespace and the unified cgroup that link_create names and nothing else; its spec unshares the mount
 * namespace and mounts the root while crispd makes the v1 cgroups, then joins these and unshares the cgroup namespace. Where others are in the pid
 * namespace, or the pod has a user namespace, what is cloned is not the init yet: it stays outside, privileged, makes the root file system, and
 * clones the init (SPEC_ENTER), which mounts what belongs to its namespaces. Without an operation every container and exec gets: a session of its
 * own, no signal blocked or ignored, no fd but 0–2, SIGKILL when the monitor dies.
 *
 * Paths "in the root": resolved with openat2 RESOLVE_IN_ROOT beneath the root file system that SPEC_ROOT opened, so neither `..` nor a symlink leaves
 * it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum { SPEC_VERSION = 1, SPEC_SIZE_MAX = 4 << 20, SPEC_OPS_MAX = 4096 };

/* clang-format off */
enum spec_op_type {
    /* what                text[]                     number[] (list)              and how */
    SPEC_WRITE,         /* path, text                 SPEC_MAY_*                   write(2) into an existing file of the host */
    SPEC_SYSCTL,        /* name, value                                             /proc/sys, '.' as '/' */
    SPEC_UNSHARE,       /*                            CLONE_NEW*                   */
    SPEC_SETNS,         /*                            CLONE_NEW*, uid              of the container an exec is for, and its pid namespace: what follows
                                                                                   is done by a child, which is the first to be seen in there; where
                                                                                   the pod has a user namespace that too, stdio pipes become the uid's */
    SPEC_HOSTNAME,      /* name                                                    */
    SPEC_LINK_UP,       /* interface                                               "lo" */
    SPEC_PIN_NETNS,     /* path                                                    bind /proc/self/ns/net onto a new file there */
    SPEC_POD_SHM,       /* SELinux label (or none)    bytes, uid, gid              of a pod: its tmpfs for SPEC_SHM, not in the host's mount table */
    SPEC_PROPAGATION,   /* path                       MS_SLAVE|MS_REC …            first takes the trees of later SPEC_BINDs with MS_SHARED, so that
                                                                                   they stay peers of the host's mounts */
    SPEC_OVERLAY,       /* directory, target, options MS_*                         chdir there, mount overlay at target: lowerdir names are relative */
    SPEC_ROOT,          /* path                                                    the root file system from here on */
    SPEC_MOUNT,         /* source, target, fstype, data   MS_*, SPEC_MAY_*         new file system, target in the root, made where missing */
    SPEC_BIND,          /* source (host), target,     SPEC_BIND_*, MS_* propagation   detached tree, target in the root, made where missing as what the
                           uid map, gid map                                        source is; neither this nor SPEC_MOUNT follows a symlink onto procfs */
    SPEC_SHM,           /* target                                                  the pod's SPEC_POD_SHM; made where missing */
    SPEC_MKDIR,         /* path in root               mode                         with parents; existing is fine */
    SPEC_MKNOD,         /* path in root               mode, dev, uid, gid          where mknod is denied (user namespace) the host's node is bound */
    SPEC_SYMLINK,       /* path in root, target                                    existing is fine */
    SPEC_MASK,          /* path in root, tmpfs options (or none)                   /dev/null over a file, empty read-only tmpfs over a directory; missing is fine */
    SPEC_READONLY,      /* path in root               1 = the mount that is there  bind over itself, read-only; missing is fine */
    SPEC_PIVOT,         /*                                                         pivot_root into the root, old root detached */
    SPEC_ROOT_READONLY, /*                                                         after SPEC_PIVOT */
    SPEC_CONSOLE,       /*                            uid                          open the container's ptmx, master to the monitor, slave → stdio, /dev/console */
    SPEC_RLIMIT,        /*                            resource, soft, hard         clamped to what is allowed (EPERM is no error) */
    SPEC_CHDIR,         /* path                       1 = make it, uid, gid        checked to be inside the root (CVE-2024-21626) */
    SPEC_GROUPS,        /*                            count (uint32_t gids)        setgroups */
    SPEC_BOUNDING,      /*                            mask to keep                 */
    SPEC_USER,          /*                            uid, gid                     keeps capabilities over the change; stdio pipes become the uid's */
    SPEC_CAPS,          /*                            effective, permitted, inheritable, ambient masks */
    SPEC_NO_NEW_PRIVS,  /*                                                         */
    SPEC_SECCOMP,       /*                            SECCOMP_FILTER_FLAG_* (sock_filter program)   directly before SPEC_EXEC; needs NO_NEW_PRIVS or
                                                                                   CAP_SYS_ADMIN */
    SPEC_UMASK,         /*                            mask                         */
    SPEC_WAIT,          /*                                                         "created": report to the monitor, wait for its go */
    SPEC_EXEC,          /*                            (argv, envp: spec_exec)      looked up in the spec's PATH where argv[0] has no '/'; always last */
    SPEC_KEYRING,       /* name                                                    a session keyring of that name, made or joined; before SPEC_USER */
    SPEC_IMAGE,         /* directory, target, options, sub path   SPEC_BIND_*      overlay as SPEC_OVERLAY, read-only; what is at the sub path in it (""
                                                                                   or none: all) is mounted as SPEC_BIND does */
    SPEC_GATE,          /*                                                         wait until crispd has made what it makes meanwhile: link_create's */
    SPEC_LABEL,         /* path in root, SELinux label                             of what takes none as it is mounted; missing is fine */
    SPEC_USERNS,        /* uid map, gid map           CLONE_NEW*                   of a pod: a user namespace and others that it owns; the monitor enters
                                                                                   these but pid, where the init of a shared one stays */
    SPEC_IDMAP,         /* path                                                    the directory is seen with the ids of the pod's user namespace */
    SPEC_FS_USER,       /*                            uid, gid                     of the files made from here on; capabilities stay */
    SPEC_ENTER,         /*                            CLONE_NEW*, uid              a child does the rest, in the pod's user namespace, in the pid namespace
                                                                                   it shall be in and in these, with the container's mounts copied; the
                                                                                   monitor adopts it; stdio pipes become the (outer) uid's */
    SPEC_OP_COUNT,
};
/* clang-format on */

enum {
    SPEC_MAY_EPERM = 1, /* EPERM/EACCES is no failure (lowering oom_score_adj without CAP_SYS_RESOURCE) */
    SPEC_MAY_ENOENT = 2,
    SPEC_BIND_READONLY = 1,
    SPEC_BIND_RECURSIVE = 2,
    SPEC_BIND_READONLY_RECURSIVE = 4,
    SPEC_BIND_NOSUID = 16,
    SPEC_BIND_NODEV = 32,
    SPEC_BIND_NOEXEC = 64,
    SPEC_BIND_IDMAP = 128, /* by its maps; without any by the pod's user namespace */
};

/* Building, in crispd. A builder grows; nothing fails before spec_finish. Strings are copied. */
struct spec_builder;

struct spec_builder *spec_new(void);
void spec_free(struct spec_builder *b);

/* One call an operation; unused texts NULL, unused numbers left out. */
struct spec_args {
    const char *text[4];
    uint64_t number[4];
    const void *list; /* SPEC_GROUPS, SPEC_SECCOMP */
    size_t list_bytes;
};
void spec_add(struct spec_builder *b, enum spec_op_type type, struct spec_args args);
#define spec_op(b, type, ...) spec_add((b), (type), (struct spec_args){__VA_ARGS__})
/* SPEC_EXEC. */
void spec_exec(struct spec_builder *b, const struct strv *argv, const struct strv *envp);

/* The finished spec as a sealed memfd (caller closes). ERR_EXHAUSTED beyond SPEC_SIZE_MAX or SPEC_OPS_MAX. */
int spec_finish(struct spec_builder *b, struct error *err);

/* In words, one operation a line, for people and tests ("mount proc at /proc nosuid,nodev,noexec"). Caller frees. */
char *spec_dump(const struct spec_builder *b);
/* "mount /srv/data at /data" for operation `n`, for an error the monitor reported; caller frees. */
char *spec_explain(const struct spec_builder *b, size_t n);
/* What kind operation `n` is; SPEC_OP_COUNT where there is none. */
enum spec_op_type spec_type(const struct spec_builder *b, size_t n);

/* Reading, in the monitor: no allocation. `memory` is the mapped memfd. */
struct spec; /* the block itself */
/* The spec if every offset, count and type in it is sound; NULL otherwise. */
const struct spec *spec_check(const void *memory, size_t size);
