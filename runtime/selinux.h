/* SELinux labels: of processes, of what is mounted for them, of volumes.
 *
 * A container's files have one label, its processes another, and both the level of its pod: two categories that no other pod on the node has. What
 * of it the request leaves open is the node's policy's: its lxc_contexts, as for every container runtime. A process enters its label with the
 * execution of its program; so do its execs. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "runtime/runtime.h"

/* Is it in charge on this node? */
bool selinux_enabled(void);

/* Does the request ask for any label? */
bool selinux_asked(const struct selinux_options *options);
/* ERR_INVALID where a part could be none of a label. */
int selinux_check(const struct selinux_options *options, struct error *err);

/* Two categories, by chance: "s0:c12,c345". Caller frees. */
char *selinux_new_level(void);

/* The labels of a container: `process` "" where SELinux is not in charge, `files` "" where nobody asks for one either. What its own options leave
 * open is as the pod's. Caller frees both, also after a failure. ERR_INVALID where the node's policy does not know what was asked for; where it does
 * not know containers at all, and nobody asked for a label, there is none. */
int selinux_labels(const struct container_config *config, const struct pod_config *pod, char **process, char **files, struct error *err);
/* The label of what the pod's containers share; "" where SELinux is not in charge. Caller frees. */
char *selinux_pod_label(const struct pod_config *pod);

/* Give `path` and all below it the label. The top is last: where it has the label already nothing is looked at, so what was broken off goes on where
 * it was. Neither symlinks nor mounts below are followed. A file system without labels is left as it is; ERR_INVALID for the node's own directories.
 */
int selinux_relabel(const char *path, const char *label, struct error *err);
