#include "runtime/network/ip.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

size_t
ip_size(const struct ip *ip)
{
    return ip->family == AF_INET ? 4 : 16;
}

bool
ip_equal(const struct ip *a, const struct ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ip_size(a)) == 0;
}

bool
ip_is_any(const struct ip *ip)
{
    static const unsigned char zero[16];
    return memcmp(ip->bytes, zero, ip_size(ip)) == 0;
}

int
ip_parse(const char *text, struct ip *out, struct error *err)
{
    *out = (struct ip){.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    if (inet_pton(out->family, text, out->bytes) != 1)
        return error_set(err, ERR_INVALID, "\"%s\" is no IP address", text);
    return 0;
}

const char *
ip_format(const struct ip *ip, char out[IP_TEXT_SIZE])
{
    (void)inet_ntop(ip->family, ip->bytes, out, IP_TEXT_SIZE);
    return out;
}

static bool
has_bits_beyond(const struct ip_net *net)
{
    for (unsigned bit = net->prefix; bit < ip_size(&net->ip) * 8; bit++)
        if (net->ip.bytes[bit / 8] & (0x80u >> (bit % 8)))
            return true;
    return false;
}

bool
ip_of_sockaddr(const struct sockaddr *address, struct ip *out)
{
    *out = (struct ip){.family = address ? address->sa_family : 0};
    if (out->family == AF_INET)
        memcpy(out->bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    else if (out->family == AF_INET6)
        memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    return out->family == AF_INET || out->family == AF_INET6;
}

int
ip_net_parse(const char *text, struct ip_net *out, struct error *err)
{
    const char *slash = strchr(text, '/');
    if (!slash)
        return error_set(err, ERR_INVALID, "\"%s\" is no network: ADDRESS/PREFIX is expected", text);
    cleanup_free char *address = str_ndup(text, (size_t)(slash - text));
    uint64_t prefix;
    TRY(ip_parse(address, &out->ip, err));
    TRY(str_to_u64(slash + 1, ip_size(&out->ip) * 8, "the prefix length", &prefix, err));
    out->prefix = (unsigned)prefix;
    if (has_bits_beyond(out))
        return error_set(err, ERR_INVALID, "\"%s\" is no network: bits beyond its prefix are set", text);
    return 0;
}

uint32_t
ip_net_end(const struct ip_net *net)
{
    size_t host_bits = ip_size(&net->ip) * 8 - net->prefix;
    return host_bits >= 32 ? UINT32_MAX : UINT32_C(1) << host_bits;
}

struct ip
ip_net_at(const struct ip_net *net, uint32_t offset)
{
    struct ip ip = net->ip;
    size_t last = ip_size(&ip);
    for (size_t i = 0; i < 4; i++)
        ip.bytes[last - 1 - i] |= (unsigned char)(offset >> (8 * i));
    return ip;
}

bool
ip_net_offset(const struct ip_net *net, const struct ip *ip, uint32_t *offset)
{
    if (ip->family != net->ip.family)
        return false;
    const unsigned char *low = ip->bytes + ip_size(ip) - 4;
    uint32_t value = (uint32_t)low[0] << 24 | (uint32_t)low[1] << 16 | (uint32_t)low[2] << 8 | low[3];
    uint32_t end = ip_net_end(net);
    *offset = end == UINT32_MAX ? value : value & (end - 1);
    struct ip same = ip_net_at(net, *offset);
    return ip_equal(&same, ip);
}
