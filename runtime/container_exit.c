#include "runtime/container_exit.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/records.h"

enum { EXIT_KILLED = 137 /* 128 + SIGKILL */ };

static const char *
reason_of(const struct exit_report *report)
{
    if (report->oom_killed && report->status != 0)
        return "OOMKilled";
    return report->status == 0 ? "Completed" : "Error";
}

void
container_end_if_exited(struct runtime *rt, struct container *c)
{
    if (c->exited && !c->starting && container_move(rt, c, CONTAINER_PHASE_EXITED))
        c->pid = 0;
}

bool
container_end(struct runtime *rt, struct container *c, const struct exit_report *report, const char *reason, const char *message)
{
    if (c->exited)
        return false;
    c->exited = true;
    c->exit_code = report->status;
    c->finished_ns = report->finished_ns;
    free(c->reason);
    free(c->message);
    c->reason = str_dup(str_empty(reason) ? reason_of(report) : reason);
    c->message = str_dup(message);
    /* MAKING: container_make moves it on when it sees `exited`. */
    container_end_if_exited(rt, c);
    return true;
}

void
container_exited(void *arg, const char *pod_id, const char *container_id, const struct exit_report *report)
{
    struct runtime *rt = arg;
    (void)pod_id;
    pthread_mutex_lock(&rt->lock);
    struct container *c = NULL;
    HASH_FIND(by_id, rt->containers_by_id, container_id, ID_LENGTH, c);
    bool news = c && container_end(rt, c, report, "", "");
    cleanup_free char *cgroup = news && c->cgroup ? str_dup(c->cgroup) : NULL;
    bool own_pids = c && c->config->pid == NAMESPACE_CONTAINER;
    pthread_mutex_unlock(&rt->lock);
    /* What it left behind in a pid namespace that is not its own would live on. */
    if (cgroup && !own_pids && cgroup_populated(&rt->cgroups, cgroup))
        (void)cgroup_kill(&rt->cgroups, cgroup, NULL);
}

void
container_settle(struct runtime *rt, struct container *c, const char *reason)
{
    struct exit_report report = {.status = EXIT_KILLED, .finished_ns = clock_now_ns()};
    bool recorded = exit_record_read(rt->containers_dir, c->id, &report);
    pthread_mutex_lock(&rt->lock);
    bool changed =
        (c->phase == CONTAINER_PHASE_CREATED || c->phase == CONTAINER_PHASE_RUNNING) && container_end(rt, c, &report, recorded ? "" : reason, "");
    pthread_mutex_unlock(&rt->lock);
    struct error failed;
    if (changed && record_container_state(rt, c, &failed) < 0)
        log_warn("a container's end was not recorded", "container", c->id, "error", failed.message);
}
