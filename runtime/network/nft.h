/* The built-in network's nftables table, `inet crisp`: masquerade of what leaves the pools, host ports, and a wall before 127.0.0.1, which
 * route_localnet would else open to the pods. Nobody else's table is touched.
 *
 * The table is made by libnftables as text, once; the host ports of a pod are elements of its maps, added and removed in one transaction by nfnetlink
 * (0.1 ms). `fd` is a netlink socket of NETLINK_NETFILTER, kept for all calls; one thread at a time. Every call is a transaction of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/network/ip.h"

/* One element: what arrives at the host's port goes to the pod's. */
struct nft_port {
    uint8_t protocol;  /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
    struct ip host_ip; /* 0.0.0.0 or ::: all of the host's addresses, 127.0.0.1 too */
    uint16_t host_port;
    struct ip pod_ip; /* of host_ip's family */
    uint16_t pod_port;
};

/* Make the table anew, with these ports, in one transaction: established connections go on. ERR_UNSUPPORTED where the kernel lacks what it needs.
 * Only after a socket of NETLINK_NETFILTER could be opened: libnftables ends the process where that fails (netlink_init_error). */
int nft_reset(const char *bridge, const struct ip_net *pools, size_t pool_count, const struct nft_port *ports, size_t port_count, struct error *err);
/* ERR_EXISTS when one of them is taken. All or none. */
int nft_add_ports(int fd, const struct nft_port *ports, size_t count, struct error *err);
/* Those that are gone already are skipped. */
int nft_remove_ports(int fd, const struct nft_port *ports, size_t count, struct error *err);
/* Whether our table is there: `nft flush ruleset` takes it away with everybody's. */
bool nft_is_present(int fd);
