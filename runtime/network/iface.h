/* Interfaces, addresses and routes of the built-in network by rtnetlink, in our own process. The bridge is in the thread's network namespace, which
 * is the host's; a pod's end of its veth pair is made right inside the pod's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/network/ip.h"

enum { IFACE_NAME_SIZE = 16, IFACE_MAC_SIZE = 6 };

struct iface_address {
    struct ip ip;
    unsigned prefix;
    struct ip gateway; /* in a pod: the default route's next hop */
};

/* Make the bridge where it is missing (with a hardware address of its own, which else would follow its ports'), bring it up and give it the
 * addresses; what else it has stays. ERR_EXISTS when an interface of that name is no bridge. */
int iface_make_bridge(const char *name, const struct iface_address *addresses, size_t count, struct error *err);

/* A pod's namespace, seen through a socket that was opened inside it. */
struct iface_inside {
    int netns; /* the pod's, borrowed */
    int fd;    /* the caller's to close */
    bool ipv6; /* IPv6 is there and not switched off */
};
/* Enters with the calling thread and comes back to `home_netns`, the thread's own; ends the process when it cannot come back. Sets what the
 * interface will inherit: no router advertisements are believed, addresses are announced. */
int iface_open_inside(int netns, int home_netns, struct iface_inside *out, struct error *err);

/* A pod's pair: `host_name` on the bridge (hairpin on), `name` in the pod's namespace, both up, with addresses and default routes inside. */
struct iface_pair {
    const char *bridge;
    const char *host_name;
    const char *name;
    unsigned char mac[IFACE_MAC_SIZE];
    uint32_t mtu;
    const struct iface_inside *inside;
    const struct iface_address *addresses;
    size_t address_count;
};
/* ERR_EXISTS when the pod has an interface of that name. On failure the pair is removed. */
int iface_make_pair(const struct iface_pair *pair, struct error *err);
/* Slow (17 ms: the kernel waits for its readers), only for what failed; a pod's pair goes with its namespace. Gone already is success. */
int iface_remove(const char *name, struct error *err);
bool iface_exists(const char *name);

/* The MTU of the interface that leads out, by the route to an address that is nobody's; `fallback` where no route does. */
uint32_t iface_uplink_mtu(uint32_t fallback);

/* "aa:bb:cc:dd:ee:ff" */
int iface_mac_parse(const char *text, unsigned char out[IFACE_MAC_SIZE], struct error *err);
