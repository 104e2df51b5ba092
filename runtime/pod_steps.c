#include "runtime/pod_steps.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/cgroup_units.h"
#include "runtime/change.h"
#include "runtime/container_spec.h"
#include "runtime/etc_files.h"
#include "runtime/idmap.h"
#include "runtime/janitor.h"
#include "runtime/records.h"
#include "runtime/selinux.h"
#include "runtime/spec.h"
#include "runtime/sysctl.h"

enum {
    POD_SHM_BYTES = 64 << 20, /* Docker's default */
    MONITOR_OOM_SCORE = -998  /* a monitor goes after every container, before the kubelet and crispd */
};

struct making {
    struct runtime *rt;
    struct pod *pod;
    int dir;           /* pods/ID */
    struct error late; /* of what is made while the monitor makes the namespaces */
};

static bool
has_own_network(const struct pod *pod)
{
    return pod->config->network != NAMESPACE_NODE;
}

/* ---- what is taken back ---- */

char *
pod_netns_path(const struct runtime *rt, const struct pod *pod)
{
    return has_own_network(pod) ? str_printf("%s/%s", rt->netns_dir, pod->id) : str_dup("");
}

void
pod_netns_release(const struct runtime *rt, const char *pod_id)
{
    cleanup_free char *path = str_printf("%s/%s", rt->netns_dir, pod_id);
    (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    (void)unlink(path);
}

static bool
remove_monitor_cgroup(void *arg, const char *pod_id)
{
    struct runtime *rt = arg;
    cleanup_free char *path = str_printf("%s/%s", rt->monitor_cgroup, pod_id);
    cgroup_remove_child(&rt->cgroups, rt->monitor_cgroup, pod_id);
    cleanup_close int left = cgroup_open_unified(&rt->cgroups, path, NULL);
    return left < 0;
}

void
pod_monitor_clear(struct runtime *rt, const char *pod_id)
{
    cleanup_free char *socket = str_printf("%s.sock", pod_id);
    (void)unlinkat(rt->monitors_dir, socket, 0);
    if (!remove_monitor_cgroup(rt, pod_id))
        janitor_add(rt->janitor, remove_monitor_cgroup, pod_id, NS_PER_MS);
}

void
pod_monitor_kill(struct runtime *rt, const char *pod_id)
{
    cleanup_free char *path = str_printf("%s/%s", rt->monitor_cgroup, pod_id);
    (void)cgroup_kill(&rt->cgroups, path, NULL);
}

/* ---- cgroups ---- */

char *
pod_cgroup_parent(const struct runtime *rt, const char *asked, const char *handler, struct error *err)
{
    const char *of_handler = runtime_handler_named(rt, handler).cgroup_parent;
    return rt->systemd ? slice_path(str_empty(asked) ? of_handler : asked, err) : cgroup_path(asked, of_handler, err);
}

char *
pod_cgroup_path(const struct runtime *rt, const struct pod_config *config, const char *id, struct error *err)
{
    cleanup_free char *path = pod_cgroup_parent(rt, config->cgroup_parent, config->runtime_handler, err);
    if (!path || !str_empty(config->cgroup_parent))
        return steal(path);
    return rt->systemd ? slice_below(path, id) : str_printf("%s/%s", path, id);
}

/* A pod made before the driver was changed goes on as it was. */
static bool
is_slice(const struct runtime *rt, const char *path)
{
    return rt->systemd && str_ends(path, ".slice");
}

char *
pod_container_cgroup(const struct runtime *rt, const struct pod *pod, const char *container_id)
{
    return is_slice(rt, pod->cgroup_parent) ? scope_path(pod->cgroup_parent, container_id) : str_printf("%s/%s", pod->cgroup_parent, container_id);
}

bool
pod_cgroup_parent_in_use(struct runtime *rt, const char *parent)
{
    HOLD(&rt->lock);
    struct pod *pod, *next;
    size_t length = strlen(parent);
    HASH_ITER (by_id, rt->pods_by_id, pod, next)
        if (str_starts(pod->cgroup_parent, parent) && (pod->cgroup_parent[length] == '\0' || pod->cgroup_parent[length] == '/'))
            return true;
    return false;
}

/* A slice is ended without the lock, as systemd may take its time: should a pod come to it meanwhile, its first scope starts it again.
 * An ancestor may still be another pod's: claim_parent's marks and rmdir's ENOTEMPTY stop there. Containers that are still leaving make it busy:
 * again later. */
static bool
release_parent(void *arg, const char *parent)
{
    struct runtime *rt = arg;
    if (is_slice(rt, parent) && !pod_cgroup_parent_in_use(rt, parent))
        slice_release(rt->systemd, &rt->cgroups, parent);
    HOLD(&rt->parents_lock);
    if (pod_cgroup_parent_in_use(rt, parent))
        return true;
    cgroup_release_parent(&rt->cgroups, parent);
    return cgroup_parent_is_released(&rt->cgroups, parent);
}

void
pod_cgroup_parent_release(struct runtime *rt, const char *parent)
{
    if (!release_parent(rt, parent))
        janitor_add(rt->janitor, release_parent, parent, NS_PER_MS);
}

int
pod_cgroup_parent_claim(struct runtime *rt, const char *parent, struct error *err)
{
    if (is_slice(rt, parent))
        TRY(slice_start(rt->systemd, &rt->cgroups, parent, err));
    HOLD(&rt->parents_lock);
    return cgroup_claim_parent(&rt->cgroups, parent, err);
}

/* ---- record ---- */

static int
make_record(struct making *m, struct error *err)
{
    m->dir = record_pod_new(m->rt, m->pod, err);
    return m->dir < 0 ? -1 : 0;
}

static void
undo_record(struct making *m)
{
    record_pod_discard(m->rt, m->pod->id);
}

/* ---- cgroup ---- */

/* Where there is no such number the most is as good as no limit. */
static void
add_cost(int64_t *limit, int64_t cost)
{
    if (*limit > 0 && __builtin_add_overflow(*limit, cost, limit))
        *limit = INT64_MAX;
}

/* A limit of the pod is that of its containers together and its own costs on top. */
static void
add_overhead(struct resources *sum, const struct resources *overhead)
{
    const int64_t period = sum->cpu_period > 0 ? sum->cpu_period : CGROUP_CPU_PERIOD_US;
    const int64_t of_period = overhead->cpu_period > 0 ? overhead->cpu_period : CGROUP_CPU_PERIOD_US;
    const double quota = (double)overhead->cpu_quota / (double)of_period * (double)period;
    add_cost(&sum->memory_limit_bytes, overhead->memory_limit_bytes);
    add_cost(&sum->memory_swap_limit_bytes, overhead->memory_limit_bytes);
    add_cost(&sum->cpu_shares, overhead->cpu_shares);
    if (overhead->cpu_quota > 0)
        add_cost(&sum->cpu_quota, quota < 0x1p63 ? (int64_t)quota : INT64_MAX);
}

int
pod_cgroup_limit(struct runtime *rt, const struct pod *pod, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    struct resources sum;
    if (!str_empty(pod->config->cgroup_parent))
        return 0;
    resources_copy(&sum, resources);
    add_overhead(&sum, overhead);
    int result = cgroup_limit(&rt->cgroups, is_slice(rt, pod->cgroup_parent) ? rt->systemd : NULL, pod->cgroup_parent, &sum, err);
    resources_free(&sum);
    return result;
}

/* link_spawn's meanwhile: it is for the containers, and takes less long than the namespaces. */
static void
make_cgroup(void *arg)
{
    struct making *m = arg;
    const struct pod *pod = m->pod;
    if (pod_cgroup_parent_claim(m->rt, pod->cgroup_parent, &m->late) == 0)
        (void)pod_cgroup_limit(m->rt, pod, &pod->config->overhead, &pod->config->resources, &m->late);
}

/* The parent goes when the pod has left the table: pod.c. */

/* ---- monitor and namespaces ---- */

static void
add_sysctls(const struct making *m, struct spec_builder *b)
{
    const struct pod_config *config = m->pod->config;
    cleanup_strmap struct strmap defaults = {0};
    sysctl_defaults(config, &m->rt->options, &defaults);
    for (size_t i = 0; i < defaults.count; i++)
        spec_op(b, SPEC_SYSCTL, .text = {defaults.entries[i].key, defaults.entries[i].value});
    for (size_t i = 0; i < config->sysctls.count; i++)
        spec_op(b, SPEC_SYSCTL, .text = {config->sysctls.entries[i].key, config->sysctls.entries[i].value});
}

/* Out of crispd's v1 cgroups: its memory and pids limits are not the monitors'. */
static void
leave_crispd(const struct runtime *rt, struct spec_builder *b)
{
    for (size_t i = 0; i < rt->cgroups.count; i++) {
        cleanup_free char *tasks = str_printf("%s%s/tasks", rt->cgroups.list[i].mount_point, rt->monitor_cgroup);
        if (!rt->cgroups.list[i].unified)
            spec_op(b, SPEC_WRITE, .text = {tasks, "0"});
    }
}

static void
add_userns(const struct pod_config *config, uint64_t namespaces, struct spec_builder *b)
{
    cleanup_free char *uids = idmap_uid_text(&config->userns);
    cleanup_free char *gids = idmap_gid_text(&config->userns);
    spec_op(b, SPEC_USERNS, .text = {uids, gids}, .number = {namespaces | (config->pid == NAMESPACE_POD ? CLONE_NEWPID : 0)});
}

static struct spec_builder *
pod_spec(const struct making *m)
{
    const struct pod_config *config = m->pod->config;
    struct spec_builder *b = spec_new();
    cleanup_free char *score = str_printf("%d", MONITOR_OOM_SCORE);
    cleanup_free char *netns = pod_netns_path(m->rt, m->pod);
    uint64_t namespaces =
        (has_own_network(m->pod) ? (uint64_t)(CLONE_NEWNET | CLONE_NEWUTS) : 0) | (config->ipc != NAMESPACE_NODE ? (uint64_t)CLONE_NEWIPC : 0);
    leave_crispd(m->rt, b);
    spec_op(b, SPEC_WRITE, .text = {"/proc/self/oom_score_adj", score}, .number = {SPEC_MAY_EPERM});
    if (idmap_is_set(&config->userns))
        add_userns(config, namespaces, b);
    else if (namespaces)
        spec_op(b, SPEC_UNSHARE, .number = {namespaces});
    if (has_own_network(m->pod)) {
        cleanup_free char *hostname = pod_hostname(config);
        spec_op(b, SPEC_PIN_NETNS, .text = {netns});
        spec_op(b, SPEC_LINK_UP, .text = {"lo"});
        spec_op(b, SPEC_HOSTNAME, .text = {hostname});
    }
    add_sysctls(m, b);
    cleanup_free char *label = selinux_pod_label(config);
    if (config->ipc != NAMESPACE_NODE)
        spec_op(b, SPEC_POD_SHM, .text = {*label ? label : NULL},
                .number = {POD_SHM_BYTES, (uint64_t)idmap_uid(&config->userns, 0), (uint64_t)idmap_gid(&config->userns, 0)});
    return b;
}

/* A sysctl that the kernel does not know, or does not take, is the request's mistake. */
static void
explain(const struct spec_builder *b, size_t failed_op, struct error *err)
{
    cleanup_free char *words = spec_explain(b, failed_op);
    if (spec_type(b, failed_op) == SPEC_SYSCTL)
        error_as(err, ERR_INVALID);
    error_prefix(err, "%s", words);
}

static int
spawn(struct making *m, const struct spec_builder *b, int spec, int cgroup, struct error *err)
{
    struct link *link = NULL;
    struct process_identity identity;
    int failed_op = -1;
    const struct link_spawn order = {.pod_id = m->pod->id,
                                     .state_dir = m->rt->monitors_dir,
                                     .containers_dir = m->rt->containers_dir,
                                     .cgroup = cgroup,
                                     .pod_spec = spec,
                                     .shared_pid = m->pod->config->pid == NAMESPACE_POD,
                                     .meanwhile = make_cgroup,
                                     .arg = m};
    if (link_spawn(m->rt->hub, &order, &link, &identity, &failed_op, err) < 0) {
        if (failed_op >= 0)
            explain(b, (size_t)failed_op, err);
        return -1;
    }
    pthread_mutex_lock(&m->rt->lock);
    m->pod->link = link;
    m->pod->monitor = identity;
    pthread_mutex_unlock(&m->rt->lock);
    if (m->late.kind == ERR_NONE)
        return 0;
    *err = m->late;
    return error_prefix(err, "cgroup");
}

static void
undo_monitor(struct making *m)
{
    pthread_mutex_lock(&m->rt->lock);
    struct link *link = m->pod->link;
    m->pod->link = NULL;
    m->pod->monitor = (struct process_identity){0};
    pthread_mutex_unlock(&m->rt->lock);
    struct error failed;
    if (link && link_end(link, &failed) < 0)
        log_warn("a monitor did not end as asked", "pod", m->pod->id, "error", failed.message);
    pod_netns_release(m->rt, m->pod->id);
    pod_monitor_clear(m->rt, m->pod->id);
}

static int
make_monitor(struct making *m, struct error *err)
{
    struct spec_builder *b = pod_spec(m);
    cleanup_close int cgroup = cgroup_make_child(&m->rt->cgroups, m->rt->monitor_cgroup, m->pod->id, err);
    int result = cgroup < 0 && m->rt->cgroups.unified >= 0 ? -1 : 0;
    cleanup_close int spec = result == 0 ? spec_finish(b, err) : -1;
    if (result == 0)
        result = spec < 0 ? -1 : spawn(m, b, spec, cgroup, err);
    spec_free(b);
    if (result < 0)
        undo_monitor(m);
    return result;
}

/* ---- network ---- */

static void
network_request_of(const struct pod *pod, const char *netns, int dir, struct network_request *out)
{
    const struct pod_config *config = pod->config;
    *out = (struct network_request){
        .pod_id = pod->id,
        .pod_name = config->key.name,
        .pod_namespace = config->key.namespace,
        .pod_uid = config->key.uid,
        .netns_path = netns,
        .record_dir = dir,
        .ports = config->ports,
        .port_count = config->port_count,
        .dns_servers = config->dns_servers,
        .dns_searches = config->dns_searches,
        .dns_options = config->dns_options,
        .mac = config->mac,
        .ip = config->ip,
        .ingress_bits = config->ingress_bits,
        .egress_bits = config->egress_bits,
    };
}

static int
make_network(struct making *m, struct error *err)
{
    if (!has_own_network(m->pod))
        return 0;
    cleanup_free char *netns = pod_netns_path(m->rt, m->pod);
    struct network_request request;
    struct network_result result = {0};
    network_request_of(m->pod, netns, m->dir, &request);
    if (network_attach(m->rt->network, &request, &result, NULL, err) < 0)
        return -1;
    HOLD(&m->rt->lock);
    m->pod->attached = true;
    m->pod->ips = result.ips;
    return 0;
}

int
pod_network_detach(struct runtime *rt, struct pod *pod, struct error *err)
{
    if (!has_own_network(pod))
        return 0;
    cleanup_free char *netns = pod_netns_path(rt, pod);
    cleanup_close int dir = TRY(record_pod_dir(rt, pod->id, err));
    struct network_request request;
    network_request_of(pod, netns, dir, &request);
    if (network_detach(rt->network, &request, err) < 0)
        return error_prefix(err, "network");
    HOLD(&rt->lock);
    pod->attached = false;
    return 0;
}

static void
undo_network(struct making *m)
{
    struct error failed;
    if (pod_network_detach(m->rt, m->pod, &failed) < 0)
        log_error("a pod's network could not be given back", "pod", m->pod->id, "error", failed.message);
}

/* ---- files and state ---- */

static int
make_files(struct making *m, struct error *err)
{
    cleanup_free char *hostname = pod_hostname(m->pod->config);
    cleanup_free char *label = selinux_pod_label(m->pod->config), *path = str_printf("%s/%s", m->rt->etc_dir, m->pod->id);
    TRY(etc_files_make(m->rt->etc_dir, m->pod->id, m->pod->config, hostname, &m->pod->ips, err));
    if (!*label || selinux_relabel(path, label, err) == 0)
        return 0;
    etc_files_remove(m->rt->etc_dir, m->pod->id);
    return -1;
}

static void
undo_files(struct making *m)
{
    etc_files_remove(m->rt->etc_dir, m->pod->id);
}

static void
unready(struct making *m)
{
    HOLD(&m->rt->lock);
    m->pod->phase = POD_PHASE_MAKING;
}

static void
tell(struct making *m, enum change_kind kind)
{
    HOLD(&m->rt->lock);
    change_tell(m->rt, kind, m->pod->id, m->pod);
}

/* A monitor that dies before is told of here, one that dies later to pod_lost: none is between. */
static int
become_ready(struct making *m, struct error *err)
{
    HOLD(&m->rt->lock);
    if (!link_is_up(m->pod->link))
        return error_set(err, ERR_UNAVAILABLE, "its monitor is dead");
    m->pod->phase = POD_PHASE_READY;
    return 0;
}

static int
make_state(struct making *m, struct error *err)
{
    TRY(become_ready(m, err));
    if (record_pod_state(m->rt, m->pod, err) < 0) {
        unready(m);
        return -1;
    }
    tell(m, CHANGE_CREATED);
    tell(m, CHANGE_STARTED);
    return 0;
}

static void
undo_state(struct making *m)
{
    unready(m);
    tell(m, CHANGE_DELETED);
}

/* ---- the table ---- */

static const struct step {
    const char *stage;
    int (*make)(struct making *m, struct error *err); /* leaves nothing where it fails */
    void (*undo)(struct making *m);                   /* NULL: nothing to undo */
} steps[] = {
    {"record", make_record, undo_record}, {"monitor", make_monitor, undo_monitor}, {"network", make_network, undo_network},
    {"files", make_files, undo_files},    {"state", make_state, undo_state},
};

size_t
pod_step_count(void)
{
    return sizeof steps / sizeof *steps;
}

int
pod_make(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct making m = {.rt = rt, .pod = pod, .dir = -1};
    size_t done = 0;
    int result = 0;
    while (done < pod_step_count() && result == 0) {
        operation_stage(pod->operation, steps[done].stage);
        result = steps[done].make(&m, err);
        if (result < 0)
            error_prefix(err, "%s", steps[done].stage);
        else if (++done == rt->fail_pod_step)
            result = error_set(err, ERR_INTERNAL, "%s: it was made to fail here", steps[done - 1].stage);
    }
    while (result < 0 && done-- > 0)
        if (steps[done].undo)
            steps[done].undo(&m);
    if (m.dir >= 0)
        (void)close(m.dir);
    return result;
}
