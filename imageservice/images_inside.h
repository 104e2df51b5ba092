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
    struct images_garbage garbage; /* when it was last looked for */
    struct pulls *pulls;
};

/* Say which of the chains are there (their directories, else ""), and keep those and what comes of the others, beside what the holder has, until
 * images_unhold. */
void images_claim(struct images *images, const char *holder, const struct strv *chains, struct strv *names);

/* The index as it is; the caller unrefs it. */
struct index *images_index(struct images *images);

/* With `writing` held: make `next` (taken over) the index, on disk and then in memory; with `sweep` without the layers and blobs that nobody needs,
 * which are deleted then. On failure nothing has changed. */
int images_publish(struct images *images, struct index *next, bool sweep, struct error *err);

/* Of a copy that nobody else has yet: take these names from whoever has them; an image goes with its last one. */
void images_take_names_away(struct images *images, struct index *next, const struct strv *names);

/* The name in full. NULL with ERR_INVALID for one that ends in a digest: what that means nobody can decide. The caller frees. */
char *images_name_to_give(const char *name, struct error *err);

/* Whom nobody needs, for garbage.c, which takes the lock no more than they do. `writing` is held. */
bool images_layer_is_unneeded(struct images *images, const struct layer_record *layer);
bool images_blob_is_needed(const struct images *images, const char *digest);
void images_find_strays(struct images *images, struct strv *strays); /* directories that the index doesn't know and nobody holds */
void images_count_garbage(struct images *images);                    /* `writing` is not held */

/* Nobody wants back what a lost index knew. */
void images_forget_the_lost(struct images *images);

/* Delete a blob unless the index needs it. With `writing` held. */
void images_drop_blob(struct images *images, const char *digest);

/* Have what nobody needs deleted beside the caller. */
void images_collect_soon(struct images *images);

/* What crisp-pull's PULL_DONE brings becomes an image: verified, renamed into place, recorded, looked up again. `session` is its directory,
 * `reference` NULL for an import: the message then says the names. The id, which the caller frees. */
char *images_commit(struct images *images, const char *reference, int session, struct message *done, struct error *err);

/* With `writing` held: note what speaks for the image: the key whose signature was found good; NULL: root imported it. Durable. */
int images_vouch(struct images *images, const char *id, const char *key_id, struct error *err);
/* With `writing` held: forget that of images that are no more. */
void images_forget_vouched(struct images *images);

struct pulls;
struct pulls *pulls_start(struct images *images, struct error *err);
void pulls_stop(struct pulls *pulls);
bool pulls_own(struct pulls *pulls, const char *session); /* the directory below incoming/ that crisp-pull works in */
/* `rule` may be NULL: the image is accepted unseen. `account` as images_pull_explained's, or NULL. */
char *pulls_pull(struct pulls *pulls, const char *reference, const struct image_auth *auth, const struct trusted *rule, const struct cancel *cancel,
                 struct strv *account, struct error *err);

/* What crisp-pull is to do with an archive: borrowed for the call. */
struct archive_work {
    int archive;      /* fd, to read or to write */
    int request;      /* of an export: fd of what it is about (protocol.h); -1: an import, with */
    const char *name; /* the only image's name instead of the archive's, normalized; NULL */
    bool digests;
};

/* `results` (empty) gets the ids of the images of an import, also of one that failed when some were recorded; the notes of an export. */
int pulls_work(struct pulls *pulls, const struct archive_work *work, const struct cancel *cancel, struct strv *results, struct error *err);
