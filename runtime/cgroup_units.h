/* Cgroups as units of systemd, for cgroup driver "systemd": a container's is a scope, "crisp-ID.scope", in the slice that is its pod's. The path in
 * the cgroup file system says all: the last component is the unit. systemd makes it, gives it the controllers, and removes it when it is empty; what
 * it has no property for is written to the files as ever, and what it has one for as well, so that both say the same. A cgroup that an earlier crispd
 * made without systemd stays as it is. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "runtime/cgroup.h"
#include "runtime/systemd.h"

/* "a-b.slice", or a path that ends so, → "/a.slice/a-b.slice". ERR_INVALID for what is no slice. Caller frees. */
char *slice_path(const char *slice, struct error *err);
/* The slice of one pod in another: "/a.slice" → "/a.slice/a-ID.slice". */
char *slice_below(const char *path, const char *id);
/* "PARENT/crisp-ID.scope". */
char *scope_path(const char *parent, const char *id);
/* The id of the container whose cgroup that is, of either driver: the last component, without what makes it a scope's name. Caller frees. */
char *cgroup_container_id(const char *path);

/* Start a slice, those above it first, marking as crisp's those that were not there. */
int slice_start(struct systemd *systemd, const struct cgroups *cgroups, const char *path, struct error *err);
/* End it and those above it that crisp started and that are empty. */
void slice_release(struct systemd *systemd, const struct cgroups *cgroups, const char *path);
/* Start a scope with `pid` in it, which must live until the first process of its own is there. */
int scope_start(struct systemd *systemd, const struct cgroups *cgroups, const char *path, pid_t pid, const struct resources *resources,
                int64_t pids_limit, const struct device_rule *rules, size_t rule_count, struct error *err);
/* Set limits of a cgroup in use, those that were before staying where one is refused (cgroup_update), and tell systemd of them where it has the unit
 * (else NULL), so that it never sets others. */
int cgroup_limit(const struct cgroups *cgroups, struct systemd *systemd, const char *path, const struct resources *resources, struct error *err);
/* End a scope that is empty, so that nothing of it is left. */
void scope_stop(struct systemd *systemd, const char *path);
