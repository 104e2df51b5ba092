#include "runtime/cdi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/yaml.h"

/* The files of all directories, the first of the list the first to hold. */
struct files {
    struct file {
        char *path;
        size_t directory; /* a higher one holds */
        json_t *json;
        bool applied; /* the edits of the file itself, which come once */
    } * list;
    size_t count;
    struct error first_problem; /* files that cannot be read hide no others */
};

static void
files_free(struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->list[i].path);
        json_decref(files->list[i].json);
    }
    free(files->list);
}

/* ---- reading ---- */

static json_t *
parse(const char *text, size_t length, bool yaml, struct error *err)
{
    json_error_t where;
    json_t *json = yaml ? yaml_to_json(text, length, err) : json_loadb(text, length, 0, &where);
    if (!json && !yaml)
        error_set(err, ERR_INVALID, "line %d: %s", where.line, where.text);
    return json;
}

static json_t *
read_one(const char *path, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    TRY_OR_NULL(file_read(AT_FDCWD, path, CDI_FILE_BYTES_MAX, &text, &length, err));
    return parse(text, length, !str_ends(path, ".json"), err);
}

static void
add_file(struct files *files, const char *path, size_t directory)
{
    struct error err = {0};
    json_t *json = read_one(path, &err);
    if (!json) {
        error_prefix(&err, "%s", path);
        if (!files->first_problem.kind)
            files->first_problem = err;
        return;
    }
    files->list = mem_realloc(files->list, files->count + 1, sizeof *files->list);
    files->list[files->count++] = (struct file){.path = str_dup(path), .directory = directory, .json = json};
}

static void
read_directory(struct files *files, const char *path, size_t directory)
{
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir)) && files->count < CDI_FILES_MAX;) {
        cleanup_free char *file = str_printf("%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.' && (str_ends(file, ".json") || str_ends(file, ".yaml")))
            add_file(files, file, directory);
    }
}

static const char *
string_in(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* The device of the file, where the file is of that kind. */
static const json_t *
device_in(const json_t *file, const char *kind, size_t kind_length, const char *name)
{
    const char *its_kind = string_in(file, "kind");
    size_t i;
    const json_t *device;
    if (strlen(its_kind) != kind_length || memcmp(its_kind, kind, kind_length) != 0)
        return NULL;
    json_array_foreach(json_object_get(file, "devices"), i, device) if (str_eq(string_in(device, "name"), name)) return device;
    return NULL;
}

static struct file *
find(struct files *files, const char *device, const json_t **out, struct error *err)
{
    const char *equals = strchr(device, '=');
    struct file *found = NULL;
    for (size_t i = 0; i < files->count; i++) {
        struct file *file = &files->list[i];
        const json_t *json = device_in(file->json, device, (size_t)(equals - device), equals + 1);
        if (!json || (found && found->directory > file->directory))
            continue;
        if (found && found->directory == file->directory) {
            error_set(err, ERR_INVALID, "both %s and %s have it", found->path, file->path);
            return NULL;
        }
        found = file;
        *out = json;
    }
    if (!found && files->first_problem.kind)
        error_set(err, ERR_INVALID, "no file of this node has it; %s", files->first_problem.message);
    else if (!found)
        error_set(err, ERR_INVALID, "no file of this node has it");
    return found;
}

/* ---- edits ---- */

/* Fails for what has another type; `out` stays where it is absent. */
static int
number_in(const json_t *object, const char *key, int64_t *out, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > UINT32_MAX)
        return error_set(err, ERR_INVALID, "%s: it is no number from 0 to %" PRIu32, key, UINT32_MAX);
    *out = json_integer_value(value);
    return 0;
}

static void
set_variable(struct strv *env, const char *assignment)
{
    size_t length = strcspn(assignment, "=") + 1;
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], assignment, length) == 0) {
            free(env->items[i]);
            env->items[i] = str_dup(assignment);
            return;
        }
    strv_add(env, assignment);
}

static int
apply_env(const json_t *list, struct container_config *config, struct error *err)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *assignment = json_string_value(item);
        if (!assignment || !strchr(assignment, '=') || assignment[0] == '=')
            return error_set(err, ERR_INVALID, "env: item %zu is not NAME=VALUE", i);
        set_variable(&config->env, assignment);
    }
    return 0;
}

/* What the file leaves out is as on the host. */
static int
complete_node(struct device_request *node, const json_t *json, struct error *err)
{
    struct stat st;
    bool on_host = stat(node->host_path, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
    if (!*node->type && !on_host)
        return error_set(err, ERR_INVALID, "device node %s: this node has no such device", node->host_path);
    if (!*node->type) {
        free(node->type);
        node->type = str_dup(S_ISBLK(st.st_mode) ? "b" : "c");
    }
    node->major = on_host ? (int64_t)major(st.st_rdev) : 0;
    node->minor = on_host ? (int64_t)minor(st.st_rdev) : 0;
    node->mode = on_host ? (int64_t)(st.st_mode & 07777) : 0666;
    node->uid = on_host ? (int64_t)st.st_uid : 0;
    node->gid = on_host ? (int64_t)st.st_gid : 0;
    TRY(number_in(json, "major", &node->major, err));
    TRY(number_in(json, "minor", &node->minor, err));
    TRY(number_in(json, "fileMode", &node->mode, err));
    TRY(number_in(json, "uid", &node->uid, err));
    return number_in(json, "gid", &node->gid, err);
}

static int
apply_node(const json_t *json, struct container_config *config, struct error *err)
{
    const char *path = string_in(json, "path"), *host = string_in(json, "hostPath"), *type = string_in(json, "type");
    if (*path != '/' || (*host && *host != '/'))
        return error_set(err, ERR_INVALID, "deviceNodes: path \"%.100s\" is not absolute", *path == '/' ? host : path);
    if (!strstr(" b c u", type) || strlen(type) > 1)
        return error_set(err, ERR_UNSUPPORTED, "deviceNodes: %s: type \"%.10s\" is none of b, c, u", path, type);
    config->devices = mem_realloc(config->devices, config->device_count + 1, sizeof *config->devices);
    struct device_request *node = &config->devices[config->device_count++];
    *node = (struct device_request){
        .container_path = str_dup(path),
        .host_path = str_dup(*host ? host : path),
        .permissions = str_dup(string_in(json, "permissions")),
        .type = str_dup(*type == 'u' ? "c" : type),
    };
    return complete_node(node, json, err);
}

static int
apply_mount(const json_t *json, struct container_config *config, struct error *err)
{
    const char *type = string_in(json, "type"), *host = string_in(json, "hostPath"), *path = string_in(json, "containerPath");
    struct stat st;
    size_t i;
    const json_t *option;
    if (*type && !str_eq(type, "bind") && !str_eq(type, "none"))
        return error_set(err, ERR_UNSUPPORTED, "mounts: %s: type \"%.20s\"", path, type);
    if (*host != '/' || *path != '/')
        return error_set(err, ERR_INVALID, "mounts: hostPath \"%.100s\" or containerPath \"%.100s\" is not absolute", host, path);
    if (stat(host, &st) < 0) /* no directory is made in place of a vendor's library */
        return error_as((error_errno(err, errno, "mounts: %s", host), err), ERR_INVALID);
    config->mounts = mem_realloc(config->mounts, config->mount_count + 1, sizeof *config->mounts);
    struct mount_request *mount = &config->mounts[config->mount_count++];
    *mount = (struct mount_request){.container_path = str_dup(path), .host_path = str_dup(host)};
    json_array_foreach(json_object_get(json, "options"), i, option) TRY(mount_option(mount, json_string_value(option), err));
    return 0;
}

static int
apply_groups(const json_t *list, struct container_config *config, struct error *err)
{
    size_t i;
    const json_t *gid;
    json_array_foreach(list, i, gid)
    {
        if (!json_is_integer(gid) || json_integer_value(gid) < 0 || json_integer_value(gid) >= UINT32_MAX)
            return error_set(err, ERR_INVALID, "additionalGids: item %zu is no group id", i);
        if (json_integer_value(gid) > 0) /* the spec: 0 is ignored */
            strv_addf(&config->supplemental_groups, "%" PRId64, (int64_t)json_integer_value(gid));
    }
    return 0;
}

static int
refuse_rest(const json_t *edits, struct error *err)
{
    const json_t *hook = json_array_get(json_object_get(edits, "hooks"), 0);
    if (hook)
        return error_set(err, ERR_UNSUPPORTED, "hook %.40s %.200s: crisp runs no hooks", string_in(hook, "hookName"), string_in(hook, "path"));
    if (json_object_size(json_object_get(edits, "intelRdt")))
        return error_set(err, ERR_UNSUPPORTED, "intelRdt: crisp does not set it");
    if (json_array_size(json_object_get(edits, "netDevices")))
        return error_set(err, ERR_UNSUPPORTED, "netDevices: crisp does not move them");
    return 0;
}

static int
apply_edits(const json_t *edits, struct container_config *config, struct error *err)
{
    size_t i;
    const json_t *item;
    if (!edits)
        return 0;
    TRY(refuse_rest(edits, err));
    TRY(apply_env(json_object_get(edits, "env"), config, err));
    json_array_foreach(json_object_get(edits, "deviceNodes"), i, item) TRY(apply_node(item, config, err));
    json_array_foreach(json_object_get(edits, "mounts"), i, item) TRY(apply_mount(item, config, err));
    return apply_groups(json_object_get(edits, "additionalGids"), config, err);
}

/* ---- devices ---- */

static int
apply_device(struct files *files, const char *device, struct container_config *config, struct error *err)
{
    const json_t *json = NULL;
    const char *slash = strchr(device, '/'), *equals = strchr(device, '=');
    if (!slash || !equals || slash > equals || slash == device || equals == slash + 1 || !equals[1])
        return error_set(err, ERR_INVALID, "it is not of the form VENDOR/CLASS=NAME");
    struct file *file = TRY_PTR(find(files, device, &json, err));
    int result = file->applied ? 0 : apply_edits(json_object_get(file->json, "containerEdits"), config, err);
    file->applied = true;
    if (result == 0)
        result = apply_edits(json_object_get(json, "containerEdits"), config, err);
    return result < 0 && file->path ? error_prefix(err, "%s", file->path) : result;
}

int
cdi_apply(const struct strv *directories, struct container_config *config, struct error *err)
{
    cleanup(files_free) struct files files = {0};
    if (config->cdi_devices.count == 0)
        return 0;
    for (size_t i = 0; i < directories->count; i++)
        read_directory(&files, directories->items[i], i);
    for (size_t i = 0; i < config->cdi_devices.count; i++)
        if (apply_device(&files, config->cdi_devices.items[i], config, err) < 0)
            return error_prefix(err, "CDI device %.200s", config->cdi_devices.items[i]);
    return 0;
}

int
cdi_apply_text(const char *text, size_t length, bool yaml, const char *device, struct container_config *config, struct error *err)
{
    cleanup(files_free) struct files files = {0};
    json_t *json = TRY_PTR(parse(text, length, yaml, err));
    files.list = mem_zalloc(1, sizeof *files.list);
    files.list[files.count++].json = json;
    return apply_device(&files, device, config, err);
}
