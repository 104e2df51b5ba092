#include "runtime/change.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Later than any before it, whatever the clock does: who keeps the newest of what he was told compares these times. */
static int64_t
stamp(struct runtime *rt)
{
    int64_t now = clock_now_ns();
    rt->last_stamp_ns = now > rt->last_stamp_ns ? now : rt->last_stamp_ns + 1;
    return rt->last_stamp_ns;
}

static size_t
count_containers(const struct runtime *rt, const struct pod *pod)
{
    struct container *c, *next;
    size_t count = 0;
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        count += c->pod == pod;
    return count;
}

static int
newest_first(const void *a, const void *b)
{
    const struct container_status *left = a, *right = b;
    return (left->created_ns < right->created_ns) - (left->created_ns > right->created_ns);
}

/* With the lock held. */
static void
take(struct runtime *rt, const struct pod *pod, struct pod_snapshot *out)
{
    struct container *c, *next;
    *out = (struct pod_snapshot){.time_ns = stamp(rt)};
    pod_fill_status(rt, pod, &out->pod);
    out->containers = mem_zalloc(count_containers(rt, pod), sizeof *out->containers);
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (c->pod == pod && c->phase != CONTAINER_PHASE_MAKING && c->phase != CONTAINER_PHASE_REMOVED)
            container_fill_status(c, &out->containers[out->container_count++]);
    qsort(out->containers, out->container_count, sizeof *out->containers, newest_first);
}

int
pod_snapshot(struct runtime *rt, const char *id, struct pod_snapshot *out, struct error *err)
{
    HOLD(&rt->lock);
    struct pod *pod = TRY_PTR(pod_find(rt, id, err));
    take(rt, pod, out);
    pod_unref(pod);
    return 0;
}

void
pod_snapshot_free(struct pod_snapshot *snapshot)
{
    pod_status_free(&snapshot->pod);
    container_list_free(snapshot->containers, snapshot->container_count);
    *snapshot = (struct pod_snapshot){0};
}

void
change_free(struct change *change)
{
    pod_snapshot_free(&change->after);
    free(change);
}

void
change_tell(struct runtime *rt, enum change_kind kind, const char *id, const struct pod *pod)
{
    if (!rt->options.changed)
        return;
    struct change *change = mem_zalloc(1, sizeof *change);
    change->kind = kind;
    memcpy(change->id, id, ID_SIZE);
    take(rt, pod, &change->after);
    rt->options.changed(rt->options.changed_arg, change);
}
