#include "imageservice/pull/export.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/digest.h"
#include "imageservice/json.h"
#include "imageservice/manifest.h"
#include "imageservice/pull/bundle.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/spool.h"
#include "imageservice/reference.h"

enum { LOOK_MS = 200, BLOCK_BYTES = 64 << 10 };

struct export
{
    const struct export_places *places;
    const struct http_scope *scope;
    struct archive *out;
    struct error failure; /* of writing */
    struct strv written;  /* digests */
    json_t *index;        /* descriptors for index.json */
    json_t *docker;       /* manifest.json */
    struct strv *notes;
};

/* ---- Out ---- */

/* Whoever reads may do it slowly, or never again. */
static int
wait_for_reader(const struct export *x, struct error *err)
{
    for (;;) {
        struct pollfd out = {.fd = x->places->out, .events = POLLOUT};
        if (atomic_load(&x->scope->cancelled))
            return error_set(err, ERR_CANCELLED, "the export was cancelled");
        if (poll(&out, 1, LOOK_MS) > 0)
            return 0;
    }
}

static la_ssize_t
write_out(struct archive *archive, void *arg, const void *data, size_t length)
{
    struct export *x = arg;
    for (;;) {
        if (wait_for_reader(x, &x->failure) < 0)
            break;
        ssize_t n = write(x->places->out, data, length);
        if (n >= 0)
            return n;
        if (errno != EAGAIN && errno != EINTR) {
            (void)error_errno(&x->failure, errno, "write the archive");
            break;
        }
    }
    archive_set_error(archive, EIO, "%s", x->failure.message);
    return -1;
}

static int
failed(const struct export *x, struct error *err)
{
    if (x->failure.kind != ERR_NONE) {
        *err = x->failure;
        return -1;
    }
    const char *words = archive_error_string(x->out);
    return error_set(err, ERR_INTERNAL, "write the archive: %s", words ? words : "no reason given");
}

static int
put_header(struct export *x, const char *name, int64_t size, struct error *err)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_mode(e, S_IFREG | 0644);
    archive_entry_set_size(e, size);
    int status = archive_write_header(x->out, e);
    archive_entry_free(e);
    return status < ARCHIVE_WARN ? failed(x, err) : 0;
}

static int
put_text(struct export *x, const char *name, const char *text, size_t length, struct error *err)
{
    TRY(put_header(x, name, (int64_t)length, err));
    return archive_write_data(x->out, text, length) != (la_ssize_t)length ? failed(x, err) : 0;
}

/* Its path in the archive, or NULL when it was written before. */
static char *
name_blob(struct export *x, const char *digest)
{
    if (strv_has(&x->written, digest))
        return NULL;
    strv_add(&x->written, digest);
    return blob_path(digest);
}

static int
put_text_blob(struct export *x, const char *digest, const char *text, size_t length, struct error *err)
{
    cleanup_free char *name = name_blob(x, digest);
    return name ? put_text(x, name, text, length, err) : 0;
}

static int
put_file_blob(struct export *x, const char *digest, int file, int64_t size, struct error *err)
{
    cleanup_free char *name = name_blob(x, digest), *block = mem_alloc(BLOCK_BYTES);
    cleanup(digest_freep) struct digest *sum = digest_new(digest);
    char got[DIGEST_SIZE];
    if (!name)
        return 0;
    TRY(put_header(x, name, size, err));
    for (int64_t at = 0; at < size;) {
        ssize_t n = pread(file, block, size - at < BLOCK_BYTES ? (size_t)(size - at) : BLOCK_BYTES, at);
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "read %s", digest);
        digest_add(sum, block, (size_t)n);
        if (archive_write_data(x->out, block, (size_t)n) != n)
            return failed(x, err);
        at += n;
    }
    digest_finish(sum, got);
    return str_eq(got, digest) ? 0 : error_set(err, ERR_INTERNAL, "layer %s is damaged on the disk: it has digest %s", digest, got);
}

/* ---- One image ---- */

/* Not packed: what it costs in bytes it saves in time, and its digest is its diff id. */
static int
remake_layer(struct export *x, const char *directory, char digest[DIGEST_SIZE], json_t *layers, struct error *err)
{
    struct stat st;
    cleanup_close int root = TRY(file_open_beneath(x->places->layers_dir, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    cleanup_close int file = TRY(spool_file(x->places->incoming, err));
    cleanup(digest_freep) struct digest *sum = digest_new(NULL);
    TRY(export_layer(root, file, x->scope, sum, err));
    digest_finish(sum, digest);
    if (fstat(file, &st) < 0)
        return error_errno(err, errno, "look at the layer's archive");
    bundle_add_layer(layers, digest, st.st_size, spool_packed(file, 0));
    return put_file_blob(x, digest, file, st.st_size, err);
}

/* 1 the layer's blob is here and was written, 0 it is not. */
static int
put_kept_layer(struct export *x, const struct descriptor *descriptor, json_t *layers, struct error *err)
{
    struct stat st;
    char path[DIGEST_SIZE];
    digest_as_path(descriptor->digest, path);
    cleanup_close int file = file_open(x->places->blobs_dir, path, O_RDONLY | O_NOFOLLOW, 0, NULL);
    if (file < 0 || fstat(file, &st) < 0 || st.st_size != descriptor->size)
        return 0;
    bundle_add_layer(layers, descriptor->digest, st.st_size, spool_packed(file, 0));
    TRY(put_file_blob(x, descriptor->digest, file, st.st_size, err));
    return 1;
}

/* Returns how many layers had to be made anew; their diff ids in `diff_ids` are then the new ones. */
static int
put_layers(struct export *x, const struct manifest *manifest, const struct strv *directories, json_t *diff_ids, json_t *layers, struct error *err)
{
    int remade = 0;
    char digest[DIGEST_SIZE];
    if (directories->count != manifest->count || json_array_size(diff_ids) != manifest->count)
        return error_set(err, ERR_INTERNAL, "the image's manifest, configuration and layers are not of one number");
    for (size_t i = 0; i < manifest->count; i++) {
        if (TRY(put_kept_layer(x, &manifest->layers[i], layers, err)) > 0)
            continue;
        TRY(remake_layer(x, directories->items[i], digest, layers, err));
        json_array_set_new(diff_ids, i, json_string(digest));
        remade++;
    }
    return remade;
}

/* The configuration and manifest that say what the remade layers are. */
static void
remake_documents(json_t *config_root, json_t *layers, const struct manifest *old, struct document *config, struct document *manifest)
{
    document_free(config);
    document_free(manifest);
    config->text = json_dumps(config_root, JSON_COMPACT);
    config->length = strlen(config->text);
    digest_of(NULL, config->text, config->length, config->digest);
    bundle_make_manifest(layers, config->digest, config->length, &old->annotations, manifest);
}

/* Its own word, which need not be there in OCI's. */
static json_t *
media_type_of(const struct document *manifest)
{
    cleanup_json json_t *root = json_loadb(manifest->text, manifest->length, 0, NULL);
    const char *type = json_string_value(json_object_get(root, "mediaType"));
    return json_string(type ? type : "application/vnd.oci.image.manifest.v1+json");
}

static void
add_descriptor(struct export *x, const struct document *manifest, const json_t *config_root, const char *name)
{
    json_t *descriptor =
        json_pack("{s:o, s:s, s:I}", "mediaType", media_type_of(manifest), "digest", manifest->digest, "size", (json_int_t)manifest->length);
    json_t *platform = json_object();
    static const char *const keys[] = {"architecture", "os", "variant"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_object_get(config_root, keys[i]))
            json_object_set(platform, keys[i], json_object_get(config_root, keys[i]));
    json_object_set_new(descriptor, "platform", platform);
    const char *tag = name ? strrchr(name, ':') : NULL;
    if (name)
        json_object_set_new(descriptor, "annotations",
                            json_pack("{s:s, s:s}", "io.containerd.image.name", name, "org.opencontainers.image.ref.name", tag ? tag + 1 : name));
    json_array_append_new(x->index, descriptor);
}

static json_t *
docker_path(const char *digest)
{
    cleanup_free char *path = blob_path(digest);
    return json_string(path);
}

static void
add_to_index(struct export *x, const struct document *manifest, const struct document *config, json_t *config_root, const json_t *layers,
             const struct strv *names)
{
    json_t *paths = json_array(), *tags = json_array(), *layer;
    size_t i;
    json_array_foreach(layers, i, layer) json_array_append_new(paths, docker_path(json_string_value(json_object_get(layer, "digest"))));
    for (size_t n = 0; n < names->count; n++) {
        add_descriptor(x, manifest, config_root, names->items[n]);
        json_array_append_new(tags, json_string(names->items[n]));
    }
    if (names->count == 0)
        add_descriptor(x, manifest, config_root, NULL);
    json_array_append_new(x->docker, json_pack("{s:o, s:o, s:o}", "Config", docker_path(config->digest), "RepoTags", tags, "Layers", paths));
}

static int
export_image(struct export *x, const json_t *wanted, struct error *err)
{
    cleanup_document struct document manifest = {0}, config = {0};
    cleanup_manifest struct manifest parsed = {0};
    cleanup_strv struct strv names = {0}, directories = {0};
    cleanup_json json_t *layers = json_array();
    TRY(json_get_strings(wanted, "names", &names, err));
    TRY(json_get_strings(wanted, "layers", &directories, err));
    TRY(document_read(x->places->blobs_dir, json_string_value(json_object_get(wanted, "manifest")), &manifest, err));
    TRY(manifest_parse(manifest.text, manifest.length, "", &parsed, err));
    TRY(document_read(x->places->blobs_dir, parsed.config.digest, &config, err));
    cleanup_json json_t *config_root = TRY_PTR(json_parse(config.text, config.length, "configuration", err));
    json_t *diff_ids = json_object_get(json_object_get(config_root, "rootfs"), "diff_ids");
    int remade = TRY(put_layers(x, &parsed, &directories, diff_ids, layers, err));
    if (remade) {
        remake_documents(config_root, layers, &parsed, &config, &manifest);
        strv_addf(x->notes,
                  "%s: %d of %zu layers were made anew, as what came from the registry is not kept (images.keep_layer_blobs): its digests are new, "
                  "its id is %s",
                  names.count ? names.items[0] : parsed.config.digest, remade, parsed.count, config.digest);
    }
    TRY(put_text_blob(x, config.digest, config.text, config.length, err));
    TRY(put_text_blob(x, manifest.digest, manifest.text, manifest.length, err));
    add_to_index(x, &manifest, &config, config_root, layers, &names);
    return 0;
}

static int
put_json(struct export *x, const char *name, const json_t *value, struct error *err)
{
    cleanup_free char *text = json_dumps(value, JSON_COMPACT);
    return put_text(x, name, text, strlen(text), err);
}

static int
export_all(struct export *x, const json_t *request, struct error *err)
{
    static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    size_t i;
    const json_t *wanted;
    (void)archive_write_set_format_pax_restricted(x->out);
    (void)archive_write_set_bytes_in_last_block(x->out, 1);
    if (archive_write_open(x->out, x, NULL, write_out, NULL) != ARCHIVE_OK)
        return failed(x, err);
    TRY(put_text(x, "oci-layout", layout, sizeof layout - 1, err));
    json_array_foreach(json_object_get(request, "images"), i, wanted) TRY(export_image(x, wanted, err));
    cleanup_json json_t *index =
        json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", "application/vnd.oci.image.index.v1+json", "manifests", x->index);
    TRY(put_json(x, "index.json", index, err));
    TRY(put_json(x, "manifest.json", x->docker, err));
    return archive_write_close(x->out) != ARCHIVE_OK ? failed(x, err) : 0;
}

int
export_run(const struct export_places *places, int request, const struct http_scope *scope, struct strv *notes, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    if (lseek(request, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "read the request");
    TRY(file_read_fd(request, "the request", LIMIT_MANIFEST_BYTES, &text, &length, err));
    cleanup_json json_t *root = TRY_PTR(json_parse(text, length, "the request", err));
    struct export x = {.places = places, .scope = scope, .notes = notes, .out = archive_write_new()};
    x.index = json_array();
    x.docker = json_array();
    int result = export_all(&x, root, err);
    if (result < 0)
        (void)archive_write_fail(x.out);
    (void)archive_write_free(x.out);
    json_decref(x.index);
    json_decref(x.docker);
    strv_free(&x.written);
    return result;
}
