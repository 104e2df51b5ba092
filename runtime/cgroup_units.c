#include "runtime/cgroup_units.h"

#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
    PROPERTIES_MAX = 32,
    QUOTA_STEP_US = 10000,     /* systemd keeps whole percents in its files */
    STOP_US = 10 * 1000 * 1000 /* how long what is in a scope may take to die when the machine goes down */
};

static const char scope_prefix[] = "crisp-", scope_suffix[] = ".scope", slice_suffix[] = ".slice", made_by_crisp[] = "trusted.crisp";

/* ---- names ---- */

static const char *
last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *
slice_path(const char *slice, struct error *err)
{
    const char *name = last_component(slice);
    size_t length = strlen(name);
    cleanup_buf struct buf path = BUF(4096);
    bool sound = str_ends(name, slice_suffix) && *name != '-' && length < 256 && !strstr(name, "--") && !str_ends(name, "-.slice") &&
                 !str_eq(name, slice_suffix) && name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\-")] == '\0';
    for (size_t i = 0; sound && i + strlen(slice_suffix) <= length; i++)
        if (name[i] == '-' || i + strlen(slice_suffix) == length)
            sound = buf_addf(&path, "/%.*s%s", (int)i, name, slice_suffix);
    if (sound)
        return steal(path.data);
    (void)error_set(err, ERR_INVALID, "cgroup_parent %.300s: with cgroup driver systemd it must name a slice, such as crisp.slice", slice);
    return NULL;
}

char *
slice_below(const char *path, const char *id)
{
    const char *name = last_component(path);
    return str_printf("%s/%.*s-%s%s", path, (int)(strlen(name) - strlen(slice_suffix)), name, id, slice_suffix);
}

char *
scope_path(const char *parent, const char *id)
{
    return str_printf("%s/%s%s%s", parent, scope_prefix, id, scope_suffix);
}

char *
cgroup_container_id(const char *path)
{
    const char *name = last_component(path);
    size_t length = strlen(name), around = strlen(scope_prefix) + strlen(scope_suffix);
    if (!str_starts(name, scope_prefix) || !str_ends(name, scope_suffix))
        return str_dup(name);
    return str_ndup(name + strlen(scope_prefix), length - around);
}

/* ---- properties ---- */

struct properties {
    struct unit_property list[PROPERTIES_MAX];
    size_t count;
};

static struct unit_property *
add(struct properties *p, const char *name)
{
    p->list[p->count].name = name;
    return &p->list[p->count++];
}

static void
add_number(struct properties *p, const char *name, uint64_t number)
{
    struct unit_property *property = add(p, name);
    property->type = UNIT_NUMBER;
    property->number = number;
}

static void
add_flag(struct properties *p, const char *name, bool flag)
{
    struct unit_property *property = add(p, name);
    property->type = UNIT_FLAG;
    property->number = flag;
}

static void
add_text(struct properties *p, const char *name, const char *text)
{
    struct unit_property *property = add(p, name);
    property->type = UNIT_TEXT;
    property->text = text;
}

/* "0-3,7" → one bit each. */
static void
add_set(struct properties *p, const char *name, const char *list)
{
    if (str_empty(list))
        return;
    struct unit_property *property = add(p, name);
    property->type = UNIT_BYTES;
    for (const char *at = list; *at;) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
        for (; first <= last && first < 8 * sizeof property->bytes; first++) {
            property->bytes[first / 8] |= (uint8_t)(1U << first % 8);
            if (property->number < first / 8 + 1)
                property->number = first / 8 + 1;
        }
        at = *end == ',' ? end + 1 : "";
    }
}

/* A quota as systemd counts it, for a second. */
static void
add_quota(struct properties *p, const struct resources *r)
{
    int64_t period = r->cpu_period > 0 ? r->cpu_period : CGROUP_CPU_PERIOD_US;
    if (r->cpu_quota == 0 && r->cpu_period == 0)
        return;
    uint64_t each_second = r->cpu_quota > 0 ? (uint64_t)((double)r->cpu_quota / (double)period * 1e6) : UINT64_MAX;
    if (each_second != UINT64_MAX && each_second % QUOTA_STEP_US)
        each_second += QUOTA_STEP_US - each_second % QUOTA_STEP_US;
    add_number(p, "CPUQuotaPeriodUSec", (uint64_t)period);
    add_number(p, "CPUQuotaPerSecUSec", each_second);
}

static void
add_swap(struct properties *p, const struct resources *r)
{
    if (r->memory_swap_limit_bytes < 0)
        add_number(p, "MemorySwapMax", UINT64_MAX);
    else if (r->memory_limit_bytes > 0 && r->memory_swap_limit_bytes >= r->memory_limit_bytes)
        add_number(p, "MemorySwapMax", (uint64_t)(r->memory_swap_limit_bytes - r->memory_limit_bytes));
}

/* Keys of cgroup v2 that systemd has a property for, and would set to something else. */
static void
add_unified(struct properties *p, const struct resources *r)
{
    static const char *const known[][2] = {{"memory.high", "MemoryHigh"}, {"memory.low", "MemoryLow"}, {"memory.min", "MemoryMin"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *value = strmap_get(&r->unified, known[i][0]);
        uint64_t bytes;
        if (value && str_to_u64(value, UINT64_MAX, known[i][0], &bytes, NULL) == 0)
            add_number(p, known[i][1], bytes);
    }
}

static void
add_limits(struct properties *p, const struct cgroups *cgroups, const struct resources *r)
{
    bool v2 = cgroups_only_unified(cgroups);
    if (r->memory_limit_bytes > 0)
        add_number(p, v2 ? "MemoryMax" : "MemoryLimit", (uint64_t)r->memory_limit_bytes);
    if (r->cpu_shares > 0)
        add_number(p, v2 ? "CPUWeight" : "CPUShares", v2 ? (uint64_t)cgroup_weight(r->cpu_shares) : (uint64_t)r->cpu_shares);
    add_quota(p, r);
    if (!v2)
        return;
    add_swap(p, r);
    add_set(p, "AllowedCPUs", r->cpuset_cpus);
    add_set(p, "AllowedMemoryNodes", r->cpuset_mems);
    add_unified(p, r);
}

/* The very list that our own program enforces: systemd attaches one beside it, and what a reload leaves must be no less. None: everything. */
static void
add_devices(struct properties *p, const struct device_rule *rules, size_t count)
{
    if (count == 0)
        return;
    add_text(p, "DevicePolicy", "strict");
    struct unit_property *property = add(p, "DeviceAllow");
    property->type = UNIT_DEVICES;
    property->devices = rules;
    property->device_count = count;
}

/* ---- slices ---- */

static char *
unified_path(const struct cgroups *cgroups, const char *path)
{
    return str_printf("%s%s", cgroups->list[cgroups->unified >= 0 ? cgroups->unified : 0].mount_point, path);
}

int
slice_start(struct systemd *systemd, const struct cgroups *cgroups, const char *path, struct error *err)
{
    cleanup_strv struct strv missing = {0};
    cleanup_free char *prefix = str_dup(path);
    for (char *slash; *prefix; *slash = '\0') {
        cleanup_free char *absolute = unified_path(cgroups, prefix);
        if (access(absolute, F_OK) < 0)
            strv_take(&missing, steal(absolute));
        slash = strrchr(prefix, '/');
    }
    if (missing.count == 0)
        return 0;
    struct properties p = {0};
    add_text(&p, "Description", "pods of crisp");
    if (systemd_start(systemd, last_component(path), p.list, p.count, err) < 0)
        return error_prefix(err, "slice %s", last_component(path));
    for (size_t i = 0; i < missing.count; i++)
        (void)setxattr(missing.items[i], made_by_crisp, "1", 1, 0);
    return 0;
}

void
slice_release(struct systemd *systemd, const struct cgroups *cgroups, const char *path)
{
    cleanup_free char *prefix = str_dup(path);
    char mark[2];
    for (char *slash; *prefix; *slash = '\0') {
        cleanup_free char *absolute = unified_path(cgroups, prefix);
        cleanup_strv struct strv children = {0};
        slash = strrchr(prefix, '/');
        cgroup_children(cgroups, prefix, &children);
        if (children.count > 0 || getxattr(absolute, made_by_crisp, mark, sizeof mark) < 0 || cgroup_populated(cgroups, prefix))
            return;
        systemd_stop(systemd, last_component(prefix));
        (void)rmdir(absolute); /* or its parent would not be empty yet */
    }
}

/* ---- scopes ---- */

int
scope_start(struct systemd *systemd, const struct cgroups *cgroups, const char *path, pid_t pid, const struct resources *resources,
            int64_t pids_limit, const struct device_rule *rules, size_t rule_count, struct error *err)
{
    struct properties p = {0};
    cleanup_free char *parent = str_ndup(path, (size_t)(strrchr(path, '/') - path)), *id = cgroup_container_id(path);
    cleanup_free char *description = str_printf("container %.12s of crisp", id);
    add_text(&p, "Description", description);
    add_text(&p, "Slice", last_component(parent));
    add_text(&p, "CollectMode", "inactive-or-failed");
    add_flag(&p, "DefaultDependencies", false);
    add_flag(&p, "Delegate", true);
    add_number(&p, "TimeoutStopUSec", STOP_US);
    add_number(&p, "TasksMax", pids_limit > 0 ? (uint64_t)pids_limit : UINT64_MAX);
    add_limits(&p, cgroups, resources);
    add_devices(&p, rules, rule_count);
    struct unit_property *property = add(&p, "PIDs");
    property->type = UNIT_PID;
    property->number = (uint64_t)pid;
    return systemd_start(systemd, last_component(path), p.list, p.count, err);
}

/* systemd rounds some: the files have the last word. */
int
cgroup_limit(const struct cgroups *cgroups, struct systemd *systemd, const char *path, const struct resources *resources, struct error *err)
{
    struct properties p = {0};
    TRY(cgroup_update(cgroups, path, resources, err));
    if (!systemd)
        return 0;
    add_limits(&p, cgroups, resources);
    TRY(systemd_set(systemd, last_component(path), p.list, p.count, err));
    return cgroup_apply(cgroups, path, resources, err);
}

void
scope_stop(struct systemd *systemd, const char *path)
{
    if (systemd && str_ends(path, scope_suffix))
        systemd_stop(systemd, last_component(path));
}
