#include "cri/pod_request.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cri/annotations.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/security.h"
#include "cri/wire.h"

CLEANUP_DEFINE(pod_config_freep, struct pod_config *, pod_config_free)

void
request_canonical(ProtobufCMessage *request, void **bytes, size_t *length)
{
    wire_sort_maps(request);
    *length = protobuf_c_message_get_packed_size(request);
    *bytes = mem_alloc(*length);
    protobuf_c_message_pack(request, *bytes);
}

static int
read_metadata(struct pod_key *key, const Runtime__V1__PodSandboxMetadata *in, struct error *err)
{
    if (!in)
        return error_set(err, ERR_INVALID, "config: metadata is missing");
    str_set(&key->name, in->name);
    str_set(&key->uid, in->uid);
    str_set(&key->namespace, in->namespace_);
    key->attempt = in->attempt;
    return 0;
}

static int
check_lines(const struct strv *lines, const char *what, struct error *err)
{
    for (size_t i = 0; i < lines->count; i++)
        TRY(check_line(lines->items[i], 0, what, err));
    return 0;
}

/* Each entry becomes a word of a line of resolv.conf. */
static int
read_dns(struct pod_config *pod, const Runtime__V1__DNSConfig *in, struct error *err)
{
    if (!in)
        return 0;
    TRY(list_read(&pod->dns_servers, in->servers, in->n_servers, "dns_config: servers", err));
    TRY(list_read(&pod->dns_searches, in->searches, in->n_searches, "dns_config: searches", err));
    TRY(list_read(&pod->dns_options, in->options, in->n_options, "dns_config: options", err));
    TRY(check_lines(&pod->dns_servers, "dns_config: servers", err));
    TRY(check_lines(&pod->dns_searches, "dns_config: searches", err));
    return check_lines(&pod->dns_options, "dns_config: options", err);
}

static int
check_host_ip(const char *text, struct error *err)
{
    unsigned char address[16];
    if (!*text || inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1)
        return 0;
    return error_set(err, ERR_INVALID, "port_mappings: host_ip \"%.100s\" is no address", text);
}

static int
read_port(struct network_port *out, const Runtime__V1__PortMapping *in, struct error *err)
{
    static const enum network_protocol protocols[] = {NETWORK_TCP, NETWORK_UDP, NETWORK_SCTP};
    if ((unsigned)in->protocol >= sizeof protocols / sizeof *protocols)
        return error_set(err, ERR_INVALID, "port_mappings: unknown protocol %d", (int)in->protocol);
    TRY(check_range(in->container_port, 1, UINT16_MAX, "port_mappings: container_port", err));
    TRY(check_range(in->host_port, 0, UINT16_MAX, "port_mappings: host_port", err));
    TRY(check_host_ip(in->host_ip, err));
    *out = (struct network_port){
        .protocol = protocols[in->protocol],
        .container_port = (uint16_t)in->container_port,
        .host_port = (uint16_t)in->host_port,
        .host_ip = str_dup(in->host_ip),
    };
    return 0;
}

/* Only those with a host port ask for something; with the host's network the pod's ports are the host's. */
static int
read_ports(struct pod_config *pod, const Runtime__V1__PodSandboxConfig *in, struct error *err)
{
    TRY(check_count(in->n_port_mappings, "port_mappings", err));
    pod->ports = mem_zalloc(in->n_port_mappings, sizeof *pod->ports);
    for (size_t i = 0; i < in->n_port_mappings; i++) {
        struct network_port port;
        TRY(read_port(&port, in->port_mappings[i], err));
        if (port.host_port && pod->network != NAMESPACE_NODE)
            pod->ports[pod->port_count++] = port;
        else
            free((char *)(uintptr_t)port.host_ip);
    }
    return 0;
}

static int
read_linux(struct pod_config *pod, const Runtime__V1__LinuxPodSandboxConfig *in, struct error *err)
{
    if (!in)
        return 0;
    str_set(&pod->cgroup_parent, in->cgroup_parent);
    TRY(map_read(&pod->sysctls, in->sysctls, in->n_sysctls, "sysctls", err));
    TRY(resources_read(&pod->overhead, in->overhead, err));
    TRY(resources_read(&pod->resources, in->resources, err));
    return security_read_pod(pod, in->security_context, err);
}

static int
read_config(struct pod_config *pod, const Runtime__V1__PodSandboxConfig *in, struct error *err)
{
    TRY(read_metadata(&pod->key, in->metadata, err));
    str_set(&pod->hostname, in->hostname);
    str_set(&pod->log_directory, in->log_directory);
    TRY(read_dns(pod, in->dns_config, err));
    TRY(read_linux(pod, in->linux, err));
    TRY(read_ports(pod, in, err));
    TRY(map_read(&pod->labels, in->labels, in->n_labels, "labels", err));
    TRY(map_read(&pod->annotations, in->annotations, in->n_annotations, "annotations", err));
    return annotations_read(pod, err);
}

struct pod_config *
pod_request_read(Runtime__V1__RunPodSandboxRequest *request, struct error *err)
{
    if (!request->config) {
        (void)error_set(err, ERR_INVALID, "config is missing");
        return NULL;
    }
    cleanup(pod_config_freep) struct pod_config *pod = pod_config_new();
    TRY_OR_NULL(read_config(pod, request->config, err));
    str_set(&pod->runtime_handler, request->runtime_handler);
    request_canonical(&request->base, &pod->request, &pod->request_length);
    return steal(pod);
}
