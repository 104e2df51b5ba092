#include "runtime/recovery.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/cgroup_units.h"
#include "runtime/container_exit.h"
#include "runtime/container_steps.h"
#include "runtime/etc_files.h"
#include "runtime/janitor.h"
#include "runtime/pod_steps.h"
#include "runtime/pod_stop.h"
#include "runtime/records.h"
#include "runtime/seccomp.h"

/* For one monitor to answer; they are met in parallel. */
static const int64_t meeting_ns = 10 * NS_PER_SECOND;

/* How long the start waits for what was never finished to be undone, so that its ports and names are free; a plugin that hangs goes on alone. */
static const int64_t undoing_ns = NS_PER_SECOND;

/* Pods found unfinished: not in the tables, and not strays either while they are undone. */
struct unfinished {
    struct pod **pods;
    size_t count;
};

static bool
is_unfinished(const struct unfinished *unfinished, const char *id)
{
    for (size_t i = 0; i < unfinished->count; i++)
        if (str_eq(unfinished->pods[i]->id, id))
            return true;
    return false;
}

/* ---- reading the records ---- */

static void
names_in(int dirfd, struct strv *names)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            strv_add(names, entry->d_name);
}

/* What a pod that was never finished, or that cannot be read, may have on this machine: its id is enough to find it. */
static void
clear_pod(struct runtime *rt, const char *id)
{
    pod_monitor_kill(rt, id);
    pod_netns_release(rt, id);
    pod_monitor_clear(rt, id);
    etc_files_remove(rt->etc_dir, id);
}

/* What takes no time; the network's plugins come later, in a thread of their own (undo_pod). */
static void
begin_undoing(struct runtime *rt, const char *id, struct pod *pod, struct unfinished *unfinished)
{
    log_info("a pod that was never finished is undone", "pod", id);
    pod_monitor_kill(rt, id);
    if (pod) {
        unfinished->pods = mem_realloc(unfinished->pods, unfinished->count + 1, sizeof(struct pod *));
        unfinished->pods[unfinished->count++] = pod;
        return;
    }
    clear_pod(rt, id);
    record_pod_discard(rt, id);
}

/* The record goes last: a successor that still finds it undoes the rest. */
static void
undo_pod(struct runtime *rt, struct pod *pod)
{
    struct error failed;
    if (pod_network_detach(rt, pod, &failed) < 0)
        log_warn("the network of a pod that was never finished could not be given back", "pod", pod->id, "error", failed.message);
    clear_pod(rt, pod->id);
    if (pod->cgroup_parent)
        pod_cgroup_parent_release(rt, pod->cgroup_parent);
    record_pod_discard(rt, pod->id);
}

/* With the lock held: of two pods of one key the later made stays. */
static struct pod *
take_in_pod(struct runtime *rt, struct pod *pod)
{
    struct pod *other = NULL;
    HASH_FIND(by_key, rt->pods_by_key, pod->key, strlen(pod->key), other);
    if (other && other->sequence >= pod->sequence)
        return pod;
    if (other) {
        (void)pod_reference(other);
        pod_list_out(rt, other);
    }
    pod_list_in(rt, pod);
    pod_unref(pod);
    return other;
}

static void
drop_double_pod(struct runtime *rt, struct pod *pod)
{
    struct error failed;
    clear_pod(rt, pod->id);
    if (pod_network_detach(rt, pod, &failed) < 0)
        log_warn("the network of a doubled pod could not be given back", "pod", pod->id, "error", failed.message);
    record_set_aside(rt, "pods", pod->id, "another, made later, has the same name, uid and attempt");
    pod_put(rt, pod);
}

static void
load_pod(struct runtime *rt, const char *id, struct unfinished *unfinished)
{
    struct error failed = {0};
    struct pod *pod = NULL;
    if (!id_valid(id)) {
        record_set_aside(rt, "pods", id, "its name is no id");
        return;
    }
    enum record_loaded loaded = record_pod_load(rt, id, &pod, &failed);
    if (loaded == RECORD_UNFINISHED) {
        begin_undoing(rt, id, pod, unfinished);
        return;
    }
    if (loaded == RECORD_DAMAGED) {
        clear_pod(rt, id);
        record_set_aside(rt, "pods", id, failed.message);
        return;
    }
    pthread_mutex_lock(&rt->lock);
    if (pod->sequence > rt->sequence)
        rt->sequence = pod->sequence;
    struct pod *loser = take_in_pod(rt, pod);
    pthread_mutex_unlock(&rt->lock);
    if (loser)
        drop_double_pod(rt, loser);
}

static void
undo_unfinished_container(struct runtime *rt, const char *id, struct container *c)
{
    log_info("a container that was never finished is undone", "container", id);
    if (c) {
        (void)cgroup_kill(&rt->cgroups, c->cgroup, NULL);
        container_give_back(rt, c->cgroup);
        container_put(rt, c);
    } else {
        record_container_discard(rt, id);
    }
}

/* One whose record is no use, or whose pod was removed before its last process had left: what it has on this machine, as far as that could be read.
 */
static void
clear_container(struct runtime *rt, const char *id, struct container *c)
{
    if (!c)
        return;
    cleanup_free char *named = c->cgroup ? cgroup_container_id(c->cgroup) : NULL;
    if (str_eq(named, id)) {
        cleanup_free char *parent = str_ndup(c->cgroup, (size_t)(strrchr(c->cgroup, '/') - c->cgroup));
        (void)cgroup_kill(&rt->cgroups, c->cgroup, NULL);
        container_give_back(rt, c->cgroup);
        pod_cgroup_parent_release(rt, parent);
    }
    container_put(rt, c);
}

static bool
take_in_container(struct runtime *rt, struct container *c)
{
    HOLD(&rt->lock);
    struct container *other = NULL;
    if (c->sequence > rt->sequence)
        rt->sequence = c->sequence;
    HASH_FIND(by_key, rt->containers_by_key, c->key, strlen(c->key), other);
    if (other)
        return false;
    container_list_in(rt, c);
    container_unref(c);
    return true;
}

/* Before anything is collected: its image may have lost every name meanwhile. */
static void
hold_layers_again(struct runtime *rt, const struct container *c)
{
    struct error failed = {0};
    if (container_hold_layers(rt, c, &failed) < 0)
        log_warn("a container's layers are not all there", "container", c->id, "error", failed.message);
}

static void
load_container(struct runtime *rt, const char *id)
{
    struct error failed = {0};
    struct container *c = NULL;
    if (!id_valid(id)) {
        record_set_aside(rt, "containers", id, "its name is no id");
        return;
    }
    enum record_loaded loaded = record_container_load(rt, id, &c, &failed);
    if (loaded == RECORD_UNFINISHED) {
        undo_unfinished_container(rt, id, c);
        return;
    }
    if (loaded == RECORD_DAMAGED)
        record_set_aside(rt, "containers", id, failed.message);
    if (loaded == RECORD_DAMAGED || loaded == RECORD_ORPHAN) {
        clear_container(rt, id, c);
        return;
    }
    c->exited = c->phase == CONTAINER_PHASE_EXITED;
    if (take_in_container(rt, c)) {
        hold_layers_again(rt, c);
        return;
    }
    record_set_aside(rt, "containers", id, "another of the same pod has the same name and attempt");
    clear_container(rt, id, c);
}

/* ---- meeting the monitors ---- */

/* What its monitor says of a container; its own exit record is read by container_settle where the monitor has forgotten it. */
static void
believe(struct runtime *rt, const struct link_container *said)
{
    HOLD(&rt->lock);
    struct container *c = NULL;
    HASH_FIND(by_id, rt->containers_by_id, said->id, ID_LENGTH, c);
    if (!c)
        return;
    if (said->state == LINK_EXITED) {
        c->started_ns = said->started_ns ? said->started_ns : c->started_ns;
        (void)container_end(rt, c, &said->exit, "", "");
        return;
    }
    c->pid = c->phase == CONTAINER_PHASE_EXITED ? 0 : said->pid;
    if (said->state == LINK_RUNNING) {
        c->started_ns = said->started_ns;
        (void)container_move(rt, c, CONTAINER_PHASE_RUNNING);
    }
}

static bool
is_said(const struct link_container *said, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(said[i].id, id))
            return true;
    return false;
}

/* Of each other's containers: recorded but unknown to the monitor has ended; known to the monitor but not recorded was never finished. */
static void
compare(struct runtime *rt, struct pod *pod, struct link *link, const struct link_container *said, size_t said_count)
{
    size_t count;
    for (size_t i = 0; i < said_count; i++) {
        struct container *c = container_get(rt, said[i].id, NULL);
        if (c)
            container_put(rt, c);
        else
            (void)link_delete(link, said[i].id, NULL);
    }
    struct container **list = pod_containers(rt, pod, &count);
    for (size_t i = 0; i < count; i++)
        if (!is_said(said, said_count, list[i]->id)) {
            (void)cgroup_kill(&rt->cgroups, list[i]->cgroup, NULL);
            container_settle(rt, list[i], "Error");
        }
    containers_put(rt, list, count);
}

static int
meet(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct link *link = NULL;
    struct link_container *said = NULL;
    size_t count = 0;
    struct cancel patience = {.fd = -1, .deadline_ns = clock_monotonic_ns() + meeting_ns};
    struct process_identity monitor = pod->monitor;
    TRY(link_adopt(rt->hub, pod->id, rt->monitors_dir, &monitor, &patience, &link, &said, &count, err));
    for (size_t i = 0; i < count; i++)
        believe(rt, &said[i]);
    pthread_mutex_lock(&rt->lock);
    pod->link = link;
    pod->link_users++;
    pod->meeting = false;
    pthread_mutex_unlock(&rt->lock);
    compare(rt, pod, link, said, count);
    free(said);
    pod_release_link(rt, pod);
    return 0;
}

static const char *
why_lost(struct runtime *rt, const struct pod *pod)
{
    return str_eq(pod->monitor.boot_id, rt->boot_id) ? "MonitorLost" : "NodeRebooted";
}

struct meeting {
    struct runtime *rt;
    struct pod *pod;
};

/* A pod without its monitor: killed by cgroup, network given back, NOTREADY. A monitor that lives but does not answer is one too: its
 * containers could not be controlled. */
static void
recover_pod(struct runtime *rt, struct pod *pod)
{
    struct error failed = {0};
    bool same_boot = str_eq(pod->monitor.boot_id, rt->boot_id);
    if (pod->phase == POD_PHASE_READY && same_boot && meet(rt, pod, &failed) == 0)
        return;
    if (pod->phase == POD_PHASE_READY)
        log_warn("a pod is without its monitor", "pod", pod->id, "error", same_boot ? failed.message : "the machine was rebooted");
    cleanup_free char *reason = str_dup(pod->phase == POD_PHASE_READY ? why_lost(rt, pod) : "");
    if (pod_bring_down(rt, pod, reason, &failed) < 0)
        log_error("a pod could not be brought down", "pod", pod->id, "error", failed.message);
}

static void
recover_in_thread(void *arg)
{
    struct meeting meeting = *(struct meeting *)arg;
    struct runtime *rt = meeting.rt;
    free(arg);
    recover_pod(rt, meeting.pod);
    HOLD(&rt->lock);
    meeting.pod->meeting = false;
    turn_give(&meeting.pod->turn);
    rt->meetings--;
    waiters_wake(&rt->waiters);
    pod_unref(meeting.pod);
}

static bool
needs_recovery(const struct pod *pod)
{
    return pod->phase == POD_PHASE_READY || pod->attached;
}

static void
undo_in_thread(void *arg)
{
    struct meeting undoing = *(struct meeting *)arg;
    free(arg);
    undo_pod(undoing.rt, undoing.pod);
    HOLD(&undoing.rt->lock);
    undoing.rt->undoings--;
    waiters_wake(&undoing.rt->waiters);
    pod_unref(undoing.pod);
}

/* All at once, as each may wait for plugins. */
static void
undo_unfinished(struct runtime *rt, struct unfinished *unfinished)
{
    int64_t end = clock_monotonic_ns() + undoing_ns;
    rt->undoings = (int)unfinished->count;
    for (size_t i = 0; i < unfinished->count; i++) {
        struct meeting *undoing = mem_alloc(sizeof *undoing);
        *undoing = (struct meeting){rt, unfinished->pods[i]};
        runtime_spawn(rt, undo_in_thread, undoing);
    }
    free(unfinished->pods);
    HOLD(&rt->lock);
    for (int64_t now; rt->undoings > 0 && (now = clock_monotonic_ns()) < end;)
        if (waiters_wait(&rt->waiters, &rt->lock, NULL, end - now, "waiting for pods to be undone", NULL) < 0)
            break;
}

/* A pod's turn is taken for it from the start: whoever wants to change it waits for the meeting. */
static struct meeting **
plan_meetings(struct runtime *rt, size_t *count)
{
    HOLD(&rt->lock);
    struct pod *pod, *next;
    struct meeting **list = mem_zalloc(HASH_CNT(by_id, rt->pods_by_id) + 1, sizeof *list);
    *count = 0;
    HASH_ITER (by_id, rt->pods_by_id, pod, next) {
        if (!needs_recovery(pod))
            continue;
        (void)turn_take(&pod->turn, &rt->lock, "meeting its monitor", NULL, NULL);
        pod->meeting = true;
        struct meeting *meeting = mem_alloc(sizeof *meeting);
        *meeting = (struct meeting){rt, pod_reference(pod)};
        list[(*count)++] = meeting;
    }
    rt->meetings = (int)*count;
    return list;
}

/* Containers of a pod that is down and yet recorded as living: their end was not recorded in time. */
static void
settle_containers(struct runtime *rt)
{
    struct container *c, *next;
    size_t count = 0;
    pthread_mutex_lock(&rt->lock);
    struct container **list = mem_zalloc(HASH_CNT(by_id, rt->containers_by_id) + 1, sizeof *list);
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (!needs_recovery(c->pod) && c->phase != CONTAINER_PHASE_EXITED)
            list[count++] = container_reference(c);
    pthread_mutex_unlock(&rt->lock);
    for (size_t i = 0; i < count; i++) {
        (void)cgroup_kill(&rt->cgroups, list[i]->cgroup, NULL);
        container_settle(rt, list[i], "Error");
    }
    containers_put(rt, list, count);
}

/* ---- what nobody records any more ---- */

static bool
empty_trash(void *arg, const char *name)
{
    struct runtime *rt = arg;
    return file_remove_tree(rt->trash_dir, name, NULL) == 0;
}

static bool
is_stray(struct runtime *rt, const struct unfinished *unfinished, const char *id)
{
    struct pod *pod = pod_get(rt, id, NULL);
    if (pod)
        pod_put(rt, pod);
    return !pod && !is_unfinished(unfinished, id);
}

static void
clear_strays(struct runtime *rt, const struct unfinished *unfinished)
{
    cleanup_strv struct strv monitors = {0}, namespaces = {0}, etc = {0}, trash = {0};
    cleanup_close int etc_dir = open(rt->etc_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int netns = open(rt->netns_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cgroup_children(&rt->cgroups, rt->monitor_cgroup, &monitors);
    for (size_t i = 0; i < monitors.count; i++)
        if (id_valid(monitors.items[i]) && is_stray(rt, unfinished, monitors.items[i]))
            clear_pod(rt, monitors.items[i]);
    names_in(netns, &namespaces);
    for (size_t i = 0; i < namespaces.count; i++)
        if (id_valid(namespaces.items[i]) && is_stray(rt, unfinished, namespaces.items[i]))
            pod_netns_release(rt, namespaces.items[i]);
    names_in(etc_dir, &etc);
    for (size_t i = 0; i < etc.count; i++)
        if (is_stray(rt, unfinished, etc.items[i]))
            etc_files_remove(rt->etc_dir, etc.items[i]);
    names_in(rt->trash_dir, &trash);
    for (size_t i = 0; i < trash.count; i++)
        janitor_add(rt->sweeper, empty_trash, trash.items[i], 0);
}

/* What is in it is dying, or is a container whose pod's records are gone. */
static bool
remove_stray(void *arg, const char *cgroup)
{
    const struct runtime *rt = arg;
    (void)cgroup_kill(&rt->cgroups, cgroup, NULL);
    return cgroup_remove(&rt->cgroups, cgroup) == 0;
}

/* A crispd that was killed while a pod came or went may have left its cgroup, and the parent of those that name none. */
static void
clear_default_parent(struct runtime *rt, const char *handler, const struct unfinished *unfinished)
{
    cleanup_strv struct strv pods = {0};
    cleanup_free char *parent = pod_cgroup_parent(rt, "", handler, NULL);
    if (!parent)
        return;
    cgroup_children_anywhere(&rt->cgroups, parent, &pods);
    for (size_t i = 0; i < pods.count; i++) {
        cleanup_free char *stray = str_printf("%s/%s", parent, pods.items[i]);
        if (rt->systemd)
            pod_cgroup_parent_release(rt, stray);
        else if (id_valid(pods.items[i]) && is_stray(rt, unfinished, pods.items[i]) && !remove_stray(rt, stray))
            janitor_add(rt->janitor, remove_stray, stray, NS_PER_MS);
    }
    if (!rt->systemd && !pod_cgroup_parent_in_use(rt, parent))
        cgroup_remove_own_parent(&rt->cgroups, parent);
    pod_cgroup_parent_release(rt, parent);
}

static void
clear_seccomp_programs(struct runtime *rt)
{
    cleanup_strv struct strv used = {0};
    struct container *c, *next;
    pthread_mutex_lock(&rt->lock);
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        strv_add(&used, c->credentials.filter ? c->credentials.filter : "");
    pthread_mutex_unlock(&rt->lock);
    seccomp_store_keep(rt->seccomp, &used);
}

/* Addresses and rules of pods that are not recorded here. */
static void
collect_network(struct runtime *rt, const struct unfinished *unfinished)
{
    cleanup_strv struct strv ids = {0};
    struct pod *pod, *next;
    pthread_mutex_lock(&rt->lock);
    HASH_ITER (by_id, rt->pods_by_id, pod, next)
        strv_add(&ids, pod->id);
    pthread_mutex_unlock(&rt->lock);
    for (size_t i = 0; i < unfinished->count; i++)
        strv_add(&ids, unfinished->pods[i]->id);
    network_collect(rt->network, &ids);
}

void
recovery_begin(struct runtime *rt)
{
    cleanup_strv struct strv pods = {0}, containers = {0};
    struct unfinished unfinished = {0};
    size_t count;
    names_in(rt->pods_dir, &pods);
    names_in(rt->containers_dir, &containers);
    for (size_t i = 0; i < pods.count; i++)
        load_pod(rt, pods.items[i], &unfinished);
    for (size_t i = 0; i < containers.count; i++)
        load_container(rt, containers.items[i]);
    settle_containers(rt);
    clear_strays(rt, &unfinished);
    clear_default_parent(rt, "", &unfinished);
    for (size_t i = 0; i < rt->options.handler_count; i++)
        clear_default_parent(rt, rt->options.handlers[i].name, &unfinished);
    clear_seccomp_programs(rt);
    collect_network(rt, &unfinished);
    struct meeting **meetings = plan_meetings(rt, &count);
    for (size_t i = 0; i < count; i++)
        runtime_spawn(rt, recover_in_thread, meetings[i]);
    free(meetings);
    undo_unfinished(rt, &unfinished);
}
