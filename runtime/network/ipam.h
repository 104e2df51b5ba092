/* Which addresses of the built-in network's pools are in use. A pod gets one offset, and with it that address of each pool ("10.88.0.7",
 * "fd00:88::7"), so that one address has one hardware address for ever and no neighbour's cache goes stale.
 *
 * Addresses are given round robin: one that was given back is the last to be given again. In memory only: the records of the pods (record.h) are the
 * leases on disk. No lock: builtin.c's guards it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "runtime/network/ip.h"

enum { IPAM_POOLS_MAX = 2 }; /* at most one a family */

struct ipam {
    struct ip_net pools[IPAM_POOLS_MAX];
    size_t pool_count;
    uint32_t end;    /* the first offset that is not given */
    uint32_t cursor; /* where the next search begins; kept over restarts by the caller */
    struct ip *used;
    size_t used_count;
};

/* What a pod holds: one address of each pool, in the order of the pools. */
struct ipam_lease {
    struct ip ips[IPAM_POOLS_MAX];
    size_t count;
};

/* ERR_INVALID: no pool, two of one family, or one with room for no pod. */
int ipam_open(const struct strv *pools, struct ipam *out, struct error *err);
void ipam_close(struct ipam *ipam);

/* The bridge's address in a pool: the first. */
struct ip ipam_gateway(const struct ipam *ipam, size_t pool);

/* Take the next free offset, or that of the address `wanted` ("" or NULL: any). ERR_EXHAUSTED: all are in use; ERR_INVALID: `wanted` is in no pool
 * or cannot be a pod's; ERR_EXISTS: it is in use. */
int ipam_take(struct ipam *ipam, const char *wanted, struct ipam_lease *out, struct error *err);
/* Remember a lease read from disk, also one of pools that are configured no more. */
void ipam_remember(struct ipam *ipam, const struct ipam_lease *lease);
void ipam_give_back(struct ipam *ipam, const struct ipam_lease *lease);
