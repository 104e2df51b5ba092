#include <jansson.h>
#include <stdlib.h>

#include "api.pb-c.h"
#include "base/log.h"
#include "cri/configuration.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "imageservice/imageservice.h"
#include "runtime/network/network.h"
#include "runtime/runtime.h"

int
status_version(struct call *call, const void *request, void *response, struct error *err)
{
    Runtime__V1__VersionResponse *out = response;
    (void)call;
    (void)request;
    (void)err;
    out->version = "0.1.0"; /* the version of the kubelet's own interface, not of CRI */
    out->runtime_name = "crisp";
    out->runtime_version = CRISP_VERSION;
    out->runtime_api_version = "v1";
    return 0;
}

int
status_runtime_config(struct call *call, const void *request, void *response, struct error *err)
{
    Runtime__V1__RuntimeConfigResponse *out = response;
    (void)request;
    (void)err;
    out->linux = answer_new(call, &runtime__v1__linux_runtime_configuration__descriptor);
    bool systemd = str_eq(call->services->configuration->cgroup.driver, "systemd");
    out->linux->cgroup_driver = systemd ? RUNTIME__V1__CGROUP_DRIVER__SYSTEMD : RUNTIME__V1__CGROUP_DRIVER__CGROUPFS;
    return 0;
}

int
status_update_runtime_config(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__UpdateRuntimeConfigRequest *in = request;
    const Runtime__V1__NetworkConfig *network = in->runtime_config ? in->runtime_config->network_config : NULL;
    (void)response;
    if (!network || !*network->pod_cidr)
        return 0;
    return network_pod_cidr(runtime_network(call->services->runtime), network->pod_cidr, err) < 0 ? error_prefix(err, "pod_cidr") : 0;
}

static Runtime__V1__RuntimeCondition *
condition_write(struct call *call, const char *type, const char *reason, const char *message)
{
    Runtime__V1__RuntimeCondition *out = answer_new(call, &runtime__v1__runtime_condition__descriptor);
    out->type = type;
    out->status = str_empty(message);
    out->reason = out->status ? "" : reason;
    out->message = message;
    return out;
}

static Runtime__V1__RuntimeStatus *
conditions_write(struct call *call)
{
    struct runtime *rt = call->services->runtime;
    char *runtime_reason = call_alloc(call, NETWORK_REASON_SIZE), *network_reason = call_alloc(call, NETWORK_REASON_SIZE);
    runtime_ready(rt, runtime_reason);
    if (network_ready(runtime_network(rt), network_reason))
        network_reason[0] = '\0';
    Runtime__V1__RuntimeStatus *out = answer_new(call, &runtime__v1__runtime_status__descriptor);
    out->n_conditions = 2;
    out->conditions = answer_list(call, out->n_conditions);
    out->conditions[0] = condition_write(call, "RuntimeReady", "RuntimeNotReady", runtime_reason);
    out->conditions[1] = condition_write(call, "NetworkReady", "NetworkPluginNotReady", network_reason);
    return out;
}

/* They differ in their defaults, not in what they can do. */
static Runtime__V1__RuntimeHandler *
handler_write(struct call *call, const char *name)
{
    Runtime__V1__RuntimeHandler *out = answer_new(call, &runtime__v1__runtime_handler__descriptor);
    out->name = name;
    out->features = answer_new(call, &runtime__v1__runtime_handler_features__descriptor);
    out->features->recursive_read_only_mounts = true; /* mount_setattr is in every kernel crisp runs on */
    out->features->user_namespaces = runtime_has_userns(call->services->runtime);
    return out;
}

static void
handlers_write(struct call *call, Runtime__V1__StatusResponse *out)
{
    const struct config_tables *runtimes = &call->services->configuration->runtimes;
    const struct runtime_handler *named = runtimes->items;
    out->n_runtime_handlers = 1 + runtimes->count;
    out->runtime_handlers = answer_list(call, out->n_runtime_handlers);
    out->runtime_handlers[0] = handler_write(call, "");
    for (size_t i = 0; i < runtimes->count; i++)
        out->runtime_handlers[i + 1] = handler_write(call, named[i].name);
    out->features = answer_new(call, &runtime__v1__runtime_features__descriptor);
    out->features->supplemental_groups_policy = true;
    out->features->mount_options = true;
    out->features->user_namespaces_host_network = runtime_has_userns(call->services->runtime);
}

static json_t *value_of(const struct config_key *key, const void *configuration);

static json_t *
tables_of(const struct config_key *key, const struct config_tables *tables)
{
    json_t *all = json_object();
    for (size_t i = 0; i < tables->count; i++) {
        const char *item = (const char *)tables->items + i * key->of->size;
        json_t *one = json_object();
        for (const struct config_key *of = key->of->list; of < key->of->list + key->of->count; of++)
            (void)json_object_set_new(one, of->name, value_of(of, item));
        (void)json_object_set_new(all, *(char *const *)(const void *)item, one);
    }
    return all;
}

static json_t *
value_of(const struct config_key *key, const void *configuration)
{
    const void *field = (const char *)configuration + key->offset;
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
        return json_string(*(char *const *)field);
    case CONFIG_INTEGER:
        return json_integer(*(const int64_t *)field);
    case CONFIG_BOOLEAN:
        return json_boolean(*(const bool *)field);
    case CONFIG_TABLES:
        return tables_of(key, field);
    case CONFIG_STRINGS:
        break;
    }
    const struct strv *list = field;
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        (void)json_array_append_new(array, json_string(list->items[i]));
    return array;
}

/* {"root": …, "network": {"mode": …}, …} */
static char *
configuration_json(const struct configuration *configuration)
{
    json_t *root = json_object();
    for (const struct config_key *key = configuration_keys; key < configuration_keys + configuration_key_count; key++) {
        json_t *table = *key->table ? json_object_get(root, key->table) : root;
        if (!table) {
            table = json_object();
            (void)json_object_set_new(root, key->table, table);
        }
        (void)json_object_set_new(table, key->name, value_of(key, configuration));
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

/* What went wrong of late, the newest last: lines of the log. */
static char *
recent_errors_json(void)
{
    cleanup_strv struct strv lines = {0};
    log_recent(&lines);
    json_t *array = json_array();
    for (size_t i = 0; i < lines.count; i++)
        (void)json_array_append_new(array, json_string(lines.items[i]));
    char *text = json_dumps(array, JSON_COMPACT);
    json_decref(array);
    return text;
}

/* {"garbage": {"items": 3, "bytes": 123456}}: what `crispctl image gc` would delete, as last looked at. */
static char *
images_json(struct images *images)
{
    struct images_garbage garbage = images_garbage(images);
    json_t *root = json_pack("{s:{s:I,s:I}}", "garbage", "items", (json_int_t)garbage.items, "bytes", (json_int_t)garbage.bytes);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

int
status_status(struct call *call, const void *request, void *response, struct error *err)
{
    const Runtime__V1__StatusRequest *in = request;
    Runtime__V1__StatusResponse *out = response;
    const ProtobufCMessageDescriptor *entry = &runtime__v1__status_response__info_entry__descriptor;
    (void)err;
    out->status = conditions_write(call);
    handlers_write(call, out);
    if (!in->verbose)
        return 0;
    info_add(call, entry, &out->info, &out->n_info, "config", configuration_json(call->services->configuration));
    info_add(call, entry, &out->info, &out->n_info, "runtime", runtime_info_json(call->services->runtime));
    info_add(call, entry, &out->info, &out->n_info, "recentErrors", recent_errors_json());
    info_add(call, entry, &out->info, &out->n_info, "images", images_json(call->services->images));
    info_add(call, entry, &out->info, &out->n_info, "network", network_info_json(runtime_network(call->services->runtime)));
    return 0;
}
