/* Verbose information as JSON: for `crictl inspect`, `inspectp`, `info`. */
#include <jansson.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "runtime/configs.h"
#include "runtime/objects.h"
#include "runtime/pod_steps.h"

static json_t *
strings(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static char *
dump(json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text ? text : str_dup("{}");
}

char *
pod_info_json(struct runtime *rt, const char *id, struct error *err)
{
    HOLD(&rt->lock);
    struct pod *pod = TRY_PTR_OR_NULL(pod_find(rt, id, err));
    cleanup_free char *netns = pod_netns_path(rt, pod);
    json_t *json =
        json_pack("{s:s, s:i, s:s, s:s, s:s, s:b, s:o, s:o?, s:o?, s:o?}", "sandboxID", pod->id, "pid", (int)pod->monitor.pid, "netns", netns,
                  "cgroupParent", pod->cgroup_parent, "reason", pod->reason ? pod->reason : "", "networkAttached", pod->attached, "ips",
                  strings(&pod->ips), "config", fields_to_json(&pod_config_fields, pod->config, NULL), "overhead",
                  fields_to_json(&resources_fields, &pod->overhead, NULL), "resources", fields_to_json(&resources_fields, &pod->resources, NULL));
    pod_unref(pod);
    return dump(json);
}

char *
container_info_json(struct runtime *rt, const char *id, struct error *err)
{
    HOLD(&rt->lock);
    struct container *c = TRY_PTR_OR_NULL(container_find(rt, id, err));
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:o, s:o?}", "sandboxID", c->pod->id, "image", c->config->image_name, "pid", (int)c->pid,
                  "cgroup", c->cgroup, "logPath", c->log_path, "uid", (json_int_t)c->credentials.uid, "gid", (json_int_t)c->credentials.gid, "groups",
                  strings(&c->credentials.groups), "config", fields_to_json(&container_config_fields, c->config, NULL));
    container_unref(c);
    return dump(json);
}

static json_t *
cgroup_info(const struct cgroups *cgroups)
{
    json_t *array = json_array();
    for (size_t i = 0; i < cgroups->count; i++)
        json_array_append_new(array, json_pack("{s:s, s:b, s:o}", "mountPoint", cgroups->list[i].mount_point, "unified", cgroups->list[i].unified,
                                               "controllers", strings(&cgroups->list[i].controllers)));
    return array;
}

char *
runtime_info_json(struct runtime *rt)
{
    struct utsname host;
    (void)uname(&host);
    HOLD(&rt->lock);
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:b, s:i, s:o, s:i, s:i}", "kernel", host.release, "bootID", rt->boot_id, "cgroups", cgroup_info(&rt->cgroups),
                  "mayLowerOOMScore", (int)(rt->bounding >> CAP_SYS_RESOURCE & 1), "monitorsNotMetYet", rt->meetings, "recordsSetAside",
                  strings(&rt->set_aside), "pods", (int)HASH_CNT(by_id, rt->pods_by_id), "containers", (int)HASH_CNT(by_id, rt->containers_by_id));
    return dump(json);
}
