/* Stopping: a state machine that every caller drives,
 *
 *   running ──stop signal (once)──▶ signalled ──the earliest end of grace of all callers──▶ killed, again each second ──▶ EXITED
 *
 * A start that is under way is waited for, as long; then the init that waits is killed: a stopped container never runs later.
 *
 * What ends it is the kernel's truth: the exit that its monitor reports, or, where that is missing although nothing of it is left, its cgroup being
 * empty. A caller who leaves only stops waiting. */
#include "runtime/container_stop.h"

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/container_exit.h"
#include "runtime/validate.h"

/* SIGKILL is sent again in this rhythm (a process may have been forked into the cgroup's parent meanwhile), and after two of them the truth is read
 * again. */
static const int64_t kill_again_ns = NS_PER_SECOND;

static void
send_stop_signal(struct runtime *rt, struct container *c)
{
    int number = SIGTERM;
    struct error failed;
    (void)signal_parse(c->config->stop_signal, &number, NULL);
    struct link *link = pod_take_link(rt, c->pod, &failed);
    if (!link || link_signal(link, c->id, number, &failed) < 0)
        log_warn("a stop signal was not sent", "container", c->id, "error", failed.message);
    if (link)
        pod_release_link(rt, c->pod);
}

/* Killing is crispd's own work where the unified hierarchy has cgroup.kill; else by the list of its processes. */
static int
kill_all(struct runtime *rt, struct container *c, struct error *err)
{
    return cgroup_kill(&rt->cgroups, c->cgroup, err);
}

/* Its start says what came of it. */
static bool
is_starting(struct runtime *rt, const struct container *c)
{
    HOLD(&rt->lock);
    return c->starting;
}

/* Nothing of it lives, and still nobody said so: a lost report. */
static void
reread_truth(struct runtime *rt, struct container *c)
{
    if (is_starting(rt, c) || cgroup_populated(&rt->cgroups, c->cgroup))
        return;
    log_warn("a container ended without a report", "container", c->id);
    container_settle(rt, c, "Error");
}

struct stopping {
    int64_t killed_ns; /* when this caller last killed; 0: not yet */
    int kills;
};

/* One step without the lock, where one is due: true when something was done and the state is to be looked at again. */
static bool
act(struct runtime *rt, struct container *c, struct stopping *s, bool send_signal, bool kill_now, struct error *err)
{
    if (!send_signal && !kill_now)
        return false;
    pthread_mutex_unlock(&rt->lock);
    if (send_signal)
        send_stop_signal(rt, c);
    if (kill_now) {
        if (s->kills++ >= 2)
            reread_truth(rt, c);
        if (kill_all(rt, c, err) < 0)
            log_warn("a container was not killed", "container", c->id, "error", err->message);
        s->killed_ns = clock_monotonic_ns();
    }
    pthread_mutex_lock(&rt->lock);
    return true;
}

static int64_t
next_step_ns(const struct container *c, const struct stopping *s)
{
    return s->killed_ns ? s->killed_ns + kill_again_ns : c->stop_deadline_ns;
}

/* With the lock held. */
static int
drive(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    struct stopping s = {0};
    struct error last;
    while (c->phase == CONTAINER_PHASE_RUNNING || c->starting) {
        int64_t now = clock_monotonic_ns(), due = next_step_ns(c, &s);
        bool send_signal = c->phase == CONTAINER_PHASE_RUNNING && !c->signalled && c->stop_deadline_ns > now;
        c->signalled |= send_signal;
        if (act(rt, c, &s, send_signal, now >= due, &last))
            continue;
        if (waiters_wait(&c->waiters, &rt->lock, cancel, due - now, "waiting for the container to end", err) < 0)
            return -1;
    }
    return 0;
}

static int64_t
end_of_grace(int64_t grace_ns)
{
    int64_t now = clock_monotonic_ns();
    if (grace_ns <= 0)
        return now;
    return grace_ns > INT64_MAX - now ? INT64_MAX - 1 : now + grace_ns;
}

int
container_bring_down(struct runtime *rt, struct container *c, int64_t grace_ns, const struct cancel *cancel, struct error *err)
{
    int64_t deadline = end_of_grace(grace_ns);
    HOLD(&rt->lock);
    if (c->phase != CONTAINER_PHASE_RUNNING && !c->starting)
        return 0;
    if (deadline < c->stop_deadline_ns) {
        c->stop_deadline_ns = deadline;
        waiters_wake(&c->waiters);
    }
    return drive(rt, c, cancel, err);
}

int
container_stop(struct runtime *rt, const char *id, int64_t grace_ns, const struct cancel *cancel, struct error *err)
{
    struct container *c;
    if (TRY(container_get_if_there(rt, id, &c, err)) == 0)
        return 0;
    int result = container_bring_down(rt, c, grace_ns, cancel, err);
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}
