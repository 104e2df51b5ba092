#include "runtime/network/conntrack.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/network/netlink.h"

enum { FLOWS_MAX = 4096, TUPLE_BYTES = 256 };

struct flow {
    uint8_t family;
    size_t length;
    unsigned char tuple[TUPLE_BYTES]; /* the CTA_TUPLE_ORIG attribute as it came */
};

struct search {
    const struct nft_port *ports;
    size_t count;
    struct ifaddrs *local;
    struct flow *flows;
    size_t flow_count;
};

CLEANUP_DEFINE(ifaddrsp, struct ifaddrs *, freeifaddrs)

static bool
is_local(const struct search *search, const struct ip *ip)
{
    for (const struct ifaddrs *a = search->local; a; a = a->ifa_next) {
        struct ip own;
        if (ip_of_sockaddr(a->ifa_addr, &own) && ip_equal(&own, ip))
            return true;
    }
    return false;
}

/* A UDP flow's destination; false for all else. */
static bool
read_destination(const struct nlattr *tuple, uint8_t family, struct ip *ip, uint16_t *port)
{
    const struct nlattr *parts[CTA_TUPLE_PROTO + 1], *ips[CTA_IP_V6_DST + 1], *proto[CTA_PROTO_DST_PORT + 1];
    netlink_nested(tuple, parts, CTA_TUPLE_PROTO + 1);
    if (!parts[CTA_TUPLE_IP] || !parts[CTA_TUPLE_PROTO])
        return false;
    netlink_nested(parts[CTA_TUPLE_IP], ips, CTA_IP_V6_DST + 1);
    netlink_nested(parts[CTA_TUPLE_PROTO], proto, CTA_PROTO_DST_PORT + 1);
    const struct nlattr *address = ips[family == AF_INET ? CTA_IP_V4_DST : CTA_IP_V6_DST];
    *ip = (struct ip){.family = family};
    if (!address || mnl_attr_get_payload_len(address) != ip_size(ip))
        return false;
    if (!proto[CTA_PROTO_NUM] || mnl_attr_get_u8(proto[CTA_PROTO_NUM]) != IPPROTO_UDP || !proto[CTA_PROTO_DST_PORT])
        return false;
    memcpy(ip->bytes, mnl_attr_get_payload(address), ip_size(ip));
    *port = ntohs(mnl_attr_get_u16(proto[CTA_PROTO_DST_PORT]));
    return true;
}

static bool
is_wanted(const struct search *search, const struct ip *ip, uint16_t port)
{
    for (size_t i = 0; i < search->count; i++) {
        const struct nft_port *p = &search->ports[i];
        if (p->protocol != IPPROTO_UDP || p->host_port != port || p->host_ip.family != ip->family)
            continue;
        if (ip_is_any(&p->host_ip) ? is_local(search, ip) : ip_equal(&p->host_ip, ip))
            return true;
    }
    return false;
}

static void
read_flow(const struct nlmsghdr *message, void *data)
{
    struct search *search = data;
    const struct nlattr *attrs[CTA_TUPLE_ORIG + 1];
    struct ip ip;
    uint16_t port;
    uint8_t family = NETLINK_HEADER(message, struct nfgenmsg)->nfgen_family;
    netlink_attributes(message, sizeof(struct nfgenmsg), attrs, CTA_TUPLE_ORIG + 1);
    const struct nlattr *tuple = attrs[CTA_TUPLE_ORIG];
    if (!tuple || !read_destination(tuple, family, &ip, &port) || !is_wanted(search, &ip, port))
        return;
    size_t length = mnl_attr_get_payload_len(tuple);
    if (length > TUPLE_BYTES || search->flow_count == FLOWS_MAX)
        return;
    search->flows = mem_realloc(search->flows, search->flow_count + 1, sizeof *search->flows);
    struct flow *flow = &search->flows[search->flow_count++];
    flow->family = family;
    flow->length = length;
    memcpy(flow->tuple, mnl_attr_get_payload(tuple), length);
}

static struct nlmsghdr *
add_message(struct netlink_batch *batch, uint16_t type, uint16_t flags, uint8_t family)
{
    struct nlmsghdr *m = netlink_add(batch, (uint16_t)((NFNL_SUBSYS_CTNETLINK << 8) | type), flags, sizeof(struct nfgenmsg), "forget UDP flows");
    *NETLINK_HEADER(m, struct nfgenmsg) = (struct nfgenmsg){.nfgen_family = family, .version = NFNETLINK_V0};
    return m;
}

static void
forget(int fd, const struct flow *flow)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = add_message(&batch, IPCTNL_MSG_CT_DELETE, 0, flow->family);
    mnl_attr_put(m, CTA_TUPLE_ORIG | NLA_F_NESTED, flow->length, flow->tuple);
    (void)netlink_run(fd, &batch, NULL);
}

void
conntrack_forget(const struct nft_port *ports, size_t count)
{
    cleanup_close int fd = netlink_open(NETLINK_NETFILTER, NULL);
    cleanup(ifaddrsp) struct ifaddrs *local = NULL;
    if (fd < 0 || getifaddrs(&local) < 0)
        return;
    struct search search = {.ports = ports, .count = count, .local = local};
    struct netlink_batch batch;
    netlink_begin(&batch);
    (void)add_message(&batch, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC);
    (void)netlink_query(fd, &batch, read_flow, &search, NULL);
    for (size_t i = 0; i < search.flow_count; i++)
        forget(fd, &search.flows[i]);
    free(search.flows);
}
