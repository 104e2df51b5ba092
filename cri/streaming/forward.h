/* A port-forward session: any number of forwarded connections, each a pair of streams (data, error) on the client's side and a socket into the pod's
 * network on the other. What befalls one of them ends that one only; the session lives until its client leaves, or is idle for too long; one of
 * channels ends with its last connection.
 *
 * What the pod does not take yet is kept, up to INPUT_HIGH; beyond that the whole session rests, as neither SPDY's clients nor channels have windows
 * that would let one stream rest by itself. A connection of which the pod reads nothing for STALL_NS meanwhile is broken off, on both sides by a
 * reset.
 *
 * A connection is made to localhost in the pod's network, by IPv4, then by IPv6. */
#pragma once

#include "cri/streaming/session.h"

struct forward;

struct forward_list {
    struct forward *first;
    size_t count, most;
    struct loop *loop;
    struct runtime *runtime;
    int64_t idle_ns;
};

/* Takes the errand and the connection. Over channels, the errand's ports are connected at once: channel 2i is the i-th's data, 2i + 1 its errors. */
void forward_new(struct forward_list *list, struct conn *conn, const struct agreement *agreement, struct errand *errand, char *data, size_t length);
void forwards_end(struct forward_list *list);
