/* What a pod holds of the built-in network, and its record. A value; builtin.c keeps the list. */
#pragma once

#include "base/error.h"
#include "base/id.h"
#include "base/json.h"
#include "runtime/network/iface.h"
#include "runtime/network/ipam.h"
#include "runtime/network/network.h"
#include "runtime/network/nft.h"

enum { LEASE_PORTS_MAX = 4096 };

struct lease {
    char pod_id[ID_SIZE];
    char host_name[IFACE_NAME_SIZE]; /* the host's end of the veth pair */
    struct ipam_lease addresses;
    struct nft_port *ports; /* owned; pod_ip is one of addresses */
    size_t port_count;
    bool published; /* the ports are in the table; not recorded: what is read from disk counts as published */
};

/* The name of a pod's host interface: "cr" and the first 13 digits of its random id, so no name is used twice. */
void lease_host_name(const char *pod_id, char out[IFACE_NAME_SIZE]);
/* Turn the request's ports into elements, for each family that the lease has an address of. ERR_INVALID for a host address of a family that it has
 * not, or one that is no address. */
int lease_set_ports(struct lease *lease, const struct network_port *ports, size_t count, struct error *err);
/* Two elements that cannot be in one map. */
bool lease_same_port(const struct nft_port *a, const struct nft_port *b);
const char *lease_port_text(const struct nft_port *port, char out[80]); /* "8080/tcp", "10.0.0.1 8080/udp" */

json_t *lease_to_json(const struct lease *lease);
int lease_from_json(const json_t *record, struct lease *out, struct error *err);
void lease_clear(struct lease *lease);
#define cleanup_lease cleanup(lease_clear)
