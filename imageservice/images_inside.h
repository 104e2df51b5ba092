/* What images.c, commit.c and pulls.c share of the service.
 *
 * Order of the locks: writing, then lock. `writing` is held by whoever changes the index, over the disk; readers never take it. Nothing blocks under
 * `lock`. pulls.c has a lock of its own, which is never held together with these. */
#pragma once

#include <pthread.h>

#include "base/message.h"
#include "imageservice/index.h"

/* Layers that somebody needs: by their directories (a container), or by chain ids, there or not yet (a pull under way). */
struct hold {
    char *holder;
    struct strv layers, chains;
    struct hold *next;
};

struct images {
    char *root, *pull_program;
    struct strv certs_dirs, pinned;
    int64_t parallel_downloads, parallel_downloads_per_pull, stall_seconds, least_bytes_per_second;
    bool keep_layer_blobs;
    struct trust trust;
    char *layers_path;
    int images_dir, layers_dir; /* fds */
    pthread_mutex_t writing;
    pthread_mutex_t lock; /* guards what follows */
    struct index *index;
    struct hold *holds;
    struct strv dying;      /* directories that are being deleted: nobody may take hold of them */
    bool settled;           /* images_collect was called: who held before crispd's start holds again */
    bool unneeded, closing; /* for the collector, which `changed` wakes: there is something to delete; its time is over */
    pthread_cond_t changed;
    pthread_t collector;
    bool has_collector;
    struct pulls *pulls;
};

/* Say which of the chains are there (their directories, else ""), and keep those and what comes of the others until images_unhold. */
void images_claim(struct images *images, const char *holder, const struct strv *chains, struct strv *names);

/* The index as it is; the caller unrefs it. */
struct index *images_index(struct images *images);

/* With `writing` held: make `next` (taken over) the index, on disk and then in memory; with `sweep` without the layers and blobs that nobody needs,
 * which are deleted then. On failure nothing has changed. */
int images_publish(struct images *images, struct index *next, bool sweep, struct error *err);

/* What crisp-pull's PULL_DONE brings becomes an image: verified, renamed into place, recorded, looked up again. `session` is its directory. The id,
 * which the caller frees. */
char *images_commit(struct images *images, const char *reference, int session, struct message *done, struct error *err);

/* With `writing` held: note what speaks for the image: the key whose signature was found good; NULL: root imported it. Durable. */
int images_vouch(struct images *images, const char *id, const char *key_id, struct error *err);
/* With `writing` held: forget that of images that are no more. */
void images_forget_vouched(struct images *images);

struct pulls;
struct pulls *pulls_start(struct images *images, struct error *err);
void pulls_stop(struct pulls *pulls);
/* `rule` may be NULL: the image is accepted unseen. */
char *pulls_pull(struct pulls *pulls, const char *reference, const struct image_auth *auth, const struct trusted *rule, const struct cancel *cancel,
                 struct error *err);
