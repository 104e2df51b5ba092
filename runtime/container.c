/* Containers: create, start, status, list, update, reopen log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/cdi.h"
#include "runtime/cgroup_units.h"
#include "runtime/configs.h"
#include "runtime/container_exit.h"
#include "runtime/container_spec.h"
#include "runtime/container_steps.h"
#include "runtime/idmap.h"
#include "runtime/objects.h"
#include "runtime/pod_steps.h"
#include "runtime/records.h"
#include "runtime/validate.h"

/* ---- create ---- */

static char *
log_path_of(const struct pod_config *pod, const struct container_config *config)
{
    if (str_empty(config->log_path) || str_empty(pod->log_directory))
        return str_dup("");
    return str_printf("%s/%s", pod->log_directory, config->log_path);
}

/* With the lock held; takes the configuration. */
static struct container *
container_new(struct runtime *rt, struct pod *pod, struct container_config *config)
{
    struct container *c = mem_zalloc(1, sizeof *c);
    id_make(c->id);
    c->config = config;
    c->pod = pod_reference(pod);
    c->key = container_config_key(pod->id, config);
    c->cgroup = pod_container_cgroup(rt, pod, c->id);
    c->log_path = log_path_of(pod->config, config);
    c->created_ns = c->writable_time_ns = clock_now_ns();
    c->reason = str_dup("");
    c->message = str_dup("");
    c->stop_deadline_ns = INT64_MAX;
    c->references = 1;
    c->operation = operation_new(&rt->lock);
    resources_copy(&c->resources, &config->resources);
    return c;
}

/* A create or start, in a thread of its own: to the end, whoever waits. */
struct errand {
    struct runtime *rt;
    struct container *container;
    struct operation *operation; /* of a start */
};

static void
create_container(void *arg)
{
    struct errand errand = *(struct errand *)arg;
    struct container *c = errand.container;
    struct error failed;
    free(arg);
    int result = container_make(errand.rt, c, &failed);
    if (result < 0)
        container_error(c, &failed);
    HOLD(&errand.rt->lock);
    if (result < 0) {
        (void)container_move(errand.rt, c, CONTAINER_PHASE_REMOVED);
        container_list_out(errand.rt, c);
    }
    struct operation *operation = steal(c->operation);
    operation_end(operation, result < 0 ? &failed : NULL);
    operation_drop(operation);
    container_unref(c);
}

static bool
same_request(const struct container_config *a, const struct container_config *b)
{
    return a->request_length == b->request_length && (a->request_length == 0 || memcmp(a->request, b->request, a->request_length) == 0);
}

/* With the lock held. */
static int
join_container(struct container *c, const struct container_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    memcpy(id, c->id, ID_SIZE);
    if (!same_request(c->config, config)) {
        error_set(err, ERR_EXISTS, "it exists with another configuration");
        return container_error(c, err);
    }
    if (c->operation)
        return operation_wait(c->operation, cancel, err);
    if (c->phase != CONTAINER_PHASE_EXITED)
        return 0;
    error_set(err, ERR_EXISTS, "it exists and has ended: remove it, or ask for another attempt");
    return container_error(c, err);
}

static int
begin_and_wait(struct runtime *rt, struct container *c, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    struct errand *errand = mem_alloc(sizeof *errand);
    *errand = (struct errand){.rt = rt, .container = container_reference(c)};
    struct operation *operation = c->operation;
    operation->references++;
    c->sequence = ++rt->sequence;
    memcpy(id, c->id, ID_SIZE);
    container_list_in(rt, c);
    pthread_mutex_unlock(&rt->lock);
    runtime_spawn(rt, create_container, errand);
    pthread_mutex_lock(&rt->lock);
    int result = operation_wait(operation, cancel, err);
    operation_drop(operation);
    if (result < 0 && err && (err->kind == ERR_DEADLINE || err->kind == ERR_CANCELLED))
        container_error(c, err);
    return result;
}

/* With the lock held. */
static int
check_pod(const struct pod *pod, struct error *err)
{
    if (pod->phase == POD_PHASE_READY && !pod->stopping && (pod->link || pod->meeting))
        return 0;
    error_set(err, ERR_PRECONDITION, "it is not ready");
    return pod_error(pod, err);
}

static int
create_or_join(struct runtime *rt, struct pod *pod, struct container_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    HOLD(&rt->lock);
    struct container *known = NULL, *c = container_new(rt, pod, config);
    int result;
    HASH_FIND(by_key, rt->containers_by_key, c->key, strlen(c->key), known);
    if (known) {
        (void)container_reference(known);
        result = join_container(known, config, id, cancel, err);
        container_unref(known);
    } else {
        result = check_pod(pod, err);
        if (result == 0)
            result = begin_and_wait(rt, c, id, cancel, err);
        else
            container_error(c, err);
    }
    container_unref(c);
    return result;
}

/* What the request leaves to the node. A kubelet names masked and read-only paths itself, but for `procMount: Unmasked`, which
 * Kubernetes allows in user namespaces only; whoever else names none has forgotten them. */
static int
complete_config(const struct runtime *rt, const struct pod *pod, struct container_config *config, struct error *err)
{
    bool none = config->masked_paths.count == 0 && config->readonly_paths.count == 0;
    if (none && !idmap_is_set(&pod->config->userns)) {
        strv_copy(&config->masked_paths, &rt->options.masked_paths);
        strv_copy(&config->readonly_paths, &rt->options.readonly_paths);
    }
    TRY(cdi_apply(&rt->options.cdi_dirs, config, err));
    fields_fill(&container_config_fields, config);
    return 0;
}

int
container_create(struct runtime *rt, struct container_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    fields_fill(&container_config_fields, config);
    struct pod *pod = pod_get(rt, config->pod_id, err);
    if (!pod || complete_config(rt, pod, config, err) < 0 || validate_container(config, pod->config, err) < 0) {
        if (pod)
            pod_put(rt, pod);
        error_prefix(err, "container %.128s", str_empty(config->name) ? "without a name" : config->name);
        container_config_free(config);
        return -1;
    }
    int result = create_or_join(rt, pod, config, id, cancel, err);
    pod_put(rt, pod);
    return result;
}

/* ---- start ---- */

/* The exec failed: there is nothing in it, and never was. */
static void
start_failed(struct runtime *rt, struct container *c, const struct error *failed)
{
    const struct exit_report report = {.status = 128, .finished_ns = clock_now_ns()};
    pthread_mutex_lock(&rt->lock);
    /* Its init's own report may have been faster; why it ended is known better here. */
    c->exited = false;
    (void)container_end(rt, c, &report, "StartError", failed->message);
    pthread_mutex_unlock(&rt->lock);
    (void)cgroup_kill(&rt->cgroups, c->cgroup, NULL);
}

static int
explain_start(struct runtime *rt, const struct container *c, int failed_op, struct error *err)
{
    struct devices none = {0};
    const bool host_too = !runtime_handler_named(rt, c->pod->config->runtime_handler).privileged_without_host_devices;
    struct spec_builder *b = failed_op >= 0 && devices_resolve(c->config, host_too, &none, NULL) == 0 ? container_spec(rt, c, &none, NULL) : NULL;
    if (b)
        container_launch_error(b, failed_op, err);
    if (b)
        spec_free(b);
    devices_free(&none);
    return -1;
}

static int
start(struct runtime *rt, struct container *c, struct error *err)
{
    int64_t started_ns = 0;
    int failed_op = -1;
    struct link *link = TRY_PTR(pod_take_link(rt, c->pod, err));
    int result = link_start(link, c->id, &started_ns, &failed_op, err);
    pod_release_link(rt, c->pod);
    if (result < 0) {
        (void)explain_start(rt, c, failed_op, err);
        start_failed(rt, c, err);
        return -1;
    }
    pthread_mutex_lock(&rt->lock);
    c->started_ns = started_ns;
    (void)container_move(rt, c, CONTAINER_PHASE_RUNNING);
    pthread_mutex_unlock(&rt->lock);
    return 0;
}

static const char *const phase_names[] = {"being made", "created", "running", "ended", "removed"};

static int
begin_start(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    HOLD(&rt->lock);
    TRY(turn_take(&c->turn, &rt->lock, "starting the container", cancel, err));
    if (c->phase == CONTAINER_PHASE_CREATED && !c->exited) {
        c->starting = true;
        return 0;
    }
    turn_give(&c->turn);
    return error_set(err, ERR_PRECONDITION, "it is %s, not created", phase_names[c->phase]);
}

/* An end that was reported meanwhile happens now. */
static int
end_start(struct runtime *rt, struct container *c, struct error *err)
{
    pthread_mutex_lock(&rt->lock);
    c->starting = false;
    container_end_if_exited(rt, c);
    pthread_mutex_unlock(&rt->lock);
    return record_container_state(rt, c, err);
}

static void
start_container(void *arg)
{
    struct errand errand = *(struct errand *)arg;
    struct container *c = errand.container;
    struct error failed;
    free(arg);
    int result = start(errand.rt, c, &failed);
    result = end_start(errand.rt, c, result < 0 ? NULL : &failed) < 0 ? -1 : result;
    HOLD(&errand.rt->lock);
    turn_give(&c->turn);
    operation_end(errand.operation, result < 0 ? &failed : NULL);
    operation_drop(errand.operation);
    container_unref(c);
}

/* Its monitor may hang: then the caller leaves when its patience ends, and the container runs, or is killed with its pod, later. */
static int
start_and_wait(struct runtime *rt, struct container *c, const struct cancel *cancel, struct error *err)
{
    struct operation *operation = operation_new(&rt->lock);
    struct errand *errand = mem_alloc(sizeof *errand);
    operation->stage = "start";
    operation->references++;
    pthread_mutex_lock(&rt->lock);
    *errand = (struct errand){rt, container_reference(c), operation};
    pthread_mutex_unlock(&rt->lock);
    runtime_spawn(rt, start_container, errand);
    HOLD(&rt->lock);
    int result = operation_wait(operation, cancel, err);
    operation_drop(operation);
    return result;
}

int
container_start(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    struct container *c = TRY_PTR(container_get(rt, id, err));
    int result = begin_start(rt, c, cancel, err);
    if (result == 0)
        result = start_and_wait(rt, c, cancel, err);
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}

/* ---- status ---- */

static enum container_state
state_of(const struct container *c)
{
    static const enum container_state states[] = {
        [CONTAINER_PHASE_MAKING] = CONTAINER_CREATED, [CONTAINER_PHASE_CREATED] = CONTAINER_CREATED, [CONTAINER_PHASE_RUNNING] = CONTAINER_RUNNING,
        [CONTAINER_PHASE_EXITED] = CONTAINER_EXITED,  [CONTAINER_PHASE_REMOVED] = CONTAINER_EXITED,
    };
    return states[c->phase];
}

void
container_fill_status(const struct container *c, struct container_status *out)
{
    bool ended = c->phase == CONTAINER_PHASE_EXITED;
    *out = (struct container_status){
        .config = container_config_share(c->config),
        .state = state_of(c),
        .created_ns = c->created_ns,
        .started_ns = c->started_ns,
        .finished_ns = ended ? c->finished_ns : 0,
        .exit_code = ended ? c->exit_code : 0,
        .reason = str_dup(ended ? c->reason : ""),
        .message = str_dup(ended ? c->message : ""),
        .pid = c->pid,
        .log_path = str_dup(c->log_path),
        .uid = c->credentials.uid,
        .gid = c->credentials.gid,
    };
    memcpy(out->id, c->id, ID_SIZE);
    resources_copy(&out->resources, &c->resources);
    strv_copy(&out->groups, &c->credentials.groups);
}

int
container_status(struct runtime *rt, const char *id, struct container_status *out, struct error *err)
{
    HOLD(&rt->lock);
    struct container *c = TRY_PTR(container_find(rt, id, err));
    container_fill_status(c, out);
    container_unref(c);
    return 0;
}

static int
newest_first(const void *a, const void *b)
{
    const struct container *const *left = a, *const *right = b;
    return (*left)->sequence < (*right)->sequence ? 1 : -1;
}

struct container_status *
container_list(struct runtime *rt, size_t *count)
{
    HOLD(&rt->lock);
    struct container *c, *next;
    size_t room = HASH_CNT(by_id, rt->containers_by_id), n = 0;
    cleanup_free struct container **list = mem_zalloc(room, sizeof(struct container *));
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (c->phase != CONTAINER_PHASE_MAKING)
            list[n++] = c;
    qsort(list, n, sizeof(struct container *), newest_first);
    struct container_status *statuses = mem_zalloc(n, sizeof *statuses);
    for (size_t i = 0; i < n; i++)
        container_fill_status(list[i], &statuses[i]);
    *count = n;
    return statuses;
}

void
container_status_free(struct container_status *status)
{
    container_config_free((struct container_config *)(uintptr_t)status->config);
    free(status->reason);
    free(status->message);
    free(status->log_path);
    resources_free(&status->resources);
    strv_free(&status->groups);
    *status = (struct container_status){0};
}

void
container_list_free(struct container_status *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        container_status_free(&list[i]);
    free(list);
}

/* ---- update ---- */

/* What an update does not give stays in force. */
static void
merge(struct resources *to, const struct resources *from)
{
    int64_t *const into[] = {&to->cpu_period,   &to->cpu_quota, &to->cpu_shares, &to->memory_limit_bytes, &to->memory_swap_limit_bytes,
                             &to->oom_score_adj};
    const int64_t given[] = {from->cpu_period,   from->cpu_quota, from->cpu_shares, from->memory_limit_bytes, from->memory_swap_limit_bytes,
                             from->oom_score_adj};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (given[i])
            *into[i] = given[i];
    char **const texts[] = {&to->cpuset_cpus, &to->cpuset_mems};
    const char *const given_texts[] = {from->cpuset_cpus, from->cpuset_mems};
    for (size_t i = 0; i < 2; i++)
        if (!str_empty(given_texts[i])) {
            free(*texts[i]);
            *texts[i] = str_dup(given_texts[i]);
        }
    for (size_t i = 0; i < from->unified.count; i++)
        strmap_set(&to->unified, from->unified.entries[i].key, from->unified.entries[i].value);
}

static void
merge_hugepages(struct resources *to, const struct resources *from)
{
    if (from->hugepage_count == 0)
        return;
    struct resources all = {0};
    resources_copy(&all, from);
    struct hugepage_limit *old = to->hugepages;
    size_t old_count = to->hugepage_count;
    to->hugepages = steal(all.hugepages);
    to->hugepage_count = all.hugepage_count;
    all.hugepages = old;
    all.hugepage_count = old_count;
    resources_free(&all);
}

static int
update(struct runtime *rt, struct container *c, const struct resources *resources, struct error *err)
{
    /* v2's cpu.max is quota and period in one: what is not given comes from what is in force. */
    struct resources effective = {0};
    pthread_mutex_lock(&rt->lock);
    bool alive = c->phase == CONTAINER_PHASE_CREATED || c->phase == CONTAINER_PHASE_RUNNING;
    resources_copy(&effective, &c->resources);
    pthread_mutex_unlock(&rt->lock);
    merge(&effective, resources);
    merge_hugepages(&effective, resources);
    int result = validate_resources(&effective, err);
    if (result == 0)
        result = alive ? cgroup_limit(&rt->cgroups, str_ends(c->cgroup, ".scope") ? rt->systemd : NULL, c->cgroup, &effective, err)
                       : error_set(err, ERR_PRECONDITION, "it is %s: only a created or running container can be updated", phase_names[c->phase]);
    if (result < 0) {
        resources_free(&effective);
        return -1;
    }
    pthread_mutex_lock(&rt->lock);
    struct resources old = c->resources;
    c->resources = effective;
    pthread_mutex_unlock(&rt->lock);
    resources_free(&old);
    return record_container_state(rt, c, err);
}

int
container_update(struct runtime *rt, const char *id, const struct resources *resources, struct error *err)
{
    struct container *c = TRY_PTR(container_get(rt, id, err));
    pthread_mutex_lock(&rt->lock);
    int result = turn_take(&c->turn, &rt->lock, "updating its limits", NULL, err);
    pthread_mutex_unlock(&rt->lock);
    if (result == 0) {
        result = update(rt, c, resources, err);
        HOLD(&rt->lock);
        turn_give(&c->turn);
    }
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}

/* ---- log ---- */

int
container_reopen_log(struct runtime *rt, const char *id, struct error *err)
{
    struct container *c = TRY_PTR(container_get(rt, id, err));
    pthread_mutex_lock(&rt->lock);
    int result = c->phase == CONTAINER_PHASE_RUNNING ? 0 : error_set(err, ERR_PRECONDITION, "it is not running");
    pthread_mutex_unlock(&rt->lock);
    struct link *link = result == 0 ? pod_take_link(rt, c->pod, err) : NULL;
    result = link ? link_reopen_log(link, c->id, err) : -1;
    if (link)
        pod_release_link(rt, c->pod);
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}
