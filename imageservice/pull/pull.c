#include "imageservice/pull/pull.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>

#include "base/file.h"
#include "imageservice/image_config.h"
#include "imageservice/json.h"
#include "imageservice/protocol.h"
#include "imageservice/pull/export.h"
#include "imageservice/pull/flush.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/space.h"
#include "imageservice/pull/verify.h"

enum {
    PULL_STACK = 1 << 20, /* jansson recurses up to 2048 levels */
    INDEXES_MAX = 32,     /* looked into for one image */
};

/* A layer of the image as this pull has it: in the store, or shared and on its way. */
struct wanted {
    char chain_id[DIGEST_SIZE];
    char *name; /* in the store; "" when it is missing */
    struct shared_layer *shared;
    int root; /* of one in the store */
    char tree[TREE_DIGEST_SIZE];
};

struct pull {
    const struct pull_context *context;
    uint32_t serial;
    char *reference;
    struct http_scope scope;
    struct registry *registry;
    bool explain;
    struct bundle *bundle; /* of an import, which has no registry */
    struct document manifest, config;
    char repo_digest[DIGEST_SIZE];
    struct strv known; /* digests that the reference had, for which the manifest `known_manifest` is here */
    char *known_manifest;
    char *rule; /* of trust, in words, that wants a signature; "" none */
    struct signers signers;
    const char *signed_by; /* the signers' */
    struct manifest parsed;
    unsigned indexes;
    struct strv diff_ids;
    struct wanted *wanted;
    size_t wanted_count;
    struct message *message; /* the one being made */
    struct message *have;    /* crispd's answer; guarded by pulls.lock as is what follows */
    bool committed;
    struct pull **parts; /* of an import: a pull for each of its images */
    size_t part_count;
    struct pull *active; /* the part that crispd's next answer is for */
    struct pull *next;
    /* Of an import or export: */
    int archive; /* fd; -1 */
    int request; /* fd, of an export, whose archive is written; -1 */
    bool digests;
    struct strv names; /* of a part */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct pull *all; /* that messages may be for */
    unsigned living;  /* these, and those that are being freed */
} pulls = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int
check_cancelled(const struct pull *pull, struct error *err)
{
    return atomic_load(&pull->scope.cancelled) ? error_set(err, ERR_CANCELLED, "the pull was cancelled") : 0;
}

/* A manifest or configuration of known digest may be here from an earlier pull. What is damaged there is fetched again. */
static bool
find_document(const struct pull *pull, const char *digest, struct document *out)
{
    return pull->context->blobs_dir >= 0 && document_read(pull->context->blobs_dir, digest, out, NULL) == 0;
}

static int
get_manifest(struct pull *pull, const char *which, bool ask_anyway, struct document *out, struct error *err)
{
    if (!ask_anyway && find_document(pull, which, out))
        return 0;
    return registry_manifest(pull->registry, &pull->scope, which, out, err);
}

/* What is here already needs no more than the registry's word that the reference still means it; and pulling it counts as no pull there. 1 when it
 * does. What HEAD doesn't tell, GET does, with the registry's own words. */
static int
resolve_known(struct pull *pull, const char *which, struct error *err)
{
    struct error why = {0};
    if (pull->known.count == 0)
        return 0;
    int said = registry_digest(pull->registry, &pull->scope, which, pull->repo_digest, &why);
    if (said < 0 && (why.kind == ERR_UNAVAILABLE || why.kind == ERR_CANCELLED)) {
        *err = why;
        return -1;
    }
    if (said <= 0 || !strv_has(&pull->known, pull->repo_digest) || !find_document(pull, pull->known_manifest, &pull->manifest))
        return 0;
    TRY(manifest_parse(pull->manifest.text, pull->manifest.length, "", &pull->parsed, err));
    return 1;
}

/* What contradicts its descriptor is refused, also when it was here. */
static int
check_size(const char *what, const struct document *document, const struct descriptor *from, struct error *err)
{
    if ((int64_t)document->length == from->size)
        return 0;
    return error_set(err, ERR_INTERNAL, "%s %s has %zu bytes; what names it says %lld", what, from->digest, document->length, (long long)from->size);
}

static int resolve_from(struct pull *pull, const char *which, const struct descriptor *from, const struct platform *machine, int depth,
                        struct error *err);

/* What says its platform is meant. An index that doesn't may have ours in it, or the next one. */
static int
resolve_index(struct pull *pull, const struct platform *machine, int depth, struct error *err)
{
    cleanup_manifest struct manifest index = pull->parsed;
    pull->parsed = (struct manifest){0};
    if (depth == MANIFEST_DEPTH_MAX)
        return error_set(err, ERR_INVALID, "indexes within indexes deeper than %d", MANIFEST_DEPTH_MAX);
    if (++pull->indexes > INDEXES_MAX)
        return error_set(err, ERR_INVALID, "more than %d indexes within the index", INDEXES_MAX);
    const struct descriptor *chosen = TRY_PTR(manifest_choose(&index, machine, err));
    while (resolve_from(pull, chosen->digest, chosen, machine, depth, err) < 0) {
        bool goes_on = err->kind == ERR_NOT_FOUND && manifest_is_without_platform(&index, chosen);
        chosen = goes_on ? manifest_choose_after(&index, machine, chosen) : NULL;
        if (!chosen)
            return -1;
    }
    return 0;
}

static int
resolve_from(struct pull *pull, const char *which, const struct descriptor *from, const struct platform *machine, int depth, struct error *err)
{
    document_free(&pull->manifest);
    TRY(get_manifest(pull, which, !from, &pull->manifest, err));
    if (from)
        TRY(check_size("manifest", &pull->manifest, from, err));
    else
        (void)strcpy(pull->repo_digest, pull->manifest.digest);
    TRY(manifest_parse(pull->manifest.text, pull->manifest.length, pull->manifest.content_type, &pull->parsed, err));
    return pull->parsed.is_index ? resolve_index(pull, machine, depth + 1, err) : 0;
}

/* From what the reference names down to the manifest for this machine. The first is asked for at the registry in any case: a tag may have moved, and
 * who may not see the image shall not get it because another could. */
static int
resolve(struct pull *pull, const struct reference *reference, struct error *err)
{
    cleanup_platform struct platform machine;
    platform_of_machine(&machine);
    const char *which = reference->digest ? reference->digest : reference->tag;
    if (TRY(resolve_known(pull, which, err)) > 0)
        return 0;
    return resolve_from(pull, which, NULL, &machine, 0, err);
}

/* A signature of what the reference names covers the manifest in it, as digests say; one of the manifest covers what we take of it. */
static int
check_signature(struct pull *pull, struct error *err)
{
    if (str_empty(pull->rule))
        return 0;
    strv_add(&pull->signers.digests, pull->repo_digest);
    if (!str_eq(pull->repo_digest, pull->manifest.digest))
        strv_add(&pull->signers.digests, pull->manifest.digest);
    pull->signed_by = verify_signed(pull->registry, &pull->scope, &pull->signers, err);
    return pull->signed_by ? 0 : error_prefix(err, "%s", pull->rule);
}

/* An artifact has none: its manifest stands for it. */
static int
get_config(struct pull *pull, struct error *err)
{
    const struct descriptor *descriptor = &pull->parsed.config;
    if (pull->parsed.is_artifact) {
        pull->config = (struct document){.text = mem_dup(pull->manifest.text, pull->manifest.length), .length = pull->manifest.length};
        (void)strcpy(pull->config.digest, pull->manifest.digest);
        manifest_artifact_ids(&pull->parsed, &pull->diff_ids);
        return 0;
    }
    if (!find_document(pull, descriptor->digest, &pull->config))
        TRY(pull->bundle ? bundle_document(pull->bundle, descriptor->digest, &pull->config, err)
                         : registry_config(pull->registry, &pull->scope, descriptor, &pull->config, err));
    TRY(check_size("configuration", &pull->config, descriptor, err));
    struct image_config config = {0};
    int result = image_config_parse(pull->config.text, pull->config.length, &config, &pull->diff_ids, err);
    image_config_free(&config);
    if (result == 0 && pull->diff_ids.count != pull->parsed.count)
        return error_set(err, ERR_INVALID, "the manifest has %zu layers, the configuration %zu", pull->parsed.count, pull->diff_ids.count);
    return result;
}

static void
compute_chains(struct pull *pull)
{
    pull->wanted = mem_zalloc(pull->parsed.count, sizeof *pull->wanted);
    pull->wanted_count = pull->parsed.count;
    for (size_t i = 0; i < pull->wanted_count; i++) {
        pull->wanted[i].root = -1;
        digest_chain(i ? pull->wanted[i - 1].chain_id : NULL, pull->diff_ids.items[i], pull->wanted[i].chain_id);
    }
}

static int
wait_for_have(struct pull *pull, struct error *err)
{
    (void)pthread_mutex_lock(&pulls.lock);
    while (!pull->have && !atomic_load(&pull->scope.cancelled))
        (void)pthread_cond_wait(&pulls.changed, &pulls.lock);
    (void)pthread_mutex_unlock(&pulls.lock);
    return check_cancelled(pull, err);
}

/* Which of the layers are there? crispd keeps those for us until the pull's end. */
static int
ask_what_is_there(struct pull *pull, struct error *err)
{
    message_begin(pull->message, PULL_LAYERS, pull->serial);
    for (size_t i = 0; i < pull->wanted_count; i++)
        message_put_string(pull->message, PULL_CHAIN, pull->wanted[i].chain_id);
    TRY(message_send(pull->context->socket, pull->message, err));
    TRY(wait_for_have(pull, err));
    size_t cursor = 0, length;
    for (size_t i = 0; i < pull->wanted_count; i++) {
        const char *name = message_next(pull->have, PULL_NAME, &cursor, &length);
        if (!name || length == 0 || name[length - 1])
            return error_set(err, ERR_INTERNAL, "crispd's answer is short");
        pull->wanted[i].name = str_dup(name);
    }
    return 0;
}

static struct layer_source
source_of(const struct pull *pull)
{
    return (struct layer_source){pull->registry, pull->bundle};
}

static struct shared_layer *
want(struct pull *pull, size_t i)
{
    const char *diff_id = pull->parsed.is_artifact ? "" : pull->diff_ids.items[i];
    return layers_want(pull->context->layers, pull->wanted[i].chain_id, diff_id, &pull->parsed.layers[i], source_of(pull));
}

/* A layer that another pull's registry failed to give is asked of ours. */
static int
wait_for_layer(struct pull *pull, size_t i, struct error *err)
{
    struct wanted *w = &pull->wanted[i];
    for (;;) {
        if (layers_wait(pull->context->layers, w->shared, &pull->scope, err) == 0)
            return 0;
        if (atomic_load(&pull->scope.cancelled) || shared_layer_is_from(w->shared, source_of(pull)))
            return -1;
        layers_give_back(pull->context->layers, w->shared);
        w->shared = want(pull, i);
    }
}

static int
open_present(struct pull *pull, struct error *err)
{
    for (size_t i = 0; i < pull->wanted_count; i++)
        if (*pull->wanted[i].name)
            pull->wanted[i].root = TRY(file_open(pull->context->layers_dir, pull->wanted[i].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    return 0;
}

static int
settle_all(struct pull *pull, struct error *err)
{
    cleanup_free int *roots = mem_zalloc(pull->wanted_count, sizeof *roots);
    for (size_t i = 0; i < pull->wanted_count; i++) {
        struct wanted *w = &pull->wanted[i];
        if (w->shared && layers_settle(pull->context->layers, w->shared, roots, i, err) < 0)
            return error_prefix(err, "layer %s", pull->parsed.layers[i].digest);
        roots[i] = w->shared ? shared_layer_root(w->shared) : w->root;
    }
    return 0;
}

/* What surely does not fit is not begun. */
static int
check_space(const struct pull *pull, struct error *err)
{
    struct space_needed needed = {0};
    for (size_t i = 0; i < pull->wanted_count; i++)
        if (!*pull->wanted[i].name)
            space_add(&needed, &pull->parsed.layers[i], pull->context->partial, pull->context->keep_blobs);
    if (pull->bundle && !pull->context->keep_blobs)
        needed.packed = 0; /* they lie in the archive */
    uint64_t bytes = needed.unpacked + needed.packed;
    return bytes ? space_check(pull->context->incoming, bytes < needed.unpacked ? UINT64_MAX : bytes, err) : 0;
}

struct flushing {
    int fd, result;
    struct error err;
};

static void *
flush(void *arg)
{
    struct flushing *f = arg;
    f->result = flush_filesystem(f->fd, &f->err);
    return NULL;
}

static int
digest_trees(struct pull *pull, struct error *err)
{
    for (size_t i = 0; i < pull->wanted_count; i++) {
        struct wanted *w = &pull->wanted[i];
        if (w->shared && shared_layer_tree(w->shared, w->tree, err) < 0)
            return error_prefix(err, "layer %s", pull->parsed.layers[i].digest);
    }
    return 0;
}

/* While the disk writes, the trees are read from memory. */
static int
flush_and_digest(struct pull *pull, struct error *err)
{
    pthread_t thread;
    struct flushing flushing = {.fd = pull->context->incoming};
    bool beside = pthread_create(&thread, NULL, flush, &flushing) == 0;
    int result = digest_trees(pull, err);
    if (beside)
        (void)pthread_join(thread, NULL);
    else
        (void)flush(&flushing);
    if (result == 0 && flushing.result < 0)
        *err = flushing.err;
    return result < 0 ? result : flushing.result;
}

static int
fetch_missing(struct pull *pull, struct error *err)
{
    bool any = false;
    TRY(check_space(pull, err));
    for (size_t i = 0; i < pull->wanted_count; i++)
        if (!*pull->wanted[i].name) {
            pull->wanted[i].shared = want(pull, i);
            any = true;
        }
    if (!any)
        return 0;
    TRY(open_present(pull, err));
    for (size_t i = 0; i < pull->wanted_count; i++)
        if (pull->wanted[i].shared)
            TRY(wait_for_layer(pull, i, err));
    TRY(settle_all(pull, err));
    return flush_and_digest(pull, err);
}

static int
put_document(struct message *m, const struct document *document, int *fd, struct error *err)
{
    *fd = TRY(file_sealed_memfd("crisp-image", document->text, document->length, err));
    message_put_fd(m, *fd);
    return 0;
}

static int
send_done(struct pull *pull, bool more, struct error *err)
{
    cleanup_close int manifest = -1, config = -1;
    struct message *m = pull->message;
    message_begin(m, PULL_DONE, pull->serial);
    TRY(put_document(m, &pull->manifest, &manifest, err));
    TRY(put_document(m, &pull->config, &config, err));
    message_put_string(m, PULL_REPO_DIGEST, pull->repo_digest);
    message_put_string(m, PULL_MANIFEST_DIGEST, pull->manifest.digest);
    message_put_string(m, PULL_CONFIG_DIGEST, pull->config.digest);
    message_put_string(m, PULL_SIGNED_BY, pull->signed_by);
    for (size_t i = 0; i < pull->wanted_count; i++) {
        const struct wanted *w = &pull->wanted[i];
        uint64_t bytes = 0, inodes = 0;
        if (w->shared)
            shared_layer_usage(w->shared, &bytes, &inodes);
        message_put_string(m, PULL_CHAIN, w->chain_id);
        message_put_string(m, PULL_INCOMING, w->shared ? shared_layer_name(w->shared) : "");
        message_put_u64(m, PULL_BYTES, bytes);
        message_put_u64(m, PULL_INODES, inodes);
        message_put_string(m, PULL_TREE, w->tree);
        if (pull->context->keep_blobs)
            message_put_string(m, PULL_BLOB, w->shared && shared_layer_blob_kept(w->shared) ? "kept" : "");
    }
    for (size_t i = 0; i < pull->names.count; i++)
        message_put_string(m, PULL_REFERENCE, pull->names.items[i]);
    message_put_u64(m, PULL_MORE, more);
    TRY(check_cancelled(pull, err));
    return message_send(pull->context->socket, m, err);
}

/* Where account is kept it is sent whatever becomes of the pull. */
static void
send_account(struct pull *pull)
{
    cleanup_strv struct strv lines = {0};
    if (!pull->explain || !pull->registry)
        return;
    registry_account(pull->registry, &lines);
    message_begin(pull->message, PULL_ACCOUNT, pull->serial);
    for (size_t i = 0; i < lines.count; i++)
        message_put_string(pull->message, PULL_NOTE, lines.items[i]);
    (void)message_send(pull->context->socket, pull->message, NULL);
}

static void
send_failed(struct pull *pull, const struct error *why)
{
    send_account(pull);
    message_begin(pull->message, PULL_FAILED, pull->serial);
    message_put_u64(pull->message, PULL_ERROR_KIND, why->kind);
    message_put_i64(pull->message, PULL_ERROR_ERRNO, why->errnum);
    message_put_string(pull->message, PULL_ERROR_MESSAGE, why->message);
    (void)message_send(pull->context->socket, pull->message, NULL); /* crispd gone: the main thread sees it too */
}

static void
tell_what_is_there(struct pull *pull)
{
    size_t here = 0;
    for (size_t i = 0; i < pull->wanted_count; i++)
        here += *pull->wanted[i].name != '\0';
    if (pull->explain)
        registry_tell(pull->registry, "manifest %s, configuration %s: %zu of %zu layers are here already", pull->manifest.digest,
                      pull->parsed.config.digest, here, pull->wanted_count);
}

/* What crispd has to be asked, and what is missing fetched and unpacked, once the manifest is known. */
static int
fetch_image(struct pull *pull, struct error *err)
{
    TRY(get_config(pull, err));
    compute_chains(pull);
    TRY(ask_what_is_there(pull, err));
    tell_what_is_there(pull);
    return fetch_missing(pull, err);
}

static int
run_pull(struct pull *pull, struct error *err)
{
    cleanup_reference struct reference reference = {0};
    TRY(reference_parse(pull->reference, &reference, err));
    TRY(check_cancelled(pull, err));
    TRY(resolve(pull, &reference, err));
    TRY(check_signature(pull, err));
    TRY(fetch_image(pull, err));
    send_account(pull);
    return send_done(pull, false, err);
}

static void
wait_for_commit(struct pull *pull)
{
    (void)pthread_mutex_lock(&pulls.lock);
    while (!pull->committed && !atomic_load(&pull->scope.cancelled))
        (void)pthread_cond_wait(&pulls.changed, &pulls.lock);
    (void)pthread_mutex_unlock(&pulls.lock);
}

static void
pull_free(struct pull *pull)
{
    for (size_t i = 0; i < pull->part_count; i++) {
        pull->parts[i]->message = NULL;
        pull_free(pull->parts[i]);
    }
    free(pull->parts);
    if (pull->archive >= 0)
        (void)close(pull->archive);
    if (pull->request >= 0)
        (void)close(pull->request);
    if (pull->bundle)
        bundle_unref(pull->bundle);
    strv_free(&pull->names);
    for (size_t i = 0; i < pull->wanted_count; i++) {
        if (pull->wanted[i].shared)
            layers_give_back(pull->context->layers, pull->wanted[i].shared);
        if (pull->wanted[i].root >= 0)
            (void)close(pull->wanted[i].root);
        free(pull->wanted[i].name);
    }
    free(pull->wanted);
    if (pull->registry)
        registry_unref(pull->registry);
    document_free(&pull->manifest);
    document_free(&pull->config);
    manifest_free(&pull->parsed);
    strv_free(&pull->diff_ids);
    strv_free(&pull->known);
    free(pull->known_manifest);
    free(pull->rule);
    signers_free(&pull->signers);
    free(pull->reference);
    free(pull->message);
    free(pull->have);
    free(pull);
}

/* Off the list, so that no message finds it; then layers that only it wanted are deleted, which takes a while. */
static void
end(struct pull *pull)
{
    (void)pthread_mutex_lock(&pulls.lock);
    struct pull **link = &pulls.all;
    while (*link != pull)
        link = &(*link)->next;
    *link = pull->next;
    (void)pthread_mutex_unlock(&pulls.lock);
    pull_free(pull);
    (void)pthread_mutex_lock(&pulls.lock);
    pulls.living--;
    (void)pthread_cond_broadcast(&pulls.changed);
    (void)pthread_mutex_unlock(&pulls.lock);
}

/* ---- Imports ---- */

static int
name_part(const struct pull *import, struct pull *part, const struct bundle_image *image, struct error *err)
{
    if (*import->reference)
        strv_add(&part->names, import->reference);
    else
        strv_copy(&part->names, &image->names);
    for (size_t i = 0, tags = part->names.count; i < tags && (*image->digest || import->digests); i++) {
        cleanup_reference struct reference reference = {0};
        TRY(reference_parse(part->names.items[i], &reference, err));
        cleanup_free char *repository = reference_name(&reference), *name = str_printf("%s@%s", repository, part->repo_digest);
        if (!strv_has(&part->names, name))
            strv_add(&part->names, name);
    }
    return 0;
}

static int
check_names(const struct strv *names, struct error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < names->count; i++)
        bytes += strlen(names->items[i]) + 1;
    return bytes > LIMIT_BUNDLE_IMAGE_NAMES_BYTES ? error_set(err, ERR_EXHAUSTED, "the archive gives an image %zu names, above %d KiB in all",
                                                              names->count, LIMIT_BUNDLE_IMAGE_NAMES_BYTES >> 10)
                                                  : 0;
}

/* Takes the image's documents. */
static int
add_part(struct pull *import, struct bundle_image *image, struct error *err)
{
    struct pull *part = mem_zalloc(1, sizeof *part);
    part->context = import->context;
    part->serial = import->serial;
    part->archive = part->request = -1;
    part->bundle = bundle_ref(import->bundle);
    part->message = import->message; /* they come one after the other */
    part->manifest = image->manifest;
    image->manifest = (struct document){0};
    (void)strcpy(part->repo_digest, *image->digest ? image->digest : part->manifest.digest);
    (void)pthread_mutex_lock(&pulls.lock);
    import->parts = mem_realloc(import->parts, import->part_count + 1, sizeof *import->parts);
    import->parts[import->part_count++] = import->active = part;
    atomic_store(&part->scope.cancelled, atomic_load(&import->scope.cancelled));
    (void)pthread_mutex_unlock(&pulls.lock);
    TRY(name_part(import, part, image, err));
    TRY(check_names(&part->names, err));
    TRY(manifest_parse(part->manifest.text, part->manifest.length, "", &part->parsed, err));
    return fetch_image(part, err);
}

static int
add_parts(struct pull *import, struct bundle_images *images, struct error *err)
{
    if (*import->reference && images->count > 1)
        return error_set(err, ERR_INVALID, "it holds %zu images, and %s can be the name of one only", images->count, import->reference);
    size_t configs = 0;
    for (size_t i = 0; i < images->count; i++) {
        TRY(add_part(import, &images->items[i], err));
        TRY(bundle_count_document(&configs, import->active->config.length, err));
    }
    return 0;
}

static int
run_import(struct pull *import, struct error *err)
{
    struct bundle_images images = {0};
    import->bundle = TRY_PTR(bundle_open(import->archive, import->context->incoming, &import->scope, err));
    int result = bundle_read_images(import->bundle, &import->scope, &images, err);
    if (result == 0)
        result = add_parts(import, &images, err);
    bundle_images_free(&images);
    TRY(result);
    for (size_t i = 0; i < import->part_count; i++) {
        (void)pthread_mutex_lock(&pulls.lock);
        import->active = import->parts[i];
        (void)pthread_mutex_unlock(&pulls.lock);
        TRY(send_done(import->active, i + 1 < import->part_count, err));
        wait_for_commit(import->active);
    }
    return 0;
}

static int
run_export(struct pull *pull, struct error *err)
{
    const struct pull_context *context = pull->context;
    struct export_places places = {context->incoming, context->layers_dir, context->blobs_dir, pull->archive};
    cleanup_strv struct strv notes = {0};
    TRY(export_run(&places, pull->request, &pull->scope, &notes, err));
    message_begin(pull->message, PULL_EXPORTED, pull->serial);
    for (size_t i = 0; i < notes.count; i++)
        message_put_string(pull->message, PULL_NOTE, notes.items[i]);
    return message_send(context->socket, pull->message, err);
}

static int
run(struct pull *pull, struct error *err)
{
    if (pull->request >= 0)
        return run_export(pull, err);
    if (pull->archive >= 0)
        return run_import(pull, err);
    TRY(run_pull(pull, err));
    wait_for_commit(pull);
    return 0;
}

static void *
run_thread(void *arg)
{
    struct pull *pull = arg;
    struct error err = {0};
    if (run(pull, &err) < 0)
        send_failed(pull, &err);
    end(pull);
    return NULL;
}

static int
open_registry(struct pull *pull, const struct message *m, struct error *err)
{
    struct image_auth auth = {
        .username = message_string(m, PULL_USERNAME),
        .password = message_string(m, PULL_PASSWORD),
        .auth = message_string(m, PULL_AUTH),
        .server_address = message_string(m, PULL_SERVER_ADDRESS),
        .identity_token = message_string(m, PULL_IDENTITY_TOKEN),
        .registry_token = message_string(m, PULL_REGISTRY_TOKEN),
    };
    cleanup_reference struct reference reference = {0};
    cleanup_credentials struct credentials credentials = {0};
    TRY(reference_parse(pull->reference, &reference, err));
    TRY(credentials_read(&auth, &credentials, err));
    pull->registry = TRY_PTR(registry_open(&pull->context->registries, &reference, &credentials, err));
    return 0;
}

static int
read_signers(struct pull *pull, const struct message *m, struct error *err)
{
    size_t cursor = 0, length;
    for (const char *pem; (pem = message_next(m, PULL_KEY, &cursor, &length));) {
        cleanup_free char *text = str_ndup(pem, length);
        TRY(signers_add(&pull->signers, text, err));
    }
    return 0;
}

static int
start_thread(struct pull *pull, struct error *err)
{
    pthread_t thread;
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, PULL_STACK);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int errnum = pthread_create(&thread, &attributes, run_thread, pull);
    (void)pthread_attr_destroy(&attributes);
    return errnum ? error_errno(err, errnum, "start a thread") : 0;
}

void
pull_start(const struct pull_context *context, struct message *start)
{
    struct error err = {0};
    struct pull *pull = mem_zalloc(1, sizeof *pull);
    pull->context = context;
    pull->serial = start->serial;
    pull->reference = str_dup(message_string(start, PULL_REFERENCE));
    pull->known_manifest = str_dup(message_string(start, PULL_MANIFEST_DIGEST));
    size_t cursor = 0, length;
    for (const char *digest; (digest = message_next(start, PULL_REPO_DIGEST, &cursor, &length));)
        strv_take(&pull->known, str_ndup(digest, length));
    pull->message = mem_alloc(sizeof *pull->message);
    pull->archive = message_take_fd(start, 0);
    pull->request = message_take_fd(start, 1);
    pull->digests = message_u64(start, PULL_DIGESTS) != 0;
    pull->rule = str_dup(message_string(start, PULL_RULE));
    int result = read_signers(pull, start, &err);
    if (result == 0 && pull->archive < 0)
        result = open_registry(pull, start, &err);
    pull->explain = message_u64(start, PULL_EXPLAIN) != 0;
    if (pull->explain && pull->registry)
        registry_keep_account(pull->registry);
    (void)pthread_mutex_lock(&pulls.lock);
    pull->next = pulls.all;
    pulls.all = pull;
    pulls.living++;
    (void)pthread_mutex_unlock(&pulls.lock);
    if (result == 0)
        result = start_thread(pull, &err);
    if (result < 0) {
        send_failed(pull, &err);
        end(pull);
    }
}

/* With the lock held. */
static void
cancel(struct pull *pull)
{
    for (size_t i = 0; i < pull->part_count; i++)
        cancel(pull->parts[i]);
    http_cancel(pull->context->registries.http, &pull->scope);
    (void)pthread_cond_broadcast(&pulls.changed);
}

/* With the lock held, in the thread that reads crispd's messages: what PULL_HAVE says after PULL_COMMITTED must not find these layers any more. The
 * pull has sent PULL_DONE, so they are what they are until it sees `committed`. */
static void
commit(struct pull *pull)
{
    for (size_t i = 0; i < pull->wanted_count; i++)
        if (pull->wanted[i].shared)
            layers_hand_over(pull->context->layers, pull->wanted[i].shared);
    pull->committed = true;
}

void
pull_message(struct message *message)
{
    struct layers *layers = NULL;
    (void)pthread_mutex_lock(&pulls.lock);
    struct pull *pull = pulls.all;
    while (pull && pull->serial != message->serial)
        pull = pull->next;
    struct pull *active = pull && pull->active ? pull->active : pull;
    if (active && message->type == PULL_HAVE && !active->have)
        active->have = mem_dup(message, sizeof *message);
    if (active && message->type == PULL_COMMITTED)
        commit(active);
    if (pull && message->type == PULL_CANCEL) {
        cancel(pull);
        layers = pull->context->layers;
    }
    (void)pthread_cond_broadcast(&pulls.changed);
    (void)pthread_mutex_unlock(&pulls.lock);
    if (layers)
        layers_wake(layers);
}

void
pull_end_all(void)
{
    (void)pthread_mutex_lock(&pulls.lock);
    for (struct pull *pull = pulls.all; pull; pull = pull->next) {
        cancel(pull);
        layers_wake(pull->context->layers);
    }
    while (pulls.living)
        (void)pthread_cond_wait(&pulls.changed, &pulls.lock);
    (void)pthread_mutex_unlock(&pulls.lock);
}
