/* The network by CNI plugins: the configuration in force, pods' attachments, and what the plugins say of themselves. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "runtime/network/network.h"
#include "runtime/network/record.h"

struct cni;

/* Reads the configuration once, so that cni_ready knows; in CNI mode it goes on to watch the directory. In the other mode it serves to detach what an
 * earlier configuration attached. `closing` ends what cni_keep_house runs. */
int cni_open(const struct network_options *options, const struct record_store *store, const struct cancel *closing, struct cni **out,
             struct error *err);
void cni_close(struct cni *cni);
/* Ask the plugins' STATUS, and carry out what cni_collect left to do. May take as long as plugins do: for a thread of its own, every 10 s. */
void cni_keep_house(struct cni *cni);

bool cni_ready(struct cni *cni, char reason[NETWORK_REASON_SIZE]);
int cni_attach(struct cni *cni, const struct network_request *request, struct network_result *result, const struct cancel *cancel, struct error *err);
/* With the record's own configuration, arguments and result; removes the record. `netns_path` may be gone. */
int cni_detach(struct cni *cni, const char *pod_id, const char *netns_path, int record_dir, const json_t *record, struct error *err);
/* Leave it to cni_keep_house to detach these, one after another, then to GC with all that are recorded, and `pod_ids`; and to CHECK the latter's
 * attachments, warning of those that are no longer as they were. */
void cni_collect(struct cni *cni, const struct strv *orphans, const struct strv *pod_ids);
json_t *cni_info(struct cni *cni);
