#include "cri/container_request.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/id_mappings.h"
#include "cri/limits.h"
#include "cri/pod_request.h"
#include "cri/security.h"
#include "runtime/layers.h"
#include "runtime/validate.h"

CLEANUP_DEFINE(container_config_freep, struct container_config *, container_config_free)

/* ---- the command ---- */

static void
add_all(struct strv *out, const char *const *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        strv_add(out, items[i]);
}

/* The request's command replaces the image's entrypoint, and then the image's command says nothing any more; its args replace the image's command. */
static int
read_args(struct container_config *out, const Runtime__V1__ContainerConfig *in, const struct image_config *image, struct error *err)
{
    TRY(check_count(in->n_command + in->n_args, "command and args", err));
    if (in->n_command)
        add_all(&out->args, in->command, in->n_command);
    else
        strv_copy(&out->args, &image->entrypoint);
    if (in->n_args)
        add_all(&out->args, in->args, in->n_args);
    else if (!in->n_command)
        strv_copy(&out->args, &image->cmd);
    return 0;
}

static void
set_variable(struct strv *env, const char *key, const char *value)
{
    size_t length = strlen(key);
    char *text = str_printf("%s=%s", key, value);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], key, length) == 0 && env->items[i][length] == '=') {
            free(env->items[i]);
            env->items[i] = text;
            return;
        }
    strv_take(env, text);
}

static int
read_env(struct container_config *out, const Runtime__V1__ContainerConfig *in, const struct image_config *image, struct error *err)
{
    TRY(check_count(in->n_envs, "envs", err));
    strv_copy(&out->env, &image->env);
    for (size_t i = 0; i < in->n_envs; i++) {
        const char *key = in->envs[i]->key;
        const ProtobufCBinaryData *value = &in->envs[i]->value;
        if (!*key || strchr(key, '='))
            return error_set(err, ERR_INVALID, "envs: \"%.100s\" is no name of a variable", key);
        if (value->len && memchr(value->data, 0, value->len))
            return error_set(err, ERR_INVALID, "envs: %.100s: the value holds a NUL byte", key);
        cleanup_free char *text = value->len ? str_ndup((const char *)value->data, value->len) : str_dup("");
        set_variable(&out->env, key, text);
    }
    return 0;
}

static int
check_command_size(const struct container_config *out, struct error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < out->args.count; i++)
        bytes += strlen(out->args.items[i]) + 1;
    for (size_t i = 0; i < out->env.count; i++)
        bytes += strlen(out->env.items[i]) + 1;
    return bytes > COMMAND_BYTES_MAX ? error_set(err, ERR_INVALID, "command and envs: %zu bytes are more than %d", bytes, COMMAND_BYTES_MAX) : 0;
}

/* ---- mounts and devices ---- */

static int
read_mount(struct mount_request *out, const Runtime__V1__Mount *in, struct error *err)
{
    static const enum mount_propagation propagations[] = {PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL};
    if ((unsigned)in->propagation >= sizeof propagations / sizeof *propagations)
        return error_set(err, ERR_INVALID, "mounts: %s: unknown propagation %d", in->container_path, (int)in->propagation);
    *out = (struct mount_request){
        .container_path = str_dup(in->container_path),
        .host_path = str_dup(in->host_path),
        .readonly = in->readonly,
        .recursive_read_only = in->recursive_read_only,
        .selinux_relabel = in->selinux_relabel,
        .propagation = propagations[in->propagation],
    };
    TRY(id_mappings_read(&out->maps.uids, &out->maps.uid_count, in->uidmappings, in->n_uidmappings, "mounts: uidMappings", err));
    TRY(id_mappings_read(&out->maps.gids, &out->maps.gid_count, in->gidmappings, in->n_gidmappings, "mounts: gidMappings", err));
    TRY(check_count(in->n_mount_options, "mounts: mount_options", err));
    for (size_t i = 0; i < in->n_mount_options; i++)
        TRY(mount_option(out, in->mount_options[i], err));
    return 0;
}

static int
read_mounts(struct container_config *out, const Runtime__V1__ContainerConfig *in, struct error *err)
{
    TRY(check_count(in->n_mounts, "mounts", err));
    out->mounts = mem_zalloc(in->n_mounts, sizeof *out->mounts);
    for (size_t i = 0; i < in->n_mounts; i++) {
        out->mount_count = i + 1;
        TRY(read_mount(&out->mounts[i], in->mounts[i], err));
    }
    return 0;
}

static int
read_devices(struct container_config *out, const Runtime__V1__ContainerConfig *in, struct error *err)
{
    TRY(check_count(in->n_cdi_devices, "CDI_devices", err));
    for (size_t i = 0; i < in->n_cdi_devices; i++)
        strv_add(&out->cdi_devices, in->cdi_devices[i]->name);
    TRY(check_count(in->n_devices, "devices", err));
    out->devices = mem_zalloc(in->n_devices, sizeof *out->devices);
    for (; out->device_count < in->n_devices; out->device_count++) {
        const Runtime__V1__Device *device = in->devices[out->device_count];
        out->devices[out->device_count] = (struct device_request){
            .container_path = str_dup(device->container_path), .host_path = str_dup(device->host_path), .permissions = str_dup(device->permissions)};
    }
    return 0;
}

/* ---- the rest ---- */

static int
read_metadata(struct container_config *out, const Runtime__V1__ContainerMetadata *in, struct error *err)
{
    if (!in)
        return error_set(err, ERR_INVALID, "config: metadata is missing");
    str_set(&out->name, in->name);
    out->attempt = in->attempt;
    return 0;
}

/* What people call the image: as its user wrote it; clients often know only its id by now. */
static const char *
name_of_image(const Runtime__V1__ImageSpec *in, const struct image *image)
{
    if (*in->user_specified_image)
        return in->user_specified_image;
    bool by_id = strstr(image->id, in->image) != NULL;
    return by_id && image->repo_tags.count ? image->repo_tags.items[0] : in->image;
}

static int
read_image(struct container_config *out, const Runtime__V1__ImageSpec *in, const struct pod_config *pod, const struct image *image, struct error *err)
{
    if (*in->runtime_handler && !str_eq(in->runtime_handler, pod->runtime_handler))
        return error_set(err, ERR_INVALID, "image: runtime_handler \"%.100s\" is not the pod's, \"%s\"", in->runtime_handler, pod->runtime_handler);
    str_set(&out->image_id, image->id);
    str_set(&out->image_name, name_of_image(in, image));
    strv_copy(&out->layers, &image->layers);
    return map_read(&out->image_annotations, in->annotations, in->n_annotations, "image: annotations", err);
}

static int
read_stop_signal(struct container_config *out, Runtime__V1__Signal wanted, const char *of_image, struct error *err)
{
    if (!protobuf_c_enum_descriptor_get_value(&runtime__v1__signal__descriptor, (int)wanted))
        return error_set(err, ERR_INVALID, "stop_signal: unknown signal %d", (int)wanted);
    free(out->stop_signal);
    out->stop_signal = signal_name(wanted);
    if (!*out->stop_signal)
        str_set(&out->stop_signal, of_image);
    return 0;
}

static int
read_config(struct container_config *out, const Runtime__V1__ContainerConfig *in, const struct pod_config *pod, const struct image *image,
            struct error *err)
{
    const struct image_config *of_image = &image->config;
    TRY(read_metadata(out, in->metadata, err));
    TRY(read_image(out, in->image, pod, image, err));
    TRY(read_args(out, in, of_image, err));
    TRY(read_env(out, in, of_image, err));
    TRY(check_command_size(out, err));
    str_set(&out->working_dir, *in->working_dir ? in->working_dir : of_image->working_dir);
    strv_copy(&out->volumes, &of_image->volumes);
    TRY(map_read(&out->labels, in->labels, in->n_labels, "labels", err));
    TRY(map_read(&out->annotations, in->annotations, in->n_annotations, "annotations", err));
    str_set(&out->log_path, in->log_path);
    out->stdin_open = in->stdin;
    out->stdin_once = in->stdin_once;
    out->tty = in->tty;
    TRY(read_mounts(out, in, err));
    TRY(read_devices(out, in, err));
    TRY(read_stop_signal(out, in->stop_signal, of_image->stop_signal, err));
    TRY(resources_read(&out->resources, in->linux ? in->linux->resources : NULL, err));
    return security_read_container(out, in->linux ? in->linux->security_context : NULL, pod, of_image->user, err);
}

/* ---- image mounts ---- */

static int
check_image_mount(const Runtime__V1__Mount *in, struct error *err)
{
    cleanup_strv struct strv components = {0};
    strv_split(&components, in->image_sub_path, '/', true);
    if (*in->host_path)
        return error_set(err, ERR_INVALID, "host_path %s and an image are given both", in->host_path);
    if (!*in->image->image)
        return error_set(err, ERR_INVALID, "image names none");
    if (in->image_sub_path[0] == '/' || strv_has(&components, ".."))
        return error_set(err, ERR_INVALID, "image_sub_path \"%.200s\" is absolute or has a \"..\"", in->image_sub_path);
    if (in->propagation == RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
        return error_set(err, ERR_INVALID, "nothing is propagated out of an image");
    return 0;
}

static int
read_image_mount(struct mount_request *out, const Runtime__V1__Mount *in, const char *pod_namespace, struct images *images, struct error *err)
{
    TRY(check_image_mount(in, err));
    const struct image *image = TRY_PTR(images_find_trusted(images, in->image->image, in->image->user_specified_image, pod_namespace, err));
    cleanup_free char *sub_path = path_clean(in->image_sub_path);
    str_set(&out->image, name_of_image(in->image, image));
    str_set(&out->image_sub_path, sub_path + 1);
    strv_copy(&out->image_layers, &image->layers);
    out->readonly = true;
    image_release(image);
    if (out->image_layers.count == 0)
        return error_set(err, ERR_INVALID, "image %s has no layers", out->image);
    return layers_have(images_layers_dir(images), &out->image_layers, out->image_sub_path, err);
}

int
container_request_find_images(struct container_config *config, const Runtime__V1__CreateContainerRequest *request, const char *pod_namespace,
                              struct images *images, struct error *err)
{
    for (size_t i = 0; i < config->mount_count; i++) {
        const Runtime__V1__Mount *in = request->config->mounts[i];
        if (in->image && read_image_mount(&config->mounts[i], in, pod_namespace, images, err) < 0)
            return error_prefix(err, "mount at %s", in->container_path);
    }
    return 0;
}

struct container_config *
container_request_read(Runtime__V1__CreateContainerRequest *request, const char *pod_id, const struct pod_config *pod, const struct image *image,
                       struct error *err)
{
    cleanup(container_config_freep) struct container_config *out = container_config_new();
    str_set(&out->pod_id, pod_id);
    TRY_OR_NULL(read_config(out, request->config, pod, image, err));
    request_canonical(&request->base, &out->request, &out->request_length);
    return steal(out);
}
