/* Addresses of IPv4 and IPv6, and prefixes, as values. No state; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sockaddr;

enum { IP_TEXT_SIZE = 46 }; /* INET6_ADDRSTRLEN */

struct ip {
    int family;              /* AF_INET, AF_INET6; 0: none */
    unsigned char bytes[16]; /* network order; 4 in use for AF_INET */
};

struct ip_net {
    struct ip ip;
    unsigned prefix;
};

size_t ip_size(const struct ip *ip); /* 4 or 16 */
bool ip_equal(const struct ip *a, const struct ip *b);
bool ip_is_any(const struct ip *ip); /* 0.0.0.0, :: */
/* ERR_INVALID for anything but one address ("10.88.0.7", "fd00:88::7"). */
int ip_parse(const char *text, struct ip *out, struct error *err);
const char *ip_format(const struct ip *ip, char out[IP_TEXT_SIZE]); /* returns out */

/* Of an interface (getifaddrs(3)); false for NULL and other families. */
bool ip_of_sockaddr(const struct sockaddr *address, struct ip *out);

/* "10.88.0.0/16". ERR_INVALID also where bits beyond the prefix are set. */
int ip_net_parse(const char *text, struct ip_net *out, struct error *err);
/* The first offset behind the network's last address; UINT32_MAX for networks of 2^32 addresses and more. */
uint32_t ip_net_end(const struct ip_net *net);
struct ip ip_net_at(const struct ip_net *net, uint32_t offset);
/* The reverse of ip_net_at; false when the address is outside, or further in than an offset can say. */
bool ip_net_offset(const struct ip_net *net, const struct ip *ip, uint32_t *offset);
