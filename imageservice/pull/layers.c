#include "imageservice/pull/layers.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/pull/artifact.h"
#include "imageservice/pull/layer.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/partial.h"
#include "imageservice/pull/space.h"
#include "imageservice/pull/tar.h"
#include "imageservice/pull/unpress.h"

enum { WORKER_STACK = 512 << 10 };

enum state { QUEUED, FETCHING, UNPACKED, FAILED };

struct shared_layer {
    char chain_id[DIGEST_SIZE], diff_id[DIGEST_SIZE];
    struct descriptor descriptor;
    struct layer_source from;
    struct http_scope scope; /* of its transfers */
    char name[24];
    unsigned refs; /* the pulls', and the worker's */
    enum state state;
    struct layer *layer; /* the worker's until UNPACKED */
    pthread_mutex_t settling;
    bool settled, blob_kept;
    char tree[TREE_DIGEST_SIZE]; /* "": not taken yet; guarded by settling, as is `settled` */
    struct error failure;
    struct shared_layer *next, *next_queued;
};

struct layers {
    struct layers_options options;
    pthread_mutex_t lock; /* guards all below, and state, refs and links of the layers */
    pthread_cond_t changed;
    struct shared_layer *all;   /* but those that failed or were handed over */
    struct shared_layer *queue; /* oldest first */
    unsigned unpacking;
    uint64_t counter;
    bool stopping;
    pthread_t workers[LIMIT_DOWNLOADS];
    unsigned worker_count;
};

static void
forget(struct layers *layers, struct shared_layer *layer)
{
    for (struct shared_layer **link = &layers->all; *link; link = &(*link)->next)
        if (*link == layer) {
            *link = layer->next;
            return;
        }
}

bool
shared_layer_blob_kept(const struct shared_layer *layer)
{
    return layer->blob_kept;
}

/* What can't be deleted goes with the session's directory, by crispd. */
static void
delete_files(const struct layers *layers, const struct shared_layer *layer)
{
    (void)file_remove_tree(layers->options.incoming, layer->name, NULL);
}

static void
destroy(struct layers *layers, struct shared_layer *layer)
{
    if (layer->layer)
        layer_close(layer->layer);
    delete_files(layers, layer);
    if (layer->from.registry)
        registry_unref(layer->from.registry);
    if (layer->from.bundle)
        bundle_unref(layer->from.bundle);
    descriptor_free(&layer->descriptor);
    (void)pthread_mutex_destroy(&layer->settling);
    free(layer);
}

void
layers_give_back(struct layers *layers, struct shared_layer *layer)
{
    (void)pthread_mutex_lock(&layers->lock);
    unsigned left = --layer->refs;
    bool unwanted = left == 1 && (layer->state == QUEUED || layer->state == FETCHING); /* the worker's alone */
    if (left == 0 || unwanted)
        forget(layers, layer);
    if (unwanted)
        http_cancel(layers->options.http, &layer->scope);
    (void)pthread_mutex_unlock(&layers->lock);
    if (left == 0)
        destroy(layers, layer);
}

void
layers_hand_over(struct layers *layers, struct shared_layer *layer)
{
    (void)pthread_mutex_lock(&layers->lock);
    forget(layers, layer);
    (void)pthread_mutex_unlock(&layers->lock);
}

static struct shared_layer *
find(const struct layers *layers, const char *chain_id)
{
    struct shared_layer *layer = layers->all;
    while (layer && !str_eq(layer->chain_id, chain_id))
        layer = layer->next;
    return layer;
}

static struct shared_layer *
enqueue(struct layers *layers, const char *chain_id, const char *diff_id, const struct descriptor *descriptor, struct layer_source from)
{
    struct shared_layer *layer = mem_zalloc(1, sizeof *layer);
    (void)pthread_mutex_init(&layer->settling, NULL);
    (void)snprintf(layer->chain_id, sizeof layer->chain_id, "%s", chain_id);
    (void)snprintf(layer->diff_id, sizeof layer->diff_id, "%s", diff_id);
    (void)snprintf(layer->name, sizeof layer->name, "%llu", (unsigned long long)++layers->counter);
    layer->descriptor = descriptor_copy(descriptor);
    layer->from.registry = from.registry ? registry_ref(from.registry) : NULL;
    layer->from.bundle = from.bundle ? bundle_ref(from.bundle) : NULL;
    layer->refs = 1; /* the worker's */
    layer->next = layers->all;
    layers->all = layer;
    struct shared_layer **last = &layers->queue;
    while (*last)
        last = &(*last)->next_queued;
    *last = layer;
    (void)pthread_cond_broadcast(&layers->changed);
    return layer;
}

struct shared_layer *
layers_want(struct layers *layers, const char *chain_id, const char *diff_id, const struct descriptor *descriptor, struct layer_source from)
{
    (void)pthread_mutex_lock(&layers->lock);
    struct shared_layer *layer = find(layers, chain_id);
    if (!layer)
        layer = enqueue(layers, chain_id, diff_id, descriptor, from);
    layer->refs++;
    (void)pthread_mutex_unlock(&layers->lock);
    return layer;
}

int
layers_wait(struct layers *layers, struct shared_layer *layer, const struct http_scope *scope, struct error *err)
{
    (void)pthread_mutex_lock(&layers->lock);
    while (layer->state != UNPACKED && layer->state != FAILED && !atomic_load(&scope->cancelled))
        (void)pthread_cond_wait(&layers->changed, &layers->lock);
    int result = layer->state == UNPACKED ? 0 : -1;
    if (result < 0 && layer->state == FAILED)
        *err = layer->failure;
    else if (result < 0)
        (void)error_set(err, ERR_CANCELLED, "the pull was cancelled");
    (void)pthread_mutex_unlock(&layers->lock);
    return result;
}

void
layers_wake(struct layers *layers)
{
    (void)pthread_mutex_lock(&layers->lock);
    (void)pthread_cond_broadcast(&layers->changed);
    (void)pthread_mutex_unlock(&layers->lock);
}

int
layers_settle(struct layers *layers, struct shared_layer *layer, const int lower[], size_t count, struct error *err)
{
    (void)layers;
    (void)pthread_mutex_lock(&layer->settling);
    int result = layer->settled ? 0 : layer_settle(layer->layer, lower, count, err);
    layer->settled = result == 0;
    (void)pthread_mutex_unlock(&layer->settling);
    return result;
}

int
shared_layer_tree(struct shared_layer *layer, char out[TREE_DIGEST_SIZE], struct error *err)
{
    (void)pthread_mutex_lock(&layer->settling);
    int result = *layer->tree ? 0 : tree_digest(layer_root(layer->layer), false, NULL, layer->tree, err);
    memcpy(out, layer->tree, TREE_DIGEST_SIZE);
    (void)pthread_mutex_unlock(&layer->settling);
    return result;
}

int
shared_layer_root(const struct shared_layer *layer)
{
    return layer_root(layer->layer);
}

const char *
shared_layer_name(const struct shared_layer *layer)
{
    return layer->name;
}

void
shared_layer_usage(const struct shared_layer *layer, uint64_t *bytes, uint64_t *inodes)
{
    layer_usage(layer->layer, bytes, inodes);
}

bool
shared_layer_is_from(const struct shared_layer *layer, struct layer_source source)
{
    return layer->from.registry == source.registry && layer->from.bundle == source.bundle;
}

/* ---- Fetching one layer: the worker's thread drives the transfer, one thread unpacks, one decompresses. ---- */

struct fetch {
    struct layers *layers;
    struct shared_layer *shared;
    struct ring *packed, *plain;
    struct digest *diff;
    int keep;     /* the blob's file, or -1 */
    bool went_on; /* with what it had from an earlier pull */
    struct layer *layer;
    bool unpacked;
    struct error failure; /* of unpacking */
};

static void
take_slot(struct layers *layers)
{
    (void)pthread_mutex_lock(&layers->lock);
    while (layers->unpacking >= LIMIT_UNPACKED_AT_ONCE)
        (void)pthread_cond_wait(&layers->changed, &layers->lock);
    layers->unpacking++;
    (void)pthread_mutex_unlock(&layers->lock);
}

static void
give_slot(struct layers *layers)
{
    (void)pthread_mutex_lock(&layers->lock);
    layers->unpacking--;
    (void)pthread_cond_broadcast(&layers->changed);
    (void)pthread_mutex_unlock(&layers->lock);
}

static void *
decompress(void *arg)
{
    struct fetch *f = arg;
    struct error err = {0}; /* reaches the unpacking side through the ring */
    (void)(f->shared->descriptor.title ? unpress_pass : unpress_run)(f->packed, f->plain, f->diff, f->keep, &err);
    return NULL;
}

static int
start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg, struct error *err)
{
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, WORKER_STACK);
    int errnum = pthread_create(thread, &attributes, run, arg);
    (void)pthread_attr_destroy(&attributes);
    return errnum ? error_errno(err, errnum, "start a thread") : 0;
}

static int
unpack_here(struct fetch *f, struct error *err)
{
    const struct descriptor *blob = &f->shared->descriptor;
    pthread_t decompressor;
    f->plain = ring_new(RING_PLAIN_BYTES);
    f->diff = digest_new(f->shared->diff_id);
    f->layer = TRY_PTR(layer_begin(f->layers->options.incoming, f->shared->name, err));
    TRY(start_thread(&decompressor, decompress, f, err));
    int result = blob->title ? artifact_unpack(f->plain, f->layer, blob->title, blob->size, err) : tar_unpack(f->plain, f->layer, err);
    (void)pthread_join(decompressor, NULL);
    return result < 0 ? result : layer_finish(f->layer, err);
}

static void *
unpack(void *arg)
{
    struct fetch *f = arg;
    take_slot(f->layers);
    if (unpack_here(f, &f->failure) < 0)
        ring_fail(f->packed, &f->failure);
    else
        f->unpacked = true;
    if (f->plain)
        ring_free(f->plain);
    give_slot(f->layers);
    return NULL;
}

static int
check_diff_id(struct fetch *f, bool *corrupt, struct error *err)
{
    char got[DIGEST_SIZE];
    if (!*f->shared->diff_id)
        return 0;
    digest_finish(f->diff, got);
    *corrupt = !str_eq(got, f->shared->diff_id);
    return *corrupt ? error_set(err, ERR_INTERNAL, "unpacked, its digest is %s; the image's configuration says %s", got, f->shared->diff_id) : 0;
}

/* Whose failure it was: the transfer's error comes first, unless it only says that unpacking had ended. */
static int
outcome(struct fetch *f, int transferred, bool *corrupt, struct error *err)
{
    if (transferred < 0 && err->kind != ERR_CANCELLED)
        return -1;
    if (!f->unpacked) {
        /* Broken off before the digest could tell: nonsense may be the host's, not the image's. */
        if (transferred < 0 && (f->failure.kind == ERR_INVALID || f->failure.kind == ERR_UNSUPPORTED))
            *corrupt = true;
        if (f->failure.kind != ERR_CANCELLED)
            *err = f->failure;
        return error_prefix(err, "unpack layer %s", f->shared->descriptor.digest);
    }
    if (transferred < 0)
        return -1;
    return check_diff_id(f, corrupt, err) < 0 ? error_prefix(err, "layer %s", f->shared->descriptor.digest) : 0;
}

static void
open_partial(struct fetch *f)
{
    const struct descriptor *descriptor = &f->shared->descriptor;
    struct stat st;
    bool from_archive = f->shared->from.bundle != NULL; /* whose layers are always had from their beginning */
    if (f->layers->options.keep_blobs || (descriptor->size >= LIMIT_PARTIAL_BYTES && !from_archive))
        f->keep = partial_open(f->layers->options.partial, descriptor->digest, descriptor->size);
    if (from_archive && f->keep >= 0)
        (void)ftruncate(f->keep, 0);
    f->went_on = f->keep >= 0 && fstat(f->keep, &st) == 0 && st.st_size > 0;
}

/* After a failure the rest may come later; what is unpacked, or wrong, or fills the disk is of no use. */
static void
close_partial(struct fetch *f, int result, const struct error *err)
{
    struct stat st;
    bool full = result < 0 && (err->errnum == ENOSPC || space_check(f->layers->options.partial, 0, NULL) < 0);
    bool wrong = full || (result < 0 && (err->kind == ERR_INTERNAL || err->kind == ERR_INVALID || err->kind == ERR_UNSUPPORTED));
    bool whole = result == 0 && fstat(f->keep, &st) == 0 && st.st_size == f->shared->descriptor.size;
    f->shared->blob_kept = f->layers->options.keep_blobs && whole;
    if (wrong || (result == 0 && !f->shared->blob_kept))
        partial_delete(f->layers->options.partial, f->shared->descriptor.digest);
    (void)close(f->keep);
}

static int
fetch_packed(const struct fetch *f, size_t host, bool *corrupt, struct error *err)
{
    struct shared_layer *shared = f->shared;
    if (shared->from.bundle)
        return bundle_blob(shared->from.bundle, &shared->scope, &shared->descriptor, f->packed, corrupt, err);
    return registry_blob(shared->from.registry, &shared->scope, &shared->descriptor, host, f->went_on ? f->keep : -1, f->packed, corrupt, err);
}

static int
fetch_from(struct layers *layers, struct shared_layer *shared, size_t host, bool *corrupt, bool *went_on, struct error *err)
{
    pthread_t unpacker;
    struct fetch f = {.layers = layers, .shared = shared, .packed = ring_new(RING_PACKED_BYTES), .keep = -1};
    open_partial(&f);
    int result = start_thread(&unpacker, unpack, &f, err);
    if (result == 0) {
        result = fetch_packed(&f, host, corrupt, err);
        (void)pthread_join(unpacker, NULL);
        result = outcome(&f, result, corrupt, err);
    }
    ring_free(f.packed);
    if (f.keep >= 0)
        close_partial(&f, result, err);
    *went_on = f.went_on;
    if (f.diff)
        digest_free(f.diff);
    if (result == 0)
        shared->layer = f.layer;
    else if (f.layer)
        layer_close(f.layer);
    if (result < 0)
        delete_files(layers, shared);
    return result;
}

/* Content that isn't what the manifest says may be one mirror's fault: the hosts behind it are asked for the whole once more. Or that of an earlier
 * pull, from wherever: then all are. */
static int
fetch(struct layers *layers, struct shared_layer *shared, struct error *err)
{
    for (size_t host = 0;;) {
        bool corrupt = false, went_on;
        int result = fetch_from(layers, shared, host, &corrupt, &went_on, err);
        if (result == 0 || !corrupt)
            return result;
        host += !went_on;
        if (shared->from.bundle || host >= registry_host_count(shared->from.registry))
            return result;
    }
}

static unsigned
count_fetched_for(const struct layers *layers, struct layer_source source)
{
    unsigned count = 0;
    for (const struct shared_layer *layer = layers->all; layer; layer = layer->next)
        count += shared_layer_is_from(layer, source) && layer->state == FETCHING;
    return count;
}

/* With the lock held: off the queue with the oldest one whose pull has not all its downloads. */
static struct shared_layer *
take_queued(struct layers *layers)
{
    struct shared_layer **link = &layers->queue;
    while (*link && count_fetched_for(layers, (*link)->from) >= layers->options.per_pull)
        link = &(*link)->next_queued;
    struct shared_layer *layer = *link;
    if (layer) {
        *link = layer->next_queued;
        layer->state = FETCHING;
    }
    return layer;
}

static struct shared_layer *
next_queued(struct layers *layers)
{
    struct shared_layer *layer;
    (void)pthread_mutex_lock(&layers->lock);
    while (!(layer = take_queued(layers)) && !(layers->stopping && !layers->queue))
        (void)pthread_cond_wait(&layers->changed, &layers->lock);
    (void)pthread_mutex_unlock(&layers->lock);
    return layer;
}

static void *
work(void *arg)
{
    struct layers *layers = arg;
    for (struct shared_layer *layer; (layer = next_queued(layers));) {
        struct error err = {0};
        bool cancelled = atomic_load(&layer->scope.cancelled);
        int result = cancelled ? error_set(&err, ERR_CANCELLED, "the pull was cancelled") : fetch(layers, layer, &err);
        (void)pthread_mutex_lock(&layers->lock);
        layer->state = result == 0 ? UNPACKED : FAILED;
        layer->failure = err;
        if (result < 0)
            forget(layers, layer);
        (void)pthread_cond_broadcast(&layers->changed);
        (void)pthread_mutex_unlock(&layers->lock);
        layers_give_back(layers, layer);
    }
    return NULL;
}

void
layers_stop(struct layers *layers)
{
    (void)pthread_mutex_lock(&layers->lock);
    layers->stopping = true;
    (void)pthread_cond_broadcast(&layers->changed);
    (void)pthread_mutex_unlock(&layers->lock);
    for (unsigned i = 0; i < layers->worker_count; i++)
        (void)pthread_join(layers->workers[i], NULL);
    (void)pthread_cond_destroy(&layers->changed);
    (void)pthread_mutex_destroy(&layers->lock);
    free(layers);
}

struct layers *
layers_start(const struct layers_options *options, struct error *err)
{
    struct layers *layers = mem_zalloc(1, sizeof *layers);
    layers->options = *options;
    (void)pthread_mutex_init(&layers->lock, NULL);
    (void)pthread_cond_init(&layers->changed, NULL);
    for (unsigned i = 0; i < options->downloads && i < LIMIT_DOWNLOADS; i++) {
        if (start_thread(&layers->workers[i], work, layers, err) < 0) {
            layers_stop(layers);
            return NULL;
        }
        layers->worker_count++;
    }
    return layers;
}
