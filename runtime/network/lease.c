#include "runtime/network/lease.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/network/record.h"

static const struct protocol {
    const char *name;
    enum network_protocol asked;
    uint8_t number;
} protocols[] = {
    {"tcp", NETWORK_TCP, IPPROTO_TCP},
    {"udp", NETWORK_UDP, IPPROTO_UDP},
    {"sctp", NETWORK_SCTP, IPPROTO_SCTP},
};

enum { PROTOCOLS = sizeof protocols / sizeof *protocols };

static const struct protocol *
protocol_of_number(uint8_t number)
{
    for (size_t i = 0; i < PROTOCOLS; i++)
        if (protocols[i].number == number)
            return &protocols[i];
    return NULL;
}

void
lease_host_name(const char *pod_id, char out[IFACE_NAME_SIZE])
{
    (void)snprintf(out, IFACE_NAME_SIZE, "cr%.13s", pod_id);
}

static void
append_port(struct lease *lease, struct nft_port port)
{
    lease->ports = mem_realloc(lease->ports, lease->port_count + 1, sizeof *lease->ports);
    lease->ports[lease->port_count++] = port;
}

/* "" and "::" mean every address of both families, as a socket bound to :: does; 0.0.0.0 means every one of IPv4. */
static int
add_port(struct lease *lease, const struct network_port *asked, struct error *err)
{
    struct ip host_ip = {0};
    bool all = str_empty(asked->host_ip) || str_eq(asked->host_ip, "::");
    if (!all)
        TRY(ip_parse(asked->host_ip, &host_ip, err));
    size_t before = lease->port_count;
    for (size_t i = 0; i < lease->addresses.count; i++) {
        const struct ip *pod_ip = &lease->addresses.ips[i];
        if (!all && host_ip.family != pod_ip->family)
            continue;
        append_port(lease, (struct nft_port){
                               .protocol = protocols[asked->protocol].number,
                               .host_ip = all ? (struct ip){.family = pod_ip->family} : host_ip,
                               .host_port = asked->host_port,
                               .pod_ip = *pod_ip,
                               .pod_port = asked->container_port,
                           });
    }
    if (lease->port_count == before)
        return error_set(err, ERR_INVALID, "host port %u on %s: the pod has no address of that family", asked->host_port, asked->host_ip);
    return 0;
}

int
lease_set_ports(struct lease *lease, const struct network_port *ports, size_t count, struct error *err)
{
    if (count > LEASE_PORTS_MAX)
        return error_set(err, ERR_EXHAUSTED, "%zu host ports are more than the %d that a pod may have", count, LEASE_PORTS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!ports[i].host_port)
            continue;
        if (!ports[i].container_port || (size_t)ports[i].protocol >= PROTOCOLS)
            return error_set(err, ERR_INVALID, "host port %u: its container port or protocol is missing", ports[i].host_port);
        TRY(add_port(lease, &ports[i], err));
    }
    return 0;
}

bool
lease_same_port(const struct nft_port *a, const struct nft_port *b)
{
    return a->host_port == b->host_port && a->protocol == b->protocol && ip_equal(&a->host_ip, &b->host_ip);
}

const char *
lease_port_text(const struct nft_port *port, char out[80])
{
    char ip[IP_TEXT_SIZE] = "";
    if (!ip_is_any(&port->host_ip))
        (void)ip_format(&port->host_ip, ip);
    (void)snprintf(out, 80, "%s%s%u/%s", ip, *ip ? " " : "", port->host_port, protocol_of_number(port->protocol)->name);
    return out;
}

static json_t *
port_to_json(const struct nft_port *port)
{
    char host[IP_TEXT_SIZE], pod[IP_TEXT_SIZE];
    return json_pack("{s:s, s:s, s:i, s:s, s:i}", "protocol", protocol_of_number(port->protocol)->name, "hostIP", ip_format(&port->host_ip, host),
                     "hostPort", (int)port->host_port, "podIP", ip_format(&port->pod_ip, pod), "containerPort", (int)port->pod_port);
}

json_t *
lease_to_json(const struct lease *lease)
{
    char text[IP_TEXT_SIZE];
    json_t *ips = json_array(), *ports = json_array();
    for (size_t i = 0; i < lease->addresses.count; i++)
        json_array_append_new(ips, json_string(ip_format(&lease->addresses.ips[i], text)));
    for (size_t i = 0; i < lease->port_count; i++)
        json_array_append_new(ports, port_to_json(&lease->ports[i]));
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "kind", "builtin", "pod", lease->pod_id, "interface", lease->host_name, "ips", ips, "ports", ports);
}

static bool
read_number(const json_t *object, const char *key, uint16_t *out)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    *out = (uint16_t)value;
    return value > 0 && value <= UINT16_MAX;
}

static bool
port_from_json(const json_t *json, struct nft_port *out)
{
    for (size_t i = 0; i < PROTOCOLS; i++)
        if (str_eq(protocols[i].name, record_string(json, "protocol")))
            out->protocol = protocols[i].number;
    return out->protocol && ip_parse(record_string(json, "hostIP"), &out->host_ip, NULL) == 0 &&
           ip_parse(record_string(json, "podIP"), &out->pod_ip, NULL) == 0 && out->host_ip.family == out->pod_ip.family &&
           read_number(json, "hostPort", &out->host_port) && read_number(json, "containerPort", &out->pod_port);
}

static int
read_ips(const json_t *record, struct ipam_lease *out, struct error *err)
{
    cleanup_strv struct strv ips = {0};
    record_ips(record, &ips);
    if (ips.count > IPAM_POOLS_MAX)
        return error_set(err, ERR_INVALID, "the record has %zu addresses", ips.count);
    for (size_t i = 0; i < ips.count; i++)
        TRY(ip_parse(ips.items[i], &out->ips[out->count++], err));
    return 0;
}

int
lease_from_json(const json_t *record, struct lease *out, struct error *err)
{
    *out = (struct lease){0};
    const char *pod_id = record_string(record, "pod");
    if (!id_valid(pod_id) || strlen(record_string(record, "interface")) >= IFACE_NAME_SIZE)
        return error_set(err, ERR_INVALID, "the record names no pod or no interface");
    (void)snprintf(out->pod_id, sizeof out->pod_id, "%s", pod_id);
    (void)snprintf(out->host_name, sizeof out->host_name, "%s", record_string(record, "interface"));
    TRY(read_ips(record, &out->addresses, err));
    size_t i;
    json_t *json;
    json_array_foreach(json_object_get(record, "ports"), i, json)
    {
        struct nft_port port = {0};
        if (i == LEASE_PORTS_MAX || !port_from_json(json, &port)) {
            lease_clear(out);
            return error_set(err, ERR_INVALID, "the record's host ports are damaged");
        }
        append_port(out, port);
    }
    return 0;
}

void
lease_clear(struct lease *lease)
{
    free(lease->ports);
    *lease = (struct lease){0};
}
