#include "runtime/network/cni_request.h"

#include <string.h>

#include "base/cleanup.h"
#include "runtime/network/record.h"

/* How much may pass at once above the rate: the bandwidth plugin wants a number and accepts less than 2^35 bits; this is the kubelet's own of old. */
#define BURST_BITS INT64_C(4294967295)

static const char *const protocol_names[] = {[NETWORK_TCP] = "tcp", [NETWORK_UDP] = "udp", [NETWORK_SCTP] = "sctp"};

static int
make_args(const struct network_request *request, char **out, struct error *err)
{
    const struct {
        const char *key, *value;
    } args[] = {
        {"IgnoreUnknown", "1"},
        {"K8S_POD_NAMESPACE", request->pod_namespace},
        {"K8S_POD_NAME", request->pod_name},
        {"K8S_POD_INFRA_CONTAINER_ID", request->pod_id},
        {"K8S_POD_UID", request->pod_uid},
    };
    cleanup_buf struct buf text = BUF(4096);
    for (size_t i = 0; i < sizeof args / sizeof *args; i++) {
        const char *value = args[i].value ? args[i].value : "";
        if (strpbrk(value, ";=\n"))
            return error_set(err, ERR_INVALID, "%s \"%.200s\": CNI_ARGS cannot carry ; = and newline", args[i].key, value);
        if (!buf_addf(&text, "%s%s=%s", i ? ";" : "", args[i].key, value))
            return error_set(err, ERR_INVALID, "%s is too long for CNI_ARGS", args[i].key);
    }
    *out = steal(text.data);
    return 0;
}

static json_t *
port_mappings(const struct network_request *request)
{
    json_t *mappings = json_array();
    for (size_t i = 0; i < request->port_count; i++) {
        const struct network_port *port = &request->ports[i];
        if (port->host_port)
            json_array_append_new(mappings,
                                  json_pack("{s:i, s:i, s:s, s:s}", "hostPort", (int)port->host_port, "containerPort", (int)port->container_port,
                                            "protocol", protocol_names[port->protocol], "hostIP", port->host_ip ? port->host_ip : ""));
    }
    return mappings;
}

static json_t *
bandwidth(const struct network_request *request)
{
    json_t *limits = json_object();
    if (request->ingress_bits > 0)
        json_object_update_new(limits,
                               json_pack("{s:I, s:I}", "ingressRate", (json_int_t)request->ingress_bits, "ingressBurst", (json_int_t)BURST_BITS));
    if (request->egress_bits > 0)
        json_object_update_new(limits,
                               json_pack("{s:I, s:I}", "egressRate", (json_int_t)request->egress_bits, "egressBurst", (json_int_t)BURST_BITS));
    return limits;
}

static json_t *
dns(const struct network_request *request)
{
    json_t *dns = json_object();
    const struct {
        const char *key;
        const struct strv *list;
    } lists[] = {{"servers", &request->dns_servers}, {"searches", &request->dns_searches}, {"options", &request->dns_options}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i].list->count)
            json_object_set_new(dns, lists[i].key, record_from_strv(lists[i].list));
    return dns;
}

/* What was not asked for is left out: a plugin takes an empty list for an order. */
static void
put(json_t *capabilities, const char *name, json_t *value)
{
    if (json_object_size(value) || json_array_size(value) || json_string_length(value))
        json_object_set(capabilities, name, value);
    json_decref(value);
}

static json_t *
capabilities(const struct network_request *request)
{
    json_t *all = json_object();
    put(all, "portMappings", port_mappings(request));
    put(all, "bandwidth", bandwidth(request));
    put(all, "dns", dns(request));
    if (!str_empty(request->mac))
        put(all, "mac", json_string(request->mac));
    if (!str_empty(request->ip))
        put(all, "ips", json_pack("[s]", request->ip));
    return all;
}

json_t *
cni_request_record(const struct network_request *request, const struct cni_config *config, struct error *err)
{
    cleanup_free char *args = NULL;
    TRY_OR_NULL(make_args(request, &args, err));
    json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:O, s:s, s:o}", "kind", "cni", "pod", request->pod_id, "netns", request->netns_path, "file",
                               config->file, "config", config->list, "args", args, "capabilities", capabilities(request));
    if (!record)
        (void)error_set(err, ERR_INVALID, "what the pod wants of its network is not UTF-8");
    return record;
}
