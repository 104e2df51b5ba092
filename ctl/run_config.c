#include "ctl/run_config.h"

#include <ctype.h>
#include <string.h>

#include "ctl/container.h"

/* What of /proc and /sys a container has no business with. The kubelet sends the same with each container. */
static const char *masked_paths[] = {"/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
                                     "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                                     "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap"};
static const char *readonly_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

enum { CPU_PERIOD_US = 100000, CPUS_MAX = 10000, PORT_MAX = 65535 };

const struct option_spec run_options[] = {
    {'d', "detach", NULL, "do not wait for it; print its id"},
    {0, "rm", NULL, "remove it when it has ended"},
    {0, "name", "NAME", "name of the container, its pod and its host (else from the image)"},
    {'e', "env", "NAME=VALUE", "environment variable; NAME alone takes the value from here"},
    {'v', "volume", "HOST:PATH[:ro]", "show a directory or file of this machine at PATH"},
    {'p', "publish", "[IP:]HOST:PORT[/udp]", "lead a port of this machine to one of the container"},
    {'w', "workdir", "PATH", "working directory (else the image's)"},
    {'u', "user", "USER[:GROUP]", "user, by name or number (else the image's); group by number"},
    {0, "entrypoint", "PROGRAM", "in place of the image's entrypoint"},
    {'m', "memory", "SIZE", "memory limit in bytes, or with K, M, G"},
    {0, "cpus", "NUMBER", "limit of CPU time: 0.5 is half a processor"},
    {0, "host-network", NULL, "with this machine's network in place of one of its own"},
    {0, "read-only", NULL, "root file system read-only"},
    {0, "privileged", NULL, "with all that root of this machine may do"},
    {0, "pull", "WHEN", "always, missing (if it isn't here) or never"},
    {0},
};

/* A piece of an option's value that lives as long as the configuration. */
static char *
keep(struct run_config *config, const char *text, size_t length)
{
    char *copy = str_ndup(text, length);
    strv_take(&config->words, copy);
    return copy;
}

static void
make_uid(char uid[RUN_UID_SIZE])
{
    char id[ID_SIZE];
    id_make(id);
    snprintf(uid, RUN_UID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

/* Names become hostnames and parts of paths. */
static bool
name_is_good(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= RUN_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == length && name[0] != '-' &&
           name[length - 1] != '-';
}

/* registry/team/My_App:1.2@sha256:… → my-app-3f9c */
static void
make_name(char name[RUN_NAME_MAX + 1], const char *image, const char *uid)
{
    enum { STEM_MAX = RUN_NAME_MAX - 5 };
    size_t length = 0;
    size_t end = strcspn(image, "@");
    size_t start = end;
    while (start > 0 && image[start - 1] != '/')
        start--;
    for (size_t i = start; i < end && image[i] != ':' && length < STEM_MAX; i++) {
        if (isalnum((unsigned char)image[i]))
            name[length++] = (char)tolower((unsigned char)image[i]);
        else if (length > 0 && name[length - 1] != '-')
            name[length++] = '-';
    }
    snprintf(name + length, RUN_NAME_MAX + 1 - length, "%s%.4s", length > 0 && name[length - 1] != '-' ? "-" : "", uid);
}

static int
set_names(struct run_config *config, const struct args *args, struct error *err)
{
    const char *name = args_value(args, "name");
    make_uid(config->uid);
    if (name && !name_is_good(name))
        return usage_error(err, "--name takes up to %d of a-z, 0-9 and “-” inside, not “%s”", RUN_NAME_MAX, name);
    if (name)
        snprintf(config->name, sizeof config->name, "%s", name);
    else
        make_name(config->name, args->operands[0], config->uid);
    snprintf(config->log_path, sizeof config->log_path, "%s.log", config->name);
    config->log_directory = run_log_directory(config->uid);
    return 0;
}

static int
set_volume(struct run_config *config, Runtime__V1__Mount *mount, const char *value, struct error *err)
{
    const char *colon = strchr(value, ':');
    const char *inside = colon ? colon + 1 : "";
    const char *flag = strchr(inside, ':');
    if (value[0] != '/' || inside[0] != '/' || (flag && !str_eq(flag, ":ro") && !str_eq(flag, ":rw")))
        return usage_error(err, "--volume takes HOST:PATH or HOST:PATH:ro with absolute paths, not “%s”", value);
    *mount = (Runtime__V1__Mount)RUNTIME__V1__MOUNT__INIT;
    mount->host_path = keep(config, value, (size_t)(colon - value));
    mount->container_path = keep(config, inside, flag ? (size_t)(flag - inside) : strlen(inside));
    mount->readonly = flag && str_eq(flag, ":ro");
    return 0;
}

static int
set_protocol(Runtime__V1__PortMapping *port, const char *name)
{
    static const struct {
        const char *name;
        Runtime__V1__Protocol protocol;
    } protocols[] = {{"tcp", RUNTIME__V1__PROTOCOL__TCP}, {"udp", RUNTIME__V1__PROTOCOL__UDP}, {"sctp", RUNTIME__V1__PROTOCOL__SCTP}};
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        if (str_eq(protocols[i].name, name)) {
            port->protocol = protocols[i].protocol;
            return 0;
        }
    }
    return -1;
}

static int
set_port_number(int32_t *port, const char *text)
{
    uint64_t number;
    if (str_to_u64(text, PORT_MAX, "port", &number, NULL) < 0 || number == 0)
        return -1;
    *port = (int32_t)number;
    return 0;
}

/* From the right, for an IPv6 address has colons too: [IP:]HOST:PORT[/PROTOCOL]. Cuts `text` into its pieces. */
static int
parse_port(Runtime__V1__PortMapping *port, char *text)
{
    char *slash = strchr(text, '/');
    if (slash)
        *slash = '\0';
    char *inside = TRY_PTR(strrchr(text, ':'));
    *inside++ = '\0';
    char *outside = strrchr(text, ':');
    if (outside) {
        *outside++ = '\0';
        port->host_ip = text + (text[0] == '[');
        text[strcspn(text, "]")] = '\0';
    }
    TRY(set_protocol(port, slash ? slash + 1 : "tcp"));
    TRY(set_port_number(&port->container_port, inside));
    return set_port_number(&port->host_port, outside ? outside : text);
}

static int
set_port(struct run_config *config, Runtime__V1__PortMapping *port, const char *value, struct error *err)
{
    *port = (Runtime__V1__PortMapping)RUNTIME__V1__PORT_MAPPING__INIT;
    if (parse_port(port, keep(config, value, strlen(value))) < 0)
        return usage_error(err, "--publish takes [IP:]HOST:PORT, with /udp or /sctp where it isn't TCP, not “%s”", value);
    return 0;
}

static int
set_env(struct run_config *config, Runtime__V1__KeyValue *env, const char *value, struct error *err)
{
    const char *equals = strchr(value, '=');
    const char *from_here = equals ? NULL : getenv(value);
    if (value[0] == '\0' || equals == value)
        return usage_error(err, "--env takes NAME=VALUE or NAME, not “%s”", value);
    *env = (Runtime__V1__KeyValue)RUNTIME__V1__KEY_VALUE__INIT;
    env->key = keep(config, value, equals ? (size_t)(equals - value) : strlen(value));
    const char *text = equals ? equals + 1 : (from_here ? from_here : "");
    char *kept = keep(config, text, strlen(text));
    env->value = (ProtobufCBinaryData){strlen(kept), (uint8_t *)kept};
    return 0;
}

/* 64M → 67108864. */
static int
parse_size(const char *text, int64_t *bytes, struct error *err)
{
    static const char units[] = "KMGT";
    size_t length = strlen(text);
    const char *unit = length > 0 ? strchr(units, toupper((unsigned char)text[length - 1])) : NULL;
    unsigned shift = unit && *unit ? 10 * (unsigned)(unit - units + 1) : 0;
    cleanup_free char *digits = str_ndup(text, shift ? length - 1 : length);
    uint64_t number;
    if (str_to_u64(digits, (uint64_t)INT64_MAX >> shift, "--memory", &number, NULL) < 0 || number == 0)
        return usage_error(err, "--memory takes a number of bytes, or one with K, M or G, not “%s”", text);
    *bytes = (int64_t)(number << shift);
    return 0;
}

static int
parse_cpus(const char *text, int64_t *quota_us, struct error *err)
{
    char *end;
    double cpus = strtod(text, &end);
    if (!isdigit((unsigned char)text[0]) || *end || !(cpus >= 0.01 && cpus <= CPUS_MAX))
        return usage_error(err, "--cpus takes a number from 0.01, not “%s”", text);
    *quota_us = (int64_t)(cpus * CPU_PERIOD_US);
    return 0;
}

static int
set_limits(struct run_config *config, const struct args *args, struct error *err)
{
    Runtime__V1__LinuxContainerResources *resources = &config->resources;
    *resources = (Runtime__V1__LinuxContainerResources)RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
    if (args_flag(args, "memory"))
        TRY(parse_size(args_value(args, "memory"), &resources->memory_limit_in_bytes, err));
    if (args_flag(args, "cpus")) {
        TRY(parse_cpus(args_value(args, "cpus"), &resources->cpu_quota, err));
        resources->cpu_period = CPU_PERIOD_US;
    }
    return 0;
}

static bool
parse_id(Runtime__V1__Int64Value *id, const char *text)
{
    uint64_t number;
    *id = (Runtime__V1__Int64Value)RUNTIME__V1__INT64_VALUE__INIT;
    if (str_to_u64(text, UINT32_MAX - 1, "id", &number, NULL) < 0)
        return false;
    id->value = (int64_t)number;
    return true;
}

static int
set_user(struct run_config *config, const struct args *args, struct error *err)
{
    Runtime__V1__LinuxContainerSecurityContext *security = &config->container_security;
    const char *value = args_value(args, "user");
    if (!value)
        return 0;
    size_t length = strcspn(value, ":");
    const char *user = keep(config, value, length);
    if (length == 0 || (value[length] && !parse_id(&config->group, value + length + 1)))
        return usage_error(err, "--user takes USER or USER:GROUP with a group's number, not “%s”", value);
    if (value[length])
        security->run_as_group = &config->group;
    if (parse_id(&config->user, user))
        security->run_as_user = &config->user;
    else
        security->run_as_username = user;
    return 0;
}

static void
set_security(struct run_config *config, const struct args *args)
{
    Runtime__V1__LinuxContainerSecurityContext *security = &config->container_security;
    *security = (Runtime__V1__LinuxContainerSecurityContext)RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT;
    security->privileged = args_flag(args, "privileged");
    security->readonly_rootfs = args_flag(args, "read-only");
    security->namespace_options = &config->namespaces;
    if (security->privileged)
        return;
    security->masked_paths = masked_paths;
    security->n_masked_paths = sizeof masked_paths / sizeof *masked_paths;
    security->readonly_paths = readonly_paths;
    security->n_readonly_paths = sizeof readonly_paths / sizeof *readonly_paths;
}

static void
set_pod(struct run_config *config, const struct args *args)
{
    config->pod_metadata = (Runtime__V1__PodSandboxMetadata)RUNTIME__V1__POD_SANDBOX_METADATA__INIT;
    config->pod_metadata.name = config->name;
    config->pod_metadata.uid = config->uid;
    config->pod_metadata.namespace_ = "crispctl";
    config->namespaces = (Runtime__V1__NamespaceOption)RUNTIME__V1__NAMESPACE_OPTION__INIT;
    config->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    if (args_flag(args, "host-network"))
        config->namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
    config->pod_security = (Runtime__V1__LinuxSandboxSecurityContext)RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
    config->pod_security.namespace_options = &config->namespaces;
    config->pod_security.privileged = args_flag(args, "privileged");
    config->pod_linux = (Runtime__V1__LinuxPodSandboxConfig)RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
    config->pod_linux.security_context = &config->pod_security;
    config->pod_label = (Runtime__V1__PodSandboxConfig__LabelsEntry)RUNTIME__V1__POD_SANDBOX_CONFIG__LABELS_ENTRY__INIT;
    config->pod_label.key = RUN_LABEL;
    config->pod_label.value = config->name;
    config->pod_labels[0] = &config->pod_label;
    config->pod.metadata = &config->pod_metadata;
    config->pod.hostname = args_flag(args, "host-network") ? "" : config->name;
    config->pod.log_directory = config->log_directory;
    config->pod.labels = config->pod_labels;
    config->pod.n_labels = 1;
    config->pod.linux = &config->pod_linux;
}

static void
set_container(struct run_config *config, const struct args *args)
{
    Runtime__V1__ContainerConfig *container = &config->container;
    config->container_metadata = (Runtime__V1__ContainerMetadata)RUNTIME__V1__CONTAINER_METADATA__INIT;
    config->container_metadata.name = config->name;
    config->container_label = (Runtime__V1__ContainerConfig__LabelsEntry)RUNTIME__V1__CONTAINER_CONFIG__LABELS_ENTRY__INIT;
    config->container_label.key = RUN_LABEL;
    config->container_label.value = config->name;
    config->container_labels[0] = &config->container_label;
    config->image = (Runtime__V1__ImageSpec)RUNTIME__V1__IMAGE_SPEC__INIT;
    config->image.image = args->operands[0];
    config->image.user_specified_image = args->operands[0];
    config->container_linux = (Runtime__V1__LinuxContainerConfig)RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT;
    config->container_linux.security_context = &config->container_security;
    config->container_linux.resources = &config->resources;
    container->metadata = &config->container_metadata;
    container->image = &config->image;
    container->labels = config->container_labels;
    container->n_labels = 1;
    container->log_path = config->log_path;
    container->linux = &config->container_linux;
    container->working_dir = args_flag(args, "workdir") ? args_value(args, "workdir") : "";
    container->n_args = args->count - 1;
    container->args = (const char **)(args->operands + 1);
    config->entrypoint[0] = args_value(args, "entrypoint");
    container->n_command = config->entrypoint[0] ? 1 : 0;
    container->command = config->entrypoint;
}

/* The lists of the messages are pointers to their elements. */
static void *
pointers_to(void *items, size_t count, size_t size)
{
    void **pointers = mem_zalloc(count + 1, sizeof *pointers);
    for (size_t i = 0; i < count; i++)
        pointers[i] = (char *)items + i * size;
    return pointers;
}

static int
set_lists(struct run_config *config, const struct args *args, struct error *err)
{
    const struct strv *volumes = args_values(args, "volume");
    const struct strv *ports = args_values(args, "publish");
    const struct strv *envs = args_values(args, "env");
    config->mounts = mem_zalloc(volumes->count + 1, sizeof *config->mounts);
    config->ports = mem_zalloc(ports->count + 1, sizeof *config->ports);
    config->envs = mem_zalloc(envs->count + 1, sizeof *config->envs);
    for (size_t i = 0; i < volumes->count; i++)
        TRY(set_volume(config, &config->mounts[i], volumes->items[i], err));
    for (size_t i = 0; i < ports->count; i++)
        TRY(set_port(config, &config->ports[i], ports->items[i], err));
    for (size_t i = 0; i < envs->count; i++)
        TRY(set_env(config, &config->envs[i], envs->items[i], err));
    config->container.mounts = pointers_to(config->mounts, volumes->count, sizeof *config->mounts);
    config->container.n_mounts = volumes->count;
    config->pod.port_mappings = pointers_to(config->ports, ports->count, sizeof *config->ports);
    config->pod.n_port_mappings = ports->count;
    config->container.envs = pointers_to(config->envs, envs->count, sizeof *config->envs);
    config->container.n_envs = envs->count;
    return 0;
}

int
run_config_make(struct run_config *config, const struct args *args, struct error *err)
{
    config->pod = (Runtime__V1__PodSandboxConfig)RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
    config->container = (Runtime__V1__ContainerConfig)RUNTIME__V1__CONTAINER_CONFIG__INIT;
    TRY(set_names(config, args, err));
    set_pod(config, args);
    set_container(config, args);
    set_security(config, args);
    TRY(set_user(config, args, err));
    TRY(set_limits(config, args, err));
    return set_lists(config, args, err);
}

void
run_config_free(struct run_config *config)
{
    free(config->container.mounts);
    free(config->container.envs);
    free(config->pod.port_mappings);
    free(config->mounts);
    free(config->ports);
    free(config->envs);
    free(config->log_directory);
    strv_free(&config->words);
}
