/* The layers that are being fetched: each chain id once, however many pulls want it.
 *
 *   queued ──▶ fetching ──▶ unpacked ──layers_settle──▶ settled ──layers_hand_over──▶ crispd's
 *      └───────────┴──▶ failed
 *
 * layers_want gives a pull its share of a layer, layers_give_back takes it; a layer that nobody wants any more is broken off, and what lies in the
 * session's directory of it is deleted. Any thread. */
#pragma once

#include "imageservice/pull/bundle.h"
#include "imageservice/pull/registry.h"
#include "imageservice/tree.h"

struct layers;
struct shared_layer;

/* Where a layer comes from: a registry, or an archive; the other is NULL. */
struct layer_source {
    struct registry *registry;
    struct bundle *bundle;
};

struct layers_options {
    struct http *http;
    int incoming;       /* fd of the session's directory; borrowed, as is */
    int partial;        /* that of half blobs */
    unsigned downloads; /* at once */
    unsigned per_pull;  /* of these */
    bool keep_blobs;
};

struct layers *layers_start(const struct layers_options *options, struct error *err);
/* After every layer was given back; waits for what is still being broken off. */
void layers_stop(struct layers *layers);

/* The layer of this chain id, joined or newly queued to be fetched from there. `diff_id` is "" for an artifact's: nobody has said what is in it.
 */
struct shared_layer *layers_want(struct layers *layers, const char *chain_id, const char *diff_id, const struct descriptor *descriptor,
                                 struct layer_source from);
/* Wait until it is unpacked. `scope` is the waiting pull's: when cancelled, ERR_CANCELLED. */
int layers_wait(struct layers *layers, struct shared_layer *layer, const struct http_scope *scope, struct error *err);
/* See layer_settle; done once for all. */
int layers_settle(struct layers *layers, struct shared_layer *layer, const int lower[], size_t count, struct error *err);
/* The digest of its tree, once it is settled; taken once for all. */
int shared_layer_tree(struct shared_layer *layer, char out[TREE_DIGEST_SIZE], struct error *err);
void layers_give_back(struct layers *layers, struct shared_layer *layer);
/* Before layers_give_back: crispd took the layer away, or tried to. Who has it already goes on with it, as crispd keeps it for them; who wants it
 * from now on was told by crispd that it is not there (its image is removed again), and gets a new one. */
void layers_hand_over(struct layers *layers, struct shared_layer *layer);
/* Let every layers_wait look at its scope. */
void layers_wake(struct layers *layers);

/* Of a layer that is unpacked. */
int shared_layer_root(const struct shared_layer *layer);
const char *shared_layer_name(const struct shared_layer *layer); /* below the session's directory */
bool shared_layer_blob_kept(const struct shared_layer *layer);   /* with keep_blobs: as a file below partial, whole */
void shared_layer_usage(const struct shared_layer *layer, uint64_t *bytes, uint64_t *inodes);
/* Is it fetched from this very object? */
bool shared_layer_is_from(const struct shared_layer *layer, struct layer_source source);
