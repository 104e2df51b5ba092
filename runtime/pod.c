/* Pods: run, stop, remove, status, list. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/change.h"
#include "runtime/configs.h"
#include "runtime/container_remove.h"
#include "runtime/etc_files.h"
#include "runtime/idmap.h"
#include "runtime/objects.h"
#include "runtime/pod_steps.h"
#include "runtime/pod_stop.h"
#include "runtime/records.h"
#include "runtime/selinux.h"
#include "runtime/validate.h"

/* ---- run ---- */

static struct pod *
pod_new(struct runtime *rt, struct pod_config *config, const char *id, char *cgroup_parent)
{
    struct pod *pod = mem_zalloc(1, sizeof *pod);
    memcpy(pod->id, id, ID_SIZE);
    pod->config = config;
    pod->key = pod_config_key(config);
    pod->cgroup_parent = cgroup_parent;
    pod->created_ns = clock_now_ns();
    pod->reason = str_dup("");
    pod->references = 1;
    pod->phase = POD_PHASE_MAKING;
    pod->operation = operation_new(&rt->lock);
    resources_copy(&pod->overhead, &config->overhead);
    resources_copy(&pod->resources, &config->resources);
    return pod;
}

struct run {
    struct runtime *rt;
    struct pod *pod;
};

/* In a thread of its own: to the end, whoever waits. */
static void
run_pod(void *arg)
{
    struct run run = *(struct run *)arg;
    struct error failed;
    free(arg);
    int result = pod_make(run.rt, run.pod, &failed);
    if (result < 0)
        pod_error(run.pod, &failed);
    pthread_mutex_lock(&run.rt->lock);
    if (result < 0) {
        run.pod->phase = POD_PHASE_REMOVED;
        pod_list_out(run.rt, run.pod);
    }
    pthread_mutex_unlock(&run.rt->lock);
    if (result < 0)
        pod_cgroup_parent_release(run.rt, run.pod->cgroup_parent);
    HOLD(&run.rt->lock);
    struct operation *operation = steal(run.pod->operation);
    operation_end(operation, result < 0 ? &failed : NULL);
    operation_drop(operation);
    pod_unref(run.pod);
}

static bool
same_request(const void *a, size_t a_length, const void *b, size_t b_length)
{
    return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

/* With the lock held: the pod of that key answers a retry, or says why it cannot. */
static int
join_pod(struct pod *pod, const struct pod_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    memcpy(id, pod->id, ID_SIZE);
    if (!same_request(pod->config->request, pod->config->request_length, config->request, config->request_length)) {
        error_set(err, ERR_EXISTS, "it exists with another configuration");
        return pod_error(pod, err);
    }
    if (pod->operation)
        return operation_wait(pod->operation, cancel, err);
    if (pod->phase == POD_PHASE_READY)
        return 0;
    error_set(err, ERR_EXISTS, "it exists and is stopped: remove it, or ask for another attempt");
    return pod_error(pod, err);
}

static bool
level_is_taken(const struct runtime *rt, const char *level)
{
    for (const struct pod *pod = rt->pods_by_id; pod; pod = pod->by_id.next)
        if (str_eq(pod->config->selinux_level, level))
            return true;
    return false;
}

/* With the lock held: so that no pod reads another's files. */
static void
choose_level(const struct runtime *rt, struct pod_config *config)
{
    enum { TRIES = 100 }; /* of half a million */
    str_set(&config->selinux_level, config->selinux.level);
    for (int i = 0; str_empty(config->selinux_level) && i < TRIES; i++) {
        cleanup_free char *level = selinux_new_level();
        if (!level_is_taken(rt, level) || i == TRIES - 1)
            str_set(&config->selinux_level, level);
    }
}

/* With the lock held: a new pod under way in a thread of its own. */
static void
begin_pod(struct runtime *rt, struct pod *pod, char id[ID_SIZE])
{
    choose_level(rt, pod->config);
    struct run *run = mem_alloc(sizeof *run);
    *run = (struct run){rt, pod_reference(pod)};
    pod->sequence = ++rt->sequence;
    memcpy(id, pod->id, ID_SIZE);
    pod_list_in(rt, pod);
    pthread_mutex_unlock(&rt->lock);
    runtime_spawn(rt, run_pod, run);
    pthread_mutex_lock(&rt->lock);
}

static int
run_or_join(struct runtime *rt, struct pod_config *config, char *cgroup_parent, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    struct pod *known = NULL, *pod = pod_new(rt, config, id, cgroup_parent);
    HOLD(&rt->lock);
    HASH_FIND(by_key, rt->pods_by_key, pod->key, strlen(pod->key), known);
    int result;
    if (known) {
        (void)pod_reference(known);
        result = join_pod(known, config, id, cancel, err);
        pod_unref(known);
    } else {
        struct operation *operation = pod->operation;
        operation->references++;
        begin_pod(rt, pod, id);
        result = operation_wait(operation, cancel, err);
        operation_drop(operation);
        if (result < 0 && err && (err->kind == ERR_DEADLINE || err->kind == ERR_CANCELLED))
            pod_error(pod, err);
    }
    pod_unref(pod);
    return result;
}

int
pod_run(struct runtime *rt, struct pod_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    fields_fill(&pod_config_fields, config);
    id_make(id);
    char *cgroup_parent = validate_pod(config, err) < 0 ? NULL : pod_cgroup_path(rt, config, id, err);
    if (!cgroup_parent) {
        error_prefix(err, "pod %.128s", str_empty(config->key.name) ? "without a name" : config->key.name);
        pod_config_free(config);
        return -1;
    }
    const char *unable = rt->not_ready ? rt->not_ready : idmap_is_set(&config->userns) ? rt->no_userns : NULL;
    if (unable) {
        error_set(err, ERR_PRECONDITION, "pod %s: this node cannot run it: %s", config->key.name, unable);
        free(cgroup_parent);
        pod_config_free(config);
        return -1;
    }
    return run_or_join(rt, config, cgroup_parent, id, cancel, err);
}

/* ---- stop ---- */

/* Finds it for a call that is content where it does not exist: 1 found, 0 not there, -1 error. */
static int
find_for_end(struct runtime *rt, const char *id, struct pod **out, struct error *err)
{
    struct error failed = {0};
    *out = pod_get(rt, id, &failed);
    if (*out || failed.kind == ERR_NOT_FOUND)
        return *out != NULL;
    if (err)
        *err = failed;
    return -1;
}

static int
take_turn(struct runtime *rt, struct pod *pod, const char *what, const struct cancel *cancel, struct error *err)
{
    HOLD(&rt->lock);
    return turn_take(&pod->turn, &rt->lock, what, cancel, err);
}

static void
give_turn(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    turn_give(&pod->turn);
}

static bool
is_down(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    return pod->phase != POD_PHASE_READY && !pod->attached && !pod->link;
}

static int
stop_pod(struct runtime *rt, struct pod *pod, const struct cancel *cancel, struct error *err)
{
    TRY(take_turn(rt, pod, "stopping the pod", cancel, err));
    int result = is_down(rt, pod) ? 0 : pod_bring_down(rt, pod, "", err);
    give_turn(rt, pod);
    return result;
}

int
pod_stop(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    struct pod *pod;
    if (TRY(find_for_end(rt, id, &pod, err)) == 0)
        return 0;
    int result = stop_pod(rt, pod, cancel, err);
    if (result < 0)
        pod_error(pod, err);
    pod_put(rt, pod);
    return result;
}

/* ---- remove ---- */

static int
remove_containers(struct runtime *rt, struct pod *pod, const struct cancel *cancel, struct error *err)
{
    size_t count;
    int result = 0;
    struct container **list = pod_containers(rt, pod, &count);
    for (size_t i = 0; result == 0 && i < count; i++) {
        result = container_take_away(rt, list[i], cancel, err);
        if (result < 0)
            container_error(list[i], err);
    }
    containers_put(rt, list, count);
    return result;
}

static void
forget(struct runtime *rt, struct pod *pod)
{
    pthread_mutex_lock(&rt->lock);
    bool first = pod->phase != POD_PHASE_REMOVED;
    pod->phase = POD_PHASE_REMOVED;
    if (first) {
        change_tell(rt, CHANGE_DELETED, pod->id, pod);
        pod_list_out(rt, pod);
    }
    pthread_mutex_unlock(&rt->lock);
    if (!first)
        return;
    /* The record goes last: a successor that still finds it removes the rest. */
    etc_files_remove(rt->etc_dir, pod->id);
    pod_cgroup_parent_release(rt, pod->cgroup_parent);
    record_pod_discard(rt, pod->id);
}

static int
remove_pod(struct runtime *rt, struct pod *pod, const struct cancel *cancel, struct error *err)
{
    TRY(take_turn(rt, pod, "removing the pod", cancel, err));
    int result = is_down(rt, pod) ? 0 : pod_bring_down(rt, pod, "", err);
    if (result == 0)
        result = remove_containers(rt, pod, cancel, err);
    if (result == 0)
        forget(rt, pod);
    give_turn(rt, pod);
    return result;
}

int
pod_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    struct pod *pod;
    if (TRY(find_for_end(rt, id, &pod, err)) == 0)
        return 0;
    int result = remove_pod(rt, pod, cancel, err);
    if (result < 0)
        pod_error(pod, err);
    pod_put(rt, pod);
    return result;
}

/* ---- update ---- */

/* With the lock held. */
static void
replace(struct resources *old, const struct resources *given)
{
    if (!given)
        return;
    resources_free(old);
    resources_copy(old, given);
}

static int
keep_update(struct runtime *rt, struct pod *pod, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    HOLD(&rt->lock);
    if (pod->phase != POD_PHASE_READY)
        return error_set(err, ERR_PRECONDITION, "it is not ready");
    replace(&pod->overhead, overhead);
    replace(&pod->resources, resources);
    return 0;
}

static int
limit_update(struct runtime *rt, struct pod *pod, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    struct resources whole = {0}, costs = {0};
    pthread_mutex_lock(&rt->lock);
    bool ready = pod->phase == POD_PHASE_READY;
    resources_copy(&whole, resources ? resources : &pod->resources);
    resources_copy(&costs, overhead ? overhead : &pod->overhead);
    pthread_mutex_unlock(&rt->lock);
    int result = ready ? pod_cgroup_limit(rt, pod, &costs, &whole, err) : 0;
    resources_free(&whole);
    resources_free(&costs);
    return result;
}

static int
update_pod(struct runtime *rt, struct pod *pod, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    if (overhead)
        TRY(validate_resources(overhead, err));
    if (resources)
        TRY(validate_resources(resources, err));
    TRY(limit_update(rt, pod, overhead, resources, err));
    TRY(keep_update(rt, pod, overhead, resources, err));
    return record_pod_state(rt, pod, err);
}

int
pod_update(struct runtime *rt, const char *id, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    struct pod *pod = TRY_PTR(pod_get(rt, id, err));
    int result = take_turn(rt, pod, "updating the pod", NULL, err);
    if (result == 0) {
        result = update_pod(rt, pod, overhead, resources, err);
        give_turn(rt, pod);
    }
    if (result < 0)
        pod_error(pod, err);
    pod_put(rt, pod);
    return result;
}

/* ---- status ---- */

void
pod_fill_status(const struct runtime *rt, const struct pod *pod, struct pod_status *out)
{
    *out = (struct pod_status){
        .config = pod_config_share(pod->config),
        .state = pod->phase == POD_PHASE_READY ? POD_READY : POD_NOTREADY,
        .created_ns = pod->created_ns,
        .netns_path = pod_netns_path(rt, pod),
        .monitor_pid = pod->phase == POD_PHASE_READY ? pod->monitor.pid : 0,
        .reason = str_dup(pod->reason),
    };
    memcpy(out->id, pod->id, ID_SIZE);
    strv_copy(&out->ips, &pod->ips);
}

int
pod_status(struct runtime *rt, const char *id, struct pod_status *out, struct error *err)
{
    HOLD(&rt->lock);
    struct pod *pod = TRY_PTR(pod_find(rt, id, err));
    pod_fill_status(rt, pod, out);
    pod_unref(pod);
    return 0;
}

static int
newest_first(const void *a, const void *b)
{
    const struct pod *const *left = a, *const *right = b;
    return (*left)->sequence < (*right)->sequence ? 1 : -1;
}

struct pod_status *
pod_list(struct runtime *rt, size_t *count)
{
    HOLD(&rt->lock);
    struct pod *pod, *next;
    size_t room = HASH_CNT(by_id, rt->pods_by_id), n = 0;
    cleanup_free struct pod **pods = mem_zalloc(room, sizeof(struct pod *));
    HASH_ITER (by_id, rt->pods_by_id, pod, next)
        if (pod->phase == POD_PHASE_READY || pod->phase == POD_PHASE_NOTREADY)
            pods[n++] = pod;
    qsort(pods, n, sizeof(struct pod *), newest_first);
    struct pod_status *list = mem_zalloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++)
        pod_fill_status(rt, pods[i], &list[i]);
    *count = n;
    return list;
}

void
pod_status_free(struct pod_status *status)
{
    pod_config_free((struct pod_config *)(uintptr_t)status->config);
    strv_free(&status->ips);
    free(status->netns_path);
    free(status->reason);
    *status = (struct pod_status){0};
}

void
pod_list_free(struct pod_status *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pod_status_free(&list[i]);
    free(list);
}
