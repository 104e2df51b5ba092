/* Devices of a container: those everybody has, those requested, all of the host's for privileged ones. Each gives a node in /dev and a rule of what
 * may be used. */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "runtime/cgroup.h"

struct device_node {
    char *path;  /* in the container */
    mode_t mode; /* with type */
    dev_t dev;
    uid_t uid;
    gid_t gid;
};

struct devices {
    struct device_node *nodes;
    size_t node_count;
    struct device_rule *rules; /* empty: everything (privileged) */
    size_t rule_count;
};

/* ERR_INVALID where a requested device is not there or is none. A requested directory means all devices in it. `host_too`: a privileged container has
 * all of the host's. */
int devices_resolve(const struct container_config *config, bool host_too, struct devices *out, struct error *err);
void devices_free(struct devices *devices);
