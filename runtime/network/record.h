/* What a pod's attachment was made with, on disk: all that a detach needs after a crash, a reboot, or a change of configuration.
 *
 * Each record is written twice: as "network.json" in the pod's directory, and as attachments/ID.json in the network's own, which is how attachments
 * are found whose pod was lost. Either suffices. JSON object with "kind" ("cni", "builtin"), "pod", "netns", "ips", and what the kind adds. Any
 * thread may call for different pods. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/network/syncer.h"

enum { RECORD_BYTES_MAX = 4 << 20 }; /* a configuration list, a result and the capability arguments of thousands of ports */

struct record_store {
    int dir; /* attachments/ */
    struct syncer *syncer;
};

int record_store_open(const char *root, struct record_store *out, struct error *err);
void record_store_close(struct record_store *store);

/* Replace both; after a failure one may be there: record_remove takes it away. `record_dir` may be -1: only our own. */
int record_save(const struct record_store *store, int record_dir, const char *pod_id, const json_t *record, struct error *err);
/* 1 found, 0 there is none (one that is torn is set aside as NAME.damaged and logged), -1 on failure. The caller decrefs. */
int record_load(const struct record_store *store, int record_dir, const char *pod_id, json_t **out, struct error *err);
int record_remove(const struct record_store *store, int record_dir, const char *pod_id, struct error *err);
/* The ids of our own. */
int record_list(const struct record_store *store, struct strv *ids, struct error *err);

const char *record_string(const json_t *record, const char *key); /* "" when absent */
void record_ips(const json_t *record, struct strv *ips);
json_t *record_from_strv(const struct strv *list);
