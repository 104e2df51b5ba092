/* The network of pods: CNI plugins, or the built-in network, behind one interface. Knows no pods: it gets an id, a name, a network namespace.
 *
 *   detached ──network_attach──▶ attached ──network_detach──▶ detached
 *
 * The attachment (addresses, interface names, and with CNI the very configuration and arguments used) is recorded in the pod's directory before
 * anything is done, so that network_detach works after a crash, after a reboot, and when the configuration is gone. Detaching what was never
 * attached, or is detached already, succeeds.
 *
 * Any thread may call; a plugin that hangs delays only its own pod and is ended, with its process group, at its deadline. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/str.h"

struct network; /* the service */

enum { NETWORK_REASON_SIZE = 256 };

enum network_mode { NETWORK_CNI, NETWORK_BUILTIN };

/* What the operator configured; copied by network_open. */
struct network_options {
    enum network_mode mode;
    const char *root;            /* /var/lib/crisp/network: leases, CNI cache */
    const char *state;           /* /run/crisp */
    const char *cni_config_dir;  /* /etc/cni/net.d */
    struct strv cni_plugin_dirs; /* /opt/cni/bin, /usr/lib/cni */
    int64_t cni_timeout_ns;      /* for each plugin executed */
    const char *builtin_bridge;  /* crisp0 */
    struct strv builtin_pools;   /* "10.88.0.0/16", "fd00:88::/64": at most one a family; the first address is the bridge's */
    int64_t builtin_mtu;         /* 0: the uplink's */
};

enum network_protocol { NETWORK_TCP, NETWORK_UDP, NETWORK_SCTP };

struct network_port {
    enum network_protocol protocol;
    uint16_t container_port;
    uint16_t host_port;
    const char *host_ip; /* "" or "::": all of the host's addresses; "0.0.0.0": all of IPv4 */
};

/* What a pod wants of the network. Borrowed for the call. */
struct network_request {
    const char *pod_id;
    const char *pod_name, *pod_namespace, *pod_uid; /* for CNI_ARGS: K8S_POD_NAME … */
    const char *netns_path;                         /* /run/crisp/netns/ID; may be gone at detach */
    int record_dir;                                 /* fd of pods/ID, where "network.json" is recorded */
    const struct network_port *ports;
    size_t port_count;
    struct strv dns_servers, dns_searches, dns_options; /* capability "dns" */
    const char *mac, *ip;                               /* capabilities "mac", "ips", from annotations; "" when not asked for */
    int64_t ingress_bits, egress_bits;                  /* bits a second, capability "bandwidth"; 0: none */
};

/* What the pod got. */
struct network_result {
    struct strv ips; /* the primary one first */
};

/* What may be the built-in bridge's name: an interface's, and nothing that the text of our nftables rules would take for more. */
bool network_bridge_name_valid(const char *name);
/* ERR_INVALID: a pool that is none, none at all, two of one family, or one with room for no pod. */
int network_pools_check(const struct strv *pools, struct error *err);

/* Start the service: read what is recorded, reconcile our nftables table and leases, begin to watch the CNI directory (a watch that fails is a
 * warning; there is a periodic rescan). Not ready is no failure: network_ready tells. */
int network_open(const struct network_options *options, struct network **out, struct error *err);
void network_close(struct network *network);

/* Give the pod's namespace its interfaces, addresses, routes, host ports; sysctls of the pod are set before. On failure everything done is undone and
 * the error carries the plugin's own message; what a plugin does not undo stays recorded and is tried again every few seconds, also after
 * the next start. `cancel` ends the wait for a plugin as its deadline does. `result` is overwritten; the caller frees it (empty after a failure). An
 * id is attached once: a new try is a new id, as the host's interface is named after it and the kernel removes interfaces late. */
int network_attach(struct network *network, const struct network_request *request, struct network_result *result, const struct cancel *cancel,
                   struct error *err);

/* Take everything back: CNI DEL with the recorded configuration in reverse order; addresses and host ports of the built-in network. With a netns that
 * is gone, DEL is called with an empty CNI_NETNS. The record goes last. The built-in network's interfaces go with the namespace itself. */
int network_detach(struct network *network, const struct network_request *request, struct error *err);

/* Drop whatever belongs to pods not in `pod_ids`: leases, nftables elements, and CNI GC where the configuration's version has it (1.1). Called once
 * after recovery. */
void network_collect(struct network *network, const struct strv *pod_ids);

/* The cluster gives this node's pods these addresses ("10.1.0.0/24", or one of each family with a comma between). CNI plugins have theirs from their
 * own configuration, and nothing is to be done. The built-in network has its pools from ours: ERR_PRECONDITION unless they are the same, as pods
 * would get addresses that the cluster routes elsewhere. ERR_INVALID for what is no network. [CRI UpdateRuntimeConfig] */
int network_pod_cidr(struct network *network, const char *cidrs, struct error *err);

/* From a cached value, at once: true, or false with the reason in words ("no CNI configuration in /etc/cni/net.d"). [CRI Status: NetworkReady] */
bool network_ready(struct network *network, char reason[NETWORK_REASON_SIZE]);

/* The configuration in force, as JSON for verbose status; caller frees. */
char *network_info_json(struct network *network);

void network_result_free(struct network_result *result);
