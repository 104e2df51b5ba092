#include "runtime/network/cni.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include <linux/magic.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "runtime/network/cni_chain.h"
#include "runtime/network/cni_request.h"
#include "runtime/network/cni_result.h"
#include "runtime/network/cni_strays.h"
#include "runtime/network/cni_watch.h"

struct cni {
    const struct record_store *store;
    char *config_dir;
    struct strv plugin_dirs;
    int64_t timeout_ns;
    struct cni_watch *watch;
    const struct cancel *closing; /* ends what cni_keep_house runs */
    pthread_rwlock_t operations;  /* ADD and DEL read, GC writes: the spec forbids them together. Held while plugins run, never with `lock` */

    pthread_mutex_t lock;               /* guards what follows */
    struct cni_config *config;          /* in force; NULL: none */
    char unusable[NETWORK_REASON_SIZE]; /* why there is none, or why its plugins cannot run; "": they can */
    char status[NETWORK_REASON_SIZE];   /* what STATUS said; "": fine */
    struct strv skipped;                /* told already */
    struct strv orphans;                /* to be detached */
    struct strv failing;                /* orphans whose detach failed: again with the next housekeeping */
    struct strv known;                  /* pods there were at the last cni_collect */
    bool collect;
};

CLEANUP_DEFINE(config_unrefp, struct cni_config *, cni_config_unref)
#define cleanup_config cleanup(config_unrefp)

static void
lock(struct cni *cni)
{
    (void)pthread_mutex_lock(&cni->lock);
}

static void
unlock(struct cni *cni)
{
    (void)pthread_mutex_unlock(&cni->lock);
}

/* ---- the configuration in force ---- */

/* With the lock held: keep what is skipped now, and give what was not before. */
static void
take_skipped(struct cni *cni, struct strv *skipped, struct strv *untold)
{
    struct strv before = cni->skipped;
    for (size_t i = 0; i < skipped->count; i++)
        if (!strv_has(&before, skipped->items[i]))
            strv_add(untold, skipped->items[i]);
    cni->skipped = *skipped;
    *skipped = before;
}

static bool
same_config(const struct cni_config *a, const struct cni_config *b)
{
    return a == b || (a && b && str_eq(a->file, b->file) && json_equal(a->list, b->list));
}

static void
tell_news(const struct strv *skipped, const struct cni_config *config, const char *unusable)
{
    for (size_t i = 0; i < skipped->count; i++)
        log_warn("a CNI configuration is not valid and is skipped", "error", skipped->items[i]);
    if (config)
        log_info("CNI configuration in force", "file", config->file, "network", config->name, "version", config->version);
    if (*unusable)
        log_warn("the network is not ready", "reason", unusable);
}

/* Idempotent: what did not change stays as it is, and is not told again. */
static void
reload(void *data)
{
    struct cni *cni = data;
    struct error err = {0};
    cleanup_strv struct strv skipped = {0}, untold = {0};
    cleanup_config struct cni_config *now = cni_config_load(cni->config_dir, &skipped, &err), *changed = NULL;
    if (now && cni_find_plugins(now, &cni->plugin_dirs, &err) < 0)
        (void)error_prefix(&err, "%s", now->file);
    char unusable[NETWORK_REASON_SIZE];
    (void)snprintf(unusable, sizeof unusable, "%.*s", NETWORK_REASON_SIZE - 1, err.message);
    lock(cni);
    take_skipped(cni, &skipped, &untold);
    bool news = !str_eq(cni->unusable, unusable);
    (void)snprintf(cni->unusable, sizeof cni->unusable, "%s", unusable);
    if (!same_config(cni->config, now)) {
        changed = now ? cni_config_ref(now) : NULL;
        struct cni_config *before = cni->config;
        cni->config = steal(now);
        now = before;
        *cni->status = '\0'; /* the next STATUS is about the new one */
    }
    unlock(cni);
    tell_news(&untold, changed, news ? unusable : "");
}

static struct cni_config *
current_config(struct cni *cni)
{
    lock(cni);
    struct cni_config *config = cni->config ? cni_config_ref(cni->config) : NULL;
    unlock(cni);
    return config;
}

bool
cni_ready(struct cni *cni, char reason[NETWORK_REASON_SIZE])
{
    lock(cni);
    (void)snprintf(reason, NETWORK_REASON_SIZE, "%s", *cni->unusable ? cni->unusable : cni->status);
    unlock(cni);
    return !*reason;
}

/* ---- a pod's attachment ---- */

/* A namespace's file whose mount is gone is an empty file: for CNI, no namespace. */
static const char *
living_netns(const char *path)
{
    struct statfs fs;
    return !str_empty(path) && statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC ? path : "";
}

static struct cni_config *
recorded_config(const json_t *record, struct error *err)
{
    struct cni_config *config = cni_config_from_json(json_object_get(record, "config"), record_string(record, "file"), err);
    if (!config)
        (void)error_prefix(err, "the recorded CNI configuration");
    return config;
}

/* What a record says of how the plugins were called. */
static struct cni_call
recorded_call(const struct cni *cni, const json_t *record, const struct cni_config *config, const char *netns_path)
{
    return (struct cni_call){
        .config = config,
        .plugin_dirs = &cni->plugin_dirs,
        .timeout_ns = cni->timeout_ns,
        .container_id = record_string(record, "pod"),
        .netns = living_netns(str_empty(netns_path) ? record_string(record, "netns") : netns_path),
        .args = record_string(record, "args"),
        .capabilities = json_object_get(record, "capabilities"),
        .previous = json_object_get(record, "result"),
    };
}

static int
call_del(struct cni *cni, const json_t *record, const char *netns_path, const struct cancel *cancel, struct error *err)
{
    cleanup_config struct cni_config *config = TRY_PTR(recorded_config(record, err));
    struct cni_call call = recorded_call(cni, record, config, netns_path);
    call.cancel = cancel;
    (void)pthread_rwlock_rdlock(&cni->operations);
    int result = cni_del(&call, err);
    (void)pthread_rwlock_unlock(&cni->operations);
    return result;
}

static int
call_add(struct cni *cni, const json_t *record, const struct cni_config *config, const struct cancel *cancel, json_t **result, struct error *err)
{
    struct cni_call call = recorded_call(cni, record, config, NULL);
    call.cancel = cancel;
    (void)pthread_rwlock_rdlock(&cni->operations);
    int status = cni_add(&call, result, err);
    (void)pthread_rwlock_unlock(&cni->operations);
    return status;
}

/* The whole list's DEL, even of plugins that were not called [0.4.0, "Error Handling"]. Where that fails the record stays, and housekeeping tries
 * again: the pod, which was never made, has no detach of its own. */
static void
undo(struct cni *cni, const struct network_request *request, const json_t *record)
{
    struct error why;
    if (call_del(cni, record, request->netns_path, NULL, &why) == 0) {
        (void)record_remove(cni->store, request->record_dir, request->pod_id, NULL);
        return;
    }
    log_warn("a CNI attachment that failed could not be undone; it is tried again", "pod", request->pod_id, "error", why.message);
    lock(cni);
    strv_add(&cni->failing, request->pod_id);
    unlock(cni);
}

static int
take_result(struct cni *cni, const struct network_request *request, json_t *record, json_t *cni_result, struct network_result *result,
            struct error *err)
{
    struct strv ips = {0};
    cni_result_ips(cni_result, &ips);
    if (ips.count == 0)
        return error_set(err, ERR_INTERNAL, "network %s: the CNI plugins gave the pod no address",
                         record_string(json_object_get(record, "config"), "name"));
    json_object_set_new(record, "ips", record_from_strv(&ips));
    json_object_set(record, "result", cni_result);
    strv_free(&result->ips);
    result->ips = ips;
    return record_save(cni->store, request->record_dir, request->pod_id, record, err);
}

int
cni_attach(struct cni *cni, const struct network_request *request, struct network_result *result, const struct cancel *cancel, struct error *err)
{
    char reason[NETWORK_REASON_SIZE];
    if (!cni_ready(cni, reason))
        reload(cni); /* it may have come just now */
    cleanup_config struct cni_config *config = current_config(cni);
    if (!config) {
        (void)cni_ready(cni, reason);
        return error_set(err, ERR_UNAVAILABLE, "the network is not ready: %s", reason);
    }
    if (cni_find_plugins(config, &cni->plugin_dirs, err) < 0)
        return error_as(err, ERR_UNAVAILABLE);
    if (!*living_netns(request->netns_path))
        return error_set(err, ERR_NOT_FOUND, "the pod's network namespace %s is not there", request->netns_path);
    cleanup_json json_t *record = TRY_PTR(cni_request_record(request, config, err)), *cni_result = NULL;
    if (record_save(cni->store, request->record_dir, request->pod_id, record, err) < 0) {
        (void)record_remove(cni->store, request->record_dir, request->pod_id, NULL);
        return -1;
    }
    if (call_add(cni, record, config, cancel, &cni_result, err) == 0 && take_result(cni, request, record, cni_result, result, err) == 0)
        return 0;
    undo(cni, request, record);
    network_result_free(result);
    return -1;
}

int
cni_detach(struct cni *cni, const char *pod_id, const char *netns_path, int record_dir, const json_t *record, struct error *err)
{
    TRY(call_del(cni, record, netns_path, NULL, err));
    return record_remove(cni->store, record_dir, pod_id, err);
}

/* ---- housekeeping ---- */

static void
ask_status(struct cni *cni)
{
    struct error err = {0};
    cleanup_config struct cni_config *config = current_config(cni);
    if (!config)
        return;
    struct cni_call call = {.config = config, .plugin_dirs = &cni->plugin_dirs, .timeout_ns = cni->timeout_ns, .cancel = cni->closing};
    (void)cni_status(&call, &err);
    lock(cni);
    bool news = config == cni->config && strncmp(cni->status, err.message, NETWORK_REASON_SIZE - 1) != 0;
    if (news)
        (void)snprintf(cni->status, sizeof cni->status, "%.*s", NETWORK_REASON_SIZE - 1, err.message);
    unlock(cni);
    if (news && *err.message)
        log_warn("the network is not ready", "reason", err.message);
}

static void
detach_orphan(struct cni *cni, const char *pod_id, bool told)
{
    struct error err = {0};
    cleanup_json json_t *record = NULL;
    int found = record_load(cni->store, -1, pod_id, &record, &err);
    if (found == 0)
        return;
    if (found == 1)
        found = call_del(cni, record, NULL, cni->closing, &err) < 0 ? -1 : record_remove(cni->store, -1, pod_id, &err);
    if (found < 0 && cancel_is_set(cni->closing))
        return;
    if (found >= 0) {
        log_info("took back the network attachment of a pod that is gone", "pod", pod_id);
        return;
    }
    if (!told)
        log_warn("a network attachment whose pod is gone cannot be taken back; it is tried again", "pod", pod_id, "error", err.message);
    lock(cni);
    strv_add(&cni->failing, pod_id);
    unlock(cni);
}

static int
list_valid(struct cni *cni, struct strv *ids, struct error *err)
{
    TRY(record_list(cni->store, ids, err));
    lock(cni);
    for (size_t i = 0; i < cni->known.count; i++)
        if (!strv_has(ids, cni->known.items[i]))
            strv_add(ids, cni->known.items[i]);
    unlock(cni);
    return 0;
}

/* The records are listed under the lock that keeps attachments from coming: one that is not in the list would be taken away. A pod whose record was
 * lost is in it, too. */
static void
collect_garbage(struct cni *cni)
{
    struct error err = {0};
    cleanup_strv struct strv ids = {0};
    cleanup_config struct cni_config *config = current_config(cni);
    if (!config)
        return;
    struct cni_call call = {.config = config, .plugin_dirs = &cni->plugin_dirs, .timeout_ns = cni->timeout_ns, .cancel = cni->closing};
    (void)pthread_rwlock_wrlock(&cni->operations);
    if (list_valid(cni, &ids, &err) == 0 && cni_gc(&call, &ids, &err) == 0)
        *err.message = '\0';
    (void)pthread_rwlock_unlock(&cni->operations);
    if (*err.message && !cancel_is_set(cni->closing))
        log_warn("CNI garbage collection failed", "error", err.message);
}

/* Whether a pod's network is still as it was attached. One that was detached meanwhile has no record any more. */
static void
check_attachment(struct cni *cni, const char *pod_id)
{
    struct error err = {0}, unused;
    cleanup_json json_t *record = NULL, *still = NULL;
    if (record_load(cni->store, -1, pod_id, &record, &err) <= 0 || !str_eq(record_string(record, "kind"), "cni"))
        return;
    cleanup_config struct cni_config *config = recorded_config(record, &err);
    struct cni_call call = recorded_call(cni, record, config, NULL);
    call.cancel = cni->closing;
    if (!config || !*call.netns || cni_check(&call, &err) == 0 || cancel_is_set(cni->closing))
        return;
    if (record_load(cni->store, -1, pod_id, &still, &unused) > 0)
        log_warn("a pod's network is not as it was attached", "pod", pod_id, "error", err.message);
}

/* Once after a start: what happened to the pods' networks while no crispd was there? It is told; what to do is the operator's [CNI spec, "CHECK"]. */
static void
check_attachments(struct cni *cni)
{
    cleanup_strv struct strv pod_ids = {0};
    lock(cni);
    strv_copy(&pod_ids, &cni->known);
    unlock(cni);
    for (size_t i = 0; i < pod_ids.count && !cancel_is_set(cni->closing); i++)
        check_attachment(cni, pod_ids.items[i]);
}

static void
collect(struct cni *cni)
{
    lock(cni);
    bool wanted = cni->collect;
    cni->collect = false;
    cleanup_strv struct strv orphans = cni->orphans, failing = cni->failing;
    cni->orphans = cni->failing = (struct strv){0};
    unlock(cni);
    for (size_t i = 0; i < failing.count && !cancel_is_set(cni->closing); i++)
        detach_orphan(cni, failing.items[i], true);
    for (size_t i = 0; i < orphans.count && !cancel_is_set(cni->closing); i++)
        detach_orphan(cni, orphans.items[i], false);
    if (wanted && cni->watch && !cancel_is_set(cni->closing))
        collect_garbage(cni);
    if (wanted)
        check_attachments(cni);
}

void
cni_keep_house(struct cni *cni)
{
    collect(cni);
    if (cni->watch)
        ask_status(cni);
}

void
cni_collect(struct cni *cni, const struct strv *orphans, const struct strv *pod_ids)
{
    lock(cni);
    strv_copy(&cni->orphans, orphans);
    strv_free(&cni->known);
    strv_copy(&cni->known, pod_ids);
    cni->collect = true;
    unlock(cni);
}

int
cni_open(const struct network_options *options, const struct record_store *store, const struct cancel *closing, struct cni **out, struct error *err)
{
    struct cni *cni = mem_zalloc(1, sizeof *cni);
    *out = cni;
    *cni = (struct cni){.store = store, .config_dir = str_dup(options->cni_config_dir), .timeout_ns = options->cni_timeout_ns, .closing = closing};
    strv_copy(&cni->plugin_dirs, &options->cni_plugin_dirs);
    (void)pthread_mutex_init(&cni->lock, NULL);
    (void)pthread_rwlock_init(&cni->operations, NULL);
    cleanup_strv struct strv attached = {0};
    TRY(record_list(store, &attached, err));
    cni_strays_end(&attached);
    if (options->mode != NETWORK_CNI)
        return 0;
    reload(cni);
    return cni_watch_open(cni->config_dir, reload, cni, &cni->watch, err);
}

void
cni_close(struct cni *cni)
{
    if (cni->watch)
        cni_watch_close(cni->watch);
    cni_config_unref(cni->config);
    strv_free(&cni->plugin_dirs);
    strv_free(&cni->skipped);
    strv_free(&cni->orphans);
    strv_free(&cni->failing);
    strv_free(&cni->known);
    (void)pthread_rwlock_destroy(&cni->operations);
    (void)pthread_mutex_destroy(&cni->lock);
    free(cni->config_dir);
    free(cni);
}

json_t *
cni_info(struct cni *cni)
{
    cleanup_config struct cni_config *config = current_config(cni);
    json_t *info = json_pack("{s:s, s:s, s:o}", "mode", "cni", "configDir", cni->config_dir, "pluginDirs", record_from_strv(&cni->plugin_dirs));
    if (config) {
        json_object_set_new(info, "file", json_string(config->file));
        json_object_set(info, "config", config->list);
    }
    return info;
}
