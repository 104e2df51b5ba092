/* What the host must be set to before it forwards for pods: sysctl(5) of its network namespace. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "runtime/network/ip.h"

/* IPv6 is in the kernel and not switched off. */
bool host_has_ipv6(void);
/* Forward. What has the right value is not written (/proc/sys may be read-only). Interfaces that took their
 * address from router advertisements go on doing so, which forwarding would end (accept_ra 1 → 2; ip-sysctl.rst). */
int host_forward(const char *bridge, bool ipv6, struct error *err);
/* Whether packets go between the bridge and 127.0.0.1, as host ports there need it. Only behind the wall of nft.h, or pods reach what listens there.
 */
int host_route_loopback(const char *bridge, bool may, struct error *err);

/* The first interface other than the bridge whose own network overlaps with `pool`: "podman0 10.88.0.1"; NULL when there is none. Caller frees. */
char *host_overlap(const struct ip_net *pool, const char *bridge);
