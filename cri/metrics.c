/* Metrics, as cAdvisor names them (a kubelet's /metrics/cadvisor is made of these): one line each in the table below, from which descriptors and
 * values are made. */
#include "api.pb-c.h"
#include "base/clock.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "runtime/runtime.h"

/* Labels that every metric has, as cAdvisor names them; further ones of a metric come behind. */
static const char *const base_labels[] = {"id", "name", "image", "container", "pod", "namespace"};
enum { BASE_LABELS = sizeof base_labels / sizeof *base_labels, LABELS_MAX = BASE_LABELS + 4 };

/* What the values of one container, or of one pod, are taken from. */
struct subject {
    struct call *call;
    const char *base[BASE_LABELS];
    const struct usage *usage;
    /* of a container, else NULL */
    const struct container_stats *container;
    const struct usage_details *details;
    const struct disk_stats *disk;
    /* of a pod, else NULL */
    const struct pod_stats *pod;
    Runtime__V1__Metric **list;
    size_t count, room;
};

struct metric {
    const char *name;
    Runtime__V1__MetricType type;
    enum figure figure;  /* where `write` is NULL */
    int64_t divisor;     /* of the figure */
    bool unlimited_is_0; /* a limit that is not there is written as 0, not left out */
    void (*write)(struct subject *subject, const struct metric *metric);
    enum pressure_of pressure;
    const char *labels[5]; /* behind the base, up to NULL */
    const char *help;
};

static void
put_labelled(struct subject *s, const struct metric *metric, int64_t value, const char *const labels[4])
{
    if (value < 0)
        return;
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 64;
        Runtime__V1__Metric **larger = answer_list(s->call, s->room);
        for (size_t i = 0; i < s->count; i++)
            larger[i] = s->list[i];
        s->list = larger;
    }
    Runtime__V1__Metric *out = s->list[s->count++] = answer_new(s->call, &runtime__v1__metric__descriptor);
    out->name = metric->name;
    out->metric_type = metric->type;
    out->value = answer_new(s->call, &runtime__v1__uint64_value__descriptor);
    out->value->value = (uint64_t)value;
    out->label_values = answer_list(s->call, LABELS_MAX);
    for (size_t i = 0; i < BASE_LABELS; i++)
        out->label_values[out->n_label_values++] = s->base[i];
    for (size_t i = 0; metric->labels[i]; i++)
        out->label_values[out->n_label_values++] = labels[i];
}

static void
put(struct subject *s, const struct metric *metric, int64_t value)
{
    put_labelled(s, metric, value, NULL);
}

/* ---- how to read what is no plain figure ---- */

static void
put_cpu(struct subject *s, const struct metric *metric)
{
    int64_t ns = s->usage->figures[FIGURE_CPU_NS];
    put_labelled(s, metric, ns < 0 ? ns : ns / NS_PER_SECOND, (const char *const[4]){"total"});
}

static int64_t
seconds_of(const struct pressure *pressure)
{
    return pressure->total_ns < 0 ? UNKNOWN : pressure->total_ns / NS_PER_SECOND;
}

static void
put_waiting(struct subject *s, const struct metric *metric)
{
    put(s, metric, seconds_of(&s->usage->pressure[metric->pressure].some));
}

static void
put_stalled(struct subject *s, const struct metric *metric)
{
    put(s, metric, seconds_of(&s->usage->pressure[metric->pressure].full));
}

static void
put_faults(struct subject *s, const struct metric *metric)
{
    static const struct {
        enum figure figure;
        const char *labels[4];
    } faults[] = {
        {FIGURE_OWN_PAGE_FAULTS, {"pgfault", "container"}},
        {FIGURE_PAGE_FAULTS, {"pgfault", "hierarchy"}},
        {FIGURE_OWN_MAJOR_PAGE_FAULTS, {"pgmajfault", "container"}},
        {FIGURE_MAJOR_PAGE_FAULTS, {"pgmajfault", "hierarchy"}},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        put_labelled(s, metric, s->usage->figures[faults[i].figure], faults[i].labels);
}

static const char *
number_text(struct subject *s, unsigned number)
{
    return arena_printf(&s->call->arena, "%u", number);
}

static void
put_block_io(struct subject *s, const struct metric *metric)
{
    for (size_t i = 0; s->details && i < s->details->device_count; i++) {
        const struct device_usage *d = &s->details->devices[i];
        const char *major = number_text(s, d->major), *minor = number_text(s, d->minor);
        put_labelled(s, metric, d->read_bytes, (const char *const[4]){d->name, major, minor, "Read"});
        put_labelled(s, metric, d->written_bytes, (const char *const[4]){d->name, major, minor, "Write"});
    }
}

#define PUT_DEVICES(function, member)                                                                                    \
    static void function(struct subject *s, const struct metric *metric)                                                 \
    {                                                                                                                    \
        for (size_t i = 0; s->details && i < s->details->device_count; i++)                                              \
            put_labelled(s, metric, s->details->devices[i].member, (const char *const[4]){s->details->devices[i].name}); \
    }
PUT_DEVICES(put_read_bytes, read_bytes)
PUT_DEVICES(put_reads, reads)
PUT_DEVICES(put_written_bytes, written_bytes)
PUT_DEVICES(put_writes, writes)

#define PUT_HUGEPAGES(function, member)                                                                                           \
    static void function(struct subject *s, const struct metric *metric)                                                          \
    {                                                                                                                             \
        for (size_t i = 0; s->details && i < s->details->hugepage_count; i++)                                                     \
            put_labelled(s, metric, s->details->hugepages[i].member, (const char *const[4]){s->details->hugepages[i].page_size}); \
    }
PUT_HUGEPAGES(put_hugepages, bytes)
PUT_HUGEPAGES(put_hugepages_peak, peak_bytes)

/* The network is the pod's. */
#define PUT_NETWORK(function, member)                                                                                           \
    static void function(struct subject *s, const struct metric *metric)                                                        \
    {                                                                                                                           \
        for (size_t i = 0; s->pod && i < s->pod->interface_count; i++)                                                          \
            put_labelled(s, metric, (int64_t)s->pod->interfaces[i].member, (const char *const[4]){s->pod->interfaces[i].name}); \
    }
PUT_NETWORK(put_rx_bytes, rx_bytes)
PUT_NETWORK(put_rx_packets, rx_packets)
PUT_NETWORK(put_rx_errors, rx_errors)
PUT_NETWORK(put_rx_dropped, rx_dropped)
PUT_NETWORK(put_tx_bytes, tx_bytes)
PUT_NETWORK(put_tx_packets, tx_packets)
PUT_NETWORK(put_tx_errors, tx_errors)
PUT_NETWORK(put_tx_dropped, tx_dropped)

#define PUT_DISK(function, value)                                                    \
    static void function(struct subject *s, const struct metric *metric)             \
    {                                                                                \
        if (s->container)                                                            \
            put_labelled(s, metric, value, (const char *const[4]){s->disk->device}); \
    }
PUT_DISK(put_disk_usage, s->container->writable_bytes)
PUT_DISK(put_disk_limit, s->disk->bytes)
PUT_DISK(put_disk_inodes, s->disk->inodes)
PUT_DISK(put_disk_inodes_free, s->disk->inodes_free)

#define PUT_OF_CONTAINER(function, value)                                \
    static void function(struct subject *s, const struct metric *metric) \
    {                                                                    \
        if (s->container)                                                \
            put(s, metric, value);                                       \
    }
PUT_OF_CONTAINER(put_start, s->container->started_ns / NS_PER_SECOND)
PUT_OF_CONTAINER(put_files, s->details->files)
PUT_OF_CONTAINER(put_sockets, s->details->sockets)

static void
put_processes(struct subject *s, const struct metric *metric)
{
    put(s, metric, s->container ? s->details->processes : s->pod->processes);
}

static void
put_last_seen(struct subject *s, const struct metric *metric)
{
    put(s, metric, s->usage->time_ns / NS_PER_SECOND);
}

static void
put_ulimits(struct subject *s, const struct metric *metric)
{
    if (s->container)
        put_labelled(s, metric, usage_open_files_limit(s->container->pid), (const char *const[4]){"max_open_files"});
}

/* ---- the table ---- */

#define COUNTER RUNTIME__V1__METRIC_TYPE__COUNTER
#define GAUGE   RUNTIME__V1__METRIC_TYPE__GAUGE
#define PLAIN(name, type, figure, divisor, help)                  \
    {                                                             \
        name, type, figure, divisor, false, NULL, 0, {NULL}, help \
    }
#define LIMIT(name, figure, help)                           \
    {                                                       \
        name, GAUGE, figure, 1, true, NULL, 0, {NULL}, help \
    }
#define OTHER(name, type, write, help)                  \
    {                                                   \
        name, type, 0, 0, false, write, 0, {NULL}, help \
    }
#define PRESSURE(name, write, what, help)                     \
    {                                                         \
        name, COUNTER, 0, 0, false, write, what, {NULL}, help \
    }
#define LABELLED(name, type, write, help, ...)                 \
    {                                                          \
        name, type, 0, 0, false, write, 0, {__VA_ARGS__}, help \
    }

/* clang-format off */
static const struct metric metrics[] = {
    PLAIN("container_cpu_user_seconds_total", COUNTER, FIGURE_CPU_USER_NS, NS_PER_SECOND, "CPU time spent in programs, in seconds."),
    PLAIN("container_cpu_system_seconds_total", COUNTER, FIGURE_CPU_SYSTEM_NS, NS_PER_SECOND, "CPU time spent in the kernel on their behalf, in seconds."),
    LABELLED("container_cpu_usage_seconds_total", COUNTER, put_cpu, "CPU time in all, in seconds.", "cpu"),
    PLAIN("container_cpu_cfs_periods_total", COUNTER, FIGURE_PERIODS, 1, "Periods of the CPU quota that went by while something wanted to run."),
    PLAIN("container_cpu_cfs_throttled_periods_total", COUNTER, FIGURE_THROTTLED_PERIODS, 1, "Those of them in which the quota was used up."),
    PLAIN("container_cpu_cfs_throttled_seconds_total", COUNTER, FIGURE_THROTTLED_NS, NS_PER_SECOND, "How long it was kept from running by the quota, in seconds."),

    PLAIN("container_memory_usage_bytes", GAUGE, FIGURE_MEMORY, 1, "Memory in use, with everything the kernel would give back, in bytes."),
    PLAIN("container_memory_working_set_bytes", GAUGE, FIGURE_MEMORY_WORKING_SET, 1, "Memory in use without files that nobody touched lately, in bytes."),
    PLAIN("container_memory_max_usage_bytes", GAUGE, FIGURE_MEMORY_PEAK, 1, "The most memory that was in use at once, in bytes."),
    PLAIN("container_memory_cache", GAUGE, FIGURE_MEMORY_CACHE, 1, "Contents of files held in memory, in bytes."),
    PLAIN("container_memory_rss", GAUGE, FIGURE_MEMORY_RSS, 1, "Memory of programs that is no file's content, in bytes."),
    PLAIN("container_memory_kernel_usage", GAUGE, FIGURE_MEMORY_KERNEL, 1, "Memory that the kernel holds on their behalf, in bytes."),
    PLAIN("container_memory_mapped_file", GAUGE, FIGURE_MEMORY_MAPPED, 1, "Contents of files that are mapped into programs, in bytes."),
    {"container_memory_swap", GAUGE, FIGURE_SWAP, 1, true, NULL, 0, {NULL}, "Memory that was written out to swap, in bytes."},
    PLAIN("container_memory_failcnt", COUNTER, FIGURE_MEMORY_LIMIT_HITS, 1, "How often the limit of memory was met."),
    LABELLED("container_memory_failures_total", COUNTER, put_faults, "Page faults, by their type, of it alone or with cgroups below it.", "failure_type", "scope"),
    PLAIN("container_oom_events_total", COUNTER, FIGURE_OOM_KILLS, 1, "Processes that were killed because memory was used up."),
    LABELLED("container_hugetlb_usage_bytes", GAUGE, put_hugepages, "Huge pages in use, in bytes.", "pagesize"),
    LABELLED("container_hugetlb_max_usage_bytes", GAUGE, put_hugepages_peak, "The most huge pages that were in use at once, in bytes.", "pagesize"),

    LABELLED("container_network_receive_bytes_total", COUNTER, put_rx_bytes, "Bytes that an interface of the pod received.", "interface"),
    LABELLED("container_network_receive_packets_total", COUNTER, put_rx_packets, "Packets that an interface of the pod received.", "interface"),
    LABELLED("container_network_receive_packets_dropped_total", COUNTER, put_rx_dropped, "Packets that were dropped on their way in.", "interface"),
    LABELLED("container_network_receive_errors_total", COUNTER, put_rx_errors, "Errors in receiving.", "interface"),
    LABELLED("container_network_transmit_bytes_total", COUNTER, put_tx_bytes, "Bytes that an interface of the pod sent.", "interface"),
    LABELLED("container_network_transmit_packets_total", COUNTER, put_tx_packets, "Packets that an interface of the pod sent.", "interface"),
    LABELLED("container_network_transmit_packets_dropped_total", COUNTER, put_tx_dropped, "Packets that were dropped on their way out.", "interface"),
    LABELLED("container_network_transmit_errors_total", COUNTER, put_tx_errors, "Errors in sending.", "interface"),

    LABELLED("container_fs_usage_bytes", GAUGE, put_disk_usage, "What the writable layer takes on disk, as last measured, in bytes.", "device"),
    LABELLED("container_fs_limit_bytes", GAUGE, put_disk_limit, "Size of the file system that writable layers are on, in bytes.", "device"),
    LABELLED("container_fs_inodes_total", GAUGE, put_disk_inodes, "Inodes of that file system.", "device"),
    LABELLED("container_fs_inodes_free", GAUGE, put_disk_inodes_free, "Inodes of that file system that are free.", "device"),
    LABELLED("container_fs_reads_bytes_total", COUNTER, put_read_bytes, "Bytes read from a device.", "device"),
    LABELLED("container_fs_reads_total", COUNTER, put_reads, "Reads from a device.", "device"),
    LABELLED("container_fs_writes_bytes_total", COUNTER, put_written_bytes, "Bytes written to a device.", "device"),
    LABELLED("container_fs_writes_total", COUNTER, put_writes, "Writes to a device.", "device"),
    LABELLED("container_blkio_device_usage_total", COUNTER, put_block_io, "Bytes read from and written to a device.", "device", "major", "minor", "operation"),

    OTHER("container_processes", GAUGE, put_processes, "Processes."),
    PLAIN("container_threads", GAUGE, FIGURE_TASKS, 1, "Threads, those of one-threaded processes included."),
    LIMIT("container_threads_max", FIGURE_TASKS_LIMIT, "How many threads there may be; 0: any number."),
    OTHER("container_file_descriptors", GAUGE, put_files, "Files that its processes have open."),
    OTHER("container_sockets", GAUGE, put_sockets, "Those of them that are sockets."),
    LABELLED("container_ulimits_soft", GAUGE, put_ulimits, "Soft limits of its first process.", "ulimit"),

    PRESSURE("container_pressure_cpu_waiting_seconds_total", put_waiting, PRESSURE_CPU, "How long something waited for a CPU, in seconds."),
    PRESSURE("container_pressure_cpu_stalled_seconds_total", put_stalled, PRESSURE_CPU, "How long everything waited for a CPU, in seconds."),
    PRESSURE("container_pressure_memory_waiting_seconds_total", put_waiting, PRESSURE_MEMORY, "How long something waited for memory, in seconds."),
    PRESSURE("container_pressure_memory_stalled_seconds_total", put_stalled, PRESSURE_MEMORY, "How long everything waited for memory, in seconds."),
    PRESSURE("container_pressure_io_waiting_seconds_total", put_waiting, PRESSURE_IO, "How long something waited for a disk, in seconds."),
    PRESSURE("container_pressure_io_stalled_seconds_total", put_stalled, PRESSURE_IO, "How long everything waited for a disk, in seconds."),

    PLAIN("container_spec_cpu_period", GAUGE, FIGURE_CPU_PERIOD_US, 1, "Period of the CPU quota, in microseconds."),
    PLAIN("container_spec_cpu_quota", GAUGE, FIGURE_CPU_QUOTA_US, 1, "CPU time it may use in a period, in microseconds; absent: any."),
    PLAIN("container_spec_cpu_shares", GAUGE, FIGURE_CPU_SHARES, 1, "Its share of the CPUs beside others, in the scale of cgroup v1."),
    LIMIT("container_spec_memory_limit_bytes", FIGURE_MEMORY_LIMIT, "Limit of memory, in bytes; 0: none."),
    LIMIT("container_spec_memory_reservation_limit_bytes", FIGURE_MEMORY_RESERVED, "Memory that is left to it when others want some, in bytes; 0: none."),
    LIMIT("container_spec_memory_swap_limit_bytes", FIGURE_SWAP_LIMIT, "Limit of swap, under cgroup v1 of memory and swap, in bytes; 0: none."),
    OTHER("container_start_time_seconds", GAUGE, put_start, "When it was started, in seconds since 1970."),
    OTHER("container_last_seen", GAUGE, put_last_seen, "When this was read, in seconds since 1970."),
};
/* clang-format on */
static const size_t metric_count = sizeof metrics / sizeof *metrics;

static void
put_figure(struct subject *s, const struct metric *metric)
{
    int64_t value = s->usage->figures[metric->figure];
    if (value < 0)
        value = metric->unlimited_is_0 ? 0 : UNKNOWN;
    put(s, metric, value > 0 ? value / metric->divisor : value);
}

/* ---- the rpcs ---- */

int
metrics_descriptors(struct call *call, const void *request, void *response, struct error *err)
{
    (void)request;
    for (const struct metric *metric = metrics; metric < metrics + metric_count; metric++) {
        Runtime__V1__MetricDescriptor *out = answer_new(call, &runtime__v1__metric_descriptor__descriptor);
        out->name = metric->name;
        out->help = metric->help;
        out->label_keys = answer_list(call, LABELS_MAX);
        for (size_t i = 0; i < BASE_LABELS; i++)
            out->label_keys[out->n_label_keys++] = base_labels[i];
        for (size_t i = 0; metric->labels[i]; i++)
            out->label_keys[out->n_label_keys++] = metric->labels[i];
        TRY(answer_add(call, response, out, err));
    }
    return 0;
}

static void
release_details(void *details)
{
    usage_details_free(details);
}

static Runtime__V1__ContainerMetrics *
container_write(struct call *call, const struct pod_stats *pod, const struct container_stats *container, const struct disk_stats *disk)
{
    const struct container_config *config = container->config;
    struct usage_details *details = call_alloc(call, sizeof *details);
    container_details(call->services->runtime, container, details);
    call_defer(call, release_details, details);
    struct subject s = {
        .call = call,
        .base = {container->cgroup, container->id, config->image_name, config->name, pod->config->key.name, pod->config->key.namespace},
        .usage = &container->usage,
        .container = container,
        .details = details,
        .disk = disk};
    for (const struct metric *metric = metrics; metric < metrics + metric_count; metric++)
        metric->write ? metric->write(&s, metric) : put_figure(&s, metric);
    Runtime__V1__ContainerMetrics *out = answer_new(call, &runtime__v1__container_metrics__descriptor);
    out->container_id = container->id;
    out->metrics = s.list;
    out->n_metrics = s.count;
    return out;
}

/* Of a pod that shares its cgroup nothing is counted but its containers. */
static const struct usage *
own_usage(struct call *call, const struct pod_stats *pod)
{
    if (pod->has_cgroup)
        return &pod->usage;
    struct usage *unknown = call_alloc(call, sizeof *unknown);
    *unknown = pod->usage;
    for (size_t i = 0; i < FIGURES; i++)
        unknown->figures[i] = UNKNOWN;
    return unknown;
}

/* The pod's own: its network, and what its cgroup counts. */
static Runtime__V1__PodSandboxMetrics *
pod_write(struct call *call, const struct pod_stats *pod, const struct disk_stats *disk)
{
    struct subject s = {.call = call,
                        .base = {pod->cgroup, pod->id, "", "", pod->config->key.name, pod->config->key.namespace},
                        .usage = own_usage(call, pod),
                        .pod = pod};
    for (const struct metric *metric = metrics; metric < metrics + metric_count; metric++)
        if (metric->write)
            metric->write(&s, metric);
        else if (pod->has_cgroup)
            put_figure(&s, metric);
    Runtime__V1__PodSandboxMetrics *out = answer_new(call, &runtime__v1__pod_sandbox_metrics__descriptor);
    out->pod_sandbox_id = pod->id;
    out->metrics = s.list;
    out->n_metrics = s.count;
    out->n_container_metrics = pod->container_count;
    out->container_metrics = answer_list(call, pod->container_count);
    for (size_t i = 0; i < pod->container_count; i++)
        out->container_metrics[i] = container_write(call, pod, &pod->containers[i], disk);
    return out;
}

static void
release_pod_stats(void *stats)
{
    pod_stats_free(stats);
}

static void
release_ids(void *ids)
{
    strv_free(ids);
}

int
metrics_list(struct call *call, const void *request, void *response, struct error *err)
{
    (void)request;
    struct strv *ids = call_alloc(call, sizeof *ids);
    struct disk_stats *disk = call_alloc(call, sizeof *disk);
    call_defer(call, release_ids, ids);
    pod_ready(call->services->runtime, ids);
    runtime_disk(call->services->runtime, disk);
    for (size_t i = 0; i < ids->count; i++) {
        struct error gone;
        struct pod_stats *pod = call_alloc(call, sizeof *pod);
        if (pod_stats(call->services->runtime, ids->items[i], pod, &gone) < 0)
            continue;
        call_defer(call, release_pod_stats, pod);
        TRY(answer_add(call, response, pod_write(call, pod, disk), err));
    }
    return 0;
}
