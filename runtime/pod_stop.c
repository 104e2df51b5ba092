#include "runtime/pod_stop.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/change.h"
#include "runtime/container_exit.h"
#include "runtime/janitor.h"
#include "runtime/pod_steps.h"
#include "runtime/records.h"

/* Calls in a monitor end when what they wait for is killed; a monitor that then still holds them is killed itself. */
static const int64_t calls_end_ns = 2 * NS_PER_SECOND, killed_calls_end_ns = 10 * NS_PER_SECOND;
/* What is killed is given this long to be gone. */
static const int64_t dying_ns = 2 * NS_PER_SECOND;

static void
kill_containers(struct runtime *rt, struct container **list, size_t count)
{
    struct error failed;
    for (size_t i = 0; i < count; i++)
        if (list[i]->cgroup && cgroup_kill(&rt->cgroups, list[i]->cgroup, &failed) < 0)
            log_error("a container could not be killed", "container", list[i]->id, "error", failed.message);
}

/* With the lock held: true when no call uses the link any more. */
static bool
calls_ended(struct runtime *rt, struct pod *pod, int64_t patience_ns)
{
    int64_t end = clock_monotonic_ns() + patience_ns;
    for (int64_t now; pod->link_users > 0 && (now = clock_monotonic_ns()) < end;)
        if (waiters_wait(&pod->link_waiters, &rt->lock, NULL, end - now, "waiting for calls to its monitor", NULL) < 0)
            break;
    return pod->link_users == 0;
}

/* No recorded pid is signalled before boot id and start time were compared (process.h). */
static void
kill_monitor(struct runtime *rt, const struct pod *pod, const struct process_identity *monitor)
{
    log_warn("a monitor that does not answer is killed", "pod", pod->id);
    int pidfd = monitor->pid > 0 ? (int)syscall(SYS_pidfd_open, monitor->pid, 0) : -1;
    if (pidfd >= 0 && process_is(monitor))
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    if (pidfd >= 0)
        (void)close(pidfd);
    pod_monitor_kill(rt, pod->id);
}

/* The link, ours alone: nobody gets it any more and nobody uses it. NULL where there is none. */
static struct link *
take_link(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    if (!pod->link)
        return NULL;
    if (!calls_ended(rt, pod, calls_end_ns)) {
        struct process_identity monitor = pod->monitor;
        pthread_mutex_unlock(&rt->lock);
        kill_monitor(rt, pod, &monitor);
        pthread_mutex_lock(&rt->lock);
        if (!calls_ended(rt, pod, killed_calls_end_ns))
            return NULL;
    }
    return steal(pod->link);
}

static int
end_monitor(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct link *link = take_link(rt, pod);
    struct error failed;
    if (link && link_end(link, &failed) < 0)
        log_warn("a monitor did not end as asked", "pod", pod->id, "error", failed.message);
    pthread_mutex_lock(&rt->lock);
    bool held = pod->link != NULL;
    struct process_identity monitor = pod->monitor;
    pthread_mutex_unlock(&rt->lock);
    if (held)
        return error_set(err, ERR_UNAVAILABLE, "calls to its monitor do not end");
    if (!link && monitor.pid > 0 && process_is(&monitor))
        kill_monitor(rt, pod, &monitor);
    /* Whatever its pid: only this pod's monitor and what it shares a pid namespace with was ever in this cgroup. */
    pod_monitor_kill(rt, pod->id);
    return 0;
}

static void
begin(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    pod->stopping = true;
}

static void
move_to_notready(struct runtime *rt, struct pod *pod, const char *reason)
{
    HOLD(&rt->lock);
    bool was_ready = pod->phase == POD_PHASE_READY;
    pod->phase = POD_PHASE_NOTREADY;
    pod->stopping = false;
    pod->monitor = (struct process_identity){0};
    if (!str_empty(reason)) {
        free(pod->reason);
        pod->reason = str_dup(reason);
    }
    if (was_ready)
        change_tell(rt, CHANGE_STOPPED, pod->id, pod);
}

/* A monitor flushes the exit records of its containers itself, unless it ends before. */
static bool
flush_exit(void *arg, const char *container_id)
{
    const struct runtime *rt = arg;
    exit_record_sync(rt->containers_dir, container_id);
    return true;
}

/* cgroup.kill answers before the processes are gone; nobody is told EXITED while one lives, unless the kernel cannot end it (a dead disk). */
static void
wait_until_dead(struct runtime *rt, struct container **list, size_t count)
{
    int64_t end = clock_monotonic_ns() + dying_ns;
    for (size_t i = 0; i < count; i++)
        while (list[i]->cgroup && cgroup_populated(&rt->cgroups, list[i]->cgroup) && clock_monotonic_ns() < end)
            (void)nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
}

static int
end_processes(struct runtime *rt, struct pod *pod, const char *reason, struct error *err)
{
    size_t count;
    struct container **list = pod_containers(rt, pod, &count);
    kill_containers(rt, list, count);
    int result = end_monitor(rt, pod, err);
    wait_until_dead(rt, list, count);
    for (size_t i = 0; result == 0 && i < count; i++) {
        container_settle(rt, list[i], reason);
        janitor_add(rt->janitor, flush_exit, list[i]->id, NS_PER_SECOND / 2);
    }
    containers_put(rt, list, count);
    return result;
}

int
pod_bring_down(struct runtime *rt, struct pod *pod, const char *reason, struct error *err)
{
    begin(rt, pod);
    TRY(end_processes(rt, pod, reason, err));
    pod_monitor_clear(rt, pod->id);
    move_to_notready(rt, pod, reason);
    /* The namespace is held by its bind, so plugins find it although nobody lives in it. */
    int result = pod_network_detach(rt, pod, err);
    if (result == 0)
        pod_netns_release(rt, pod->id);
    int recorded = record_pod_state(rt, pod, result == 0 ? err : NULL);
    return result < 0 || recorded < 0 ? -1 : 0;
}

/* ---- a monitor's death ---- */

struct loss {
    struct runtime *rt;
    struct pod *pod;
};

static void
handle_loss(void *arg)
{
    struct loss loss = *(struct loss *)arg;
    struct error failed;
    free(arg);
    pthread_mutex_lock(&loss.rt->lock);
    int turn = turn_take(&loss.pod->turn, &loss.rt->lock, "cleaning up after its monitor", NULL, &failed);
    bool over = turn < 0 || loss.pod->phase != POD_PHASE_READY;
    pthread_mutex_unlock(&loss.rt->lock);
    if (!over) {
        log_error("a pod's monitor is dead; its containers are killed", "pod", loss.pod->id);
        if (pod_bring_down(loss.rt, loss.pod, "MonitorLost", &failed) < 0)
            log_error("a pod whose monitor is dead could not be cleaned up", "pod", loss.pod->id, "error", failed.message);
    }
    HOLD(&loss.rt->lock);
    if (turn == 0)
        turn_give(&loss.pod->turn);
    pod_unref(loss.pod);
}

void
pod_lost(void *arg, const char *pod_id)
{
    struct runtime *rt = arg;
    struct pod *pod = pod_get(rt, pod_id, NULL);
    if (!pod)
        return;
    struct loss *loss = mem_alloc(sizeof *loss);
    *loss = (struct loss){rt, pod};
    runtime_spawn(rt, handle_loss, loss);
}
