/* The index: which images and layers there are, at one moment. Immutable once published: who wants a change copies it, changes the copy and publishes
 * that; readers hold the one they got. On disk it is one file, replaced as a whole. */
#pragma once

#include <stdatomic.h>

#include "imageservice/imageservice.h"
#include "imageservice/tree.h"

/* An image: what the service hands out (first, so that one is the other), and what it needs for itself. Reference-counted. */
struct image_record {
    struct image image;
    atomic_int refs;
    bool damaged; /* a layer of it is, or its manifest or configuration: it is neither listed nor found until a pull has mended it */
    char *manifest_digest;
    struct strv names;  /* repo_tags and repo_digests */
    struct strv chains; /* chain ids of image.layers */
    struct strv blobs;  /* the digests of the layers as they are packed, for keep_layer_blobs */
};

struct layer_record {
    char *chain_id;
    char *name; /* the directory below layers/ */
    uint64_t bytes, inodes;
    char tree[TREE_DIGEST_SIZE]; /* taken when it was unpacked; "" by a crisp that took none */
    bool damaged;                /* or gone: the next pull that needs it brings it again, under another name */
};

struct index {
    atomic_int refs;
    struct image_record **images;
    size_t image_count;
    struct layer_record *layers;
    size_t layer_count;
    bool lost;           /* there was one, and it could not be read: what it knew is to be kept until somebody says otherwise */
    uint64_t next_layer; /* the number from which the next short name is made; never used twice */
};

struct index *index_new(void);
struct index *index_copy(const struct index *index);
struct index *index_ref(struct index *index);
void index_unref(struct index *index);
CLEANUP_DEFINE(index_unrefp, struct index *, index_unref)

/* Lookups; NULL when there is none. */
const struct layer_record *index_find_layer(const struct index *index, const char *chain_id);
bool index_has_directory(const struct index *index, const char *name); /* of a layer, below layers/ */
struct image_record *index_find_name(const struct index *index, const char *name);
struct image_record *index_find_id(const struct index *index, const char *id);

/* Changes of a copy that nobody else has yet. */
void index_put_layer(struct index *index, const char *chain_id, const char *name, const struct layer_record *layer); /* copies the strings */
/* The new short name. Its strings are copied, its name is not looked at. In place of a damaged layer, if that is there. */
const char *index_add_layer(struct index *index, const struct layer_record *layer);
void index_remove_layer(struct index *index, size_t at);
/* The record, to change what is neither its chain id nor its name. NULL: there is none. */
struct layer_record *index_change_layer(struct index *index, const char *chain_id);
/* Once layers are others than they were: make the records of the images that have them anew. */
void index_refresh_images(struct index *index, const struct strv *pinned);
/* Takes over the reference. */
void index_add_image(struct index *index, struct image_record *image);
void index_remove_image(struct index *index, const struct image_record *image);
/* Give the image these names in place of its own. */
void index_rename_image(struct index *index, const struct image_record *image, const struct strv *names, const struct strv *pinned);

/* What an image is made from; all borrowed. */
struct image_source {
    const char *id, *manifest_digest;
    const char *config_json; /* NULL: it or the manifest can't be read, the image is damaged */
    size_t config_length;
    const struct strmap *annotations;
    const struct strv *names, *chains, *blobs, *pinned;
};

/* One reference, the caller's. ERR_INVALID for a configuration that can't be read, ERR_NOT_FOUND when a layer is not in `index`. */
struct image_record *image_record_new(const struct index *index, const struct image_source *source, struct error *err);
struct image_record *image_record_ref(struct image_record *record);
void image_record_unref(struct image_record *record);
CLEANUP_DEFINE(image_record_unrefp, struct image_record *, image_record_unref)

/* images/index.json below `images_dir`, and the blobs it needs. A layer whose directory is not in `layers_dir` is damaged, and so is its image. A
 * file that can't be read is set aside (index.json.damaged-N), and the copy beside it taken; a record that can't is logged and left out. Only what is
 * no fault of the file (permissions, fds) is an error. */
struct index *index_load(int images_dir, int layers_dir, const struct strv *pinned, struct error *err);
int index_save(int images_dir, const struct index *index, struct error *err);
