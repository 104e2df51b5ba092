#include "runtime/network/iface.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/network/netlink.h"

/* What a query for one interface found. */
struct found {
    uint32_t index;
    uint32_t mtu;
    char kind[16];
};

static void
read_link(const struct nlmsghdr *message, void *data)
{
    struct found *found = data;
    const struct nlattr *attrs[IFLA_LINKINFO + 1], *info[IFLA_INFO_KIND + 1] = {0};
    if (message->nlmsg_type != RTM_NEWLINK)
        return;
    netlink_attributes(message, sizeof(struct ifinfomsg), attrs, IFLA_LINKINFO + 1);
    found->index = (uint32_t)NETLINK_HEADER(message, struct ifinfomsg)->ifi_index;
    if (attrs[IFLA_MTU])
        found->mtu = mnl_attr_get_u32(attrs[IFLA_MTU]);
    if (attrs[IFLA_LINKINFO])
        netlink_nested(attrs[IFLA_LINKINFO], info, IFLA_INFO_KIND + 1);
    if (info[IFLA_INFO_KIND])
        (void)snprintf(found->kind, sizeof found->kind, "%s", mnl_attr_get_str(info[IFLA_INFO_KIND]));
}

/* By name, or by index where name is NULL. */
static int
find_link(int fd, const char *name, uint32_t index, struct found *out, struct error *err)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    *out = (struct found){0};
    struct nlmsghdr *m = netlink_add(&batch, RTM_GETLINK, 0, sizeof(struct ifinfomsg), "look for the interface");
    NETLINK_HEADER(m, struct ifinfomsg)->ifi_index = (int)index;
    if (name)
        mnl_attr_put_strz(m, IFLA_IFNAME, name);
    return netlink_query(fd, &batch, read_link, out, err);
}

bool
iface_exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

static void
add_address(struct netlink_batch *batch, uint32_t index, const struct iface_address *address)
{
    const struct ip *ip = &address->ip;
    struct nlmsghdr *m = netlink_add(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct ifaddrmsg),
                                     ip->family == AF_INET ? "add the IPv4 address" : "add the IPv6 address");
    *NETLINK_HEADER(m, struct ifaddrmsg) =
        (struct ifaddrmsg){.ifa_family = (uint8_t)ip->family, .ifa_prefixlen = (uint8_t)address->prefix, .ifa_index = index};
    mnl_attr_put(m, IFA_LOCAL, ip_size(ip), ip->bytes);
    mnl_attr_put(m, IFA_ADDRESS, ip_size(ip), ip->bytes);
    /* Nobody else has it: the lease says so. Duplicate address detection would only hold traffic back for two seconds. */
    if (ip->family == AF_INET6)
        mnl_attr_put_u32(m, IFA_FLAGS, IFA_F_NODAD);
}

static struct nlmsghdr *
add_link(struct netlink_batch *batch, uint16_t flags, const char *name, bool up, const char *what)
{
    struct nlmsghdr *m = netlink_add(batch, RTM_NEWLINK, flags, sizeof(struct ifinfomsg), what);
    if (up)
        *NETLINK_HEADER(m, struct ifinfomsg) = (struct ifinfomsg){.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    mnl_attr_put_strz(m, IFLA_IFNAME, name);
    return m;
}

static int
make_bridge(int fd, const char *name, struct error *err)
{
    unsigned char mac[IFACE_MAC_SIZE];
    if (getrandom(mac, sizeof mac, 0) != sizeof mac)
        return error_errno(err, errno, "random hardware address");
    mac[0] = (unsigned char)((mac[0] & 0xfcu) | 0x02u); /* unicast, locally administered */
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = add_link(&batch, NLM_F_CREATE | NLM_F_EXCL, name, true, "make the bridge");
    mnl_attr_put(m, IFLA_ADDRESS, sizeof mac, mac);
    struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_KIND, "bridge");
    mnl_attr_nest_end(m, info);
    netlink_tolerate(&batch, EEXIST);
    return netlink_run(fd, &batch, err);
}

int
iface_make_bridge(const char *name, const struct iface_address *addresses, size_t count, struct error *err)
{
    cleanup_close int fd = TRY(netlink_open(NETLINK_ROUTE, err));
    struct found found;
    if (!iface_exists(name))
        TRY(make_bridge(fd, name, err));
    TRY(find_link(fd, name, 0, &found, err));
    if (!str_eq(found.kind, "bridge"))
        return error_set(err, ERR_EXISTS, "interface %s is there and is no bridge", name);
    struct netlink_batch batch;
    netlink_begin(&batch);
    (void)add_link(&batch, 0, name, true, "bring the bridge up");
    for (size_t i = 0; i < count; i++)
        add_address(&batch, found.index, &addresses[i]);
    return netlink_run(fd, &batch, err);
}

/* One queue each way: the kernel would allocate one a processor, and use one. */
static void
put_queues(struct nlmsghdr *m)
{
    mnl_attr_put_u32(m, IFLA_NUM_TX_QUEUES, 1);
    mnl_attr_put_u32(m, IFLA_NUM_RX_QUEUES, 1);
}

static void
put_peer(struct nlmsghdr *m, const struct iface_pair *pair)
{
    struct nlattr *peer = mnl_attr_nest_start(m, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(m, sizeof(struct ifinfomsg)); /* not up: the kernel refuses that before both ends are made */
    mnl_attr_put_strz(m, IFLA_IFNAME, pair->name);
    mnl_attr_put(m, IFLA_ADDRESS, sizeof pair->mac, pair->mac);
    mnl_attr_put_u32(m, IFLA_MTU, pair->mtu);
    mnl_attr_put_u32(m, IFLA_NET_NS_FD, (uint32_t)pair->inside->netns);
    put_queues(m);
    mnl_attr_nest_end(m, peer);
}

static int
make_veth(int fd, const struct iface_pair *pair, struct error *err)
{
    unsigned bridge = if_nametoindex(pair->bridge);
    if (!bridge)
        return error_set(err, ERR_UNAVAILABLE, "bridge %s is gone", pair->bridge);
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = add_link(&batch, NLM_F_CREATE | NLM_F_EXCL, pair->host_name, true, "make the veth pair");
    mnl_attr_put_u32(m, IFLA_MTU, pair->mtu);
    mnl_attr_put_u32(m, IFLA_MASTER, bridge);
    put_queues(m);
    struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_DATA);
    put_peer(m, pair);
    mnl_attr_nest_end(m, data);
    mnl_attr_nest_end(m, info);
    return netlink_run(fd, &batch, err);
}

/* A pod that calls its own host port gets the packet back through the bridge port that it came from. */
static int
set_hairpin(int fd, const char *name, struct error *err)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = add_link(&batch, 0, name, false, "set the bridge port's hairpin");
    struct nlattr *info = mnl_attr_nest_start(m, IFLA_LINKINFO);
    mnl_attr_put_strz(m, IFLA_INFO_SLAVE_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(m, IFLA_INFO_SLAVE_DATA);
    mnl_attr_put_u8(m, IFLA_BRPORT_MODE, 1);
    mnl_attr_nest_end(m, data);
    mnl_attr_nest_end(m, info);
    return netlink_run(fd, &batch, err);
}

/* Inside the pod's namespace, before its interface is there: what it inherits. A pod shares a wire with others, whose router advertisements it must
 * not believe (CVE-2020-10749); it tells its neighbours where an address lives now. */
static void
set_defaults(void)
{
    static const struct {
        const char *path, *value;
    } defaults[] = {
        {"/proc/sys/net/ipv6/conf/default/accept_ra", "0"},
        {"/proc/sys/net/ipv6/conf/default/accept_dad", "0"}, /* for the link-local address */
        {"/proc/sys/net/ipv6/conf/default/ndisc_notify", "1"},
        {"/proc/sys/net/ipv4/conf/default/arp_notify", "1"},
    };
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        (void)file_put(AT_FDCWD, defaults[i].path, defaults[i].value, NULL); /* absent without IPv6 */
}

static bool
ipv6_is_on(void)
{
    cleanup_free char *disabled = NULL;
    return file_read(AT_FDCWD, "/proc/sys/net/ipv6/conf/default/disable_ipv6", 16, &disabled, NULL, NULL) == 0 && disabled[0] == '0';
}

/* A socket stays in the namespace that it was made in, so the thread is in the pod's for a few files and a socket(2). */
int
iface_open_inside(int netns, int home_netns, struct iface_inside *out, struct error *err)
{
    if (setns(netns, CLONE_NEWNET) < 0)
        return error_errno(err, errno, "enter the pod's network namespace");
    set_defaults();
    *out = (struct iface_inside){.netns = netns, .fd = netlink_open(NETLINK_ROUTE, err), .ipv6 = ipv6_is_on()};
    if (setns(home_netns, CLONE_NEWNET) < 0) {
        log_error("cannot leave a pod's network namespace; crispd ends so that nothing is done to the wrong network", "errno", strerror(errno));
        abort();
    }
    return out->fd < 0 ? -1 : 0;
}

static void
add_default_route(struct netlink_batch *batch, uint32_t index, const struct ip *gateway)
{
    struct nlmsghdr *m = netlink_add(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct rtmsg),
                                     gateway->family == AF_INET ? "add the IPv4 default route" : "add the IPv6 default route");
    *NETLINK_HEADER(m, struct rtmsg) = (struct rtmsg){
        .rtm_family = (uint8_t)gateway->family,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = RT_SCOPE_UNIVERSE,
        .rtm_type = RTN_UNICAST,
    };
    mnl_attr_put(m, RTA_GATEWAY, ip_size(gateway), gateway->bytes);
    mnl_attr_put_u32(m, RTA_OIF, index);
}

static int
configure_inside(const struct iface_pair *pair, struct error *err)
{
    struct found found;
    TRY(find_link(pair->inside->fd, pair->name, 0, &found, err));
    struct netlink_batch batch;
    netlink_begin(&batch);
    (void)add_link(&batch, 0, pair->name, true, "bring the interface up");
    for (size_t i = 0; i < pair->address_count; i++)
        add_address(&batch, found.index, &pair->addresses[i]);
    for (size_t i = 0; i < pair->address_count; i++)
        add_default_route(&batch, found.index, &pair->addresses[i].gateway);
    return netlink_run(pair->inside->fd, &batch, err);
}

int
iface_make_pair(const struct iface_pair *pair, struct error *err)
{
    cleanup_close int fd = TRY(netlink_open(NETLINK_ROUTE, err));
    if (make_veth(fd, pair, err) < 0)
        return error_prefix(err, "interface %s of the pod", pair->name);
    if (set_hairpin(fd, pair->host_name, err) == 0 && configure_inside(pair, err) == 0)
        return 0;
    (void)iface_remove(pair->host_name, NULL);
    return error_prefix(err, "interface %s of the pod", pair->name);
}

int
iface_remove(const char *name, struct error *err)
{
    cleanup_close int fd = TRY(netlink_open(NETLINK_ROUTE, err));
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = netlink_add(&batch, RTM_DELLINK, 0, sizeof(struct ifinfomsg), "remove the interface");
    mnl_attr_put_strz(m, IFLA_IFNAME, name);
    netlink_tolerate(&batch, ENODEV);
    return netlink_run(fd, &batch, err);
}

static void
read_route(const struct nlmsghdr *message, void *data)
{
    const struct nlattr *attrs[RTA_OIF + 1];
    netlink_attributes(message, sizeof(struct rtmsg), attrs, RTA_OIF + 1);
    if (message->nlmsg_type == RTM_NEWROUTE && attrs[RTA_OIF])
        *(uint32_t *)data = mnl_attr_get_u32(attrs[RTA_OIF]);
}

static uint32_t
mtu_towards(int fd, const char *address)
{
    struct ip ip;
    struct found found;
    uint32_t index = 0;
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = netlink_add(&batch, RTM_GETROUTE, 0, sizeof(struct rtmsg), "look for the route out");
    if (ip_parse(address, &ip, NULL) < 0)
        return 0;
    *NETLINK_HEADER(m, struct rtmsg) = (struct rtmsg){.rtm_family = (uint8_t)ip.family, .rtm_dst_len = (uint8_t)(ip_size(&ip) * 8)};
    mnl_attr_put(m, RTA_DST, ip_size(&ip), ip.bytes);
    if (netlink_query(fd, &batch, read_route, &index, NULL) < 0 || !index || find_link(fd, NULL, index, &found, NULL) < 0)
        return 0;
    return found.mtu;
}

uint32_t
iface_uplink_mtu(uint32_t fallback)
{
    cleanup_close int fd = netlink_open(NETLINK_ROUTE, NULL);
    uint32_t mtu = fd < 0 ? 0 : mtu_towards(fd, "192.0.2.1"); /* RFC 5737: no network has it */
    if (!mtu)
        mtu = fd < 0 ? 0 : mtu_towards(fd, "2001:db8::1"); /* RFC 3849 */
    return mtu ? mtu : fallback;
}

int
iface_mac_parse(const char *text, unsigned char out[IFACE_MAC_SIZE], struct error *err)
{
    int used = 0;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &out[0], &out[1], &out[2], &out[3], &out[4], &out[5], &used) != 6 || used != 17 ||
        text[used])
        return error_set(err, ERR_INVALID, "\"%s\" is no hardware address", text);
    if (out[0] & 1)
        return error_set(err, ERR_INVALID, "hardware address %s is a group's", text);
    return 0;
}
