#include "runtime/network/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"

#define POD_NAME "network.json"

enum { NAME_SIZE = 96 };

int
record_store_open(const char *root, struct record_store *out, struct error *err)
{
    cleanup_free char *path = str_printf("%s/attachments", root);
    TRY(file_mkdirs(path, 0700, err));
    cleanup_close int dir = TRY(file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, err));
    file_sweep_replaced(dir);
    TRY(syncer_open(&out->syncer, err));
    out->dir = steal(dir);
    return 0;
}

void
record_store_close(struct record_store *store)
{
    syncer_close(store->syncer);
    (void)close(store->dir);
}

static int
store_name(const char *pod_id, char name[NAME_SIZE], struct error *err)
{
    if (!id_valid(pod_id))
        return error_set(err, ERR_INVALID, "\"%s\" is no pod's id", pod_id);
    (void)snprintf(name, NAME_SIZE, "%s.json", pod_id);
    return 0;
}

/* The pod's name for the same file: half the price of a second file. Where there is one already, or another file system, a copy. */
static int
save_for_pod(const struct record_store *store, int record_dir, const char *name, const char *text, struct error *err)
{
    if (linkat(store->dir, name, record_dir, POD_NAME, 0) == 0)
        return 0;
    return file_replace(record_dir, POD_NAME, text, strlen(text), 0600, false, err);
}

int
record_save(const struct record_store *store, int record_dir, const char *pod_id, const json_t *record, struct error *err)
{
    char name[NAME_SIZE];
    TRY(store_name(pod_id, name, err));
    cleanup_free char *text = json_dumps(record, JSON_COMPACT);
    size_t length = text ? strlen(text) : SIZE_MAX;
    if (length > RECORD_BYTES_MAX)
        return error_set(err, ERR_EXHAUSTED, "the record of the pod's network would be larger than %d bytes", RECORD_BYTES_MAX);
    TRY(file_replace(store->dir, name, text, length, 0600, false, err));
    if (record_dir >= 0)
        TRY(save_for_pod(store, record_dir, name, text, err));
    syncer_add(store->syncer, store->dir, name);
    if (record_dir >= 0)
        syncer_add(store->syncer, record_dir, POD_NAME);
    return 0;
}

/* Out of the way of a start, but not lost: somebody may want to see it. */
static void
set_aside(int dir, const char *name, const char *why)
{
    cleanup_free char *damaged = str_printf("%s.damaged", name);
    (void)renameat(dir, name, dir, damaged);
    log_warn("a record of a pod's network is damaged and was set aside", "file", damaged, "error", why);
}

static int
load(int dir, const char *name, json_t **out, struct error *err)
{
    struct error why = {0};
    json_error_t bad;
    cleanup_free char *text = NULL;
    size_t length = 0;
    if (file_read(dir, name, RECORD_BYTES_MAX, &text, &length, &why) < 0) {
        if (why.errnum == ENOENT || why.errnum == ENOTDIR)
            return 0;
        if (err)
            *err = why;
        return -1;
    }
    *out = json_loadb(text, length, 0, &bad);
    if (json_is_object(*out) && json_is_string(json_object_get(*out, "kind")))
        return 1;
    set_aside(dir, name, *out ? "it has no kind" : bad.text);
    json_decref(*out);
    *out = NULL;
    return 0;
}

int
record_load(const struct record_store *store, int record_dir, const char *pod_id, json_t **out, struct error *err)
{
    char name[NAME_SIZE];
    TRY(store_name(pod_id, name, err));
    *out = NULL;
    int found = record_dir >= 0 ? TRY(load(record_dir, POD_NAME, out, err)) : 0;
    return found ? found : load(store->dir, name, out, err);
}

static int
remove_file(int dir, const char *name, struct error *err)
{
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT ? 0 : error_errno(err, errno, "remove %s", name);
}

int
record_remove(const struct record_store *store, int record_dir, const char *pod_id, struct error *err)
{
    char name[NAME_SIZE];
    TRY(store_name(pod_id, name, err));
    if (record_dir >= 0)
        TRY(remove_file(record_dir, POD_NAME, err));
    return remove_file(store->dir, name, err);
}

int
record_list(const struct record_store *store, struct strv *ids, struct error *err)
{
    int fd = TRY(file_open(store->dir, ".", O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return error_errno(err, errno, "list the attachments");
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strlen(entry->d_name) != ID_LENGTH + strlen(".json") || !str_ends(entry->d_name, ".json"))
            continue;
        cleanup_free char *id = str_ndup(entry->d_name, ID_LENGTH);
        if (id_valid(id))
            strv_add(ids, id);
    }
    return 0;
}

const char *
record_string(const json_t *record, const char *key)
{
    const char *value = json_string_value(json_object_get(record, key));
    return value ? value : "";
}

void
record_ips(const json_t *record, struct strv *ips)
{
    size_t i;
    json_t *ip;
    json_array_foreach(json_object_get(record, "ips"), i, ip)
    {
        if (json_is_string(ip))
            strv_add(ips, json_string_value(ip));
    }
}

json_t *
record_from_strv(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}
