/* images_commit: the end of a pull on crispd's side. What crisp-pull says is checked as a stranger's: it has read strangers' bytes. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/digest.h"
#include "imageservice/image_config.h"
#include "imageservice/images_inside.h"
#include "imageservice/json.h"
#include "imageservice/manifest.h"
#include "imageservice/protocol.h"
#include "imageservice/reference.h"

/* One layer as PULL_DONE tells of it; strings are the message's. */
struct arrived {
    const char *chain_id;
    const char *incoming;
    bool blob_kept;
    uint64_t bytes, inodes;
    const char *placed; /* where it was renamed to; the new index' */
};

struct commit {
    struct images *images;
    const char *reference;
    int session;
    const char *manifest_digest, *config_digest, *repo_digest;
    char *manifest_text, *config_text;
    size_t manifest_length, config_length;
    struct arrived *layers;
    size_t layer_count;
    struct index *next;
};

static int
take_document(struct message *done, size_t fd_index, const char *digest, char **text, size_t *length, struct error *err)
{
    cleanup_close int fd = message_take_fd(done, fd_index);
    struct stat st;
    if (!digest_valid(digest) || fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || lseek(fd, 0, SEEK_SET) < 0)
        return error_set(err, ERR_INTERNAL, "crisp-pull's message lacks a document");
    TRY(file_read_fd(fd, digest, JSON_TEXT_MAX, text, length, err));
    char got[DIGEST_SIZE];
    digest_of(digest, *text, *length, got);
    return str_eq(got, digest) ? 0 : error_set(err, ERR_INTERNAL, "crisp-pull's document %s has digest %s", digest, got);
}

static bool
incoming_valid(const char *name)
{
    return strspn(name, "0123456789") == strlen(name);
}

static int
read_layers(struct commit *c, const struct message *done, struct error *err)
{
    size_t at_chain = 0, at_incoming = 0, at_bytes = 0, at_inodes = 0, at_blob = 0, length, other;
    c->layers = mem_zalloc(MANIFEST_LAYERS_MAX, sizeof *c->layers);
    for (const char *chain; (chain = message_next(done, PULL_CHAIN, &at_chain, &length)) && c->layer_count < MANIFEST_LAYERS_MAX; c->layer_count++) {
        struct arrived *layer = &c->layers[c->layer_count];
        const char *incoming = message_next(done, PULL_INCOMING, &at_incoming, &other);
        bool strings = length && !chain[length - 1] && incoming && other && !incoming[other - 1];
        if (!strings || !digest_valid(chain) || !incoming_valid(incoming))
            return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
        layer->chain_id = chain;
        layer->incoming = incoming;
        const void *bytes = message_next(done, PULL_BYTES, &at_bytes, &length), *inodes = message_next(done, PULL_INODES, &at_inodes, &other);
        if (!bytes || length != sizeof layer->bytes || !inodes || other != sizeof layer->inodes)
            return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
        memcpy(&layer->bytes, bytes, sizeof layer->bytes);
        memcpy(&layer->inodes, inodes, sizeof layer->inodes);
        const char *blob = message_next(done, PULL_BLOB, &at_blob, &length);
        layer->blob_kept = blob && length > 1;
    }
    return 0;
}

static int
write_blob(struct commit *c, const char *digest, const char *text, size_t length, struct error *err)
{
    cleanup_free char *path = blob_path(digest);
    return file_replace(c->images->images_dir, path, text, length, 0600, true, err);
}

/* Kept for export and repair; an image is whole without them, so a failure here fails nothing. crisp-pull has verified them; who reads them does it
 * again. */
static void
keep_blobs(const struct commit *c, const struct manifest *manifest)
{
    for (size_t i = 0; i < c->layer_count && i < manifest->count; i++) {
        char name[DIGEST_SIZE];
        digest_as_name(manifest->layers[i].digest, name);
        cleanup_free char *from = str_printf("partial/%s", name), *path = blob_path(manifest->layers[i].digest);
        if (c->images->keep_layer_blobs && c->layers[i].blob_kept)
            (void)renameat(c->images->images_dir, from, c->images->images_dir, path);
    }
}

/* Of several pulls that shared a layer the first brings it. */
static int
place_layer(struct commit *c, struct arrived *layer, struct error *err)
{
    if (index_find_layer(c->next, layer->chain_id))
        return 0;
    if (!*layer->incoming)
        return error_set(err, ERR_INTERNAL, "layer %s is neither here nor arrived", layer->chain_id);
    const char *name = index_add_layer(c->next, layer->chain_id, layer->bytes, layer->inodes);
    if (renameat(c->session, layer->incoming, c->images->layers_dir, name) < 0)
        return error_errno(err, errno, "move layer %s to layers/%s", layer->chain_id, name);
    layer->placed = name;
    return 0;
}

static int
place_layers(struct commit *c, struct error *err)
{
    bool any = false;
    for (size_t i = 0; i < c->layer_count; i++) {
        TRY(place_layer(c, &c->layers[i], err));
        any = any || c->layers[i].placed;
    }
    return any && fsync(c->images->layers_dir) < 0 ? error_errno(err, errno, "flush the layers' directory") : 0;
}

/* The names that the pull gives the image, beside those it has. */
static int
collect_names(const struct commit *c, const struct image_record *old, struct strv *names, struct error *err)
{
    cleanup_reference struct reference reference = {0};
    TRY(reference_parse(c->reference, &reference, err));
    cleanup_free char *repository = reference_name(&reference);
    cleanup_free char *by_digest = str_printf("%s@%s", repository, c->repo_digest);
    if (old)
        strv_copy(names, &old->names);
    if (!strv_has(names, c->reference))
        strv_add(names, c->reference);
    if (!strv_has(names, by_digest))
        strv_add(names, by_digest);
    return 0;
}

/* A name moves: whoever had it loses it, and goes with its last name. */
static void
take_names_away(struct commit *c, const struct strv *names)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct image_record *owner = index_find_name(c->next, names->items[i]);
        if (!owner)
            continue;
        cleanup_strv struct strv left = {0};
        for (size_t n = 0; n < owner->names.count; n++)
            if (!str_eq(owner->names.items[n], names->items[i]))
                strv_add(&left, owner->names.items[n]);
        if (left.count)
            index_rename_image(c->next, owner, &left, &c->images->pinned);
        else
            index_remove_image(c->next, owner);
    }
}

static int
add_image(struct commit *c, const struct manifest *manifest, struct error *err)
{
    cleanup_strv struct strv names = {0}, chains = {0}, blobs = {0};
    const struct image_record *old = index_find_id(c->next, c->config_digest);
    TRY(collect_names(c, old, &names, err));
    for (size_t i = 0; i < c->layer_count; i++)
        strv_add(&chains, c->layers[i].chain_id);
    manifest_layer_digests(manifest, &blobs);
    if (old)
        index_remove_image(c->next, old);
    take_names_away(c, &names);
    struct image_source source = {
        .id = c->config_digest,
        .manifest_digest = c->manifest_digest,
        .config_json = c->config_text,
        .config_length = c->config_length,
        .annotations = &manifest->annotations,
        .names = &names,
        .chains = &chains,
        .blobs = &blobs,
        .pinned = &c->images->pinned,
    };
    index_add_image(c->next, TRY_PTR(image_record_new(c->next, &source, err)));
    return 0;
}

/* With `writing` held, as a removal that comes at once is no failure of the pull. The image as it will be asked for: by each name and by its id,
 * every layer there. */
static int
look_up_again(struct commit *c, struct error *err)
{
    cleanup_reference struct reference reference = {0};
    TRY(reference_parse(c->reference, &reference, err));
    cleanup_free char *repository = reference_name(&reference);
    cleanup_free char *by_digest = str_printf("%s@%s", repository, c->repo_digest);
    const char *const names[] = {c->reference, by_digest, c->config_digest};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct image *image = TRY_PTR(images_find(c->images, names[i], err));
        int result = str_eq(image->id, c->config_digest)
                         ? 0
                         : error_set(err, ERR_INTERNAL, "%s is %s after the pull, not %s", names[i], image->id, c->config_digest);
        for (size_t n = 0; n < image->layers.count && result == 0; n++) {
            cleanup_close int layer = file_open(c->images->layers_dir, image->layers.items[n], O_RDONLY | O_DIRECTORY, 0, err);
            result = layer < 0 ? error_prefix(err, "layer %s of the image", image->layers.items[n]) : 0;
        }
        image_release(image);
        TRY(result);
    }
    return 0;
}

/* The layers must be those that the configuration names: the chain ids are what they will be shared by. */
static int
check_chains(const struct commit *c, const struct manifest *manifest, struct error *err)
{
    struct image_config config = {0};
    cleanup_strv struct strv diff_ids = {0};
    if (manifest->is_artifact != str_eq(c->config_digest, c->manifest_digest))
        return error_set(err, ERR_INTERNAL, "crisp-pull's configuration is not the manifest's");
    int result = image_config_parse(c->config_text, c->config_length, &config, &diff_ids, err);
    image_config_free(&config);
    if (manifest->is_artifact)
        manifest_artifact_ids(manifest, &diff_ids);
    char chain[DIGEST_SIZE] = "";
    for (size_t i = 0; i < diff_ids.count && i < c->layer_count && result == 0; i++) {
        char parent[DIGEST_SIZE];
        (void)strcpy(parent, chain);
        digest_chain(parent, diff_ids.items[i], chain);
        if (!str_eq(chain, c->layers[i].chain_id))
            result = error_set(err, ERR_INTERNAL, "crisp-pull's layer %zu is not the configuration's", i + 1);
    }
    if (result == 0 && diff_ids.count != c->layer_count)
        result = error_set(err, ERR_INTERNAL, "crisp-pull brings %zu layers, the configuration names %zu", c->layer_count, diff_ids.count);
    return result;
}

static int
read_done(struct commit *c, struct message *done, struct manifest *manifest, struct error *err)
{
    c->manifest_digest = message_string(done, PULL_MANIFEST_DIGEST);
    c->config_digest = message_string(done, PULL_CONFIG_DIGEST);
    c->repo_digest = message_string(done, PULL_REPO_DIGEST);
    if (!digest_valid(c->repo_digest))
        return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
    TRY(take_document(done, 0, c->manifest_digest, &c->manifest_text, &c->manifest_length, err));
    TRY(take_document(done, 1, c->config_digest, &c->config_text, &c->config_length, err));
    TRY(manifest_parse(c->manifest_text, c->manifest_length, "", manifest, err));
    TRY(read_layers(c, done, err));
    return check_chains(c, manifest, err);
}

/* With `writing` held. */
static int
change_index(struct commit *c, const struct manifest *manifest, struct error *err)
{
    TRY(write_blob(c, c->manifest_digest, c->manifest_text, c->manifest_length, err));
    TRY(write_blob(c, c->config_digest, c->config_text, c->config_length, err));
    c->next = index_copy(c->images->index);
    keep_blobs(c, manifest);
    TRY(place_layers(c, err));
    TRY(add_image(c, manifest, err));
    return images_publish(c->images, index_ref(c->next), false, err);
}

static void
undo(struct commit *c)
{
    for (size_t i = 0; i < c->layer_count; i++)
        if (c->layers[i].placed)
            (void)renameat(c->images->layers_dir, c->layers[i].placed, c->session, c->layers[i].incoming);
}

static int
commit(struct commit *c, struct message *done, struct error *err)
{
    cleanup_manifest struct manifest manifest = {0};
    TRY(read_done(c, done, &manifest, err));
    (void)pthread_mutex_lock(&c->images->writing);
    int result = change_index(c, &manifest, err);
    if (result < 0)
        undo(c);
    else
        result = look_up_again(c, err);
    (void)pthread_mutex_unlock(&c->images->writing);
    return result;
}

char *
images_commit(struct images *images, const char *reference, int session, struct message *done, struct error *err)
{
    struct commit c = {.images = images, .reference = reference, .session = session};
    int result = commit(&c, done, err);
    char *id = result == 0 ? str_dup(c.config_digest) : NULL;
    if (result < 0)
        (void)error_prefix(err, "record the image");
    free(c.manifest_text);
    free(c.config_text);
    free(c.layers);
    if (c.next)
        index_unref(c.next);
    return id;
}
