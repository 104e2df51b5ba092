#include "runtime/network/cni_config.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { CONFIG_BYTES_MAX = 1 << 20, CONFIG_FILES_MAX = 1024, PLUGINS_MAX = 64 };

static const struct version {
    const char *name;
    int number;
} versions[] = {
    {"0.3.0", CNI_0_3_0}, {"0.3.1", CNI_0_3_1}, {"0.4.0", CNI_0_4_0}, {"1.0.0", CNI_1_0_0}, {"1.1.0", CNI_1_1_0},
};

int
cni_version_number(const char *version)
{
    for (size_t i = 0; version && i < sizeof versions / sizeof *versions; i++)
        if (str_eq(versions[i].name, version))
            return versions[i].number;
    return 0;
}

/* The newest version that both the configuration and we know. [Version considerations] */
static const char *
choose_version(const json_t *json)
{
    const char *best = json_string_value(json_object_get(json, "cniVersion"));
    size_t i;
    json_t *version;
    json_array_foreach(json_object_get(json, "cniVersions"), i, version)
    {
        if (cni_version_number(json_string_value(version)) > cni_version_number(best))
            best = json_string_value(version);
    }
    return best;
}

static int
check_version(const char *version, struct error *err)
{
    if (cni_version_number(version))
        return 0;
    if (!version)
        return error_set(err, ERR_UNSUPPORTED, "it has no cniVersion, which means 0.1.0: crisp speaks 0.3.0 to 1.1.0");
    return error_set(err, ERR_UNSUPPORTED, "cniVersion %.32s is not supported: crisp speaks 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0", version);
}

static bool
is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int
check_name(const char *name, struct error *err)
{
    if (str_empty(name))
        return error_set(err, ERR_INVALID, "it has no name");
    for (const char *c = name; *c; c++)
        if (!is_alphanumeric(*c) && (c == name || !strchr("_.-", *c)))
            return error_set(err, ERR_INVALID, "name \"%.64s\" is no network's: letters, digits, and behind the first _ . -", name);
    return 0;
}

/* Its type is the name of a program, looked for in the plugin directories: no path. */
static int
check_plugin(const json_t *plugin, size_t i, struct error *err)
{
    const char *type = json_string_value(json_object_get(plugin, "type"));
    if (str_empty(type))
        return error_set(err, ERR_INVALID, "plugin %zu has no type", i);
    if (strchr(type, '/') || str_eq(type, ".") || str_eq(type, ".."))
        return error_set(err, ERR_INVALID, "plugin type \"%.64s\" is no file name", type);
    return 0;
}

static int
check_list(const json_t *list, struct error *err)
{
    const json_t *plugins = json_object_get(list, "plugins");
    TRY(check_version(json_string_value(json_object_get(list, "cniVersion")), err));
    TRY(check_name(json_string_value(json_object_get(list, "name")), err));
    if (json_array_size(plugins) == 0 || json_array_size(plugins) > PLUGINS_MAX)
        return error_set(err, ERR_INVALID, "\"plugins\" is no list of 1 to %d plugins", PLUGINS_MAX);
    for (size_t i = 0; i < json_array_size(plugins); i++)
        TRY(check_plugin(json_array_get(plugins, i), i, err));
    return 0;
}

/* A file with one plugin, as 0.x had them (.conf), becomes a list of one. */
static json_t *
make_list(const json_t *json)
{
    json_t *list = json_object_get(json, "plugins") ? json_deep_copy(json) : json_object();
    if (!json_object_get(json, "plugins")) {
        json_object_set(list, "name", json_object_get(json, "name"));
        json_object_set_new(list, "plugins", json_pack("[o]", json_deep_copy(json)));
    }
    const char *version = choose_version(json);
    if (version)
        json_object_set_new(list, "cniVersion", json_string(version));
    return list;
}

/* Early versions of the spec had these as strings. */
static bool
is_true(const json_t *list, const char *key)
{
    const json_t *value = json_object_get(list, key);
    return json_is_true(value) || str_eq(json_string_value(value), "true");
}

struct cni_config *
cni_config_from_json(const json_t *json, const char *file, struct error *err)
{
    if (!json_is_object(json)) {
        (void)error_set(err, ERR_INVALID, "it is no JSON object");
        return NULL;
    }
    cleanup_json json_t *list = make_list(json);
    TRY_OR_NULL(check_list(list, err));
    struct cni_config *config = mem_zalloc(1, sizeof *config);
    *config = (struct cni_config){
        .users = 1,
        .file = str_dup(file),
        .list = json_incref(list),
        .name = json_string_value(json_object_get(list, "name")),
        .version = json_string_value(json_object_get(list, "cniVersion")),
        .disable_check = is_true(list, "disableCheck"),
        .disable_gc = is_true(list, "disableGC"),
    };
    config->version_number = cni_version_number(config->version);
    return config;
}

/* A pipe put there would never end. */
static int
read_regular(int dir, const char *name, char **text, size_t *length, struct error *err)
{
    struct stat st;
    cleanup_close int fd = TRY(file_open(dir, name, O_RDONLY | O_NONBLOCK, 0, err));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(err, ERR_INVALID, "it is no file");
    return file_read_fd(fd, name, CONFIG_BYTES_MAX, text, length, err);
}

static struct cni_config *
load_file(int dir, const char *dir_name, const char *name, struct error *err)
{
    cleanup_free char *text = NULL, *path = str_printf("%s/%s", dir_name, name);
    size_t length;
    json_error_t bad;
    if (read_regular(dir, name, &text, &length, err) < 0) {
        (void)error_prefix(err, "%s", path);
        return NULL;
    }
    cleanup_json json_t *json = json_loadb(text, length, 0, &bad);
    if (!json) {
        (void)error_set(err, ERR_INVALID, "%s:%d: %s", path, bad.line, bad.text);
        return NULL;
    }
    struct cni_config *config = cni_config_from_json(json, path, err);
    if (!config)
        (void)error_prefix(err, "%s", path);
    return config;
}

static int
list_files(int dir, struct strv *names, struct error *err)
{
    int fd = TRY(file_open(dir, ".", O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_closedir DIR *stream = fdopendir(fd);
    if (!stream) {
        (void)close(fd);
        return error_errno(err, errno, "list it");
    }
    for (struct dirent *entry; (entry = readdir(stream)) && names->count < CONFIG_FILES_MAX;)
        if (str_ends(entry->d_name, ".conf") || str_ends(entry->d_name, ".conflist") || str_ends(entry->d_name, ".json"))
            strv_add(names, entry->d_name);
    strv_sort(names);
    return 0;
}

struct cni_config *
cni_config_load(const char *dir_name, struct strv *skipped, struct error *err)
{
    cleanup_strv struct strv names = {0};
    struct error why = {0};
    cleanup_close int dir = file_open(AT_FDCWD, dir_name, O_RDONLY | O_DIRECTORY, 0, &why);
    if (dir < 0 || list_files(dir, &names, &why) < 0) {
        (void)error_set(err, ERR_NOT_FOUND, "no CNI configuration: %s", why.message);
        return NULL;
    }
    for (size_t i = 0; i < names.count; i++) {
        struct cni_config *config = load_file(dir, dir_name, names.items[i], &why);
        if (config)
            return config;
        strv_add(skipped, why.message);
    }
    if (skipped->count)
        (void)error_set(err, ERR_NOT_FOUND, "no valid CNI configuration: %s", skipped->items[0]);
    else
        (void)error_set(err, ERR_NOT_FOUND, "no CNI configuration in %s", dir_name);
    return NULL;
}

struct cni_config *
cni_config_ref(struct cni_config *config)
{
    (void)__atomic_add_fetch(&config->users, 1, __ATOMIC_RELAXED);
    return config;
}

void
cni_config_unref(struct cni_config *config)
{
    if (!config || __atomic_sub_fetch(&config->users, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    json_decref(config->list);
    free(config->file);
    free(config);
}

size_t
cni_config_plugin_count(const struct cni_config *config)
{
    return json_array_size(json_object_get(config->list, "plugins"));
}

const json_t *
cni_config_plugin(const struct cni_config *config, size_t i)
{
    return json_array_get(json_object_get(config->list, "plugins"), i);
}

const char *
cni_config_plugin_type(const struct cni_config *config, size_t i)
{
    return json_string_value(json_object_get(cni_config_plugin(config, i), "type"));
}
