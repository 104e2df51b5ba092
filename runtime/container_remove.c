#include "runtime/container_remove.h"

#include "base/clock.h"
#include "runtime/container_exit.h"
#include "runtime/container_steps.h"
#include "runtime/container_stop.h"
#include "runtime/records.h"

/* A container that was never started has an init that waits: it is killed and its report awaited as briefly as a process takes to die. */
static const int64_t created_dies_ns = 5 * NS_PER_SECOND;

static void
end_created(struct runtime *rt, struct container *c)
{
    (void)cgroup_kill(&rt->cgroups, c->cgroup, NULL);
    HOLD(&rt->lock);
    int64_t end = clock_monotonic_ns() + created_dies_ns;
    for (int64_t now; c->phase == CONTAINER_PHASE_CREATED && (now = clock_monotonic_ns()) < end;)
        if (waiters_wait(&c->waiters, &rt->lock, NULL, end - now, "waiting for the container to end", NULL) < 0)
            break;
}

static enum container_phase
phase_of(struct runtime *rt, const struct container *c)
{
    HOLD(&rt->lock);
    return c->phase;
}

static int
end_processes(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    if (phase_of(rt, c) == CONTAINER_PHASE_CREATED) {
        end_created(rt, c);
        container_settle(rt, c, "Error");
    }
    return container_bring_down(rt, c, 0, cancel, err);
}

/* What its monitor still holds for it: the log, its record. A monitor that is gone holds nothing. */
static void
delete_in_monitor(struct runtime *rt, struct container *c)
{
    struct link *link = pod_take_link(rt, c->pod, NULL);
    if (!link)
        return;
    (void)link_delete(link, c->id, NULL);
    pod_release_link(rt, c->pod);
}

static bool
forget(struct runtime *rt, struct container *c)
{
    HOLD(&rt->lock);
    if (!container_move(rt, c, CONTAINER_PHASE_REMOVED))
        return false;
    container_list_out(rt, c);
    return true;
}

static int
take_away(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    if (phase_of(rt, c) == CONTAINER_PHASE_REMOVED)
        return 0;
    TRY(end_processes(rt, c, cancel, err));
    delete_in_monitor(rt, c);
    if (!forget(rt, c))
        return 0;
    container_give_back(rt, c->cgroup);
    if (rt->options.release_layers)
        rt->options.release_layers(rt->options.arg, c->id);
    return 0;
}

int
container_take_away(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    pthread_mutex_lock(&rt->lock);
    int result = turn_take(&c->turn, &rt->lock, "removing the container", cancel, err);
    pthread_mutex_unlock(&rt->lock);
    if (result < 0)
        return -1;
    result = take_away(rt, c, cancel, err);
    HOLD(&rt->lock);
    turn_give(&c->turn);
    return result;
}

int
container_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    struct container *c;
    if (TRY(container_get_if_there(rt, id, &c, err)) == 0)
        return 0;
    int result = container_take_away(rt, c, cancel, err);
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}
