/* Foreign firewalls at the forward hook whose policy drops (Docker's, ufw's): what they drop, no rule of ours can let through, so it is only told.
 * Both of the kernel's kinds: nftables (and with it iptables-nft), and the old tables of iptables-legacy. */
#pragma once

/* "chain FORWARD of nftables table ip filter, …"; NULL when there is none. Caller frees. `netfilter` as in nft.h; -1: the kernel has none. */
char *forward_foreign_drops(int netfilter);
