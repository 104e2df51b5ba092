#include "runtime/validate.h"

#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "runtime/idmap.h"
#include "runtime/sysctl.h"

enum {
    HOSTNAME_MAX = 64, /* sethostname(2) */
    NAME_MAX_BYTES = 1024,
    MOUNTS_MAX = 1000, /* each costs some operations of the launch spec's 4096 */
    DEVICES_MAX = 400,
    GROUPS_MAX = 65536, /* setgroups(2) */
};

char *
path_clean(const char *path)
{
    cleanup_strv struct strv kept = {0}, components = {0};
    strv_split(&components, path, '/', true);
    for (size_t i = 0; i < components.count; i++) {
        if (str_eq(components.items[i], "."))
            continue;
        if (!str_eq(components.items[i], ".."))
            strv_add(&kept, components.items[i]);
        else if (kept.count > 0) {
            free(kept.items[--kept.count]);
            kept.items[kept.count] = NULL;
        }
    }
    cleanup_buf struct buf clean = BUF(strlen(path) + 2);
    for (size_t i = 0; i < kept.count; i++)
        (void)buf_addf(&clean, "/%s", kept.items[i]);
    return clean.length ? steal(clean.data) : str_dup("/");
}

/* RTMIN, RTMIN+3, RTMAX-1. */
static int
realtime_signal(const char *name)
{
    int base = str_starts(name, "RTMIN") ? SIGRTMIN : str_starts(name, "RTMAX") ? SIGRTMAX : 0;
    uint64_t offset = 0;
    if (!base || (name[5] && ((name[5] != '+' && name[5] != '-') || str_to_u64(name + 6, 64, "offset", &offset, NULL) < 0)))
        return -1;
    int number = name[5] == '-' ? base - (int)offset : base + (int)offset;
    return number >= SIGRTMIN && number <= SIGRTMAX ? number : -1;
}

static int
named_signal(const char *name)
{
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int number = 1; number < SIGRTMIN; number++) {
        const char *known = sigabbrev_np(number);
        if (known && strcasecmp(known, name) == 0)
            return number;
    }
    return realtime_signal(name);
}

int
signal_parse(const char *name, int *out, struct error *err)
{
    uint64_t number;
    if (str_empty(name))
        *out = SIGTERM;
    else if (isdigit((unsigned char)*name))
        *out = str_to_u64(name, (uint64_t)SIGRTMAX, "signal", &number, NULL) == 0 && number > 0 ? (int)number : -1;
    else
        *out = named_signal(name);
    return *out > 0 ? 0 : error_set(err, ERR_INVALID, "stop signal %.32s: there is no such signal", name);
}

/* ---- resources ---- */

int
validate_resources(const struct resources *r, struct error *err)
{
    const struct {
        const char *name;
        int64_t value, least;
    } limits[] = {
        {"memory_limit_in_bytes", r->memory_limit_bytes, 0},
        {"memory_swap_limit_in_bytes", r->memory_swap_limit_bytes, -1},
        {"cpu_shares", r->cpu_shares, 0},
        {"cpu_period", r->cpu_period, 0},
        {"cpu_quota", r->cpu_quota, -1},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value < limits[i].least)
            return error_set(err, ERR_INVALID, "%s %lld: it is negative", limits[i].name, (long long)limits[i].value);
    if (r->oom_score_adj < -1000 || r->oom_score_adj > 1000)
        return error_set(err, ERR_INVALID, "oom_score_adj %lld: it must be from -1000 to 1000", (long long)r->oom_score_adj);
    if (r->memory_swap_limit_bytes > 0 && r->memory_swap_limit_bytes < r->memory_limit_bytes)
        return error_set(err, ERR_INVALID, "memory_swap_limit_in_bytes %lld: it is less than the memory limit",
                         (long long)r->memory_swap_limit_bytes);
    if ((r->cpuset_cpus && strlen(r->cpuset_cpus) > CPUSET_TEXT_MAX) || (r->cpuset_mems && strlen(r->cpuset_mems) > CPUSET_TEXT_MAX))
        return error_set(err, ERR_INVALID, "cpuset_cpus or cpuset_mems: it is longer than %d bytes", CPUSET_TEXT_MAX);
    return 0;
}

/* ---- pods ---- */

static int
check_name(const char *what, const char *name, struct error *err)
{
    if (str_empty(name))
        return error_set(err, ERR_INVALID, "metadata.%s: it is missing", what);
    if (strlen(name) > NAME_MAX_BYTES)
        return error_set(err, ERR_INVALID, "metadata.%s: it is longer than %d bytes", what, NAME_MAX_BYTES);
    return 0;
}

static int
check_ports(const struct pod_config *config, struct error *err)
{
    for (size_t i = 0; i < config->port_count; i++)
        if (config->ports[i].host_port && !config->ports[i].container_port)
            return error_set(err, ERR_INVALID, "port mapping %zu: host port %u has no container port", i, config->ports[i].host_port);
    return 0;
}

int
validate_pod(const struct pod_config *config, struct error *err)
{
    TRY(check_name("name", config->key.name, err));
    if (strlen(config->hostname) > HOSTNAME_MAX || strchr(config->hostname, '/') || strchr(config->hostname, '\n'))
        return error_set(err, ERR_INVALID, "hostname %.80s: it is longer than %d bytes or has a character that no hostname has", config->hostname,
                         HOSTNAME_MAX);
    if (!str_empty(config->log_directory) && config->log_directory[0] != '/')
        return error_set(err, ERR_INVALID, "log_directory %s: it is not absolute", config->log_directory);
    if (config->network == NAMESPACE_CONTAINER || config->network == NAMESPACE_TARGET)
        return error_set(err, ERR_INVALID, "network namespace: it is the pod's or the node's");
    if (config->ipc == NAMESPACE_CONTAINER || config->ipc == NAMESPACE_TARGET)
        return error_set(err, ERR_INVALID, "IPC namespace: it is the pod's or the node's");
    if (config->userns.uid_count + config->userns.gid_count > 0)
        TRY(idmap_check(&config->userns, "user namespace", true, err));
    TRY(check_ports(config, err));
    TRY(validate_resources(&config->overhead, err));
    TRY(validate_resources(&config->resources, err));
    return sysctl_check(config, err);
}

/* ---- containers ---- */

bool
path_is_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    return str_starts(path, directory) && (path[length] == '\0' || path[length] == '/');
}

/* Files of /proc that tools such as lxcfs replace one by one. */
static bool
may_be_mounted_in_proc(const char *path)
{
    static const char *const files[] = {"/proc/cpuinfo",  "/proc/diskstats", "/proc/loadavg", "/proc/meminfo",
                                        "/proc/slabinfo", "/proc/stat",      "/proc/swaps",   "/proc/uptime"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (str_eq(path, files[i]))
            return true;
    return false;
}

/* A user namespace's root must not mount anything that the host then sees. */
static int
check_mount_ids(const struct mount_request *mount, const struct pod_config *pod, struct error *err)
{
    if (mount->propagation == PROPAGATION_BIDIRECTIONAL && idmap_is_set(&pod->userns))
        return error_set(err, ERR_INVALID, "mount at %s: bidirectional propagation does not go with the pod's user namespace", mount->container_path);
    if (mount->maps.uid_count + mount->maps.gid_count == 0)
        return 0;
    if (!str_empty(mount->image) && !idmap_equal(&mount->maps, &pod->userns))
        return error_set(err, ERR_INVALID, "mount at %s: an image has the ids of the pod, not maps of its own", mount->container_path);
    cleanup_free char *what = str_printf("mount at %.100s", mount->container_path);
    return idmap_check(&mount->maps, what, false, err);
}

static int
check_mount(const struct mount_request *mount, struct error *err)
{
    if (str_empty(mount->container_path))
        return error_set(err, ERR_INVALID, "mount of %s: its container_path is missing", mount->host_path);
    if (str_empty(mount->image) && mount->host_path[0] != '/')
        return error_set(err, ERR_INVALID, "mount at %s: host_path \"%s\" is not absolute", mount->container_path, mount->host_path);
    if (strlen(mount->host_path) >= PATH_MAX || strlen(mount->container_path) >= PATH_MAX)
        return error_set(err, ERR_INVALID, "mount at %.64s…: a path is longer than %d bytes", mount->container_path, PATH_MAX);
    cleanup_free char *target = path_clean(mount->container_path);
    if (str_eq(target, "/"))
        return error_set(err, ERR_INVALID, "mount of %s: container_path %s is the root", mount->host_path, mount->container_path);
    if (path_is_in(target, "/proc") && !may_be_mounted_in_proc(target))
        return error_set(err, ERR_INVALID, "mount of %s: container_path %s would cover /proc", mount->host_path, mount->container_path);
    if (mount->recursive_read_only && (!mount->readonly || mount->propagation != PROPAGATION_PRIVATE))
        return error_set(err, ERR_INVALID, "mount at %s: recursive_read_only asks for readonly and private propagation", mount->container_path);
    return 0;
}

static int
check_device(const struct device_request *device, struct error *err)
{
    if (str_empty(device->host_path) || device->host_path[0] != '/')
        return error_set(err, ERR_INVALID, "device \"%s\": host_path is not absolute", device->host_path);
    if (device->permissions[strspn(device->permissions, "rwm")] || strlen(device->permissions) > 3)
        return error_set(err, ERR_INVALID, "device %s: permissions \"%.16s\" are not of r, w, m", device->host_path, device->permissions);
    return 0;
}

static int
check_log_path(const struct container_config *config, const struct pod_config *pod, struct error *err)
{
    if (str_empty(config->log_path) || str_empty(pod->log_directory))
        return 0;
    cleanup_strv struct strv components = {0};
    strv_split(&components, config->log_path, '/', true);
    if (config->log_path[0] == '/' || strv_has(&components, "..") || components.count == 0)
        return error_set(err, ERR_INVALID, "log_path %s: it is outside the pod's log directory %s", config->log_path, pod->log_directory);
    return 0;
}

static int
check_groups(const struct container_config *config, struct error *err)
{
    uint64_t gid;
    if (config->supplemental_groups.count > GROUPS_MAX)
        return error_set(err, ERR_INVALID, "supplemental groups: %zu are more than %d", config->supplemental_groups.count, GROUPS_MAX);
    for (size_t i = 0; i < config->supplemental_groups.count; i++)
        TRY(str_to_u64(config->supplemental_groups.items[i], UINT32_MAX - 1, "supplemental group", &gid, err));
    if (config->run_as_group != NO_ID && (config->run_as_group < 0 || config->run_as_group >= UINT32_MAX))
        return error_set(err, ERR_INVALID, "run_as_group %lld: it is no group id", (long long)config->run_as_group);
    return 0;
}

static int
check_args(const struct container_config *config, struct error *err)
{
    if (config->args.count == 0 || str_empty(config->args.items[0]))
        return error_set(err, ERR_INVALID, "command: neither the request nor the image says which");
    for (size_t i = 0; i < config->env.count; i++)
        if (config->env.items[i][0] == '=' || !strchr(config->env.items[i], '='))
            return error_set(err, ERR_INVALID, "environment: \"%.64s\" is not NAME=VALUE", config->env.items[i]);
    return 0;
}

int
validate_container(const struct container_config *config, const struct pod_config *pod, struct error *err)
{
    int signal;
    TRY(check_name("name", config->name, err));
    TRY(check_args(config, err));
    TRY(check_log_path(config, pod, err));
    TRY(check_groups(config, err));
    if (config->pid == NAMESPACE_TARGET && str_empty(config->target_id))
        return error_set(err, ERR_INVALID, "pid namespace TARGET: target_id is missing");
    TRY(signal_parse(config->stop_signal, &signal, err));
    if (config->privileged && !pod->privileged)
        return error_set(err, ERR_INVALID, "privileged: the pod is not");
    if (config->mount_count > MOUNTS_MAX || config->device_count > DEVICES_MAX)
        return error_set(err, ERR_INVALID, "%zu mounts and %zu devices: at most %d and %d are possible", config->mount_count, config->device_count,
                         MOUNTS_MAX, DEVICES_MAX);
    for (size_t i = 0; i < config->mount_count; i++) {
        TRY(check_mount(&config->mounts[i], err));
        TRY(check_mount_ids(&config->mounts[i], pod, err));
    }
    for (size_t i = 0; i < config->device_count; i++)
        TRY(check_device(&config->devices[i], err));
    return validate_resources(&config->resources, err);
}
