#include "runtime/network/cni_result.h"

#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "runtime/network/cni_config.h"
#include "runtime/network/ip.h"

/* Fields that came with a version, by the list whose objects have them. */
static const struct newer_field {
    const char *list, *field;
    int since;
} newer_fields[] = {
    {"interfaces", "mtu", CNI_1_1_0}, {"interfaces", "socketPath", CNI_1_1_0}, {"interfaces", "pciID", CNI_1_1_0}, {"routes", "mtu", CNI_1_1_0},
    {"routes", "advmss", CNI_1_1_0},  {"routes", "priority", CNI_1_1_0},       {"routes", "table", CNI_1_1_0},     {"routes", "scope", CNI_1_1_0},
};

static int
check_lists(const json_t *result, struct error *err)
{
    static const char *const lists[] = {"interfaces", "ips", "routes"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(result, lists[i]), *item;
        if (list && !json_is_array(list) && !json_is_null(list))
            return error_set(err, ERR_INVALID, "\"%s\" of its result is no list", lists[i]);
        for (size_t k = 0; (item = json_array_get(list, k)); k++)
            if (!json_is_object(item))
                return error_set(err, ERR_INVALID, "\"%s\" of its result holds what is no object", lists[i]);
    }
    if (json_object_get(result, "ip4") || json_object_get(result, "ip6"))
        return error_set(err, ERR_UNSUPPORTED, "its result has the form of cniVersion 0.1 and 0.2");
    return 0;
}

/* "10.1.0.5/24" → the address. */
static int
parse_address(const char *text, struct ip *out, struct error *err)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    if (!slash)
        return error_set(err, ERR_INVALID, "\"%.64s\" in its result is no address with a prefix length", text ? text : "");
    cleanup_free char *address = str_ndup(text, (size_t)(slash - text));
    return ip_parse(address, out, err);
}

static int
convert_ip(json_t *entry, size_t interfaces, int to, struct error *err)
{
    struct ip ip;
    const json_t *interface = json_object_get(entry, "interface");
    TRY(parse_address(json_string_value(json_object_get(entry, "address")), &ip, err));
    if (json_integer_value(interface) < 0) /* plugins made with libcni 0.5 say so for none */
        json_object_del(entry, "interface");
    else if (json_is_integer(interface) && (size_t)json_integer_value(interface) >= interfaces)
        return error_set(err, ERR_INVALID, "an address in its result is of an interface that is not in it");
    if (to < CNI_1_0_0)
        json_object_set_new(entry, "version", json_string(ip.family == AF_INET ? "4" : "6"));
    else
        json_object_del(entry, "version");
    return 0;
}

static void
drop_newer_fields(json_t *result, int to)
{
    for (size_t i = 0; i < sizeof newer_fields / sizeof *newer_fields; i++) {
        size_t k;
        json_t *item;
        if (newer_fields[i].since <= to)
            continue;
        json_array_foreach(json_object_get(result, newer_fields[i].list), k, item)
        {
            json_object_del(item, newer_fields[i].field);
        }
    }
}

json_t *
cni_result_convert(const json_t *original, const char *to, struct error *err)
{
    const char *from = json_string_value(json_object_get(original, "cniVersion"));
    if (!json_is_object(original)) {
        (void)error_set(err, ERR_INVALID, "its result is no JSON object");
        return NULL;
    }
    if (!str_empty(from) && !cni_version_number(from)) {
        (void)error_set(err, ERR_UNSUPPORTED, "its result is of cniVersion %.32s, which crisp does not speak", from);
        return NULL;
    }
    TRY_OR_NULL(check_lists(original, err));
    cleanup_json json_t *result = json_deep_copy(original);
    size_t i, interfaces = json_array_size(json_object_get(result, "interfaces"));
    json_t *ip;
    json_array_foreach(json_object_get(result, "ips"), i, ip)
    {
        TRY_OR_NULL(convert_ip(ip, interfaces, cni_version_number(to), err));
    }
    drop_newer_fields(result, cni_version_number(to));
    json_object_set_new(result, "cniVersion", json_string(to));
    return json_incref(result);
}

static bool
is_in_sandbox(const json_t *result, const json_t *ip)
{
    const json_t *index = json_object_get(ip, "interface");
    if (!json_is_integer(index))
        return true;
    const json_t *interface = json_array_get(json_object_get(result, "interfaces"), (size_t)json_integer_value(index));
    return !str_empty(json_string_value(json_object_get(interface, "sandbox")));
}

void
cni_result_ips(const json_t *result, struct strv *ips)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(result, "ips"), i, entry)
    {
        struct ip ip;
        char text[IP_TEXT_SIZE];
        if (is_in_sandbox(result, entry) && parse_address(json_string_value(json_object_get(entry, "address")), &ip, NULL) == 0 &&
            !strv_has(ips, ip_format(&ip, text)))
            strv_add(ips, text);
    }
}
