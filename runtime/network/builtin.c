#include "runtime/network/builtin.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/network/conntrack.h"
#include "runtime/network/forward.h"
#include "runtime/network/host.h"
#include "runtime/network/iface.h"
#include "runtime/network/lease.h"
#include "runtime/network/netlink.h"
#include "runtime/network/nft.h"

#define POD_INTERFACE "eth0"

enum { MTU_FALLBACK = 1500, MTU_LEAST = 1280, STALE_MAX = 4096 };

struct builtin {
    const struct record_store *store;
    char *bridge;
    char *foreign_drops; /* told already; builtin_repair's alone */
    int64_t fixed_mtu;
    int home_netns;
    int cursor_file;

    pthread_mutex_t table_lock; /* held over a transaction of nftables, so that a table made anew misses none; taken before `lock` */
    int netfilter;              /* guarded by table_lock: its netlink socket (netlink.h); -1: the kernel has no nftables */

    pthread_mutex_t lock; /* guards what follows */
    struct ipam ipam;
    struct lease *leases;
    size_t lease_count;
    uint32_t mtu;
    bool ipv6;                          /* the host has it */
    char unusable[NETWORK_REASON_SIZE]; /* why no pod can be attached; "": it can */
    char no_nat[NETWORK_REASON_SIZE];   /* why there is no masquerade and no host port */
    struct nft_port *stale;             /* host ports that came or went: their UDP flows are to be forgotten */
    size_t stale_count;
    int wake; /* eventfd of whoever calls builtin_forget_flows */
};

static void
lock(struct builtin *b)
{
    (void)pthread_mutex_lock(&b->lock);
}

static void
unlock(struct builtin *b)
{
    (void)pthread_mutex_unlock(&b->lock);
}

static struct lease *
find_lease(struct builtin *b, const char *pod_id)
{
    for (size_t i = 0; i < b->lease_count; i++)
        if (str_eq(b->leases[i].pod_id, pod_id))
            return &b->leases[i];
    return NULL;
}

/* The list's lease now owns the ports. */
static void
keep_lease(struct builtin *b, const struct lease *lease)
{
    b->leases = mem_realloc(b->leases, b->lease_count + 1, sizeof *b->leases);
    b->leases[b->lease_count++] = *lease;
    ipam_remember(&b->ipam, &lease->addresses);
}

static void
drop_lease(struct builtin *b, const char *pod_id)
{
    struct lease *lease = find_lease(b, pod_id);
    if (!lease)
        return;
    ipam_give_back(&b->ipam, &lease->addresses);
    lease_clear(lease);
    *lease = b->leases[--b->lease_count];
}

static void
recover_lease(struct builtin *b, const char *pod_id)
{
    cleanup_json json_t *record = NULL;
    struct lease lease;
    struct error err;
    int found = record_load(b->store, -1, pod_id, &record, &err);
    if (found == 1 && !str_eq(record_string(record, "kind"), "builtin"))
        return;
    if (found == 1 && lease_from_json(record, &lease, &err) == 0) {
        lease.published = true;
        keep_lease(b, &lease);
    } else if (found != 0)
        log_warn("the record of a pod's network cannot be read", "pod", pod_id, "error", err.message);
}

/* Where the round robin went on to before the restart: a number of ten digits in a file. */
static int
open_cursor(struct builtin *b, const char *root, struct error *err)
{
    cleanup_free char *path = str_printf("%s/next-address", root);
    char text[11] = "";
    uint64_t value;
    b->cursor_file = TRY(file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, err));
    if (pread(b->cursor_file, text, 10, 0) == 10 && str_to_u64(text, UINT32_MAX, "next-address", &value, NULL) == 0)
        b->ipam.cursor = (uint32_t)value;
    return 0;
}

static void
save_cursor(struct builtin *b)
{
    char text[11];
    (void)snprintf(text, sizeof text, "%010u", b->ipam.cursor);
    ssize_t written = pwrite(b->cursor_file, text, 10, 0);
    (void)written; /* only the fairness of the next start hangs on it */
}

int
builtin_open(const struct network_options *options, const struct record_store *store, int wake, struct builtin **out, struct error *err)
{
    struct builtin *b = mem_zalloc(1, sizeof *b);
    *out = b;
    *b = (struct builtin){
        .store = store,
        .bridge = str_dup(options->builtin_bridge),
        .fixed_mtu = options->builtin_mtu,
        .home_netns = -1,
        .cursor_file = -1,
        .netfilter = -1,
        .wake = wake,
        .mtu = MTU_FALLBACK,
        .unusable = "the built-in network is not made yet",
    };
    (void)pthread_mutex_init(&b->table_lock, NULL);
    (void)pthread_mutex_init(&b->lock, NULL);
    cleanup_strv struct strv ids = {0};
    if (options->mode == NETWORK_BUILTIN) {
        TRY(ipam_open(&options->builtin_pools, &b->ipam, err));
        if (!network_bridge_name_valid(b->bridge))
            return error_set(err, ERR_INVALID, "\"%s\" cannot be a bridge's name", b->bridge ? b->bridge : "");
    }
    b->netfilter = netlink_open(NETLINK_NETFILTER, NULL);
    b->home_netns = TRY(file_open(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0, err));
    TRY(open_cursor(b, options->root, err));
    TRY(record_list(store, &ids, err));
    for (size_t i = 0; i < ids.count; i++)
        recover_lease(b, ids.items[i]);
    return 0;
}

void
builtin_close(struct builtin *b)
{
    if (b->home_netns >= 0)
        (void)close(b->home_netns);
    if (b->cursor_file >= 0)
        (void)close(b->cursor_file);
    if (b->netfilter >= 0)
        (void)close(b->netfilter);
    for (size_t i = 0; i < b->lease_count; i++)
        lease_clear(&b->leases[i]);
    free(b->leases);
    ipam_close(&b->ipam);
    free(b->bridge);
    free(b->foreign_drops);
    free(b->stale);
    (void)pthread_mutex_destroy(&b->lock);
    (void)pthread_mutex_destroy(&b->table_lock);
    free(b);
}

/* ---- the host's side ---- */

static int
make_bridge(struct builtin *b, bool ipv6, struct error *err)
{
    struct iface_address addresses[IPAM_POOLS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < b->ipam.pool_count; i++)
        if (b->ipam.pools[i].ip.family == AF_INET || ipv6)
            addresses[count++] = (struct iface_address){.ip = ipam_gateway(&b->ipam, i), .prefix = b->ipam.pools[i].prefix};
    if (count == 0)
        return error_set(err, ERR_UNSUPPORTED, "the only address pool is of IPv6, which this host has not");
    TRY(iface_make_bridge(b->bridge, addresses, count, err));
    return host_forward(b->bridge, ipv6, err);
}

static void
warn_foreign_drops(struct builtin *b)
{
    (void)pthread_mutex_lock(&b->table_lock);
    cleanup_free char *drops = forward_foreign_drops(b->netfilter);
    (void)pthread_mutex_unlock(&b->table_lock);
    if (drops && !str_eq(drops, b->foreign_drops))
        log_warn("a firewall that is not crisp's drops forwarded packets by its policy; pods reach nothing beyond this host, and their host ports "
                 "nobody, unless it lets the bridge through",
                 "where", drops, "bridge", b->bridge);
    free(b->foreign_drops);
    b->foreign_drops = steal(drops);
}

/* The host ports that are in the table, or were; the caller frees. A list of its own, so that the lock is not held while the kernel works. */
static struct nft_port *
published_ports(struct builtin *b, size_t *count)
{
    struct nft_port *ports = NULL;
    *count = 0;
    lock(b);
    for (size_t i = 0; i < b->lease_count; i++) {
        const struct lease *lease = &b->leases[i];
        if (!lease->published || !lease->port_count)
            continue;
        ports = mem_realloc(ports, *count + lease->port_count, sizeof *ports);
        memcpy(ports + *count, lease->ports, lease->port_count * sizeof *ports);
        *count += lease->port_count;
    }
    unlock(b);
    return ports;
}

/* With table_lock held. */
static int
reset_table(struct builtin *b, struct error *err)
{
    size_t count;
    cleanup_free struct nft_port *ports = published_ports(b, &count);
    return nft_reset(b->bridge, b->ipam.pools, b->ipam.pool_count, ports, count, err);
}

/* Where it is missing, or at start: what stands there then may be an older crisp's. */
static int
make_table(struct builtin *b, bool at_start, struct error *err)
{
    if (b->netfilter < 0)
        return error_set(err, ERR_UNSUPPORTED, "the kernel has no nftables");
    (void)pthread_mutex_lock(&b->table_lock);
    int result = at_start || !nft_is_present(b->netfilter) ? reset_table(b, err) : 0;
    (void)pthread_mutex_unlock(&b->table_lock);
    return result;
}

static void
tell(const char *before, const char *now)
{
    if (*now && !str_eq(before, now))
        log_error("the built-in network is not ready", "reason", now);
    else if (*before && !*now)
        log_info("the built-in network is ready");
}

static void
warn_overlaps(const struct builtin *b)
{
    for (size_t i = 0; i < b->ipam.pool_count; i++) {
        cleanup_free char *where = host_overlap(&b->ipam.pools[i], b->bridge);
        char text[IP_TEXT_SIZE];
        if (where)
            log_warn("an address pool of the built-in network overlaps with another network of this host; choose another pool", "pool",
                     ip_format(&b->ipam.pools[i].ip, text), "with", where);
    }
}

static uint32_t
current_mtu(const struct builtin *b)
{
    return b->fixed_mtu ? (uint32_t)b->fixed_mtu : iface_uplink_mtu(MTU_FALLBACK);
}

void
builtin_repair(struct builtin *b, bool at_start)
{
    struct error err = {0};
    char unusable[NETWORK_REASON_SIZE] = "", no_nat[NETWORK_REASON_SIZE] = "";
    bool ipv6 = host_has_ipv6();
    if (make_bridge(b, ipv6, &err) < 0)
        (void)snprintf(unusable, sizeof unusable, "bridge %s: %.200s", b->bridge, err.message);
    if (make_table(b, at_start, &err) < 0)
        (void)snprintf(no_nat, sizeof no_nat, "pods cannot reach other hosts, nor be reached by host ports: %.150s", err.message);
    if (host_route_loopback(b->bridge, !*no_nat, &err) < 0 && !*unusable)
        (void)snprintf(unusable, sizeof unusable, "bridge %s: %.200s", b->bridge, err.message);
    uint32_t mtu = current_mtu(b);
    /* Only this function writes them, in one thread at a time: they are told without the lock, which a log that hangs shall not hold. */
    tell(at_start ? "" : b->unusable, unusable);
    tell(b->no_nat, no_nat);
    lock(b);
    (void)snprintf(b->unusable, sizeof b->unusable, "%s", unusable);
    (void)snprintf(b->no_nat, sizeof b->no_nat, "%s", no_nat);
    b->ipv6 = ipv6;
    b->mtu = mtu < MTU_LEAST && ipv6 ? MTU_LEAST : mtu;
    unlock(b);
    warn_foreign_drops(b);
    if (at_start)
        warn_overlaps(b);
}

bool
builtin_ready(struct builtin *b, char reason[NETWORK_REASON_SIZE])
{
    lock(b);
    (void)snprintf(reason, NETWORK_REASON_SIZE, "%s", *b->unusable ? b->unusable : b->no_nat);
    unlock(b);
    return !*reason;
}

/* ---- a pod's side ---- */

/* One attach on its way: what its steps have made so far. */
struct attach {
    struct builtin *b;
    const struct network_request *request;
    int netns;
    struct iface_inside inside;
    struct lease lease; /* ports borrowed from the list's */
    uint32_t mtu;
};

static int
enter(struct attach *a, struct error *err)
{
    a->netns = TRY(file_open(AT_FDCWD, a->request->netns_path, O_RDONLY, 0, err));
    return iface_open_inside(a->netns, a->b->home_netns, &a->inside, err);
}

static int
check_usable(struct builtin *b, const struct network_request *request, struct error *err)
{
    if (*b->unusable)
        return error_set(err, ERR_UNAVAILABLE, "the built-in network is not ready: %s", b->unusable);
    if (request->port_count && *b->no_nat)
        return error_set(err, ERR_UNAVAILABLE, "the built-in network has no host ports: %s", b->no_nat);
    if (find_lease(b, request->pod_id))
        return error_set(err, ERR_EXISTS, "the pod is attached to the built-in network already");
    return 0;
}

static int
check_ports(struct builtin *b, const struct lease *mine, struct error *err)
{
    char text[80];
    for (size_t i = 0; i < mine->port_count; i++) {
        for (size_t k = 0; k < i; k++)
            if (lease_same_port(&mine->ports[i], &mine->ports[k]))
                return error_set(err, ERR_INVALID, "host port %s is asked for twice", lease_port_text(&mine->ports[i], text));
        for (size_t l = 0; l < b->lease_count; l++)
            for (size_t k = 0; k < b->leases[l].port_count; k++)
                if (lease_same_port(&mine->ports[i], &b->leases[l].ports[k]))
                    return error_set(err, ERR_EXISTS, "host port %s is taken by pod %s", lease_port_text(&mine->ports[i], text), b->leases[l].pod_id);
    }
    return 0;
}

static int
take_addresses(struct attach *a, struct ipam_lease *out, struct error *err)
{
    struct ipam_lease both;
    const char *asked = a->request->ip ? a->request->ip : "";
    cleanup_free char *wanted = str_ndup(asked, strcspn(asked, "/")); /* CNI's form has a prefix length; ours is the pool's */
    TRY(ipam_take(&a->b->ipam, wanted, &both, err));
    ipam_give_back(&a->b->ipam, &both); /* until keep_lease takes those of the families that pod and host have */
    *out = (struct ipam_lease){0};
    for (size_t i = 0; i < both.count; i++)
        if (both.ips[i].family == AF_INET || (a->inside.ipv6 && a->b->ipv6))
            out->ips[out->count++] = both.ips[i];
    return out->count ? 0 : error_set(err, ERR_UNSUPPORTED, "the pod has IPv6 switched off, and the only pool is of IPv6");
}

static int
reserve_locked(struct attach *a, struct error *err)
{
    TRY(check_usable(a->b, a->request, err));
    cleanup_lease struct lease lease = {0};
    (void)snprintf(lease.pod_id, sizeof lease.pod_id, "%s", a->request->pod_id);
    lease_host_name(lease.pod_id, lease.host_name);
    TRY(take_addresses(a, &lease.addresses, err));
    TRY(lease_set_ports(&lease, a->request->ports, a->request->port_count, err));
    TRY(check_ports(a->b, &lease, err));
    keep_lease(a->b, &lease);
    a->lease = lease;
    a->mtu = a->b->mtu;
    lease = (struct lease){0};
    save_cursor(a->b);
    return 0;
}

static int
reserve(struct attach *a, struct error *err)
{
    lock(a->b);
    int result = reserve_locked(a, err);
    unlock(a->b);
    return result;
}

static void
unreserve(struct attach *a)
{
    lock(a->b);
    drop_lease(a->b, a->request->pod_id);
    unlock(a->b);
}

static int
record(struct attach *a, struct error *err)
{
    cleanup_json json_t *json = lease_to_json(&a->lease);
    if (record_save(a->b->store, a->request->record_dir, a->request->pod_id, json, err) == 0)
        return 0;
    (void)record_remove(a->b->store, a->request->record_dir, a->request->pod_id, NULL);
    return -1;
}

static void
unrecord(struct attach *a)
{
    (void)record_remove(a->b->store, a->request->record_dir, a->request->pod_id, NULL);
}

/* From the first address, so that whoever gets that address again has the same: no neighbour remembers another. */
static int
choose_mac(const struct attach *a, unsigned char mac[IFACE_MAC_SIZE], struct error *err)
{
    if (!str_empty(a->request->mac))
        return iface_mac_parse(a->request->mac, mac, err);
    const struct ip *ip = &a->lease.addresses.ips[0];
    mac[0] = 0x0a; /* locally administered */
    mac[1] = 0x58;
    memcpy(mac + 2, ip->bytes + ip_size(ip) - 4, 4);
    return 0;
}

static int
wire(struct attach *a, struct error *err)
{
    struct iface_address addresses[IPAM_POOLS_MAX];
    const struct ipam *ipam = &a->b->ipam; /* its pools never change */
    size_t count = 0;
    for (size_t i = 0; i < ipam->pool_count; i++)
        for (size_t k = 0; k < a->lease.addresses.count; k++)
            if (a->lease.addresses.ips[k].family == ipam->pools[i].ip.family)
                addresses[count++] = (struct iface_address){a->lease.addresses.ips[k], ipam->pools[i].prefix, ipam_gateway(ipam, i)};
    struct iface_pair pair = {
        .bridge = a->b->bridge,
        .host_name = a->lease.host_name,
        .name = POD_INTERFACE,
        .mtu = a->mtu,
        .inside = &a->inside,
        .addresses = addresses,
        .address_count = count,
    };
    TRY(choose_mac(a, pair.mac, err));
    return iface_make_pair(&pair, err);
}

static void
unwire(struct attach *a)
{
    (void)iface_remove(a->lease.host_name, NULL);
}

/* Left to another thread: the kernel looks through all its connections (11 ms with none). */
static void
mark_stale(struct builtin *b, const struct lease *lease)
{
    size_t before = b->stale_count;
    for (size_t i = 0; i < lease->port_count; i++) {
        if (lease->ports[i].protocol != IPPROTO_UDP || b->stale_count == STALE_MAX)
            continue;
        b->stale = mem_realloc(b->stale, b->stale_count + 1, sizeof *b->stale);
        b->stale[b->stale_count++] = lease->ports[i];
    }
    if (b->stale_count > before)
        (void)eventfd_write(b->wake, 1);
}

void
builtin_forget_flows(struct builtin *b)
{
    lock(b);
    cleanup_free struct nft_port *ports = steal(b->stale);
    size_t count = b->stale_count;
    b->stale_count = 0;
    unlock(b);
    if (count)
        conntrack_forget(ports, count);
}

/* With table_lock held. A firewall's restart may just have taken the table away. */
static int
add_ports(struct builtin *b, const struct lease *lease, struct error *err)
{
    struct error why;
    if (nft_add_ports(b->netfilter, lease->ports, lease->port_count, &why) == 0)
        return 0;
    if (why.errnum == ENOENT && reset_table(b, err) == 0)
        return nft_add_ports(b->netfilter, lease->ports, lease->port_count, err);
    return error_errno(err, why.errnum, "add a host port");
}

static int
publish(struct attach *a, struct error *err)
{
    struct builtin *b = a->b;
    if (!a->lease.port_count)
        return 0;
    (void)pthread_mutex_lock(&b->table_lock);
    int result = add_ports(b, &a->lease, err);
    lock(b);
    struct lease *kept = find_lease(b, a->request->pod_id);
    if (kept)
        kept->published = result == 0;
    if (result == 0)
        mark_stale(b, &a->lease);
    unlock(b);
    (void)pthread_mutex_unlock(&b->table_lock);
    return result;
}

static void
leave(struct attach *a)
{
    if (a->netns >= 0)
        (void)close(a->netns);
    if (a->inside.fd >= 0)
        (void)close(a->inside.fd);
}

static const struct step {
    int (*make)(struct attach *a, struct error *err);
    void (*undo)(struct attach *a);
} steps[] = {
    {enter, NULL}, {reserve, unreserve}, {record, unrecord}, {wire, unwire}, {publish, NULL},
};

static int
carry_out(struct attach *a, struct error *err)
{
    for (size_t done = 0; done < sizeof steps / sizeof *steps; done++) {
        if (steps[done].make(a, err) == 0)
            continue;
        while (done--)
            if (steps[done].undo)
                steps[done].undo(a);
        return -1;
    }
    return 0;
}

int
builtin_attach(struct builtin *b, const struct network_request *request, struct network_result *result, struct error *err)
{
    struct attach a = {.b = b, .request = request, .netns = -1, .inside = {.fd = -1}};
    int failed = carry_out(&a, err);
    leave(&a);
    if (failed)
        return error_prefix(err, "built-in network");
    char text[IP_TEXT_SIZE];
    for (size_t i = 0; i < a.lease.addresses.count; i++)
        strv_add(&result->ips, ip_format(&a.lease.addresses.ips[i], text));
    if (request->ingress_bits || request->egress_bits)
        log_warn("the built-in network limits no bandwidth: the pod's is not limited", "pod", request->pod_id);
    return 0;
}

/* A copy with ports of its own: the list may change meanwhile. */
static bool
copy_lease(struct builtin *b, const char *pod_id, struct lease *out)
{
    lock(b);
    const struct lease *lease = find_lease(b, pod_id);
    if (lease) {
        *out = *lease;
        out->ports = lease->ports ? mem_dup(lease->ports, lease->port_count * sizeof *lease->ports) : NULL;
    }
    unlock(b);
    return lease != NULL;
}

static int
unpublish(struct builtin *b, const struct lease *lease, struct error *err)
{
    if (!lease->port_count || b->netfilter < 0)
        return 0;
    (void)pthread_mutex_lock(&b->table_lock);
    int result = nft_remove_ports(b->netfilter, lease->ports, lease->port_count, err);
    lock(b);
    struct lease *kept = find_lease(b, lease->pod_id);
    if (result == 0 && kept)
        kept->published = false;
    if (result == 0)
        mark_stale(b, lease);
    unlock(b);
    (void)pthread_mutex_unlock(&b->table_lock);
    return result;
}

int
builtin_detach(struct builtin *b, const char *pod_id, int record_dir, const json_t *record, struct error *err)
{
    cleanup_lease struct lease lease = {0};
    struct error why;
    if (!copy_lease(b, pod_id, &lease) && record && lease_from_json(record, &lease, &why) < 0)
        log_warn("the record of a pod's network is damaged: its host ports stay until the next start", "pod", pod_id, "error", why.message);
    if (unpublish(b, &lease, err) < 0)
        return error_prefix(err, "built-in network");
    TRY(record_remove(b->store, record_dir, pod_id, err));
    lock(b);
    drop_lease(b, pod_id);
    unlock(b);
    return 0;
}

bool
builtin_has(struct builtin *b, const char *pod_id)
{
    lock(b);
    bool has = find_lease(b, pod_id);
    unlock(b);
    return has;
}

bool
builtin_has_pool(const struct builtin *b, const struct ip_net *net)
{
    for (size_t i = 0; i < b->ipam.pool_count; i++)
        if (ip_equal(&b->ipam.pools[i].ip, &net->ip) && b->ipam.pools[i].prefix == net->prefix)
            return true;
    return false;
}

json_t *
builtin_info(struct builtin *b)
{
    char text[IP_TEXT_SIZE];
    json_t *pools = json_array();
    for (size_t i = 0; i < b->ipam.pool_count; i++)
        json_array_append_new(pools, json_sprintf("%s/%u", ip_format(&b->ipam.pools[i].ip, text), b->ipam.pools[i].prefix));
    lock(b);
    json_t *info = json_pack("{s:s, s:s, s:o, s:i, s:i}", "mode", "builtin", "bridge", b->bridge, "pools", pools, "mtu", (int)b->mtu, "attachments",
                             (int)b->lease_count);
    unlock(b);
    return info;
}
