/* The limits of a container as files of its cgroup: one line each in the table below. */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"

enum { VALUE_SIZE = CPUSET_TEXT_MAX + 1, WRITES_MAX = 64 };

/* Words for the file, or false where the limit is not given. */
typedef bool value_of(const struct resources *r, char out[VALUE_SIZE]);

static bool
put_i64(int64_t value, char out[VALUE_SIZE])
{
    (void)snprintf(out, VALUE_SIZE, "%" PRId64, value);
    return value != 0;
}

static bool
put_text(const char *value, char out[VALUE_SIZE])
{
    (void)snprintf(out, VALUE_SIZE, "%s", value ? value : "");
    return !str_empty(value);
}

static bool
memory(const struct resources *r, char out[VALUE_SIZE])
{
    return put_i64(r->memory_limit_bytes, out);
}

/* CRI's number is memory and swap together, as v1's; v2 counts swap alone. */
static bool
swap_v1(const struct resources *r, char out[VALUE_SIZE])
{
    return put_i64(r->memory_swap_limit_bytes, out);
}

static bool
swap_v2(const struct resources *r, char out[VALUE_SIZE])
{
    if (r->memory_swap_limit_bytes < 0)
        return put_text("max", out);
    if (r->memory_swap_limit_bytes == 0 || r->memory_limit_bytes <= 0 || r->memory_swap_limit_bytes < r->memory_limit_bytes)
        return false;
    (void)snprintf(out, VALUE_SIZE, "%" PRId64, r->memory_swap_limit_bytes - r->memory_limit_bytes);
    return true;
}

static bool
shares_v1(const struct resources *r, char out[VALUE_SIZE])
{
    return put_i64(r->cpu_shares, out);
}

/* 2…262144 → 1…10000 such that the defaults meet (1024 ↔ 100): the quadratic in log2 that kubernetes settled on (enhancements KEP-2254), since the
 * linear one gave a one-CPU pod a weight of 39, below any process outside of pods. */
int64_t
cgroup_weight(int64_t shares)
{
    double l = log2((double)(shares < 2 ? 2 : shares > 262144 ? 262144 : shares));
    int64_t weight = (int64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0) - 1e-9);
    return weight < 1 ? 1 : weight > 10000 ? 10000 : weight;
}

static bool
weight_v2(const struct resources *r, char out[VALUE_SIZE])
{
    return r->cpu_shares != 0 && put_i64(cgroup_weight(r->cpu_shares), out);
}

static bool
period_v1(const struct resources *r, char out[VALUE_SIZE])
{
    return put_i64(r->cpu_period, out);
}

static bool
quota_v1(const struct resources *r, char out[VALUE_SIZE])
{
    return put_i64(r->cpu_quota, out);
}

static bool
max_v2(const struct resources *r, char out[VALUE_SIZE])
{
    if (r->cpu_quota == 0 && r->cpu_period == 0)
        return false;
    int64_t period = r->cpu_period ? r->cpu_period : 100000;
    if (r->cpu_quota > 0)
        (void)snprintf(out, VALUE_SIZE, "%" PRId64 " %" PRId64, r->cpu_quota, period);
    else
        (void)snprintf(out, VALUE_SIZE, "max %" PRId64, period);
    return true;
}

static bool
cpus(const struct resources *r, char out[VALUE_SIZE])
{
    return put_text(r->cpuset_cpus, out);
}

static bool
mems(const struct resources *r, char out[VALUE_SIZE])
{
    return put_text(r->cpuset_mems, out);
}

enum {
    MAY_BE_MISSING = 1, /* a kernel without swap accounting has no such file, and nothing to limit */
    EARLY_IN_V1 = 2,    /* apply_early */
};

/* clang-format off */
static const struct resource_file {
    const char *controller, *v1, *v2;
    value_of *value_v1, *value_v2;
    int flags;
} files[] = {
    /* controller  v1                             v2                 value in v1  in v2 */
    {"cpu",        "cpu.shares",                  "cpu.weight",      shares_v1,   weight_v2, 0},
    {"cpu",        "cpu.cfs_period_us",           NULL,              period_v1,   NULL,      0},
    {"cpu",        "cpu.cfs_quota_us",            "cpu.max",         quota_v1,    max_v2,    EARLY_IN_V1},
    {"cpuset",     "cpuset.cpus",                 "cpuset.cpus",     cpus,        cpus,      0},
    {"cpuset",     "cpuset.mems",                 "cpuset.mems",     mems,        mems,      0},
    {"memory",     "memory.limit_in_bytes",       "memory.max",      memory,      memory,    0},
    {"memory",     "memory.memsw.limit_in_bytes", "memory.swap.max", swap_v1,     swap_v2,   MAY_BE_MISSING | EARLY_IN_V1},
};
/* clang-format on */

/* What the kernel refuses is the request's fault more often than ours. */
static int
refused(struct error *err, const char *file, const char *value)
{
    const int of_request[] = {EINVAL, ERANGE, EOVERFLOW, E2BIG, ENODEV, ENOSPC /* a cpuset without CPUs */};
    for (size_t i = 0; err && i < sizeof of_request / sizeof *of_request; i++)
        if (err->errnum == of_request[i])
            error_as(err, ERR_INVALID);
    if (err && err->errnum == EBUSY)
        error_as(err, ERR_PRECONDITION);
    return error_prefix(err, "cgroup limit %s=%s", file, value);
}

/* Where limits are written; of one in use with what was there before. */
struct target {
    const struct cgroups *cgroups;
    const char *path;
    bool remember;
    struct {
        int dir;
        char *file, *value;
    } before[WRITES_MAX];
    size_t written;
};

/* A file of several lines (io.max) has one for each device; writing it takes back no more than the lines that were there. */
static void
remember(struct target *t, int dir, const char *file)
{
    char *value = NULL;
    if (!t->remember || t->written == WRITES_MAX || file_read(dir, file, 4096, &value, NULL, NULL) < 0)
        return;
    t->before[t->written].dir = dup(dir);
    t->before[t->written].file = str_dup(file);
    t->before[t->written++].value = value;
}

static void
put_back(const struct target *t, size_t i)
{
    cleanup_strv struct strv lines = {0};
    strv_split(&lines, t->before[i].value, '\n', true);
    if (lines.count == 0)
        strv_add(&lines, "\n"); /* an empty cpuset */
    for (size_t line = 0; line < lines.count; line++)
        (void)file_put(t->before[i].dir, t->before[i].file, lines.items[line], NULL);
}

static int
put_value(struct target *t, int dir, const char *file, const char *value, int flags, struct error *err)
{
    struct error failed;
    remember(t, dir, file);
    if (file_put(dir, file, value, &failed) == 0 || (failed.errnum == ENOENT && (flags & MAY_BE_MISSING)))
        return 0;
    if (err)
        *err = failed;
    return refused(err, file, value);
}

static int
apply_file(struct target *t, const struct resource_file *f, const struct resources *r, struct error *err)
{
    const struct cgroup_hierarchy *h = cgroups_of(t->cgroups, f->controller);
    char value[VALUE_SIZE];
    value_of *value_in = h && h->unified ? f->value_v2 : f->value_v1;
    if (!value_in || !value_in(r, value))
        return 0;
    cleanup_close int dir = cgroup_open_controller(t->cgroups, t->path, f->controller, err);
    if (dir < 0)
        return error_prefix(err, "cgroup limit %s", f->v1);
    return put_value(t, dir, h->unified ? f->v2 : f->v1, value, f->flags, err);
}

/* v1 takes pairs in two writes and checks at each: memory ≤ memory and swap, quota/period ≤ the parent's. Where the pair is raised one order is
 * refused, where it is lowered the other: what fails here comes again in its turn. */
static void
apply_early(struct target *t, const struct resources *r)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const struct cgroup_hierarchy *h = cgroups_of(t->cgroups, files[i].controller);
        if (files[i].flags & EARLY_IN_V1 && h && !h->unified)
            (void)apply_file(t, &files[i], r, NULL);
    }
}

static int
apply_hugepages(struct target *t, const struct resources *r, struct error *err)
{
    for (size_t i = 0; i < r->hugepage_count; i++) {
        const struct cgroup_hierarchy *h = cgroups_of(t->cgroups, "hugetlb");
        if (strchr(r->hugepages[i].page_size, '/'))
            return error_set(err, ERR_INVALID, "hugepage limit: %s is no page size", r->hugepages[i].page_size);
        if (!h && r->hugepages[i].limit_bytes == 0)
            continue; /* what the kubelet says of each page size for containers that ask for none, on every kernel */
        cleanup_close int dir = TRY(cgroup_open_controller(t->cgroups, t->path, "hugetlb", err));
        const char *ending = h->unified ? "max" : "limit_in_bytes";
        cleanup_free char *value = str_printf("%" PRIu64, r->hugepages[i].limit_bytes);
        cleanup_free char *file = str_printf("hugetlb.%s.%s", r->hugepages[i].page_size, ending);
        cleanup_free char *reserved = str_printf("hugetlb.%s.rsvd.%s", r->hugepages[i].page_size, ending);
        if (faccessat(dir, file, F_OK, 0) < 0)
            return error_set(err, ERR_INVALID, "hugepage limit: this host has no pages of %s", r->hugepages[i].page_size);
        TRY(put_value(t, dir, file, value, 0, err));
        TRY(put_value(t, dir, reserved, value, MAY_BE_MISSING, err));
    }
    return 0;
}

static int
apply_unified(struct target *t, const struct resources *r, struct error *err)
{
    if (r->unified.count == 0)
        return 0;
    cleanup_close int dir = cgroup_open_unified(t->cgroups, t->path, NULL);
    for (size_t i = 0; i < r->unified.count; i++) {
        const char *file = r->unified.entries[i].key, *value = r->unified.entries[i].value;
        if (strchr(file, '/') || str_starts(file, "cgroup.") || !strchr(file, '.'))
            return error_set(err, ERR_INVALID, "unified resource %s: it is no limit of a cgroup", file);
        if (dir < 0 || faccessat(dir, file, F_OK, 0) < 0)
            return error_set(err, ERR_INVALID, "unified resource %s: %s", file,
                             cgroups_only_unified(t->cgroups) ? "this host's cgroups have no such file"
                                                              : "it is of cgroup v2, and this host has that controller in v1 or not at all");
        TRY(put_value(t, dir, file, value, 0, err));
    }
    return 0;
}

static int
apply(struct target *t, const struct resources *r, struct error *err)
{
    apply_early(t, r);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        TRY(apply_file(t, &files[i], r, err));
    TRY(apply_hugepages(t, r, err));
    return apply_unified(t, r, err);
}

int
cgroup_apply(const struct cgroups *cgroups, const char *path, const struct resources *resources, struct error *err)
{
    return apply(&(struct target){.cgroups = cgroups, .path = path}, resources, err);
}

int
cgroup_update(const struct cgroups *cgroups, const char *path, const struct resources *resources, struct error *err)
{
    struct target t = {.cgroups = cgroups, .path = path, .remember = true};
    int result = apply(&t, resources, err);
    while (t.written-- > 0) {
        if (result < 0)
            put_back(&t, t.written);
        (void)close(t.before[t.written].dir);
        free(t.before[t.written].file);
        free(t.before[t.written].value);
    }
    if (result == 0 && resources->oom_score_adj)
        cgroup_set_oom_score(cgroups, path, resources->oom_score_adj);
    return result;
}

int
cgroup_limit_pids(const struct cgroups *cgroups, const char *path, int64_t limit, struct error *err)
{
    char value[VALUE_SIZE];
    if (!put_i64(limit, value))
        return 0;
    cleanup_close int dir = TRY(cgroup_open_controller(cgroups, path, "pids", err));
    return put_value(&(struct target){.path = path}, dir, "pids.max", value, 0, err);
}
