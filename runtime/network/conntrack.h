/* Connections that the kernel remembers. A UDP client that goes on sending keeps the entry of its flow alive, and with it where the flow went before
 * a host port began or ended: to a dead pod, or to nobody. */
#pragma once

#include "runtime/network/nft.h"

/* Forget the UDP flows that came to these host ports on an address of the host. Best effort: a kernel without ctnetlink keeps them 30 s after the
 * client's last packet. Takes 10 ms and more: the kernel looks through all its connections. */
void conntrack_forget(const struct nft_port *ports, size_t count);
