/* What containers and pods use. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "runtime/meter.h"
#include "runtime/objects.h"

/* Of less time than this the rate is noise: several may ask, one right after the other. */
static const int64_t least_window_ns = NS_PER_SECOND;

/* With the lock held: CPU time per second since the last sample, the first time since the beginning. */
static int64_t
nano_cores(struct stats_sample *last, const struct usage *now, int64_t began_ns)
{
    int64_t cpu_ns = now->figures[FIGURE_CPU_NS];
    struct stats_sample from = last->time_ns ? *last : (struct stats_sample){.time_ns = began_ns};
    if (cpu_ns < from.cpu_ns || from.time_ns == 0 || now->time_ns <= from.time_ns)
        return UNKNOWN;
    if (last->time_ns && now->time_ns - from.time_ns < least_window_ns)
        return last->nano_cores;
    int64_t rate = (int64_t)((double)(cpu_ns - from.cpu_ns) / (double)(now->time_ns - from.time_ns) * 1e9);
    *last = (struct stats_sample){now->time_ns, cpu_ns, rate};
    return rate;
}

/* ---- containers ---- */

static void
measure(struct runtime *rt, struct container *c, struct container_stats *out)
{
    *out = (struct container_stats){.config = container_config_share(c->config), .cgroup = str_dup(c->cgroup)};
    memcpy(out->id, c->id, ID_SIZE);
    usage_read(&rt->cgroups, c->cgroup, &out->usage);
    HOLD(&rt->lock);
    out->pid = c->pid;
    out->started_ns = c->started_ns;
    out->usage.nano_cores = nano_cores(&c->last_sample, &out->usage, c->started_ns);
    out->writable_bytes = c->writable_bytes;
    out->writable_inodes = c->writable_inodes;
    out->writable_time_ns = c->writable_time_ns;
}

int
container_stats(struct runtime *rt, const char *id, struct container_stats *out, struct error *err)
{
    struct container *c = TRY_PTR(container_get(rt, id, err));
    meter_wanted(rt->meter);
    measure(rt, c, out);
    container_put(rt, c);
    return 0;
}

void
container_stats_free(struct container_stats *stats)
{
    container_config_free((struct container_config *)(uintptr_t)stats->config);
    free(stats->cgroup);
    *stats = (struct container_stats){0};
}

void
container_details(struct runtime *rt, const struct container_stats *of, struct usage_details *out)
{
    usage_read_details(&rt->cgroups, of->cgroup, out);
}

void
container_running(struct runtime *rt, struct strv *ids)
{
    HOLD(&rt->lock);
    struct container *c, *next;
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (c->phase == CONTAINER_PHASE_RUNNING)
            strv_add(ids, c->id);
}

/* ---- pods ---- */

static bool
has_own_cgroup(struct runtime *rt, const struct pod *pod)
{
    HOLD(&rt->lock);
    struct pod *other, *next;
    HASH_ITER (by_id, rt->pods_by_id, other, next)
        if (other != pod && str_eq(other->cgroup_parent, pod->cgroup_parent))
            return false;
    return true;
}

static void
measure_containers(struct runtime *rt, const struct pod *pod, struct pod_stats *out)
{
    size_t count;
    struct container **list = pod_containers(rt, pod, &count);
    out->containers = mem_zalloc(count, sizeof *out->containers);
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&rt->lock);
        bool runs = list[i]->phase == CONTAINER_PHASE_RUNNING;
        pthread_mutex_unlock(&rt->lock);
        if (runs)
            measure(rt, list[i], &out->containers[out->container_count++]);
    }
    containers_put(rt, list, count);
}

static void
add_up(struct runtime *rt, struct pod_stats *out)
{
    usage_zero(&out->usage);
    for (size_t i = 0; i < out->container_count; i++) {
        int64_t processes = usage_processes(&rt->cgroups, out->containers[i].cgroup);
        usage_add(&out->usage, &out->containers[i].usage);
        out->processes += processes > 0 ? processes : 0;
    }
}

static void
measure_network(struct runtime *rt, const struct pod *pod, struct pod_stats *out)
{
    pthread_mutex_lock(&rt->lock);
    struct process_identity monitor = pod->monitor;
    bool ready = pod->phase == POD_PHASE_READY;
    pthread_mutex_unlock(&rt->lock);
    if (!ready || pod->config->network == NAMESPACE_NODE)
        return;
    out->interfaces = usage_interfaces(monitor.pid, &out->interface_count);
    if (process_is(&monitor))
        return;
    /* It died meanwhile: the pid may be anybody's. */
    free(out->interfaces);
    out->interfaces = NULL;
    out->interface_count = 0;
}

static void
measure_pod(struct runtime *rt, struct pod *pod, struct pod_stats *out)
{
    *out = (struct pod_stats){.config = pod_config_share(pod->config), .cgroup = str_dup(pod->cgroup_parent), .has_cgroup = has_own_cgroup(rt, pod)};
    memcpy(out->id, pod->id, ID_SIZE);
    measure_containers(rt, pod, out);
    measure_network(rt, pod, out);
    if (out->has_cgroup) {
        usage_read(&rt->cgroups, pod->cgroup_parent, &out->usage);
        out->processes = usage_processes(&rt->cgroups, pod->cgroup_parent);
    } else {
        add_up(rt, out);
    }
    HOLD(&rt->lock);
    if (out->has_cgroup)
        out->usage.nano_cores = nano_cores(&pod->last_sample, &out->usage, pod->created_ns);
}

int
pod_stats(struct runtime *rt, const char *id, struct pod_stats *out, struct error *err)
{
    struct pod *pod = TRY_PTR(pod_get(rt, id, err));
    meter_wanted(rt->meter);
    measure_pod(rt, pod, out);
    pod_put(rt, pod);
    return 0;
}

void
pod_stats_free(struct pod_stats *stats)
{
    pod_config_free((struct pod_config *)(uintptr_t)stats->config);
    free(stats->cgroup);
    free(stats->interfaces);
    for (size_t i = 0; i < stats->container_count; i++)
        container_stats_free(&stats->containers[i]);
    free(stats->containers);
    *stats = (struct pod_stats){0};
}

void
pod_ready(struct runtime *rt, struct strv *ids)
{
    HOLD(&rt->lock);
    struct pod *pod, *next;
    HASH_ITER (by_id, rt->pods_by_id, pod, next)
        if (pod->phase == POD_PHASE_READY)
            strv_add(ids, pod->id);
}

/* ---- disks ---- */

void
runtime_disk(struct runtime *rt, struct disk_stats *out)
{
    struct statvfs fs;
    struct stat st;
    *out = (struct disk_stats){.bytes = UNKNOWN, .inodes = UNKNOWN, .inodes_free = UNKNOWN};
    if (fstatvfs(rt->root_dir, &fs) == 0) {
        out->bytes = (int64_t)(fs.f_blocks * fs.f_frsize);
        out->inodes = (int64_t)fs.f_files;
        out->inodes_free = (int64_t)fs.f_ffree;
    }
    if (fstat(rt->root_dir, &st) == 0)
        usage_device_name(major(st.st_dev), minor(st.st_dev), out->device);
}

void
runtime_writable_usage(struct runtime *rt, uint64_t *bytes, uint64_t *inodes)
{
    struct container *c, *next;
    meter_wanted(rt->meter);
    HOLD(&rt->lock);
    *bytes = *inodes = 0;
    HASH_ITER (by_id, rt->containers_by_id, c, next) {
        *bytes += (uint64_t)c->writable_bytes;
        *inodes += (uint64_t)c->writable_inodes;
    }
}
