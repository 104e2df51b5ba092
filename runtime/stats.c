/* What containers use, from their cgroups: one line a figure in the tables below. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "runtime/meter.h"
#include "runtime/objects.h"

enum { FILE_MAX = 65536, UNKNOWN = -1 };
/* v1 says "no limit" with a number near 2^63, rounded to pages. */
static const int64_t v1_unlimited = INT64_MAX - 4096 * 16;

/* "123\n" → 123; "max" or none → UNKNOWN. */
static int64_t
read_number(int dir, const char *file)
{
    cleanup_free char *text = NULL;
    uint64_t value;
    if (dir < 0 || file_read(dir, file, FILE_MAX, &text, NULL, NULL) < 0 || !text)
        return UNKNOWN;
    text[strcspn(text, "\n")] = '\0';
    return str_to_u64(text, INT64_MAX, file, &value, NULL) < 0 ? UNKNOWN : (int64_t)value;
}

/* "key value" lines. */
static int64_t
find_number(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return strtoll(line + length + 1, NULL, 10);
    return UNKNOWN;
}

static void
read_memory_stat(int dir, bool unified, struct container_stats *out, int64_t *inactive_file)
{
    const struct {
        int64_t *value;
        const char *v1, *v2;
    } figures[] = {
        {&out->memory_rss_bytes, "total_rss", "anon"},
        {&out->memory_page_faults, "total_pgfault", "pgfault"},
        {&out->memory_major_page_faults, "total_pgmajfault", "pgmajfault"},
        {inactive_file, "total_inactive_file", "inactive_file"},
    };
    cleanup_free char *text = NULL;
    if (file_read(dir, "memory.stat", FILE_MAX, &text, NULL, NULL) < 0)
        return;
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        *figures[i].value = find_number(text, unified ? figures[i].v2 : figures[i].v1);
}

static void
read_swap(int dir, bool unified, struct container_stats *out)
{
    int64_t both = unified ? UNKNOWN : read_number(dir, "memory.memsw.usage_in_bytes");
    int64_t limit = read_number(dir, unified ? "memory.swap.max" : "memory.memsw.limit_in_bytes");
    if (unified)
        out->swap_usage_bytes = read_number(dir, "memory.swap.current");
    else if (both >= out->memory_usage_bytes)
        out->swap_usage_bytes = both - out->memory_usage_bytes;
    if (unified && limit >= 0 && out->swap_usage_bytes >= 0)
        out->swap_available_bytes = limit > out->swap_usage_bytes ? limit - out->swap_usage_bytes : 0;
}

static void
read_memory(const struct cgroups *cgroups, const char *path, struct container_stats *out)
{
    const struct cgroup_hierarchy *h = cgroups_of(cgroups, "memory");
    cleanup_close int dir = h ? cgroup_open_controller(cgroups, path, "memory", NULL) : -1;
    int64_t inactive_file = 0;
    if (dir < 0)
        return;
    out->memory_usage_bytes = read_number(dir, h->unified ? "memory.current" : "memory.usage_in_bytes");
    read_memory_stat(dir, h->unified, out, &inactive_file);
    int64_t usage = out->memory_usage_bytes;
    out->memory_working_set_bytes = usage > inactive_file ? usage - inactive_file : 0;
    int64_t limit = read_number(dir, h->unified ? "memory.max" : "memory.limit_in_bytes");
    if (limit >= 0 && limit < v1_unlimited)
        out->memory_available_bytes = limit > out->memory_working_set_bytes ? limit - out->memory_working_set_bytes : 0;
    read_swap(dir, h->unified, out);
}

static void
read_cpu(const struct cgroups *cgroups, const char *path, struct container_stats *out)
{
    bool v1 = cgroups_of(cgroups, "cpuacct") != NULL;
    cleanup_close int dir = v1 ? cgroup_open_controller(cgroups, path, "cpuacct", NULL) : cgroup_open_unified(cgroups, path, NULL);
    cleanup_free char *text = NULL;
    if (dir < 0)
        return;
    if (v1)
        out->cpu_usage_ns = read_number(dir, "cpuacct.usage");
    else if (file_read(dir, "cpu.stat", FILE_MAX, &text, NULL, NULL) == 0)
        out->cpu_usage_ns = find_number(text, "usage_usec") * 1000;
}

/* Cores in use since the last time somebody asked, in billionths. */
static int64_t
nano_cores(struct stats_sample *last, const struct container_stats *now)
{
    int64_t result = UNKNOWN;
    if (last->time_ns && now->time_ns > last->time_ns && now->cpu_usage_ns >= last->cpu_ns)
        result = (int64_t)((double)(now->cpu_usage_ns - last->cpu_ns) / (double)(now->time_ns - last->time_ns) * 1e9);
    if (now->cpu_usage_ns >= 0)
        *last = (struct stats_sample){now->time_ns, now->cpu_usage_ns};
    return result;
}

static void
measure(struct runtime *rt, struct container *c, struct container_stats *out)
{
    *out = (struct container_stats){
        .config = container_config_share(c->config),
        .cpu_usage_ns = UNKNOWN,
        .memory_usage_bytes = UNKNOWN,
        .memory_working_set_bytes = UNKNOWN,
        .memory_available_bytes = UNKNOWN,
        .memory_rss_bytes = UNKNOWN,
        .memory_page_faults = UNKNOWN,
        .memory_major_page_faults = UNKNOWN,
        .swap_usage_bytes = UNKNOWN,
        .swap_available_bytes = UNKNOWN,
    };
    memcpy(out->id, c->id, ID_SIZE);
    out->time_ns = clock_now_ns();
    read_cpu(&rt->cgroups, c->cgroup, out);
    read_memory(&rt->cgroups, c->cgroup, out);
    HOLD(&rt->lock);
    out->cpu_nano_cores = nano_cores(&c->last_sample, out);
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
container_running(struct runtime *rt, struct strv *ids)
{
    HOLD(&rt->lock);
    struct container *c, *next;
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (c->phase == CONTAINER_PHASE_RUNNING)
            strv_add(ids, c->id);
}

void
container_stats_free(struct container_stats *stats)
{
    container_config_free((struct container_config *)(uintptr_t)stats->config);
    *stats = (struct container_stats){0};
}

void
runtime_writable_usage(struct runtime *rt, uint64_t *bytes, uint64_t *inodes)
{
    struct container *c, *next;
    meter_wanted(rt->meter);
    HOLD(&rt->lock);
    *bytes = *inodes = 0;
    HASH_ITER(by_id, rt->containers_by_id, c, next)
    {
        *bytes += (uint64_t)c->writable_bytes;
        *inodes += (uint64_t)c->writable_inodes;
    }
}
