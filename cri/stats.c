#include "api.pb-c.h"
#include "cri/check.h"
#include "cri/configuration.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/select.h"

/* A figure the kernel does not have is left out. */
static Runtime__V1__UInt64Value *
figure(struct call *call, int64_t value)
{
    if (value < 0)
        return NULL;
    Runtime__V1__UInt64Value *out = answer_new(call, &runtime__v1__uint64_value__descriptor);
    out->value = (uint64_t)value;
    return out;
}

/* ---- what containers and pods have in common ---- */

static Runtime__V1__PsiData *
pressure_write(struct call *call, const struct pressure *pressure)
{
    Runtime__V1__PsiData *out = answer_new(call, &runtime__v1__psi_data__descriptor);
    out->total = (uint64_t)pressure->total_ns;
    out->avg10 = pressure->percent[0];
    out->avg60 = pressure->percent[1];
    out->avg300 = pressure->percent[2];
    return out;
}

static Runtime__V1__PsiStats *
pressures_write(struct call *call, const struct usage *usage, enum pressure_of what)
{
    if (usage->pressure[what].some.total_ns < 0 || usage->pressure[what].full.total_ns < 0)
        return NULL;
    Runtime__V1__PsiStats *out = answer_new(call, &runtime__v1__psi_stats__descriptor);
    out->some = pressure_write(call, &usage->pressure[what].some);
    out->full = pressure_write(call, &usage->pressure[what].full);
    return out;
}

static Runtime__V1__CpuUsage *
cpu_write(struct call *call, const struct usage *usage)
{
    Runtime__V1__CpuUsage *out = answer_new(call, &runtime__v1__cpu_usage__descriptor);
    out->timestamp = usage->time_ns;
    out->usage_core_nano_seconds = figure(call, usage->figures[FIGURE_CPU_NS]);
    out->usage_nano_cores = figure(call, usage->nano_cores);
    out->psi = pressures_write(call, usage, PRESSURE_CPU);
    return out;
}

static Runtime__V1__MemoryUsage *
memory_write(struct call *call, const struct usage *usage)
{
    Runtime__V1__MemoryUsage *out = answer_new(call, &runtime__v1__memory_usage__descriptor);
    out->timestamp = usage->time_ns;
    out->working_set_bytes = figure(call, usage->figures[FIGURE_MEMORY_WORKING_SET]);
    out->available_bytes = figure(call, usage->memory_left_bytes);
    out->usage_bytes = figure(call, usage->figures[FIGURE_MEMORY]);
    out->rss_bytes = figure(call, usage->figures[FIGURE_MEMORY_RSS]);
    out->page_faults = figure(call, usage->figures[FIGURE_PAGE_FAULTS]);
    out->major_page_faults = figure(call, usage->figures[FIGURE_MAJOR_PAGE_FAULTS]);
    out->psi = pressures_write(call, usage, PRESSURE_MEMORY);
    return out;
}

static Runtime__V1__IoUsage *
io_write(struct call *call, const struct usage *usage)
{
    Runtime__V1__IoUsage *out = answer_new(call, &runtime__v1__io_usage__descriptor);
    out->timestamp = usage->time_ns;
    out->psi = pressures_write(call, usage, PRESSURE_IO);
    return out;
}

/* ---- containers ---- */

static Runtime__V1__ContainerAttributes *
attributes_write(struct call *call, const struct container_stats *stats)
{
    const struct container_config *config = stats->config;
    Runtime__V1__ContainerAttributes *out = answer_new(call, &runtime__v1__container_attributes__descriptor);
    out->id = stats->id;
    out->metadata = answer_new(call, &runtime__v1__container_metadata__descriptor);
    out->metadata->name = config->name;
    out->metadata->attempt = config->attempt;
    out->n_labels = map_write(call, &config->labels, &runtime__v1__container_attributes__labels_entry__descriptor, &out->labels);
    out->n_annotations = map_write(call, &config->annotations, &runtime__v1__container_attributes__annotations_entry__descriptor, &out->annotations);
    return out;
}

static Runtime__V1__SwapUsage *
swap_write(struct call *call, const struct usage *usage)
{
    Runtime__V1__SwapUsage *out = answer_new(call, &runtime__v1__swap_usage__descriptor);
    out->timestamp = usage->time_ns;
    out->swap_usage_bytes = figure(call, usage->figures[FIGURE_SWAP]);
    out->swap_available_bytes = figure(call, usage->swap_left_bytes);
    return out;
}

/* Not yet measured: left out as a whole. */
static Runtime__V1__FilesystemUsage *
writable_layer_write(struct call *call, const struct container_stats *stats)
{
    if (stats->writable_bytes < 0 || stats->writable_time_ns <= 0)
        return NULL;
    Runtime__V1__FilesystemUsage *out = answer_new(call, &runtime__v1__filesystem_usage__descriptor);
    out->timestamp = stats->writable_time_ns;
    out->fs_id = answer_new(call, &runtime__v1__filesystem_identifier__descriptor);
    out->fs_id->mountpoint = call->services->configuration->root;
    out->used_bytes = figure(call, stats->writable_bytes);
    out->inodes_used = figure(call, stats->writable_inodes);
    return out;
}

static Runtime__V1__ContainerStats *
stats_write(struct call *call, const struct container_stats *stats)
{
    Runtime__V1__ContainerStats *out = answer_new(call, &runtime__v1__container_stats__descriptor);
    out->attributes = attributes_write(call, stats);
    out->cpu = cpu_write(call, &stats->usage);
    out->memory = memory_write(call, &stats->usage);
    out->swap = swap_write(call, &stats->usage);
    out->io = io_write(call, &stats->usage);
    out->writable_layer = writable_layer_write(call, stats);
    return out;
}

static void
release_stats(void *stats)
{
    container_stats_free(stats);
}

int
stats_container(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ContainerStatsRequest *in = request;
    Runtime__V1__ContainerStatsResponse *out = response;
    call_about(call, in->container_id);
    TRY(check_id(in->container_id, "container_id", err));
    struct container_stats *stats = call_alloc(call, sizeof *stats);
    TRY(container_stats(call->services->runtime, in->container_id, stats, err));
    call_defer(call, release_stats, stats);
    out->stats = stats_write(call, stats);
    return 0;
}

static void
release_ids(void *ids)
{
    strv_free(ids);
}

static const struct strv *
ids_of(struct call *call, void (*list)(struct runtime *rt, struct strv *ids))
{
    struct strv *ids = call_alloc(call, sizeof *ids);
    call_defer(call, release_ids, ids);
    list(call->services->runtime, ids);
    return ids;
}

/* One that went away meanwhile is left out. */
static int
add_container(struct call *call, const Runtime__V1__ContainerStatsFilter *filter, const char *id, void *response, struct error *err)
{
    struct error gone;
    struct container_stats *stats = call_alloc(call, sizeof *stats);
    if (container_stats(call->services->runtime, id, stats, &gone) < 0)
        return 0;
    call_defer(call, release_stats, stats);
    return select_container_stats(filter, stats) ? answer_add(call, response, stats_write(call, stats), err) : 0;
}

int
stats_list_containers(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListContainerStatsRequest *in = request;
    const struct strv *ids = ids_of(call, container_running);
    for (size_t i = 0; i < ids->count; i++)
        if (!in->filter || select_id(in->filter->id, ids->items[i]))
            TRY(add_container(call, in->filter, ids->items[i], response, err));
    return 0;
}

/* ---- pods ---- */

static Runtime__V1__PodSandboxAttributes *
pod_attributes_write(struct call *call, const struct pod_stats *stats)
{
    const struct pod_config *config = stats->config;
    Runtime__V1__PodSandboxAttributes *out = answer_new(call, &runtime__v1__pod_sandbox_attributes__descriptor);
    out->id = stats->id;
    out->metadata = answer_new(call, &runtime__v1__pod_sandbox_metadata__descriptor);
    out->metadata->name = config->key.name;
    out->metadata->uid = config->key.uid;
    out->metadata->namespace_ = config->key.namespace;
    out->metadata->attempt = config->key.attempt;
    out->n_labels = map_write(call, &config->labels, &runtime__v1__pod_sandbox_attributes__labels_entry__descriptor, &out->labels);
    out->n_annotations =
        map_write(call, &config->annotations, &runtime__v1__pod_sandbox_attributes__annotations_entry__descriptor, &out->annotations);
    return out;
}

static Runtime__V1__NetworkInterfaceUsage *
interface_write(struct call *call, const struct interface_usage *usage)
{
    Runtime__V1__NetworkInterfaceUsage *out = answer_new(call, &runtime__v1__network_interface_usage__descriptor);
    out->name = usage->name;
    out->rx_bytes = figure(call, (int64_t)usage->rx_bytes);
    out->rx_errors = figure(call, (int64_t)usage->rx_errors);
    out->tx_bytes = figure(call, (int64_t)usage->tx_bytes);
    out->tx_errors = figure(call, (int64_t)usage->tx_errors);
    return out;
}

/* Which interface stands for the pod: the one that CNI makes for its network, else the first. */
static size_t
default_interface(const struct pod_stats *stats)
{
    for (size_t i = 0; i < stats->interface_count; i++)
        if (str_eq(stats->interfaces[i].name, "eth0"))
            return i;
    return 0;
}

static Runtime__V1__NetworkUsage *
network_write(struct call *call, const struct pod_stats *stats)
{
    if (stats->interface_count == 0)
        return NULL;
    size_t chosen = default_interface(stats);
    Runtime__V1__NetworkUsage *out = answer_new(call, &runtime__v1__network_usage__descriptor);
    out->timestamp = stats->usage.time_ns;
    out->default_interface = interface_write(call, &stats->interfaces[chosen]);
    out->interfaces = answer_list(call, stats->interface_count);
    for (size_t i = 0; i < stats->interface_count; i++)
        if (i != chosen)
            out->interfaces[out->n_interfaces++] = interface_write(call, &stats->interfaces[i]);
    return out;
}

static Runtime__V1__PodSandboxStats *
pod_stats_write(struct call *call, const struct pod_stats *stats)
{
    Runtime__V1__PodSandboxStats *out = answer_new(call, &runtime__v1__pod_sandbox_stats__descriptor);
    out->attributes = pod_attributes_write(call, stats);
    out->linux = answer_new(call, &runtime__v1__linux_pod_sandbox_stats__descriptor);
    out->linux->cpu = cpu_write(call, &stats->usage);
    out->linux->memory = memory_write(call, &stats->usage);
    out->linux->io = io_write(call, &stats->usage);
    out->linux->network = network_write(call, stats);
    out->linux->process = answer_new(call, &runtime__v1__process_usage__descriptor);
    out->linux->process->timestamp = stats->usage.time_ns;
    out->linux->process->process_count = figure(call, stats->processes);
    out->linux->n_containers = stats->container_count;
    out->linux->containers = answer_list(call, stats->container_count);
    for (size_t i = 0; i < stats->container_count; i++)
        out->linux->containers[i] = stats_write(call, &stats->containers[i]);
    return out;
}

static void
release_pod_stats(void *stats)
{
    pod_stats_free(stats);
}

int
stats_pod(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__PodSandboxStatsRequest *in = request;
    Runtime__V1__PodSandboxStatsResponse *out = response;
    call_about(call, in->pod_sandbox_id);
    TRY(check_id(in->pod_sandbox_id, "pod_sandbox_id", err));
    struct pod_stats *stats = call_alloc(call, sizeof *stats);
    TRY(pod_stats(call->services->runtime, in->pod_sandbox_id, stats, err));
    call_defer(call, release_pod_stats, stats);
    out->stats = pod_stats_write(call, stats);
    return 0;
}

static int
add_pod(struct call *call, const Runtime__V1__PodSandboxStatsFilter *filter, const char *id, void *response, struct error *err)
{
    struct error gone;
    struct pod_stats *stats = call_alloc(call, sizeof *stats);
    if (pod_stats(call->services->runtime, id, stats, &gone) < 0)
        return 0;
    call_defer(call, release_pod_stats, stats);
    return select_pod_stats(filter, stats) ? answer_add(call, response, pod_stats_write(call, stats), err) : 0;
}

int
stats_list_pods(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListPodSandboxStatsRequest *in = request;
    const struct strv *ids = ids_of(call, pod_ready);
    for (size_t i = 0; i < ids->count; i++)
        if (!in->filter || select_id(in->filter->id, ids->items[i]))
            TRY(add_pod(call, in->filter, ids->items[i], response, err));
    return 0;
}
