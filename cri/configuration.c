#include "cri/configuration.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "imageservice/trust.h"
#include "runtime/network/network.h"
#include "runtime/runtime.h"
#include "runtime/seccomp.h"

/* clang-format off */
#define HANDLER(member) offsetof(struct runtime_handler, member)
static const struct config_key handler_keys[] = {
    {"runtimes.NAME", "cgroup_parent", CONFIG_STRING, HANDLER(cgroup_parent), "", 0, 0, NULL,
     "Parent cgroup of its pods whose request names none; empty: `cgroup.pods`.", NULL},
    {"runtimes.NAME", "pids", CONFIG_INTEGER, HANDLER(pids_limit), "-1", -1, 4194304, NULL,
     "Processes and threads a container may have; 0: no limit of its own; -1: `limits.pids`.", NULL},
    {"runtimes.NAME", "seccomp_unset", CONFIG_STRING, HANDLER(seccomp_unset), "", 0, 0, NULL,
     "Seccomp profile of containers whose request names none; empty: `security.seccomp_unset`.", NULL},
    {"runtimes.NAME", "privileged_without_host_devices", CONFIG_BOOLEAN, HANDLER(privileged_without_host_devices), "false", 0, 0, NULL,
     "A privileged container has the usual devices and those it asks for, not all of the host's.", NULL},
};
static const struct config_keys handlers = {handler_keys, sizeof handler_keys / sizeof *handler_keys, sizeof(struct runtime_handler)};

#define RULE(member) offsetof(struct trust_rule, member)
static const struct config_key trust_keys[] = {
    {"trust.NAME", "scope", CONFIG_STRING, RULE(scope), "*", 0, 0, NULL,
     "Registry or repository whose images the rule is for, with all below it; \"*\": any. The longest scope holds.", NULL},
    {"trust.NAME", "namespaces", CONFIG_STRINGS, RULE(namespaces), NULL, 0, 0, NULL,
     "Namespaces of the pods it is for; empty: all. Of two rules of one scope that holds which names the pod's.", NULL},
    {"trust.NAME", "policy", CONFIG_STRING, RULE(policy), "signed", 0, 0, "accept reject signed",
     "\"accept\": without looking for a signature. \"reject\": never. \"signed\": with a signature by one of the keys.", NULL},
    {"trust.NAME", "keys", CONFIG_STRINGS, RULE(keys), NULL, 0, 0, NULL,
     "Files with public keys (PEM, one each), of which one must have signed the image as cosign does.", NULL},
};
static const struct config_keys trust = {trust_keys, sizeof trust_keys / sizeof *trust_keys, sizeof(struct trust_rule)};

#define FIELD(member) offsetof(struct configuration, member)
#define STRING(table, name, member, fallback, help) {table, name, CONFIG_STRING, FIELD(member), fallback, 0, 0, NULL, help, NULL}
#define CHOICE(table, name, member, fallback, values, help) {table, name, CONFIG_STRING, FIELD(member), fallback, 0, 0, values, help, NULL}
#define PATH(table, name, member, fallback, help) {table, name, CONFIG_PATH, FIELD(member), fallback, 0, 0, NULL, help, NULL}
#define LIST(table, name, member, fallback, help) {table, name, CONFIG_STRINGS, FIELD(member), fallback, 0, 0, NULL, help, NULL}
#define NUMBER(table, name, member, fallback, least, most, help) {table, name, CONFIG_INTEGER, FIELD(member), fallback, least, most, NULL, help, NULL}
#define SWITCH(table, name, member, fallback, help) {table, name, CONFIG_BOOLEAN, FIELD(member), fallback, 0, 0, NULL, help, NULL}

const struct config_key configuration_keys[] = {
    PATH("", "root", root, "/var/lib/crisp",
         "What survives a reboot: images, layers, the records of pods and containers."),
    PATH("", "state", state, "/run/crisp",
         "What does not: sockets, the lock, network namespaces."),
    PATH("", "socket", socket, "/run/crisp/crisp.sock",
         "Where CRI is served."),
    CHOICE("", "log_level", log_level, "info", "debug info warn error",
         "The least important log lines that are written."),
    PATH("", "monitor_program", monitor_program, "",
         "Path of crisp-monitor; empty: beside crispd, else in libexec/crisp."),
    PATH("", "pull_program", pull_program, "",
         "Path of crisp-pull; empty: beside crispd, else in libexec/crisp."),

    CHOICE("network", "mode", network.mode, "cni", "cni builtin",
         "\"cni\": plugins found as below. \"builtin\": crisp's own bridge, for a machine without CNI."),
    PATH("network", "cni_config_dir", network.cni_config_dir, "/etc/cni/net.d",
         "Where CNI configurations lie; the first by name is used."),
    LIST("network", "cni_plugin_dirs", network.cni_plugin_dirs, "/opt/cni/bin /usr/lib/cni",
         "Where CNI plugins are looked for, in this order."),
    NUMBER("network", "cni_timeout_seconds", network.cni_timeout_seconds, "60", 1, 3600,
         "How long one CNI plugin may take; its process group is killed then."),
    STRING("network", "bridge", network.bridge, "crisp0",
         "Name of the built-in network's bridge."),
    LIST("network", "pools", network.pools, "10.88.0.0/16 fd00:88::/64",
         "Address pools of the built-in network, at most one a family; the first address of each is the bridge's."),
    NUMBER("network", "mtu", network.mtu, "0", 0, 65535,
         "MTU of the built-in network; 0: the uplink's."),
    SWITCH("network", "unprivileged_ports", network.unprivileged_ports, "true",
         "Whether every user in a pod with a network of its own may listen on ports below 1024."),
    SWITCH("network", "unprivileged_ping", network.unprivileged_ping, "true",
         "Whether every group in such a pod may ping."),

    NUMBER("limits", "calls", limits.calls, "1024", 16, 16384,
         "How many calls that take time (pulls, execs, stops) may be under way at once; one more is answered RESOURCE_EXHAUSTED."),
    NUMBER("limits", "nofile_soft", limits.nofile_soft, "1024", 1, 1073741816,
         "Open files a process in a container may have before it raises the limit itself."),
    NUMBER("limits", "nofile_hard", limits.nofile_hard, "524288", 1, 1073741816,
         "How far it may raise it; clamped to what the machine allows."),
    NUMBER("limits", "pids", limits.pids, "0", 0, 4194304,
         "Processes and threads a container may have; 0: no limit of its own."),
    NUMBER("limits", "log_bytes_per_second", limits.log_bytes_per_second, "0", 0, INT64_C(1) << 40,
         "How fast a container may log before it is slowed down; 0: no limit."),

    CHOICE("log", "mode", log.mode, "blocking", "blocking nonblocking",
           "What becomes of a container whose log is slow, stuck or on a full disk: it waits and nothing is lost, or it goes on and loses what its buffer "
           "does not hold; its log then says how many bytes."),
    NUMBER("log", "buffer_bytes", log.buffer_bytes, "1048576", 131072, 1 << 30,
           "Size of that buffer, of each nonblocking container; its memory is the monitor's, and only taken as it is needed."),

    STRING("security", "seccomp_unset", security.seccomp_unset, "unconfined",
           "Seccomp profile of containers whose request names none: \"unconfined\" (as CRI has it), \"runtime/default\" or \"localhost/PATH\"."),

    LIST("security", "masked_paths", security.masked_paths,
         "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list "
         "/proc/timer_stats /sys/devices/virtual/powercap /sys/firmware",
         "What a container does not see if its request names neither masked nor read-only paths, and its pod has no user namespace "
         "(a kubelet names none for `procMount: Unmasked`, which wants one)."),
    LIST("security", "readonly_paths", security.readonly_paths, "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger",
         "What such a container cannot write to."),
    LIST("security", "cdi_dirs", security.cdi_dirs, "/etc/cdi /var/run/cdi",
         "Where files that describe CDI devices are; what is in a later directory holds."),

    STRING("streaming", "address", streaming.address, "127.0.0.1",
         "IP address on which exec, attach and port-forward are served; the kubelet connects to it."),
    NUMBER("streaming", "port", streaming.port, "0", 0, 65535,
         "And the port; 0: any."),
    PATH("streaming", "tls_cert", streaming.tls_cert, "",
         "Certificate (PEM, with its chain) with which they are served by TLS; empty: without."),
    PATH("streaming", "tls_key", streaming.tls_key, "",
         "And its private key (PEM)."),
    NUMBER("streaming", "idle_timeout_seconds", streaming.idle_timeout_seconds, "14400", 1, 31536000,
         "How long a session may be without a byte in either direction before it is ended."),
    NUMBER("streaming", "sessions", streaming.sessions, "1024", 1, 16384,
         "How many sessions may be open at once."),

    CHOICE("cgroup", "driver", cgroup.driver, "cgroupfs", "cgroupfs systemd",
           "Who makes the cgroups of containers: crispd itself, or systemd as scopes; the kubelet's `cgroupDriver` must say the same, and asks crispd for it."),
    STRING("cgroup", "pods", cgroup.pods, "",
           "Parent cgroup of pods whose request names none; empty: `/crisp`, with driver systemd the slice `crisp.slice`."),
    PATH("cgroup", "monitors", cgroup.monitors, "/crisp-monitors",
         "Parent cgroup of the monitors; outside crispd's own service, so that they outlive it."),

    LIST("images", "certs_dirs", images.certs_dirs, "/etc/crisp/certs.d /etc/containerd/certs.d /etc/docker/certs.d",
         "Where HOST/hosts.toml is looked for (mirrors, certificates), or Docker's HOST/ca.crt, client.cert, client.key, in this order."),
    NUMBER("images", "parallel_downloads", images.parallel_downloads, "8", 1, 16,
         "Blobs downloaded at once, of all pulls."),
    NUMBER("images", "parallel_downloads_per_pull", images.parallel_downloads_per_pull, "4", 1, 16,
         "And of one pull."),
    NUMBER("images", "stall_seconds", images.stall_seconds, "60", 1, 86400,
         "A transfer that brings too little in such a time is broken off, and goes on at the next mirror or by a new connection."),
    NUMBER("images", "least_bytes_per_second", images.least_bytes_per_second, "1024", 0, 1 << 30,
         "What is too little; 0: nothing is. Time spent waiting for the disk does not count."),
    LIST("images", "pinned", images.pinned, NULL,
         "Images that the kubelet's garbage collection shall leave."),
    PATH("images", "import_dir", images.import_dir, "",
         "A directory of image archives (docker save's, OCI; also gzip or zstd) that crispd imports when it starts, each once unless it changes; empty: none."),
    SWITCH("images", "keep_layer_blobs", images.keep_layer_blobs, "false",
         "Keep compressed layers after they were unpacked."),

    {"", "trust", CONFIG_TABLES, FIELD(trust), NULL, 0, 0, NULL,
     "A rule that says whose images are taken; images that no rule is for are.", &trust},
    {"", "runtimes", CONFIG_TABLES, FIELD(runtimes), NULL, 0, 0, NULL,
     "A runtime handler that pods can name (RuntimeClass), with defaults of its own.", &handlers},
};
/* clang-format on */
const size_t configuration_key_count = sizeof configuration_keys / sizeof *configuration_keys;

static char *
own_directory(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    char *slash = length > 0 ? memrchr(path, '/', (size_t)length) : NULL;
    return slash ? str_ndup(path, (size_t)(slash - path)) : str_dup(".");
}

static void
find_program(char **path, const char *name)
{
    if (!str_empty(*path))
        return;
    cleanup_free char *here = own_directory();
    char *beside = str_printf("%s/%s", here, name);
    if (access(beside, X_OK) < 0) {
        free(beside);
        beside = str_printf("%s/%s", CRISP_LIBEXEC_DIR, name);
    }
    free(*path);
    *path = beside;
}

static int
check_absolute(const char *key, const struct strv *paths, struct error *err)
{
    for (size_t i = 0; i < paths->count; i++)
        if (paths->items[i][0] != '/')
            return error_set(err, ERR_INVALID, "%s: \"%s\" is not an absolute path", key, paths->items[i]);
    return 0;
}

static int
check_handlers(const struct config_tables *runtimes, struct error *err)
{
    const struct runtime_handler *list = runtimes->items;
    for (size_t i = 0; i < runtimes->count; i++) {
        const char *name = list[i].name;
        size_t length = strlen(name);
        if (length == 0 || length > 63 || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] || *name == '-' || name[length - 1] == '-')
            return error_set(err, ERR_INVALID, "runtimes: \"%.100s\" is no name of a runtime handler: small letters, digits and - only", name);
        if (!str_empty(list[i].seccomp_unset) && seccomp_check(list[i].seccomp_unset, err) < 0)
            return error_prefix(err, "runtimes.%s.seccomp_unset", name);
    }
    return 0;
}

static int
check_trust(const struct config_tables *rules, struct error *err)
{
    cleanup_trust struct trust loaded = {0};
    const struct trust_rule *list = rules->items;
    for (size_t i = 0; i < rules->count; i++)
        if (check_absolute("keys", &list[i].keys, err) < 0)
            return error_prefix(err, "trust.%s", list[i].name);
    return trust_load(list, rules->count, &loaded, err);
}

static int
check(const struct configuration *c, struct error *err)
{
    TRY(check_trust(&c->trust, err));
    TRY(check_handlers(&c->runtimes, err));
    if (c->limits.nofile_soft > c->limits.nofile_hard)
        return error_set(err, ERR_INVALID, "limits.nofile_soft (%lld) is more than limits.nofile_hard (%lld)", (long long)c->limits.nofile_soft,
                         (long long)c->limits.nofile_hard);
    if (!network_bridge_name_valid(c->network.bridge))
        return error_set(err, ERR_INVALID, "network.bridge: \"%s\" is no name of an interface", c->network.bridge);
    if (seccomp_check(c->security.seccomp_unset, err) < 0)
        return error_prefix(err, "security.seccomp_unset");
    if (str_empty(c->streaming.tls_cert) != str_empty(c->streaming.tls_key))
        return error_set(err, ERR_INVALID, "streaming.tls_cert and streaming.tls_key go together: one of them is empty");
    bool needs_pools = str_eq(c->network.mode, "builtin") || c->network.pools.count > 0;
    if (needs_pools && network_pools_check(&c->network.pools, err) < 0)
        return error_prefix(err, "network.pools");
    TRY(check_absolute("network.cni_plugin_dirs", &c->network.cni_plugin_dirs, err));
    TRY(check_absolute("images.certs_dirs", &c->images.certs_dirs, err));
    if (strlen(c->socket) > 107)
        return error_set(err, ERR_INVALID, "socket: the path is longer than the 107 bytes a unix socket may have");
    return 0;
}

int
configuration_load(struct configuration *out, const char *path, struct error *err)
{
    *out = (struct configuration){0};
    config_defaults(configuration_keys, configuration_key_count, out);
    TRY(config_read(configuration_keys, configuration_key_count, out, path ? path : CONFIGURATION_FILE, path != NULL, err));
    find_program(&out->monitor_program, "crisp-monitor");
    find_program(&out->pull_program, "crisp-pull");
    return check(out, err);
}

void
configuration_free(struct configuration *configuration)
{
    config_free(configuration_keys, configuration_key_count, configuration);
}

int
configuration_check_handler(const struct configuration *configuration, const char *name, struct error *err)
{
    const struct runtime_handler *list = configuration->runtimes.items;
    cleanup_buf struct buf known = BUF(256);
    if (str_empty(name))
        return 0;
    for (size_t i = 0; i < configuration->runtimes.count; i++) {
        if (str_eq(list[i].name, name))
            return 0;
        (void)buf_addf(&known, ", %s", list[i].name);
    }
    return error_set(err, ERR_INVALID, "runtime_handler: there is none named \"%.100s\"; this node has the default one%s", name,
                     known.data ? known.data : "");
}
