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
    const char *tree;
    uint64_t bytes, inodes;
    const char *placed; /* where it was renamed to; the new index' */
};

struct commit {
    struct images *images;
    const char *reference;
    int session;
    const char *manifest_digest, *config_digest, *repo_digest;
    const char *signed_by; /* the id of a key; "" */
    struct strv gained;    /* the names that the image gets */
    char *manifest_text, *config_text;
    size_t manifest_length, config_length;
    struct arrived *layers;
    size_t layer_count;
    struct index *next;
    bool mended; /* a damaged layer was replaced */
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
    size_t at_chain = 0, at_incoming = 0, at_bytes = 0, at_inodes = 0, at_tree = 0, at_blob = 0, length, other;
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
        layer->tree = message_next(done, PULL_TREE, &at_tree, &length);
        if (!layer->tree || !length || layer->tree[length - 1] || (*incoming && !tree_digest_valid(layer->tree)))
            return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
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

/* Of several pulls that shared a layer the first brings it. What comes in place of a damaged one gets another directory: the old one stays as it is
 * for the containers that run on it. */
static int
place_layer(struct commit *c, struct arrived *layer, struct error *err)
{
    const struct layer_record *there = index_find_layer(c->next, layer->chain_id);
    if (there && !there->damaged)
        return 0;
    if (!*layer->incoming)
        return error_set(err, ERR_INTERNAL, "layer %s is neither here nor arrived", layer->chain_id);
    c->mended = c->mended || there;
    struct layer_record record = {.chain_id = (char *)(uintptr_t)layer->chain_id, .bytes = layer->bytes, .inodes = layer->inodes};
    memcpy(record.tree, layer->tree, TREE_DIGEST_SIZE); /* was found valid */
    const char *name = index_add_layer(c->next, &record);
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

/* Those of an import are the archive's, a stranger's words. */
static int
read_names(struct commit *c, const struct message *done, struct error *err)
{
    size_t cursor = 0, length;
    for (const char *name; (name = message_next(done, PULL_REFERENCE, &cursor, &length));) {
        cleanup_free char *text = str_ndup(name, length), *normal = reference_normalize(text, err);
        const char *at = normal ? strchr(normal, '@') : NULL;
        bool true_digest = !at || str_eq(at + 1, c->repo_digest) || str_eq(at + 1, c->manifest_digest);
        if (!normal || !str_eq(normal, text) || !true_digest)
            return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
        strv_add(&c->gained, normal);
    }
    return 0;
}

/* The names that a pull gives the image. */
static int
make_names(struct commit *c, struct error *err)
{
    cleanup_reference struct reference reference = {0};
    TRY(reference_parse(c->reference, &reference, err));
    cleanup_free char *repository = reference_name(&reference);
    strv_add(&c->gained, c->reference);
    strv_addf(&c->gained, "%s@%s", repository, c->repo_digest);
    return 0;
}

static int
add_image(struct commit *c, const struct manifest *manifest, struct error *err)
{
    cleanup_strv struct strv names = {0}, chains = {0}, blobs = {0};
    const struct image_record *old = index_find_id(c->next, c->config_digest);
    if (old)
        strv_copy(&names, &old->names);
    for (size_t i = 0; i < c->gained.count; i++)
        if (!strv_has(&names, c->gained.items[i]))
            strv_add(&names, c->gained.items[i]);
    for (size_t i = 0; i < c->layer_count; i++)
        strv_add(&chains, c->layers[i].chain_id);
    manifest_layer_digests(manifest, &blobs);
    if (old)
        index_remove_image(c->next, old);
    images_take_names_away(c->images, c->next, &names);
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

static int
look_up(const struct commit *c, const char *name, struct error *err)
{
    const struct image *image = TRY_PTR(images_find(c->images, name, err));
    int result =
        str_eq(image->id, c->config_digest) ? 0 : error_set(err, ERR_INTERNAL, "%s is %s after the pull, not %s", name, image->id, c->config_digest);
    for (size_t n = 0; n < image->layers.count && result == 0; n++) {
        cleanup_close int layer = file_open(c->images->layers_dir, image->layers.items[n], O_RDONLY | O_DIRECTORY, 0, err);
        result = layer < 0 ? error_prefix(err, "layer %s of the image", image->layers.items[n]) : 0;
    }
    image_release(image);
    return result;
}

/* With `writing` held, as a removal that comes at once is no failure of the pull. The image as it will be asked for: by each name and by its id,
 * every layer there. */
static int
look_up_again(const struct commit *c, struct error *err)
{
    for (size_t i = 0; i < c->gained.count; i++)
        TRY(look_up(c, c->gained.items[i], err));
    return look_up(c, c->config_digest, err);
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
    c->signed_by = message_string(done, PULL_SIGNED_BY);
    if (!digest_valid(c->repo_digest) || (*c->signed_by && !digest_valid(c->signed_by)))
        return error_set(err, ERR_INTERNAL, "crisp-pull's message is malformed");
    TRY(c->reference ? make_names(c, err) : read_names(c, done, err));
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
    if (*c->signed_by || !c->reference)
        TRY(images_vouch(c->images, c->config_digest, c->reference ? c->signed_by : NULL, err));
    c->next = index_copy(c->images->index);
    keep_blobs(c, manifest);
    TRY(place_layers(c, err));
    if (c->mended)
        index_refresh_images(c->next, &c->images->pinned);
    TRY(add_image(c, manifest, err));
    return images_publish(c->images, index_ref(c->next), false, err);
}

static void
undo(struct commit *c)
{
    for (size_t i = 0; i < c->layer_count; i++)
        if (c->layers[i].placed)
            (void)renameat(c->images->layers_dir, c->layers[i].placed, c->session, c->layers[i].incoming);
    images_drop_blob(c->images, c->manifest_digest);
    images_drop_blob(c->images, c->config_digest);
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
    if (result == 0 && c->mended)
        images_collect_soon(c->images);
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
    strv_free(&c.gained);
    if (c.next)
        index_unref(c.next);
    return id;
}
