/* images/index.json:
 *   {"version": 1, "next_layer": N,
 *    "layers": [{"chain": DIGEST, "name": SHORT, "bytes": N, "inodes": N, "tree": HEX, "damaged": BOOLEAN}, …],
 *    "images": [{"id": DIGEST, "manifest": DIGEST, "names": [NAME, …], "chains": [DIGEST, …]}, …]}
 * Manifests and configurations lie beside it as blobs, and index.json.copy for the day when a disk has spoilt the file: without it every image
 * would be lost for one bad sector. */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "imageservice/digest.h"
#include "imageservice/index.h"
#include "imageservice/json.h"
#include "imageservice/manifest.h"

enum { INDEX_VERSION = 1, INDEX_FILE_MAX = 64 << 20 };

static json_t *
strings_json(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        (void)json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static json_t *
index_json(const struct index *index)
{
    json_t *layers = json_array(), *images = json_array();
    for (size_t i = 0; i < index->layer_count; i++) {
        const struct layer_record *l = &index->layers[i];
        (void)json_array_append_new(layers, json_pack("{s:s,s:s,s:I,s:I,s:s,s:b}", "chain", l->chain_id, "name", l->name, "bytes",
                                                      (json_int_t)l->bytes, "inodes", (json_int_t)l->inodes, "tree", l->tree, "damaged", l->damaged));
    }
    for (size_t i = 0; i < index->image_count; i++) {
        const struct image_record *r = index->images[i];
        (void)json_array_append_new(images, json_pack("{s:s,s:s,s:o,s:o}", "id", r->image.id, "manifest", r->manifest_digest, "names",
                                                      strings_json(&r->names), "chains", strings_json(&r->chains)));
    }
    return json_pack("{s:i,s:I,s:o,s:o}", "version", INDEX_VERSION, "next_layer", (json_int_t)index->next_layer, "layers", layers, "images", images);
}

int
index_save(int images_dir, const struct index *index, struct error *err)
{
    cleanup_json json_t *root = index_json(index);
    cleanup_free char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ERR_INTERNAL, "image index: it can't be written as JSON");
    if (file_replace(images_dir, "index.json", text, strlen(text), 0600, true, err) < 0)
        return error_prefix(err, "image index");
    (void)file_replace(images_dir, "index.json.copy", text, strlen(text), 0600, false, NULL);
    return 0;
}

static bool
name_valid(const char *name)
{
    size_t length = strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz");
    return length > 0 && length < 14 && name[length] == '\0';
}

static int
load_layer(int layers_dir, struct index *index, const json_t *object, struct error *err)
{
    struct stat st;
    const char *chain, *name;
    TRY(json_get_string(object, "chain", &chain, err));
    TRY(json_get_string(object, "name", &name, err));
    json_int_t bytes = json_integer_value(json_object_get(object, "bytes")), inodes = json_integer_value(json_object_get(object, "inodes"));
    if (!digest_valid(chain) || !name_valid(name) || bytes < 0 || inodes < 0 || index_find_layer(index, chain) || index_has_directory(index, name))
        return error_set(err, ERR_INVALID, "layer %.80s (%.80s): the record contradicts itself or another", chain, name);
    struct layer_record layer = {.bytes = (uint64_t)bytes, .inodes = (uint64_t)inodes};
    const char *tree = json_string_value(json_object_get(object, "tree"));
    if (tree && tree_digest_valid(tree))
        memcpy(layer.tree, tree, TREE_DIGEST_SIZE);
    bool gone = fstatat(layers_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode);
    if (gone)
        log_warn("the directory of a layer is gone; the next pull of an image that has it brings it again", "layer", chain, "directory", name);
    layer.damaged = gone || json_is_true(json_object_get(object, "damaged"));
    index_put_layer(index, chain, name, &layer);
    return 0;
}

static int
load_blob(int images_dir, const char *digest, char **text, size_t *length, struct error *err)
{
    cleanup_free char *path = blob_path(digest);
    TRY(file_read(images_dir, path, JSON_TEXT_MAX, text, length, err));
    char got[DIGEST_SIZE];
    digest_of(digest, *text, *length, got);
    return str_eq(got, digest) ? 0 : error_set(err, ERR_INVALID, "blob %s is damaged: it has digest %s", digest, got);
}

/* What an image is made of, as it lies in its blobs. */
struct documents {
    char *config;
    size_t config_length;
    struct manifest manifest;
};

static int
read_documents(int images_dir, const char *manifest_digest, const char *config_digest, struct documents *out, struct error *err)
{
    cleanup_free char *manifest = NULL, *config = NULL;
    size_t length = 0;
    TRY(load_blob(images_dir, manifest_digest, &manifest, &length, err));
    TRY(manifest_parse(manifest, length, "", &out->manifest, err));
    TRY(load_blob(images_dir, config_digest, &config, &out->config_length, err));
    out->config = steal(config);
    return 0;
}

/* Where they can't be read the image keeps its names and its layers, so that a pull brings no more than the documents. */
static void
load_documents(int images_dir, const char *manifest_digest, const char *config_digest, struct documents *out)
{
    struct error err;
    if (read_documents(images_dir, manifest_digest, config_digest, out, &err) < 0)
        log_warn("image index: an image is damaged; pull it again", "image", config_digest, "error", err.message);
}

static void
documents_free(struct documents *documents)
{
    free(documents->config);
    manifest_free(&documents->manifest);
}

static int
load_image(int images_dir, struct index *index, const json_t *object, const struct strv *pinned, struct error *err)
{
    cleanup_strv struct strv names = {0}, chains = {0}, blobs = {0};
    cleanup(documents_free) struct documents documents = {0};
    struct image_source source = {
        .names = &names, .chains = &chains, .blobs = &blobs, .pinned = pinned, .annotations = &documents.manifest.annotations};
    TRY(json_get_string(object, "id", &source.id, err));
    TRY(json_get_string(object, "manifest", &source.manifest_digest, err));
    TRY(json_get_strings(object, "names", &names, err));
    TRY(json_get_strings(object, "chains", &chains, err));
    if (!digest_valid(source.id) || !digest_valid(source.manifest_digest))
        return error_set(err, ERR_INVALID, "its digests are none");
    load_documents(images_dir, source.manifest_digest, source.id, &documents);
    manifest_layer_digests(&documents.manifest, &blobs);
    source.config_json = documents.config;
    source.config_length = documents.config_length;
    for (size_t i = 0; i < names.count; i++)
        if (index_find_name(index, names.items[i]))
            return error_set(err, ERR_INVALID, "name %s is also another image's", names.items[i]);
    if (index_find_id(index, source.id))
        return error_set(err, ERR_INVALID, "image %s is there twice", source.id);
    index_add_image(index, TRY_PTR(image_record_new(index, &source, err)));
    return 0;
}

static void
load_records(int images_dir, int layers_dir, struct index *index, const json_t *root, const struct strv *pinned)
{
    size_t i;
    const json_t *item;
    struct error err;
    json_int_t next = json_integer_value(json_object_get(root, "next_layer"));
    index->next_layer = next > 0 ? (uint64_t)next : 1;
    json_array_foreach(json_object_get(root, "layers"), i, item)
    {
        if (load_layer(layers_dir, index, item, &err) < 0)
            log_warn("image index: a layer's record is left out", "error", err.message);
    }
    json_array_foreach(json_object_get(root, "images"), i, item)
    {
        if (load_image(images_dir, index, item, pinned, &err) < 0)
            log_warn("image index: an image is left out; pull it again", "image", json_string_value(json_object_get(item, "id")), "error",
                     err.message);
    }
}

/* Kept for a person to look at; the store goes on without it. */
static void
set_aside(int images_dir, const char *file, const char *why)
{
    for (int n = 1; n < 100; n++) {
        cleanup_free char *name = str_printf("index.json.damaged-%d", n);
        struct stat st;
        if (fstatat(images_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        (void)renameat(images_dir, file, images_dir, name);
        log_error("an image index is damaged and was set aside", "file", file, "as", name, "error", why);
        return;
    }
}

static bool
was_set_aside(int images_dir)
{
    struct stat st;
    return fstatat(images_dir, "index.json.damaged-1", &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The index as JSON; NULL where there is none that can be read. */
static json_t *
read_index(int images_dir, const char *file)
{
    cleanup_free char *text = NULL;
    size_t length = 0;
    struct error why = {0};
    json_error_t where;
    if (file_read(images_dir, file, INDEX_FILE_MAX, &text, &length, &why) < 0) {
        if (why.kind != ERR_NOT_FOUND)
            set_aside(images_dir, file, why.message);
        return NULL;
    }
    json_t *root = json_loadb(text, length, 0, &where);
    if (root && json_integer_value(json_object_get(root, "version")) == INDEX_VERSION)
        return root;
    set_aside(images_dir, file, root ? "it is of a version that this crisp does not know" : where.text);
    json_decref(root);
    return NULL;
}

/* What is wrong with this process or host rather than with the file: it is no reason to set anything aside. */
static int
check_readable(int images_dir, struct error *err)
{
    int fd = openat(images_dir, "index.json", O_RDONLY | O_CLOEXEC);
    bool ours = fd < 0 && (errno == EACCES || errno == EPERM || errno == EMFILE || errno == ENFILE || errno == ENOMEM);
    if (ours)
        return error_errno(err, errno, "open index.json");
    if (fd >= 0)
        (void)close(fd);
    return 0;
}

struct index *
index_load(int images_dir, int layers_dir, const struct strv *pinned, struct error *err)
{
    if (check_readable(images_dir, err) < 0)
        return NULL;
    struct index *index = index_new();
    cleanup_json json_t *root = read_index(images_dir, "index.json");
    if (!root)
        root = read_index(images_dir, "index.json.copy");
    if (root)
        load_records(images_dir, layers_dir, index, root, pinned);
    else
        index->lost = was_set_aside(images_dir);
    return index;
}
