#include "runtime/sysctl.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { NET, IPC };

/* A name, or a beginning where it ends in a dot; ipc_namespaces(7), network_namespaces(7). */
static const struct namespaced {
    const char *name;
    int namespace;
} namespaced[] = {
    {"net.", NET},       {"fs.mqueue.", IPC},    {"kernel.msgmax", IPC}, {"kernel.msgmnb", IPC}, {"kernel.msgmni", IPC},
    {"kernel.sem", IPC}, {"kernel.shmall", IPC}, {"kernel.shmmax", IPC}, {"kernel.shmmni", IPC}, {"kernel.shm_rmid_forced", IPC},
};

/* sysctl(8) takes slashes as well: "net/ipv4/conf/eth0.1/forwarding"; the first separator tells which one it is. */
static char *
dotted(const char *name)
{
    char *copy = str_dup(name);
    if (copy[strcspn(copy, "./")] == '/')
        for (char *at = copy; *at; at++)
            *at = *at == '/' ? '.' : *at == '.' ? '/' : *at;
    return copy;
}

static const struct namespaced *
find(const char *name)
{
    cleanup_free char *canonical = dotted(name);
    for (size_t i = 0; i < sizeof namespaced / sizeof *namespaced; i++)
        if (str_ends(namespaced[i].name, ".") ? str_starts(canonical, namespaced[i].name) : str_eq(canonical, namespaced[i].name))
            return &namespaced[i];
    return NULL;
}

int
sysctl_check(const struct pod_config *config, struct error *err)
{
    for (size_t i = 0; i < config->sysctls.count; i++) {
        const char *name = config->sysctls.entries[i].key;
        const struct namespaced *known = find(name);
        if (!known || strstr(name, "..") || strstr(name, "//"))
            return error_set(err, ERR_INVALID, "sysctl %s: it belongs to the node, not to a namespace of the pod", name);
        enum namespace_mode mode = known->namespace == NET ? config->network : config->ipc;
        if (mode == NAMESPACE_NODE)
            return error_set(err, ERR_INVALID, "sysctl %s: the pod uses the node's %s namespace", name, known->namespace == NET ? "network" : "IPC");
    }
    return 0;
}

static void
set_default(const struct pod_config *config, struct strmap *out, const char *name, const char *value)
{
    for (size_t i = 0; i < config->sysctls.count; i++) {
        cleanup_free char *given = dotted(config->sysctls.entries[i].key);
        if (str_eq(given, name))
            return;
    }
    strmap_set(out, name, value);
}

/* From 0 to the last of its range; without a user namespace to the last that the kernel takes. */
static char *
all_groups(const struct pod_config *config)
{
    int64_t last = INT32_MAX;
    const struct id_maps *maps = &config->userns;
    for (size_t i = 0; i < maps->gid_count; i++)
        if (maps->gids[i].container_id == 0 && maps->gids[i].length <= INT32_MAX)
            last = (int64_t)maps->gids[i].length - 1;
    return str_printf("0 %lld", (long long)last);
}

void
sysctl_defaults(const struct pod_config *config, const struct runtime_options *options, struct strmap *out)
{
    if (config->network == NAMESPACE_NODE)
        return;
    if (options->unprivileged_ports)
        set_default(config, out, "net.ipv4.ip_unprivileged_port_start", "0");
    if (options->unprivileged_ping) {
        cleanup_free char *groups = all_groups(config);
        set_default(config, out, "net.ipv4.ping_group_range", groups);
    }
}
