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

static Runtime__V1__CpuUsage *
cpu_write(struct call *call, const struct container_stats *stats)
{
    Runtime__V1__CpuUsage *out = answer_new(call, &runtime__v1__cpu_usage__descriptor);
    out->timestamp = stats->time_ns;
    out->usage_core_nano_seconds = figure(call, stats->cpu_usage_ns);
    out->usage_nano_cores = figure(call, stats->cpu_nano_cores);
    return out;
}

static Runtime__V1__MemoryUsage *
memory_write(struct call *call, const struct container_stats *stats)
{
    Runtime__V1__MemoryUsage *out = answer_new(call, &runtime__v1__memory_usage__descriptor);
    out->timestamp = stats->time_ns;
    out->working_set_bytes = figure(call, stats->memory_working_set_bytes);
    out->available_bytes = figure(call, stats->memory_available_bytes);
    out->usage_bytes = figure(call, stats->memory_usage_bytes);
    out->rss_bytes = figure(call, stats->memory_rss_bytes);
    out->page_faults = figure(call, stats->memory_page_faults);
    out->major_page_faults = figure(call, stats->memory_major_page_faults);
    return out;
}

static Runtime__V1__SwapUsage *
swap_write(struct call *call, const struct container_stats *stats)
{
    Runtime__V1__SwapUsage *out = answer_new(call, &runtime__v1__swap_usage__descriptor);
    out->timestamp = stats->time_ns;
    out->swap_usage_bytes = figure(call, stats->swap_usage_bytes);
    out->swap_available_bytes = figure(call, stats->swap_available_bytes);
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
    out->cpu = cpu_write(call, stats);
    out->memory = memory_write(call, stats);
    out->swap = swap_write(call, stats);
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

static void
release_ids(void *ids)
{
    strv_free(ids);
}

int
stats_list_containers(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__ListContainerStatsRequest *in = request;
    struct strv *ids = call_alloc(call, sizeof *ids);
    call_defer(call, release_ids, ids);
    container_running(call->services->runtime, ids);
    for (size_t i = 0; i < ids->count; i++)
        TRY(add_container(call, in->filter, ids->items[i], response, err));
    return 0;
}
