#include "runtime/network/network.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/network/builtin.h"
#include "runtime/network/cni.h"
#include "runtime/network/iface.h"
#include "runtime/network/ip.h"
#include "runtime/network/ipam.h"
#include "runtime/network/record.h"
#include "runtime/network/worker.h"

#define HOUSEKEEPING_NS (10 * NS_PER_SECOND)

/* Both kinds are always there: one attaches, the other may have pods of an earlier configuration to detach. */
struct network {
    enum network_mode mode;
    struct record_store store;
    struct builtin *builtin;
    struct cni *cni;
    pthread_t housekeeper;
    bool has_store, has_housekeeper;
    struct cancel closing;
    int wake; /* eventfd: do the housekeeping now */
};

bool
network_bridge_name_valid(const char *name)
{
    return !str_empty(name) && strlen(name) < IFACE_NAME_SIZE && !strpbrk(name, "/:\" \t\n*\\{};") && !str_eq(name, ".") && !str_eq(name, "..");
}

int
network_pools_check(const struct strv *pools, struct error *err)
{
    struct ipam ipam;
    TRY(ipam_open(pools, &ipam, err));
    ipam_close(&ipam);
    return 0;
}

static void *
keep_house(void *data)
{
    struct network *network = data;
    int more = 0;
    while (more >= 0) {
        cni_keep_house(network->cni);
        builtin_forget_flows(network->builtin);
        more = cancel_wait(&network->closing, network->wake, HOUSEKEEPING_NS, "waiting", NULL);
        eventfd_t count;
        if (more > 0)
            (void)eventfd_read(network->wake, &count);
        if (more == 0 && network->mode == NETWORK_BUILTIN)
            builtin_repair(network->builtin, false);
    }
    return NULL;
}

static int
open_all(struct network *n, const struct network_options *options, struct error *err)
{
    TRY(file_mkdirs(options->root, 0700, err));
    TRY(record_store_open(options->root, &n->store, err));
    n->has_store = true;
    TRY(cancel_open(&n->closing, INT64_MAX, err));
    n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->wake < 0)
        return error_errno(err, errno, "eventfd");
    TRY(builtin_open(options, &n->store, n->wake, &n->builtin, err));
    TRY(cni_open(options, &n->store, &n->closing, &n->cni, err));
    if (n->mode == NETWORK_BUILTIN)
        builtin_repair(n->builtin, true);
    TRY(worker_start(&n->housekeeper, keep_house, n, "net-house", err));
    n->has_housekeeper = true;
    return 0;
}

int
network_open(const struct network_options *options, struct network **out, struct error *err)
{
    struct network *n = mem_zalloc(1, sizeof *n);
    *n = (struct network){.mode = options->mode, .closing = {.fd = -1}, .wake = -1};
    if (open_all(n, options, err) < 0) {
        network_close(n);
        return error_prefix(err, "network");
    }
    *out = n;
    return 0;
}

void
network_close(struct network *n)
{
    if (n->has_housekeeper) {
        cancel_now(&n->closing);
        (void)pthread_join(n->housekeeper, NULL);
    }
    if (n->cni)
        cni_close(n->cni);
    if (n->builtin)
        builtin_close(n->builtin);
    if (n->has_store)
        record_store_close(&n->store);
    cancel_close(&n->closing);
    if (n->wake >= 0)
        (void)close(n->wake);
    free(n);
}

int
network_attach(struct network *n, const struct network_request *request, struct network_result *result, const struct cancel *cancel,
               struct error *err)
{
    *result = (struct network_result){0};
    TRY(cancel_check(cancel, "attaching the pod to the network", err));
    if (n->mode == NETWORK_BUILTIN)
        return builtin_attach(n->builtin, request, result, err);
    return cni_attach(n->cni, request, result, cancel, err);
}

int
network_detach(struct network *n, const struct network_request *request, struct error *err)
{
    if (builtin_has(n->builtin, request->pod_id))
        return builtin_detach(n->builtin, request->pod_id, request->record_dir, NULL, err);
    cleanup_json json_t *record = NULL;
    if (TRY(record_load(&n->store, request->record_dir, request->pod_id, &record, err)) == 0)
        return record_remove(&n->store, request->record_dir, request->pod_id, err);
    if (str_eq(record_string(record, "kind"), "builtin"))
        return builtin_detach(n->builtin, request->pod_id, request->record_dir, record, err);
    return cni_detach(n->cni, request->pod_id, request->netns_path, request->record_dir, record, err);
}

void
network_collect(struct network *n, const struct strv *pod_ids)
{
    struct error err;
    cleanup_strv struct strv ids = {0}, orphans = {0};
    if (record_list(&n->store, &ids, &err) < 0)
        log_warn("cannot look for network attachments whose pods are gone", "error", err.message);
    for (size_t i = 0; i < ids.count; i++) {
        if (strv_has(pod_ids, ids.items[i]))
            continue;
        if (!builtin_has(n->builtin, ids.items[i]))
            strv_add(&orphans, ids.items[i]);
        else if (builtin_detach(n->builtin, ids.items[i], -1, NULL, &err) < 0)
            log_warn("a network attachment whose pod is gone cannot be taken back", "pod", ids.items[i], "error", err.message);
    }
    cni_collect(n->cni, &orphans, pod_ids);
    (void)eventfd_write(n->wake, 1);
}

int
network_pod_cidr(struct network *n, const char *cidrs, struct error *err)
{
    cleanup_strv struct strv list = {0};
    strv_split(&list, cidrs, ',', true);
    for (size_t i = 0; i < list.count; i++) {
        struct ip_net net;
        TRY(ip_net_parse(list.items[i], &net, err));
        if (n->mode == NETWORK_BUILTIN && !builtin_has_pool(n->builtin, &net))
            return error_set(err, ERR_PRECONDITION,
                             "the built-in network gives addresses of other pools: put %s into network.pools of the configuration and restart crispd",
                             cidrs);
    }
    return 0;
}

bool
network_ready(struct network *n, char reason[NETWORK_REASON_SIZE])
{
    return n->mode == NETWORK_BUILTIN ? builtin_ready(n->builtin, reason) : cni_ready(n->cni, reason);
}

char *
network_info_json(struct network *n)
{
    cleanup_json json_t *info = n->mode == NETWORK_BUILTIN ? builtin_info(n->builtin) : cni_info(n->cni);
    char reason[NETWORK_REASON_SIZE];
    bool ready = network_ready(n, reason);
    json_object_set_new(info, "ready", json_boolean(ready));
    if (!ready)
        json_object_set_new(info, "reason", json_string(reason));
    return json_dumps(info, JSON_COMPACT);
}

void
network_result_free(struct network_result *result)
{
    strv_free(&result->ips);
}
