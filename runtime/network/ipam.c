#include "runtime/network/ipam.h"

#include <stdlib.h>
#include <sys/socket.h>

enum { GATEWAY_OFFSET = 1, FIRST_OFFSET = 2 };

static uint32_t
pool_end(const struct ip_net *pool)
{
    uint32_t end = ip_net_end(pool);
    return pool->ip.family == AF_INET ? end - 1 : end; /* the last of IPv4 is the broadcast address */
}

static int
add_pool(struct ipam *ipam, const char *text, struct error *err)
{
    struct ip_net pool;
    TRY(ip_net_parse(text, &pool, err));
    for (size_t i = 0; i < ipam->pool_count; i++)
        if (ipam->pools[i].ip.family == pool.ip.family)
            return error_set(err, ERR_INVALID, "pool %s: there is another of its family", text);
    if (ip_net_end(&pool) < 4 || pool.prefix == 0)
        return error_set(err, ERR_INVALID, "pool %s: it must have room for a bridge and a pod, and not be everything", text);
    ipam->pools[ipam->pool_count++] = pool;
    if (pool_end(&pool) < ipam->end)
        ipam->end = pool_end(&pool);
    return 0;
}

int
ipam_open(const struct strv *pools, struct ipam *out, struct error *err)
{
    *out = (struct ipam){.end = UINT32_MAX, .cursor = FIRST_OFFSET};
    if (pools->count == 0)
        return error_set(err, ERR_INVALID, "the built-in network has no address pool");
    for (size_t i = 0; i < pools->count; i++)
        TRY(add_pool(out, pools->items[i], err));
    return 0;
}

void
ipam_close(struct ipam *ipam)
{
    free(ipam->used);
    *ipam = (struct ipam){0};
}

struct ip
ipam_gateway(const struct ipam *ipam, size_t pool)
{
    return ip_net_at(&ipam->pools[pool], GATEWAY_OFFSET);
}

static bool
is_used(const struct ipam *ipam, const struct ip *ip)
{
    for (size_t i = 0; i < ipam->used_count; i++)
        if (ip_equal(&ipam->used[i], ip))
            return true;
    return false;
}

static bool
is_free(const struct ipam *ipam, uint32_t offset)
{
    for (size_t i = 0; i < ipam->pool_count; i++) {
        struct ip ip = ip_net_at(&ipam->pools[i], offset);
        if (is_used(ipam, &ip))
            return false;
    }
    return true;
}

static int
find_wanted(const struct ipam *ipam, const char *wanted, uint32_t *offset, struct error *err)
{
    struct ip ip;
    TRY(ip_parse(wanted, &ip, err));
    for (size_t i = 0; i < ipam->pool_count; i++)
        if (ip_net_offset(&ipam->pools[i], &ip, offset)) {
            if (*offset < FIRST_OFFSET || *offset >= ipam->end)
                return error_set(err, ERR_INVALID, "address %s cannot be a pod's", wanted);
            if (!is_free(ipam, *offset))
                return error_set(err, ERR_EXISTS, "address %s is in use by another pod", wanted);
            return 0;
        }
    return error_set(err, ERR_INVALID, "address %s is in no pool of the built-in network", wanted);
}

/* No more candidates are looked at than there are addresses in use, and one. */
static int
find_next(struct ipam *ipam, uint32_t *offset, struct error *err)
{
    uint32_t room = ipam->end - FIRST_OFFSET;
    uint32_t at = ipam->cursor >= FIRST_OFFSET && ipam->cursor < ipam->end ? ipam->cursor : FIRST_OFFSET;
    for (uint32_t tried = 0; tried < room && tried <= ipam->used_count; tried++) {
        *offset = at;
        at = at + 1 == ipam->end ? FIRST_OFFSET : at + 1;
        if (!is_free(ipam, *offset))
            continue;
        ipam->cursor = at;
        return 0;
    }
    return error_set(err, ERR_EXHAUSTED, "all %u addresses of the built-in network's pools are in use", room);
}

int
ipam_take(struct ipam *ipam, const char *wanted, struct ipam_lease *out, struct error *err)
{
    uint32_t offset;
    TRY(str_empty(wanted) ? find_next(ipam, &offset, err) : find_wanted(ipam, wanted, &offset, err));
    *out = (struct ipam_lease){.count = ipam->pool_count};
    for (size_t i = 0; i < ipam->pool_count; i++)
        out->ips[i] = ip_net_at(&ipam->pools[i], offset);
    ipam_remember(ipam, out);
    return 0;
}

void
ipam_remember(struct ipam *ipam, const struct ipam_lease *lease)
{
    ipam->used = mem_realloc(ipam->used, ipam->used_count + lease->count, sizeof *ipam->used);
    for (size_t i = 0; i < lease->count; i++)
        ipam->used[ipam->used_count++] = lease->ips[i];
}

static void
give_back(struct ipam *ipam, const struct ip *ip)
{
    for (size_t i = 0; i < ipam->used_count; i++)
        if (ip_equal(&ipam->used[i], ip)) {
            ipam->used[i] = ipam->used[--ipam->used_count];
            return;
        }
}

void
ipam_give_back(struct ipam *ipam, const struct ipam_lease *lease)
{
    for (size_t i = 0; i < lease->count; i++)
        give_back(ipam, &lease->ips[i]);
}
