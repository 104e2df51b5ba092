#include "runtime/usage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "runtime/cgroup.h"

enum { FILE_MAX = 65536 };
/* v1 says "no limit" with a number near 2^63, rounded to pages. */
static const int64_t v1_unlimited = INT64_MAX - 4096 * 16;

/* Where a figure is: a file that is one number, or a line "key number" in it. */
struct place {
    const char *controller, *file, *key;
    int factor;
};

static const struct source {
    enum figure figure;
    struct place v1, v2;
} sources[] = {
    /* clang-format off */
    {FIGURE_CPU_NS,                {"cpuacct", "cpuacct.usage", NULL, 1},                     {"", "cpu.stat", "usage_usec", 1000}},
    {FIGURE_CPU_USER_NS,           {"cpuacct", "cpuacct.usage_user", NULL, 1},                {"", "cpu.stat", "user_usec", 1000}},
    {FIGURE_CPU_SYSTEM_NS,         {"cpuacct", "cpuacct.usage_sys", NULL, 1},                 {"", "cpu.stat", "system_usec", 1000}},
    {FIGURE_THROTTLED_NS,          {"cpu", "cpu.stat", "throttled_time", 1},                  {"", "cpu.stat", "throttled_usec", 1000}},
    {FIGURE_PERIODS,               {"cpu", "cpu.stat", "nr_periods", 1},                      {"", "cpu.stat", "nr_periods", 1}},
    {FIGURE_THROTTLED_PERIODS,     {"cpu", "cpu.stat", "nr_throttled", 1},                    {"", "cpu.stat", "nr_throttled", 1}},
    {FIGURE_CPU_SHARES,            {"cpu", "cpu.shares", NULL, 1},                            {"cpu", "cpu.weight", NULL, 1}},
    {FIGURE_CPU_PERIOD_US,         {"cpu", "cpu.cfs_period_us", NULL, 1},                     {"cpu", "cpu.max", "max", 1}},
    {FIGURE_CPU_QUOTA_US,          {"cpu", "cpu.cfs_quota_us", NULL, 1},                      {NULL, NULL, NULL, 0}},
    {FIGURE_MEMORY,                {"memory", "memory.usage_in_bytes", NULL, 1},              {"memory", "memory.current", NULL, 1}},
    {FIGURE_MEMORY_PEAK,           {"memory", "memory.max_usage_in_bytes", NULL, 1},          {"memory", "memory.peak", NULL, 1}},
    {FIGURE_MEMORY_LIMIT,          {"memory", "memory.limit_in_bytes", NULL, 1},              {"memory", "memory.max", NULL, 1}},
    {FIGURE_MEMORY_RESERVED,       {"memory", "memory.soft_limit_in_bytes", NULL, 1},         {"memory", "memory.low", NULL, 1}},
    {FIGURE_MEMORY_KERNEL,         {"memory", "memory.kmem.usage_in_bytes", NULL, 1},         {"memory", "memory.stat", "kernel", 1}},
    {FIGURE_MEMORY_CACHE,          {"memory", "memory.stat", "total_cache", 1},               {"memory", "memory.stat", "file", 1}},
    {FIGURE_MEMORY_RSS,            {"memory", "memory.stat", "total_rss", 1},                 {"memory", "memory.stat", "anon", 1}},
    {FIGURE_MEMORY_MAPPED,         {"memory", "memory.stat", "total_mapped_file", 1},         {"memory", "memory.stat", "file_mapped", 1}},
    {FIGURE_MEMORY_INACTIVE_FILE,  {"memory", "memory.stat", "total_inactive_file", 1},       {"memory", "memory.stat", "inactive_file", 1}},
    {FIGURE_PAGE_FAULTS,           {"memory", "memory.stat", "total_pgfault", 1},             {"memory", "memory.stat", "pgfault", 1}},
    {FIGURE_MAJOR_PAGE_FAULTS,     {"memory", "memory.stat", "total_pgmajfault", 1},          {"memory", "memory.stat", "pgmajfault", 1}},
    {FIGURE_OWN_PAGE_FAULTS,       {"memory", "memory.stat", "pgfault", 1},                   {"memory", "memory.stat", "pgfault", 1}},
    {FIGURE_OWN_MAJOR_PAGE_FAULTS, {"memory", "memory.stat", "pgmajfault", 1},                {"memory", "memory.stat", "pgmajfault", 1}},
    {FIGURE_MEMORY_LIMIT_HITS,     {"memory", "memory.failcnt", NULL, 1},                     {"memory", "memory.events", "max", 1}},
    {FIGURE_OOM_KILLS,             {"memory", "memory.oom_control", "oom_kill", 1},           {"memory", "memory.events", "oom_kill", 1}},
    {FIGURE_SWAP,                  {"memory", "memory.memsw.usage_in_bytes", NULL, 1},        {"memory", "memory.swap.current", NULL, 1}},
    {FIGURE_SWAP_LIMIT,            {"memory", "memory.memsw.limit_in_bytes", NULL, 1},        {"memory", "memory.swap.max", NULL, 1}},
    {FIGURE_TASKS,                 {"pids", "pids.current", NULL, 1},                         {"pids", "pids.current", NULL, 1}},
    {FIGURE_TASKS_LIMIT,           {"pids", "pids.max", NULL, 1},                             {"pids", "pids.max", NULL, 1}},
    /* clang-format on */
};

/* "123\n" → 123; "max", "-1" or nothing → UNKNOWN. */
static int64_t
number_of(const char *text)
{
    char *end;
    int64_t value = strtoll(text, &end, 10);
    return end == text || value < 0 || value >= v1_unlimited ? UNKNOWN : value;
}

/* Of "key value" lines. */
static int64_t
find_number(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return number_of(line + length + 1);
    return UNKNOWN;
}

/* What was read last: the lines of a file stand under one another. */
struct reader {
    const struct cgroups *cgroups;
    const char *path, *controller, *file;
    int dir;
    char *text;
};

static void
turn_to(struct reader *r, const char *controller, const char *file)
{
    if (!str_eq(r->controller, controller)) {
        if (r->dir >= 0)
            (void)close(r->dir);
        r->dir = *controller ? cgroup_open_controller(r->cgroups, r->path, controller, NULL) : cgroup_open_unified(r->cgroups, r->path, NULL);
        r->controller = controller;
        r->file = NULL;
    }
    if (str_eq(r->file, file))
        return;
    free(r->text);
    r->text = NULL;
    r->file = file;
    if (r->dir >= 0 && file_read(r->dir, file, FILE_MAX, &r->text, NULL, NULL) < 0)
        r->text = NULL;
}

static int64_t
read_figure(struct reader *r, const struct source *source)
{
    const struct cgroup_hierarchy *h = source->v1.controller ? cgroups_of(r->cgroups, source->v1.controller) : NULL;
    const struct place *place = h && !h->unified ? &source->v1 : &source->v2;
    if (!place->file)
        return UNKNOWN;
    turn_to(r, place->controller, place->file);
    int64_t value = !r->text ? UNKNOWN : place->key ? find_number(r->text, place->key) : number_of(r->text);
    return value > 0 ? value * place->factor : value;
}

/* ---- figures that are made of others ---- */

/* What v2's weight would be as v1's shares: the inverse of runtime/cgroup_resources.c. */
static int64_t
shares_of(int64_t weight)
{
    if (weight <= 0)
        return UNKNOWN;
    double c = 612.0 * (log10((double)weight) + 7.0 / 34.0);
    return (int64_t)llround(pow(2, (sqrt(125.0 * 125.0 + 4 * c) - 125.0) / 2));
}

/* "max 100000" or "20000 100000": quota and period. */
static void
read_cpu_max(struct reader *r, struct usage *out)
{
    long long quota, period;
    turn_to(r, "cpu", "cpu.max");
    if (r->text && sscanf(r->text, "%lld %lld", &quota, &period) == 2) {
        out->figures[FIGURE_CPU_QUOTA_US] = quota;
        out->figures[FIGURE_CPU_PERIOD_US] = period;
    }
}

static int64_t
left_of(int64_t most, int64_t taken)
{
    if (most < 0 || taken < 0)
        return UNKNOWN;
    return most > taken ? most - taken : 0;
}

static void
complete(struct reader *r, struct usage *out)
{
    const struct cgroup_hierarchy *cpu = cgroups_of(r->cgroups, "cpu"), *memory = cgroups_of(r->cgroups, "memory");
    int64_t *f = out->figures;
    if (cpu && cpu->unified) {
        f[FIGURE_CPU_SHARES] = shares_of(f[FIGURE_CPU_SHARES]);
        read_cpu_max(r, out);
    }
    bool v1 = memory && !memory->unified;
    if (v1 && f[FIGURE_SWAP] >= 0) /* it counts both together, and they are not read in one moment */
        f[FIGURE_SWAP] = f[FIGURE_SWAP] > f[FIGURE_MEMORY] ? f[FIGURE_SWAP] - f[FIGURE_MEMORY] : 0;
    if (f[FIGURE_MEMORY] >= 0)
        f[FIGURE_MEMORY_WORKING_SET] = left_of(f[FIGURE_MEMORY], f[FIGURE_MEMORY_INACTIVE_FILE] > 0 ? f[FIGURE_MEMORY_INACTIVE_FILE] : 0);
    out->memory_left_bytes = left_of(f[FIGURE_MEMORY_LIMIT], f[FIGURE_MEMORY_WORKING_SET]);
    out->swap_left_bytes = left_of(v1 ? left_of(f[FIGURE_SWAP_LIMIT], f[FIGURE_MEMORY_LIMIT]) : f[FIGURE_SWAP_LIMIT], f[FIGURE_SWAP]);
}

/* ---- pressure ---- */

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static void
read_pressure_line(const char *text, const char *which, struct pressure *out)
{
    const char *line = text ? strstr(text, which) : NULL;
    long long total_us;
    *out = (struct pressure){.total_ns = UNKNOWN};
    if (!line)
        return;
    line += strlen(which);
    if (sscanf(line, " avg10=%lf avg60=%lf avg300=%lf total=%lld", &out->percent[0], &out->percent[1], &out->percent[2], &total_us) == 4)
        out->total_ns = total_us * 1000;
}

static void
read_pressure(struct reader *r, struct usage *out)
{
    static const char *const files[] = {[PRESSURE_CPU] = "cpu.pressure", [PRESSURE_MEMORY] = "memory.pressure", [PRESSURE_IO] = "io.pressure"};
    for (size_t i = 0; i < PRESSURES; i++) {
        turn_to(r, "", files[i]);
        read_pressure_line(r->text, "some", &out->pressure[i].some);
        read_pressure_line(r->text, "full", &out->pressure[i].full);
    }
}

void
usage_read(const struct cgroups *cgroups, const char *path, struct usage *out)
{
    struct reader r = {.cgroups = cgroups, .path = path, .dir = -1};
    for (size_t i = 0; i < FIGURES; i++)
        out->figures[i] = UNKNOWN;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        out->figures[sources[i].figure] = read_figure(&r, &sources[i]);
    out->nano_cores = UNKNOWN;
    complete(&r, out);
    read_pressure(&r, out);
    out->time_ns = clock_now_ns();
    if (r.dir >= 0)
        (void)close(r.dir);
    free(r.text);
}

void
usage_zero(struct usage *out)
{
    *out = (struct usage){.time_ns = clock_now_ns(), .memory_left_bytes = UNKNOWN, .swap_left_bytes = UNKNOWN};
    for (size_t i = 0; i < PRESSURES; i++)
        out->pressure[i].some.total_ns = out->pressure[i].full.total_ns = UNKNOWN;
}

void
usage_add(struct usage *to, const struct usage *more)
{
    for (size_t i = 0; i < FIGURES; i++)
        to->figures[i] = to->figures[i] < 0 || more->figures[i] < 0 ? UNKNOWN : to->figures[i] + more->figures[i];
    to->nano_cores = to->nano_cores < 0 || more->nano_cores < 0 ? UNKNOWN : to->nano_cores + more->nano_cores;
}
