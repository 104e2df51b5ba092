#include "runtime/network/host.h"

#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

CLEANUP_DEFINE(ifaddrsp, struct ifaddrs *, freeifaddrs)

#define CONF6 "/proc/sys/net/ipv6/conf"

static bool
has_value(const char *path, const char *value)
{
    cleanup_free char *text = NULL;
    if (file_read(AT_FDCWD, path, 64, &text, NULL, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return str_eq(text, value);
}

static int
set_value(const char *path, const char *value, struct error *err)
{
    return has_value(path, value) ? 0 : file_put(AT_FDCWD, path, value, err);
}

bool
host_has_ipv6(void)
{
    return has_value(CONF6 "/all/disable_ipv6", "0");
}

/* Not those to come ("default"): on another runtime's interface a pod might advertise itself. */
static bool
may_advertise(const char *interface)
{
    return interface[0] != '.' && !str_eq(interface, "all") && !str_eq(interface, "default") && !str_eq(interface, "lo");
}

static void
keep_advertisements(void)
{
    cleanup_closedir DIR *dir = opendir(CONF6);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *path = str_printf(CONF6 "/%s/accept_ra", entry->d_name);
        if (may_advertise(entry->d_name) && has_value(path, "1"))
            (void)file_put(AT_FDCWD, path, "2", NULL);
    }
}

int
host_forward(const char *bridge, bool ipv6, struct error *err)
{
    TRY(set_value("/proc/sys/net/ipv4/ip_forward", "1", err));
    if (!ipv6)
        return 0;
    cleanup_free char *accept_ra = str_printf(CONF6 "/%s/accept_ra", bridge), *accept_dad = str_printf(CONF6 "/%s/accept_dad", bridge);
    if (!has_value(CONF6 "/all/forwarding", "1"))
        keep_advertisements();
    TRY(set_value(CONF6 "/all/forwarding", "1", err));
    /* Until its link-local address has passed duplicate address detection, a bridge asks for no pod's hardware address: two seconds of silence. */
    TRY(set_value(accept_dad, "0", err));
    return set_value(accept_ra, "0", err); /* no pod may be the host's router (CVE-2020-10749) */
}

int
host_route_loopback(const char *bridge, bool may, struct error *err)
{
    cleanup_free char *route_localnet = str_printf("/proc/sys/net/ipv4/conf/%s/route_localnet", bridge);
    return set_value(route_localnet, may ? "1" : "0", err);
}

/* Two networks overlap where they agree in all bits of both masks. */
static bool
overlaps(const struct ip_net *pool, const struct ip *ip, const struct ip *mask)
{
    for (unsigned bit = 0; bit < pool->prefix; bit++) {
        unsigned char one = (unsigned char)(0x80u >> (bit % 8));
        if ((mask->bytes[bit / 8] & one) && ((ip->bytes[bit / 8] ^ pool->ip.bytes[bit / 8]) & one))
            return false;
    }
    return true;
}

char *
host_overlap(const struct ip_net *pool, const char *bridge)
{
    cleanup(ifaddrsp) struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return NULL;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        struct ip ip, mask;
        char text[IP_TEXT_SIZE];
        if (!ip_of_sockaddr(a->ifa_addr, &ip) || !ip_of_sockaddr(a->ifa_netmask, &mask) || ip.family != pool->ip.family)
            continue;
        if (!str_eq(a->ifa_name, bridge) && overlaps(pool, &ip, &mask))
            return str_printf("%s %s", a->ifa_name, ip_format(&ip, text));
    }
    return NULL;
}
