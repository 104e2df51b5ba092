/* The built-in network: a bridge, a veth pair a pod, addresses from pools, masquerade and host ports; all by netlink in our own process.
 *
 * What pods hold (addresses, host ports) is in memory and in their records; a lock guards the memory and is never held over I/O other than the
 * cursor's one small write. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "runtime/network/ip.h"
#include "runtime/network/network.h"
#include "runtime/network/record.h"

struct builtin;

/* Parse the pools and remember what the records hold. Nothing is made: builtin_repair does that. In CNI mode it serves to detach what an earlier
 * configuration attached. `wake` is an eventfd, borrowed: written when builtin_forget_flows has something to do. ERR_INVALID for pools that cannot
 * be. */
int builtin_open(const struct network_options *options, const struct record_store *store, int wake, struct builtin **out, struct error *err);
void builtin_close(struct builtin *builtin);

/* Make the bridge, sysctls and the nftables table where they are missing (at start and every 10 s: a firewall's restart may have flushed them), and
 * look at the uplink's MTU. Fills what builtin_ready says. */
void builtin_repair(struct builtin *builtin, bool at_start);
/* Make the kernel forget the UDP flows of host ports that came or went (conntrack.h). */
void builtin_forget_flows(struct builtin *builtin);
bool builtin_ready(struct builtin *builtin, char reason[NETWORK_REASON_SIZE]);

int builtin_attach(struct builtin *builtin, const struct network_request *request, struct network_result *result, struct error *err);
/* By memory or, where that knows nothing of the pod, by `record` (may be NULL). Removes the record. */
int builtin_detach(struct builtin *builtin, const char *pod_id, int record_dir, const json_t *record, struct error *err);
/* The pod's network is ours, by memory. */
bool builtin_has(struct builtin *builtin, const char *pod_id);

/* It gives addresses of this network, wholly and of no larger one. */
bool builtin_has_pool(const struct builtin *builtin, const struct ip_net *net);

json_t *builtin_info(struct builtin *builtin);
