/* cgroups on this host, whatever their shape: unified (v2), v1, or hybrid (v1 hierarchies and the unified one beside them).
 *
 * A cgroup is a path ("/kubepods/burstable/pod1/ID") that is made in every hierarchy. Parents that crisp makes carry the xattr trusted.crisp, so that
 * a later crispd knows which ones may go with the last pod; the kubelet's are left alone. Killing, populated and events use the unified hierarchy
 * wherever there is one. Where controllers are is read from /proc/self/mountinfo, not assumed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/str.h"
#include "runtime/runtime.h"

enum { CGROUP_CPU_PERIOD_US = 100000 }; /* the kernel's default */

struct cgroup_hierarchy {
    char *mount_point;       /* "/sys/fs/cgroup/memory" */
    char *name;              /* its last component, "memory"; what a container sees it as */
    char *options;           /* to mount it again: "memory", "cpu,cpuacct", "none,name=systemd"; unified: "" */
    struct strv controllers; /* of the unified one: those not bound to a v1 hierarchy */
    bool unified;
    int root; /* fd of mount_point */
};

/* Filled by cgroups_open, read-only after. */
struct cgroups {
    struct cgroup_hierarchy *list;
    size_t count;
    int unified;       /* index, or -1 */
    struct strv links; /* alternately: a container's /sys/fs/cgroup/NAME and what it points to, for co-mounted controllers ("cpu" → "cpu,cpuacct") */
};

int cgroups_open(struct cgroups *cgroups, struct error *err);
void cgroups_close(struct cgroups *cgroups);
bool cgroups_only_unified(const struct cgroups *cgroups);
/* The hierarchy that has a controller, NULL when the host has none. */
const struct cgroup_hierarchy *cgroups_of(const struct cgroups *cgroups, const char *controller);

/* Absolute and clean: "" → fallback, a missing leading slash is added; ERR_INVALID for `.` and `..` components. Caller frees. */
char *cgroup_path(const char *path, const char *fallback, struct error *err);

/* Make sure that `path` exists in each hierarchy and that its children can have all controllers; what is missing is made and marked as crisp's. */
int cgroup_claim_parent(const struct cgroups *cgroups, const char *path, struct error *err);
/* Give `path` and its ancestors back: those that crisp made and that are empty are removed. */
void cgroup_release_parent(const struct cgroups *cgroups, const char *path);
/* Remove `path` itself where it is empty, marked or not: for the parent that the configuration names, of which a crispd that was killed between
 * making and marking left some. */
void cgroup_remove_own_parent(const struct cgroups *cgroups, const char *path);
/* Whether nothing that crisp made is at `path` any more. */
bool cgroup_parent_is_released(const struct cgroups *cgroups, const char *path);

/* Make a container's cgroup below an existing parent, in each hierarchy where it is not yet. On failure none is left that no process is in. */
int cgroup_make(const struct cgroups *cgroups, const char *path, struct error *err);
/* Only where it is needed before its first process is there: in the unified hierarchy, to be cloned into, and in memory's, whose oom file is opened
 * first. */
int cgroup_make_first(const struct cgroups *cgroups, const char *path, struct error *err);
/* Make a child of `path` for killing an exec as a whole: in the unified hierarchy, or, on a host without one, nowhere. Returns an fd, -1 with errnum
 * ENOENT where there is none. */
int cgroup_make_child(const struct cgroups *cgroups, const char *path, const char *name, struct error *err);
void cgroup_remove_child(const struct cgroups *cgroups, const char *path, const char *name);
/* Remove it with what is below it. 0 gone, 1 busy: processes are still leaving, try again. */
int cgroup_remove(const struct cgroups *cgroups, const char *path);
/* An fd of it in the unified hierarchy, or -1 (also where there is none: then errnum is ENOENT). */
int cgroup_open_unified(const struct cgroups *cgroups, const char *path, struct error *err);
/* An fd of it in the hierarchy that has `controller`. */
int cgroup_open_controller(const struct cgroups *cgroups, const char *path, const char *controller, struct error *err);
/* The absolute path of a file of it ("memory.events") where `controller` is; caller frees; NULL where the host has no such controller. */
char *cgroup_file(const struct cgroups *cgroups, const char *path, const char *controller, const char *file);

/* SIGKILL to everything in it and below. Gone or empty is fine. */
int cgroup_kill(const struct cgroups *cgroups, const char *path, struct error *err);
/* oom_score_adj of every process in it; lowering it without CAP_SYS_RESOURCE leaves it as it is. */
void cgroup_set_oom_score(const struct cgroups *cgroups, const char *path, int64_t score);
/* Whether any process is in it or below; false when it is gone. */
bool cgroup_populated(const struct cgroups *cgroups, const char *path);
/* Names of the children of `path` in the unified (else the first) hierarchy, for finding what a dead crispd left. */
void cgroup_children(const struct cgroups *cgroups, const char *path, struct strv *names);
/* The same of every hierarchy, a name as often as it is found: who was killed while making or removing a cgroup leaves it in some. */
void cgroup_children_anywhere(const struct cgroups *cgroups, const char *path, struct strv *names);

/* runtime/cgroup_resources.c: write the limits that are given. ERR_INVALID with the file and value where the kernel refuses one. */
int cgroup_apply(const struct cgroups *cgroups, const char *path, const struct resources *resources, struct error *err);
/* The same for one in use: where a limit is refused those written before are as they were. The oom score goes to every process in it. */
int cgroup_update(const struct cgroups *cgroups, const char *path, const struct resources *resources, struct error *err);
/* cpu.weight of v2 for CRI's shares. */
int64_t cgroup_weight(int64_t shares);
int cgroup_limit_pids(const struct cgroups *cgroups, const char *path, int64_t limit, struct error *err);

/* One rule of what devices may be used; major or minor -1: any. */
struct device_rule {
    char type; /* 'c', 'b' */
    int64_t major, minor;
    char access[4]; /* of "rwm" */
};
/* runtime/cgroup_devices.c: allow these and deny all else (v1: the devices hierarchy; v2: a BPF program). */
int cgroup_allow_devices(const struct cgroups *cgroups, const char *path, const struct device_rule *rules, size_t count, struct error *err);
