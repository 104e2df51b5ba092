/* bundle_read_images: what the files of an archive mean. */
#include <string.h>

#include "imageservice/image_config.h"
#include "imageservice/imageservice.h"
#include "imageservice/json.h"
#include "imageservice/pull/bundle_inside.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/spool.h"

/* What the names of an image are told by, the first that is there: containerd's and docker's is a whole name, OCI's may be one, or only a tag. */
static const char *const name_annotations[] = {"io.containerd.image.name", "org.opencontainers.image.ref.name"};

static void
image_free(struct bundle_image *image)
{
    document_free(&image->manifest);
    strv_free(&image->names);
}

void
bundle_images_free(struct bundle_images *images)
{
    for (size_t i = 0; i < images->count; i++)
        image_free(&images->items[i]);
    free(images->items);
    *images = (struct bundle_images){0};
}

static int
check_cancelled(const struct http_scope *scope, struct error *err)
{
    return atomic_load(&scope->cancelled) ? error_set(err, ERR_CANCELLED, "the import was cancelled") : 0;
}

int
bundle_count_document(size_t *sum, size_t length, struct error *err)
{
    *sum += length;
    return *sum > LIMIT_BUNDLE_DOCUMENT_BYTES
               ? error_set(err, ERR_EXHAUSTED, "the archive's manifests or configurations are larger than %d MiB in all",
                           LIMIT_BUNDLE_DOCUMENT_BYTES >> 20)
               : 0;
}

static struct bundle_image *
add_image(struct bundle_images *images)
{
    images->items = mem_realloc(images->items, images->count + 1, sizeof *images->items);
    images->items[images->count] = (struct bundle_image){0};
    return &images->items[images->count++];
}

/* A digest in a name is a promise of what is behind it, and whoever made the archive must keep it. */
static int
add_name(struct bundle_image *image, const char *name, struct error *err)
{
    cleanup_free char *normal = reference_normalize(name, err);
    if (!normal)
        return error_prefix(err, "the archive gives an image a name that is none");
    const char *at = strchr(normal, '@');
    if (at && !str_eq(at + 1, image->digest) && !str_eq(at + 1, image->manifest.digest))
        return error_set(err, ERR_INVALID, "the archive calls an image %.300s, whose digest is %s", normal,
                         *image->digest ? image->digest : image->manifest.digest);
    if (!strv_has(&image->names, normal))
        strv_add(&image->names, normal);
    return 0;
}

static json_t *
parse_file(const struct bundle *bundle, const struct bundle_entry *entry, const char *before, const char *after, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    TRY_OR_NULL(bundle_read(bundle, entry, &text, &length, err));
    cleanup_free char *whole = str_printf("%s%s%s", before, text, after);
    return json_parse(whole, strlen(whole), entry->name, err);
}

/* ---- OCI image layout ---- */

/* Of an index only what is in the archive can be meant. */
static void
drop_absent(const struct bundle *bundle, struct manifest *index)
{
    size_t kept = 0;
    for (size_t i = 0; i < index->count; i++)
        if (bundle_find_blob(bundle, index->layers[i].digest)) {
            struct descriptor descriptor = index->layers[kept];
            struct platform platform = index->platforms[kept];
            index->layers[kept] = index->layers[i];
            index->platforms[kept] = index->platforms[i];
            index->layers[i] = descriptor;
            index->platforms[i] = platform;
            kept++;
        }
    for (size_t i = kept; i < index->count; i++) {
        free(index->layers[i].media_type);
        free(index->layers[i].digest);
        platform_free(&index->platforms[i]);
    }
    index->count = kept;
}

/* From a digest down to the manifest for this machine. 1 found, 0 the archive has none, with the reason in *err. */
static int
resolve(const struct bundle *bundle, const char *digest, const struct platform *machine, struct document *out, struct error *err)
{
    cleanup_free char *which = str_dup(digest);
    for (int depth = 0; depth < MANIFEST_DEPTH_MAX; depth++) {
        cleanup_manifest struct manifest manifest = {0};
        if (!bundle_find_blob(bundle, which)) {
            (void)error_set(err, ERR_NOT_FOUND, "%s is not in the archive", which);
            return 0;
        }
        document_free(out);
        TRY(bundle_document(bundle, which, out, err));
        TRY(manifest_parse(out->text, out->length, "", &manifest, err));
        if (!manifest.is_index)
            return 1;
        drop_absent(bundle, &manifest);
        const struct descriptor *chosen = manifest_choose(&manifest, machine, err);
        if (!chosen)
            return 0;
        free(which);
        which = str_dup(chosen->digest);
    }
    return error_set(err, ERR_INVALID, "indexes within indexes deeper than %d", MANIFEST_DEPTH_MAX);
}

static int
read_names(const json_t *descriptor, struct bundle_image *image, struct error *err)
{
    const json_t *annotations = json_object_get(descriptor, "annotations");
    for (size_t i = 0; i < sizeof name_annotations / sizeof *name_annotations; i++) {
        const char *name = json_string_value(json_object_get(annotations, name_annotations[i]));
        if (!str_empty(name) && strpbrk(name, ":/@"))
            return add_name(image, name, err);
    }
    return 0;
}

/* The same image under several names stands there several times. */
static bool
merge_last(struct bundle_images *images)
{
    struct bundle_image *last = &images->items[images->count - 1];
    for (size_t i = 0; i + 1 < images->count; i++) {
        struct bundle_image *image = &images->items[i];
        if (!str_eq(image->manifest.digest, last->manifest.digest) || !str_eq(image->digest, last->digest))
            continue;
        strv_copy(&image->names, &last->names);
        image_free(last);
        images->count--;
        return true;
    }
    return false;
}

/* `at`: the descriptor as an index of its own, whose platform then decides as any index' does. */
static int
read_descriptor(const struct bundle *bundle, const json_t *descriptor, const struct manifest *at, const struct platform *machine,
                struct bundle_images *images, struct error *err)
{
    if (!manifest_choose(at, machine, err))
        return 0;
    struct bundle_image *image = add_image(images);
    (void)strcpy(image->digest, at->layers->digest);
    int found = TRY(resolve(bundle, at->layers->digest, machine, &image->manifest, err));
    if (found == 0) {
        image_free(image);
        images->count--;
        return 0;
    }
    TRY(read_names(descriptor, image, err));
    if (merge_last(images))
        return 0;
    return bundle_count_document(&images->bytes, image->manifest.length, err);
}

static int
read_layout(const struct bundle *bundle, const struct bundle_entry *index_json, const struct http_scope *scope, struct bundle_images *images,
            struct error *err)
{
    cleanup_json json_t *root = TRY_PTR(parse_file(bundle, index_json, "", "", err));
    cleanup_free char *text = json_dumps(root, JSON_COMPACT);
    cleanup_platform struct platform machine;
    cleanup_manifest struct manifest index = {0};
    struct error reason = {0};
    platform_of_machine(&machine);
    TRY(manifest_parse(text, strlen(text), "", &index, err));
    if (!index.is_index)
        return error_set(err, ERR_INVALID, "index.json of the archive has no manifests");
    for (size_t i = 0; i < index.count; i++) {
        TRY(check_cancelled(scope, err));
        struct manifest alone = {.is_index = true, .layers = &index.layers[i], .platforms = &index.platforms[i], .count = 1};
        if (read_descriptor(bundle, json_array_get(json_object_get(root, "manifests"), i), &alone, &machine, images, &reason) < 0) {
            *err = reason;
            return -1;
        }
    }
    if (images->count == 0)
        return error_set(err, ERR_NOT_FOUND, "it holds no image that this machine runs%s%s", *reason.message ? ": " : "", reason.message);
    return 0;
}

/* ---- docker-archive ---- */

static const struct bundle_entry *
find_named(const struct bundle *bundle, const char *name, struct error *err)
{
    const struct bundle_entry *entry = bundle_find(bundle, str_starts(name, "./") ? name + 2 : name);
    if (!entry)
        (void)error_set(err, ERR_INVALID, "manifest.json names %.200s, which is not in the archive", name);
    return entry;
}

void
bundle_add_layer(json_t *layers, const char *digest, int64_t size, const char *packed)
{
    cleanup_free char *type = str_printf("application/vnd.oci.image.layer.v1.tar%s%s", packed ? "+" : "", packed ? packed : "");
    json_array_append_new(layers, json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size", (json_int_t)size));
}

/* An unpacked layer's digest is its diff id; that of a packed one must be counted. It is verified when it is unpacked. */
static int
describe_layer(struct bundle *bundle, const char *name, const char *diff_id, const struct http_scope *scope, json_t *layers, struct error *err)
{
    char digest[DIGEST_SIZE];
    const struct bundle_entry *entry = TRY_PTR(find_named(bundle, name, err));
    const char *packed = spool_packed(bundle->file, entry->offset);
    (void)strcpy(digest, diff_id);
    if (packed)
        TRY(bundle_digest(bundle, entry, scope, digest, err));
    bundle_add_alias(bundle, digest, entry);
    bundle_add_layer(layers, digest, entry->size, packed);
    return 0;
}

/* The layers of one item of manifest.json, with the diff ids that its configuration has. */
static int
describe_layers(struct bundle *bundle, const json_t *item, const char *config, size_t length, const struct http_scope *scope, json_t *out,
                struct error *err)
{
    cleanup_strv struct strv names = {0}, diff_ids = {0};
    struct image_config parsed = {0};
    TRY(json_get_strings(item, "Layers", &names, err));
    int result = image_config_parse(config, length, &parsed, &diff_ids, err);
    image_config_free(&parsed);
    TRY(result);
    if (names.count != diff_ids.count || names.count > MANIFEST_LAYERS_MAX)
        return error_set(err, ERR_INVALID, "manifest.json has %zu layers, the configuration %zu; at most %d can be", names.count, diff_ids.count,
                         MANIFEST_LAYERS_MAX);
    TRY(check_cancelled(scope, err));
    for (size_t i = 0; i < names.count; i++)
        TRY(describe_layer(bundle, names.items[i], diff_ids.items[i], scope, out, err));
    return 0;
}

void
bundle_make_manifest(json_t *layers, const char *config_digest, size_t config_length, const struct strmap *annotations, struct document *out)
{
    cleanup_json json_t *manifest = json_pack(
        "{s:i, s:s, s:{s:s, s:s, s:I}, s:O}", "schemaVersion", 2, "mediaType", "application/vnd.oci.image.manifest.v1+json", "config", "mediaType",
        "application/vnd.oci.image.config.v1+json", "digest", config_digest, "size", (json_int_t)config_length, "layers", layers);
    json_t *copied = json_object();
    for (size_t i = 0; annotations && i < annotations->count; i++)
        json_object_set_new(copied, annotations->entries[i].key, json_string(annotations->entries[i].value));
    if (json_object_size(copied))
        json_object_set(manifest, "annotations", copied);
    json_decref(copied);
    out->text = json_dumps(manifest, JSON_COMPACT);
    out->length = strlen(out->text);
    digest_of(NULL, out->text, out->length, out->digest);
}

static int
read_item(struct bundle *bundle, const json_t *item, const struct http_scope *scope, struct bundle_images *images, struct error *err)
{
    const char *config_name;
    char config_digest[DIGEST_SIZE];
    cleanup_free char *config = NULL;
    cleanup_strv struct strv tags = {0};
    cleanup_json json_t *layers = json_array();
    size_t length;
    TRY(json_get_string(item, "Config", &config_name, err));
    TRY(json_get_strings(item, "RepoTags", &tags, err));
    const struct bundle_entry *entry = TRY_PTR(find_named(bundle, config_name, err));
    TRY(bundle_read(bundle, entry, &config, &length, err));
    digest_of(NULL, config, length, config_digest);
    bundle_add_alias(bundle, config_digest, entry);
    TRY(describe_layers(bundle, item, config, length, scope, layers, err));
    struct bundle_image *image = add_image(images);
    bundle_make_manifest(layers, config_digest, length, NULL, &image->manifest);
    for (size_t i = 0; i < tags.count; i++)
        TRY(add_name(image, tags.items[i], err));
    return 0;
}

static int
read_docker(struct bundle *bundle, const struct bundle_entry *manifest_json, const struct http_scope *scope, struct bundle_images *images,
            struct error *err)
{
    /* It is a list, and all else that comes as JSON an object. */
    cleanup_json json_t *root = TRY_PTR(parse_file(bundle, manifest_json, "{\"images\":", "}", err));
    const json_t *list = json_object_get(root, "images"), *item;
    if (json_array_size(list) == 0 || json_array_size(list) > LIMIT_BUNDLE_IMAGES)
        return error_set(err, ERR_INVALID, "manifest.json of the archive is no list of 1 to %d images", LIMIT_BUNDLE_IMAGES);
    size_t i;
    json_array_foreach(list, i, item) TRY(read_item(bundle, item, scope, images, err));
    return 0;
}

int
bundle_read_images(struct bundle *bundle, const struct http_scope *scope, struct bundle_images *out, struct error *err)
{
    const struct bundle_entry *layout = bundle_find(bundle, "oci-layout"), *index = bundle_find(bundle, "index.json");
    const struct bundle_entry *docker = bundle_find(bundle, "manifest.json");
    if (layout && index)
        return read_layout(bundle, index, scope, out, err);
    if (docker)
        return read_docker(bundle, docker, scope, out, err);
    return error_set(err, ERR_INVALID, "it is no archive of images: it has neither index.json with oci-layout, nor manifest.json");
}
