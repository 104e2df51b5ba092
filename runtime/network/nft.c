#include "runtime/network/nft.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <pthread.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/network/netlink.h"

#define TABLE "crisp"

enum { TEXT_BYTES = 1 << 20 };

/* libnftables' scanner and its tables of names are global. */
static pthread_mutex_t libnftables_lock = PTHREAD_MUTEX_INITIALIZER;

/* Maps from what a packet was sent to, to where it goes. Ports on all addresses and on one are apart, since a map has no wildcard. */
static const struct map {
    const char *name;
    int family;
    bool one_address;
} maps[] = {
    {"ports4", AF_INET, false},
    {"ports6", AF_INET6, false},
    {"address_ports4", AF_INET, true},
    {"address_ports6", AF_INET6, true},
};

static const struct map *
map_of(const struct nft_port *port)
{
    for (const struct map *map = maps;; map++)
        if (map->family == port->host_ip.family && map->one_address == !ip_is_any(&port->host_ip))
            return map;
}

static const char *
protocol_name(uint8_t protocol)
{
    return protocol == IPPROTO_TCP ? "tcp" : protocol == IPPROTO_UDP ? "udp" : "sctp";
}

/* Priorities are numbers: their names differ by family. -300 is before connection tracking, where an answer that is on its way back to 127.0.0.1
 * still carries the bridge's address. ::1 is left alone: the kernel has no route_localnet for IPv6, what comes from ::1 cannot leave the host. */
static const char fixed_rules[] = /**/
    "    map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "    map ports6 { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
    "    map address_ports4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "    map address_ports6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }\n"
    "    chain ports {\n"
    "        dnat ip to ip daddr . meta l4proto . th dport map @address_ports4\n"
    "        dnat ip6 to ip6 daddr . meta l4proto . th dport map @address_ports6\n"
    "        dnat ip to meta l4proto . th dport map @ports4\n"
    "        dnat ip6 to meta l4proto . th dport map @ports6\n"
    "    }\n"
    "    chain prerouting {\n"
    "        type nat hook prerouting priority -100; policy accept;\n"
    "        meta l4proto { tcp, udp, sctp } fib daddr type local jump ports\n"
    "    }\n"
    "    chain output {\n"
    "        type nat hook output priority -100; policy accept;\n"
    "        ip6 daddr ::1 return\n"
    "        meta l4proto { tcp, udp, sctp } fib daddr type local jump ports\n"
    "    }\n";

/* A pod that reaches a pod of the same bridge through a host port must be answered through the host, which turns the addresses back; so must the
 * host's 127.0.0.1. */
static void
add_pool_rules(struct buf *text, const char *bridge, const struct ip_net *pool)
{
    char ip[IP_TEXT_SIZE];
    const char *family = pool->ip.family == AF_INET ? "ip" : "ip6";
    (void)ip_format(&pool->ip, ip);
    (void)buf_addf(text, "        oifname \"%s\" ct status dnat %s saddr %s/%u masquerade\n", bridge, family, ip, pool->prefix);
    (void)buf_addf(text, "        oifname != \"%s\" %s saddr %s/%u %s daddr != %s masquerade\n", bridge, family, ip, pool->prefix, family,
                   pool->ip.family == AF_INET ? "224.0.0.0/4" : "ff00::/8");
}

static void
add_rules(struct buf *text, const char *bridge, const struct ip_net *pools, size_t pool_count)
{
    (void)buf_adds(text, "table inet " TABLE " {\n");
    (void)buf_adds(text, fixed_rules);
    (void)buf_adds(text, "    chain postrouting {\n        type nat hook postrouting priority 100; policy accept;\n");
    (void)buf_addf(text, "        oifname \"%s\" ct status dnat ip saddr 127.0.0.0/8 masquerade\n", bridge);
    for (size_t i = 0; i < pool_count; i++)
        add_pool_rules(text, bridge, &pools[i]);
    (void)buf_adds(text, "    }\n    chain loopback {\n        type filter hook prerouting priority -300; policy accept;\n");
    (void)buf_addf(text, "        iifname \"%s\" ip saddr 127.0.0.0/8 drop\n        iifname \"%s\" ip daddr 127.0.0.0/8 drop\n    }\n}\n", bridge,
                   bridge);
}

static void
add_element(struct buf *text, const struct nft_port *port)
{
    char host[IP_TEXT_SIZE], pod[IP_TEXT_SIZE];
    const struct map *map = map_of(port);
    (void)ip_format(&port->host_ip, host);
    (void)buf_addf(text, "add element inet " TABLE " %s { %s%s%s . %u : %s . %u }\n", map->name, map->one_address ? host : "",
                   map->one_address ? " . " : "", protocol_name(port->protocol), port->host_port, ip_format(&port->pod_ip, pod), port->pod_port);
}

static int
run_text(const char *text, struct error *err)
{
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!context)
        return error_set(err, ERR_INTERNAL, "libnftables gives no context");
    (void)nft_ctx_buffer_output(context);
    (void)nft_ctx_buffer_error(context);
    int result = nft_run_cmd_from_buffer(context, text);
    int errnum = errno;
    const char *words = nft_ctx_get_error_buffer(context);
    if (result != 0)
        (void)error_set(err, errnum == EOPNOTSUPP || errnum == ENOENT ? ERR_UNSUPPORTED : ERR_INTERNAL, "make nftables table inet " TABLE ": %.*s",
                        (int)strcspn(words, "\n"), words);
    nft_ctx_free(context);
    return result == 0 ? 0 : -1;
}

int
nft_reset(const char *bridge, const struct ip_net *pools, size_t pool_count, const struct nft_port *ports, size_t port_count, struct error *err)
{
    cleanup_buf struct buf text = BUF(TEXT_BYTES);
    (void)buf_adds(&text, "add table inet " TABLE "\ndelete table inet " TABLE "\n");
    add_rules(&text, bridge, pools, pool_count);
    for (size_t i = 0; i < port_count; i++)
        add_element(&text, &ports[i]);
    (void)pthread_mutex_lock(&libnftables_lock);
    int result = run_text(text.data, err);
    (void)pthread_mutex_unlock(&libnftables_lock);
    return result;
}

static struct nlmsghdr *
add_message(struct netlink_batch *batch, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource, const char *what)
{
    struct nlmsghdr *m = netlink_add(batch, type, flags, sizeof(struct nfgenmsg), what);
    *NETLINK_HEADER(m, struct nfgenmsg) = (struct nfgenmsg){.nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(resource)};
    return m;
}

static void
add_frame(struct netlink_batch *batch, uint16_t type)
{
    (void)add_message(batch, type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, "nftables transaction");
    netlink_unanswered(batch);
}

/* Each part of a concatenation begins on a register of four bytes. */
static size_t
put_part(unsigned char *at, const void *part, size_t length)
{
    memcpy(at, part, length);
    return (length + 3) / 4 * 4;
}

static void
put_value(struct nlmsghdr *m, uint16_t attribute, const void *value, size_t length)
{
    struct nlattr *nest = mnl_attr_nest_start(m, attribute);
    mnl_attr_put(m, NFTA_DATA_VALUE, length, value);
    mnl_attr_nest_end(m, nest);
}

static void
put_key(struct nlmsghdr *m, const struct nft_port *port, const struct map *map)
{
    unsigned char key[24] = {0};
    size_t length = map->one_address ? put_part(key, port->host_ip.bytes, ip_size(&port->host_ip)) : 0;
    uint16_t number = htons(port->host_port);
    length += put_part(key + length, &port->protocol, 1);
    length += put_part(key + length, &number, 2);
    put_value(m, NFTA_SET_ELEM_KEY, key, length);
}

static void
put_data(struct nlmsghdr *m, const struct nft_port *port)
{
    unsigned char data[24] = {0};
    size_t length = put_part(data, port->pod_ip.bytes, ip_size(&port->pod_ip));
    uint16_t number = htons(port->pod_port);
    length += put_part(data + length, &number, 2);
    put_value(m, NFTA_SET_ELEM_DATA, data, length);
}

static void
add_port(struct netlink_batch *batch, const struct nft_port *port, bool add)
{
    const struct map *map = map_of(port);
    uint16_t type = (uint16_t)((NFNL_SUBSYS_NFTABLES << 8) | (add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM));
    struct nlmsghdr *m =
        add_message(batch, type, add ? NLM_F_CREATE | NLM_F_EXCL : 0, NFPROTO_INET, 0, add ? "add a host port" : "remove a host port");
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_TABLE, TABLE);
    mnl_attr_put_strz(m, NFTA_SET_ELEM_LIST_SET, map->name);
    struct nlattr *list = mnl_attr_nest_start(m, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *element = mnl_attr_nest_start(m, NFTA_LIST_ELEM);
    put_key(m, port, map);
    if (add)
        put_data(m, port);
    mnl_attr_nest_end(m, element);
    mnl_attr_nest_end(m, list);
}

/* As many as a batch holds; how many there were goes to *taken. */
static int
change_ports(int fd, const struct nft_port *ports, size_t count, bool add, size_t *taken, struct error *err)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    add_frame(&batch, NFNL_MSG_BATCH_BEGIN);
    for (*taken = 0; *taken < count && !netlink_full(&batch, 1); (*taken)++)
        add_port(&batch, &ports[*taken], add);
    add_frame(&batch, NFNL_MSG_BATCH_END);
    return netlink_run(fd, &batch, err);
}

int
nft_add_ports(int fd, const struct nft_port *ports, size_t count, struct error *err)
{
    size_t taken = 0;
    for (size_t done = 0; done < count; done += taken)
        if (change_ports(fd, ports + done, count - done, true, &taken, err) < 0) {
            (void)nft_remove_ports(fd, ports, done, NULL);
            return -1;
        }
    return 0;
}

int
nft_remove_ports(int fd, const struct nft_port *ports, size_t count, struct error *err)
{
    size_t taken = 0;
    struct error why;
    for (size_t done = 0; done < count; done += taken) {
        if (change_ports(fd, ports + done, count - done, false, &taken, &why) == 0)
            continue;
        /* A transaction fails as a whole when one element is gone: then each by itself. */
        for (size_t i = 0; i < taken; i++) {
            size_t one;
            if (change_ports(fd, ports + done + i, 1, false, &one, &why) < 0 && why.errnum != ENOENT)
                return error_errno(err, why.errnum, "remove a host port");
        }
    }
    return 0;
}

static void
ignore(const struct nlmsghdr *message, void *data)
{
    (void)message;
    (void)data;
}

bool
nft_is_present(int fd)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = add_message(&batch, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE, 0, NFPROTO_INET, 0, "look for the table");
    mnl_attr_put_strz(m, NFTA_TABLE_NAME, TABLE);
    return netlink_query(fd, &batch, ignore, NULL, NULL) == 0;
}
