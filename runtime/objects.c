#include "runtime/objects.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/change.h"
#include "runtime/configs.h"

/* ---- references ---- */

struct pod *
pod_reference(struct pod *pod)
{
    pod->references++;
    return pod;
}

struct container *
container_reference(struct container *container)
{
    container->references++;
    return container;
}

void
pod_unref(struct pod *pod)
{
    if (--pod->references > 0)
        return;
    if (pod->operation)
        operation_drop(pod->operation);
    pod_config_free(pod->config);
    free(pod->key);
    free(pod->cgroup_parent);
    strv_free(&pod->ips);
    free(pod->reason);
    resources_free(&pod->overhead);
    resources_free(&pod->resources);
    free(pod);
}

void
container_unref(struct container *c)
{
    if (--c->references > 0)
        return;
    if (c->operation)
        operation_drop(c->operation);
    container_config_free(c->config);
    if (c->pod)
        pod_unref(c->pod);
    free(c->key);
    free(c->cgroup);
    free(c->log_path);
    strv_free(&c->credentials.groups);
    free(c->credentials.home);
    free(c->credentials.filter);
    free(c->credentials.profile);
    free(c->credentials.label);
    free(c->mount_label);
    free(c->reason);
    free(c->message);
    resources_free(&c->resources);
    free(c);
}

void
pod_put(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    pod_unref(pod);
}

void
container_put(struct runtime *rt, struct container *container)
{
    HOLD(&rt->lock);
    container_unref(container);
}

/* ---- tables ---- */

void
pod_list_in(struct runtime *rt, struct pod *pod)
{
    (void)pod_reference(pod);
    HASH_ADD(by_id, rt->pods_by_id, id, ID_LENGTH, pod);
    HASH_ADD_KEYPTR(by_key, rt->pods_by_key, pod->key, strlen(pod->key), pod);
}

void
pod_list_out(struct runtime *rt, struct pod *pod)
{
    HASH_DELETE(by_id, rt->pods_by_id, pod);
    HASH_DELETE(by_key, rt->pods_by_key, pod);
    pod_unref(pod);
}

void
container_list_in(struct runtime *rt, struct container *c)
{
    (void)container_reference(c);
    HASH_ADD(by_id, rt->containers_by_id, id, ID_LENGTH, c);
    HASH_ADD_KEYPTR(by_key, rt->containers_by_key, c->key, strlen(c->key), c);
}

void
container_list_out(struct runtime *rt, struct container *c)
{
    HASH_DELETE(by_id, rt->containers_by_id, c);
    HASH_DELETE(by_key, rt->containers_by_key, c);
    container_unref(c);
}

/* Whether `id` begins with `prefix`, and what to say where it is no id at all, not found or found twice. */
static int
lookup_failed(const char *what, const char *id, bool ambiguous, struct error *err)
{
    if (ambiguous)
        return error_set(err, ERR_INVALID, "%s id %s: it is the beginning of more than one", what, id);
    return error_set(err, ERR_NOT_FOUND, "no such %s: %.128s", what, str_empty(id) ? "\"\"" : id);
}

struct pod *
pod_find(struct runtime *rt, const char *id, struct error *err)
{
    struct pod *pod = NULL, *found = NULL, *next;
    bool ambiguous = false;
    if (id && strlen(id) == ID_LENGTH)
        HASH_FIND(by_id, rt->pods_by_id, id, ID_LENGTH, found);
    else if (id && id_prefix_valid(id))
        HASH_ITER (by_id, rt->pods_by_id, pod, next)
            if (pod->phase != POD_PHASE_MAKING && str_starts(pod->id, id)) {
                ambiguous = found != NULL;
                found = pod;
                if (ambiguous)
                    break;
            }
    if (!found || ambiguous || found->phase == POD_PHASE_MAKING) {
        lookup_failed("pod", id, ambiguous, err);
        return NULL;
    }
    return pod_reference(found);
}

struct container *
container_find(struct runtime *rt, const char *id, struct error *err)
{
    struct container *c = NULL, *found = NULL, *next;
    bool ambiguous = false;
    if (id && strlen(id) == ID_LENGTH)
        HASH_FIND(by_id, rt->containers_by_id, id, ID_LENGTH, found);
    else if (id && id_prefix_valid(id))
        HASH_ITER (by_id, rt->containers_by_id, c, next)
            if (c->phase != CONTAINER_PHASE_MAKING && str_starts(c->id, id)) {
                ambiguous = found != NULL;
                found = c;
                if (ambiguous)
                    break;
            }
    if (!found || ambiguous || found->phase == CONTAINER_PHASE_MAKING) {
        lookup_failed("container", id, ambiguous, err);
        return NULL;
    }
    return container_reference(found);
}

struct pod *
pod_get(struct runtime *rt, const char *id, struct error *err)
{
    HOLD(&rt->lock);
    return pod_find(rt, id, err);
}

struct container *
container_get(struct runtime *rt, const char *id, struct error *err)
{
    HOLD(&rt->lock);
    return container_find(rt, id, err);
}

int
container_get_if_there(struct runtime *rt, const char *id, struct container **out, struct error *err)
{
    struct error failed = {0};
    *out = container_get(rt, id, &failed);
    if (*out || failed.kind == ERR_NOT_FOUND)
        return *out != NULL;
    if (err)
        *err = failed;
    return -1;
}

struct container **
pod_containers(struct runtime *rt, const struct pod *pod, size_t *count)
{
    HOLD(&rt->lock);
    struct container *c, *next;
    struct container **list = mem_zalloc(HASH_CNT(by_id, rt->containers_by_id) + 1, sizeof *list);
    *count = 0;
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        if (c->pod == pod)
            list[(*count)++] = container_reference(c);
    return list;
}

void
containers_put(struct runtime *rt, struct container **list, size_t count)
{
    HOLD(&rt->lock);
    for (size_t i = 0; i < count; i++)
        container_unref(list[i]);
    free(list);
}

/* ---- the link ---- */

struct link *
pod_take_link(struct runtime *rt, struct pod *pod, struct error *err)
{
    HOLD(&rt->lock);
    if (pod->stopping) {
        error_set(err, ERR_PRECONDITION, "it is being stopped");
        return NULL;
    }
    if (!pod->link) {
        error_set(err, pod->phase == POD_PHASE_READY ? ERR_UNAVAILABLE : ERR_PRECONDITION,
                  pod->meeting ? "its monitor is not met yet" : "it is not ready");
        return NULL;
    }
    pod->link_users++;
    return pod->link;
}

void
pod_release_link(struct runtime *rt, struct pod *pod)
{
    HOLD(&rt->lock);
    pod->link_users--;
    waiters_wake(&pod->link_waiters);
}

/* ---- words ---- */

int
pod_error(const struct pod *pod, struct error *err)
{
    return error_prefix(err, "pod %s (%.12s)", pod->config->key.name, pod->id);
}

int
container_error(const struct container *c, struct error *err)
{
    return error_prefix(err, "container %s (%.12s)", c->config->name, c->id);
}

/* ---- states ---- */

/* Row: from; bit: to. */
static const unsigned container_moves[] = {
    [CONTAINER_PHASE_MAKING] = 1U << CONTAINER_PHASE_CREATED | 1U << CONTAINER_PHASE_REMOVED,
    [CONTAINER_PHASE_CREATED] = 1U << CONTAINER_PHASE_RUNNING | 1U << CONTAINER_PHASE_EXITED,
    [CONTAINER_PHASE_RUNNING] = 1U << CONTAINER_PHASE_EXITED,
    [CONTAINER_PHASE_EXITED] = 1U << CONTAINER_PHASE_REMOVED,
    [CONTAINER_PHASE_REMOVED] = 0,
};

bool
container_move(struct runtime *rt, struct container *c, enum container_phase to)
{
    static const enum change_kind kinds[] = {
        [CONTAINER_PHASE_CREATED] = CHANGE_CREATED,
        [CONTAINER_PHASE_RUNNING] = CHANGE_STARTED,
        [CONTAINER_PHASE_EXITED] = CHANGE_STOPPED,
        [CONTAINER_PHASE_REMOVED] = CHANGE_DELETED,
    };
    enum container_phase from = c->phase;
    if (!(container_moves[from] & 1U << to))
        return false;
    c->phase = to;
    waiters_wake(&c->waiters);
    /* What was never there does not go. */
    if (from != CONTAINER_PHASE_MAKING || to != CONTAINER_PHASE_REMOVED)
        change_tell(rt, kinds[to], c->id, c->pod);
    return true;
}

/* ---- threads ---- */

struct job {
    struct runtime *rt;
    void (*work)(void *arg);
    void *arg;
};

static void *
run_job(void *arg)
{
    struct job job = *(struct job *)arg;
    free(arg);
    job.work(job.arg);
    HOLD(&job.rt->lock);
    job.rt->threads--;
    waiters_wake(&job.rt->waiters);
    return NULL;
}

void
runtime_spawn(struct runtime *rt, void (*work)(void *arg), void *arg)
{
    enum { STACK_BYTES = 2 << 20 }; /* messages (64 KiB each) and errors (1.5 KiB each) live on it; what is not touched costs nothing */
    struct job *job = mem_alloc(sizeof *job);
    *job = (struct job){rt, work, arg};
    pthread_mutex_lock(&rt->lock);
    rt->threads++;
    pthread_mutex_unlock(&rt->lock);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&thread, &attr, run_job, job) != 0)
        (void)run_job(job);
    pthread_attr_destroy(&attr);
}
