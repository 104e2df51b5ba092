#include "runtime/configs.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/objects.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- tables of members ---- */

#define F(of_struct, member, kind)                                                          \
    {                                                                                       \
        .name = #member, .type = FIELD_##kind, .offset = offsetof(struct of_struct, member) \
    }
#define F_UP_TO(of_struct, member, last)                                                                 \
    {                                                                                                    \
        .name = #member, .type = FIELD_INT, .offset = offsetof(struct of_struct, member), .most = (last) \
    }
#define F_IN(of_struct, member, table)                                                                      \
    {                                                                                                       \
        .name = #member, .type = FIELD_STRUCT, .offset = offsetof(struct of_struct, member), .of = &(table) \
    }
#define F_ARRAY(of_struct, member, counter, table)                                                                                               \
    {                                                                                                                                            \
        .name = #member, .type = FIELD_ARRAY, .offset = offsetof(struct of_struct, member), .count_offset = offsetof(struct of_struct, counter), \
        .of = &(table)                                                                                                                           \
    }

static const struct field pod_key_list[] = {F(pod_key, name, STRING), F(pod_key, uid, STRING), F(pod_key, namespace, STRING),
                                            F(pod_key, attempt, U32)};
static const struct fields pod_key_fields = FIELDS(struct pod_key, pod_key_list);

static const struct field port_list[] = {F_UP_TO(network_port, protocol, NETWORK_SCTP), F(network_port, container_port, U16),
                                         F(network_port, host_port, U16), F(network_port, host_ip, STRING)};
static const struct fields port_fields = FIELDS(struct network_port, port_list);

static const struct field id_mapping_list[] = {F(id_mapping, host_id, U32), F(id_mapping, container_id, U32), F(id_mapping, length, U32)};
static const struct fields id_mapping_fields = FIELDS(struct id_mapping, id_mapping_list);

static const struct field id_maps_list[] = {F_ARRAY(id_maps, uids, uid_count, id_mapping_fields),
                                            F_ARRAY(id_maps, gids, gid_count, id_mapping_fields)};
static const struct fields id_maps_fields = FIELDS(struct id_maps, id_maps_list);

static const struct field selinux_list[] = {F(selinux_options, user, STRING), F(selinux_options, role, STRING), F(selinux_options, type, STRING),
                                            F(selinux_options, level, STRING)};
static const struct fields selinux_fields = FIELDS(struct selinux_options, selinux_list);

static const struct field hugepage_list[] = {F(hugepage_limit, page_size, STRING), F(hugepage_limit, limit_bytes, U64)};
static const struct fields hugepage_fields = FIELDS(struct hugepage_limit, hugepage_list);

static const struct field resources_list[] = {
    F(resources, cpu_period, I64),
    F(resources, cpu_quota, I64),
    F(resources, cpu_shares, I64),
    F(resources, memory_limit_bytes, I64),
    F(resources, memory_swap_limit_bytes, I64),
    F(resources, oom_score_adj, I64),
    F(resources, cpuset_cpus, STRING),
    F(resources, cpuset_mems, STRING),
    F_ARRAY(resources, hugepages, hugepage_count, hugepage_fields),
    F(resources, unified, STRMAP),
};
const struct fields resources_fields = FIELDS(struct resources, resources_list);

static const struct field pod_config_list[] = {
    F_IN(pod_config, key, pod_key_fields),
    F(pod_config, hostname, STRING),
    F(pod_config, log_directory, STRING),
    F(pod_config, dns_servers, STRV),
    F(pod_config, dns_searches, STRV),
    F(pod_config, dns_options, STRV),
    F_ARRAY(pod_config, ports, port_count, port_fields),
    F(pod_config, labels, STRMAP),
    F(pod_config, annotations, STRMAP),
    F(pod_config, runtime_handler, STRING),
    F(pod_config, cgroup_parent, STRING),
    F_IN(pod_config, overhead, resources_fields),
    F_IN(pod_config, resources, resources_fields),
    F(pod_config, sysctls, STRMAP),
    F_UP_TO(pod_config, network, NAMESPACE_TARGET),
    F_UP_TO(pod_config, pid, NAMESPACE_TARGET),
    F_UP_TO(pod_config, ipc, NAMESPACE_TARGET),
    F_IN(pod_config, userns, id_maps_fields),
    F(pod_config, mac, STRING),
    F(pod_config, ip, STRING),
    F(pod_config, ingress_bits, I64),
    F(pod_config, egress_bits, I64),
    F(pod_config, privileged, BOOL),
    F_IN(pod_config, selinux, selinux_fields),
    F(pod_config, selinux_level, STRING),
};
const struct fields pod_config_fields = FIELDS(struct pod_config, pod_config_list);

static const struct field mount_list[] = {F(mount_request, container_path, STRING),
                                          F(mount_request, host_path, STRING),
                                          F(mount_request, image, STRING),
                                          F(mount_request, image_layers, STRV),
                                          F(mount_request, image_sub_path, STRING),
                                          F(mount_request, readonly, BOOL),
                                          F(mount_request, recursive_read_only, BOOL),
                                          F(mount_request, nosuid, BOOL),
                                          F(mount_request, nodev, BOOL),
                                          F(mount_request, noexec, BOOL),
                                          F(mount_request, selinux_relabel, BOOL),
                                          F_UP_TO(mount_request, propagation, PROPAGATION_BIDIRECTIONAL),
                                          F_IN(mount_request, maps, id_maps_fields)};
static const struct fields mount_fields = FIELDS(struct mount_request, mount_list);

static const struct field device_list[] = {F(device_request, container_path, STRING),
                                           F(device_request, host_path, STRING),
                                           F(device_request, permissions, STRING),
                                           F(device_request, type, STRING),
                                           F(device_request, major, I64),
                                           F(device_request, minor, I64),
                                           F(device_request, mode, I64),
                                           F(device_request, uid, I64),
                                           F(device_request, gid, I64)};
static const struct fields device_fields = FIELDS(struct device_request, device_list);

static const struct field container_config_list[] = {
    F(container_config, pod_id, STRING),
    F(container_config, name, STRING),
    F(container_config, attempt, U32),
    F(container_config, image_id, STRING),
    F(container_config, image_name, STRING),
    F(container_config, image_annotations, STRMAP),
    F(container_config, layers, STRV),
    F(container_config, args, STRV),
    F(container_config, env, STRV),
    F(container_config, working_dir, STRING),
    F(container_config, volumes, STRV),
    F(container_config, labels, STRMAP),
    F(container_config, annotations, STRMAP),
    F(container_config, log_path, STRING),
    F(container_config, stdin_open, BOOL),
    F(container_config, stdin_once, BOOL),
    F(container_config, tty, BOOL),
    F(container_config, user, STRING),
    F(container_config, run_as_group, I64),
    F(container_config, supplemental_groups, STRV),
    F(container_config, strict_groups, BOOL),
    F(container_config, privileged, BOOL),
    F(container_config, readonly_rootfs, BOOL),
    F(container_config, no_new_privs, BOOL),
    F_IN(container_config, selinux, selinux_fields),
    F(container_config, apparmor, STRING),
    F(container_config, seccomp, STRING),
    F(container_config, add_capabilities, STRV),
    F(container_config, drop_capabilities, STRV),
    F(container_config, add_ambient_capabilities, STRV),
    F(container_config, masked_paths, STRV),
    F(container_config, readonly_paths, STRV),
    F_UP_TO(container_config, pid, NAMESPACE_TARGET),
    F(container_config, target_id, STRING),
    F_ARRAY(container_config, mounts, mount_count, mount_fields),
    F(container_config, cdi_devices, STRV),
    F_ARRAY(container_config, devices, device_count, device_fields),
    F(container_config, stop_signal, STRING),
    F_IN(container_config, resources, resources_fields),
};
const struct fields container_config_fields = FIELDS(struct container_config, container_config_list);

/* ---- shared references: the configuration is the first member of what is counted ---- */

struct shared_pod_config {
    struct pod_config config;
    atomic_int references;
};

struct shared_container_config {
    struct container_config config;
    atomic_int references;
};

struct pod_config *
pod_config_new(void)
{
    struct shared_pod_config *shared = mem_zalloc(1, sizeof *shared);
    atomic_init(&shared->references, 1);
    return &shared->config;
}

struct pod_config *
pod_config_share(const struct pod_config *config)
{
    struct shared_pod_config *shared = (struct shared_pod_config *)(uintptr_t)config;
    atomic_fetch_add(&shared->references, 1);
    return &shared->config;
}

void
pod_config_free(struct pod_config *config)
{
    struct shared_pod_config *shared = (struct shared_pod_config *)config;
    if (!config || atomic_fetch_sub(&shared->references, 1) > 1)
        return;
    free(config->request);
    fields_free(&pod_config_fields, config);
    free(shared);
}

struct container_config *
container_config_new(void)
{
    struct shared_container_config *shared = mem_zalloc(1, sizeof *shared);
    atomic_init(&shared->references, 1);
    shared->config.run_as_group = NO_ID;
    return &shared->config;
}

struct container_config *
container_config_share(const struct container_config *config)
{
    struct shared_container_config *shared = (struct shared_container_config *)(uintptr_t)config;
    atomic_fetch_add(&shared->references, 1);
    return &shared->config;
}

void
container_config_free(struct container_config *config)
{
    struct shared_container_config *shared = (struct shared_container_config *)config;
    if (!config || atomic_fetch_sub(&shared->references, 1) > 1)
        return;
    free(config->request);
    fields_free(&container_config_fields, config);
    free(shared);
}

void
resources_copy(struct resources *to, const struct resources *from)
{
    *to = (struct resources){0};
    fields_copy(&resources_fields, to, from);
}

void
resources_free(struct resources *resources)
{
    fields_free(&resources_fields, resources);
}

/* ---- keys ---- */

char *
pod_config_key(const struct pod_config *config)
{
    const struct pod_key *key = &config->key;
    return str_printf("%s/%s/%s/%u", key->uid ? key->uid : "", key->namespace ? key->namespace : "", key->name ? key->name : "", key->attempt);
}

char *
container_config_key(const char *pod_id, const struct container_config *config)
{
    return str_printf("%s/%s/%u", pod_id, config->name ? config->name : "", config->attempt);
}
