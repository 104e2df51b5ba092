/* What layer.c, entry.c and settle.c share of a layer. */
#pragma once

#include <limits.h>

#include "imageservice/pull/layer.h"
#include "imageservice/pull/notes.h"
#include "imageservice/pull/small_files.h"

struct layer {
    int root;
    int parent; /* of the entry last applied, an O_PATH fd; -1 none */
    char parent_path[PATH_MAX];
    ino_t parent_inode;
    bool parent_inherits; /* setgid: what is made in it takes its group */
    bool acl_seen;        /* a default ACL may change the mode of what is made below it */
    bool links_wait;      /* for what they are links to, in layers below: see layer_implied_xattr */
    struct notes *notes;
    struct small_files *small; /* NULL after layer_finish */
    uint64_t bytes, inodes, entries;
    uint64_t unflushed; /* bytes of small files since flush_soon */
    uint64_t unwatched; /* bytes since space_check was last asked */
};

/* Marks until layer_settle a directory without an entry of its own, and the empty file in whose place comes what a layer below has, with the path
 * that it has there for a value. */
extern const char layer_implied_xattr[];
extern const char layer_opaque_xattr[];

/* "./a//b/../c/" → "a/c" into out[PATH_MAX]; "" is the root. ERR_INVALID when it leaves the root or is too long or deep. */
int layer_clean_path(const char *path, char *out, struct error *err);

/* The directory that `path` (cleaned) stands in, made where it is missing, and its last component. The fd is the layer's, valid until the next call.
 */
int layer_parent(struct layer *layer, const char *path, const char **name, struct error *err);

/* Before a look at `name`, or the making of it: wait for it, if it is one of the small files. */
int layer_await(struct layer *layer, const char *name, struct error *err);
/* Wait for all of them. */
int layer_await_all(struct layer *layer, struct error *err);

/* Remove what stands at `name`, so that something else can take its place. */
int layer_clear(struct layer *layer, int parent, const char *name, struct error *err);

/* So many bytes were added: now and then look whether the disk has its reserve still. ERR_EXHAUSTED when not. */
int layer_grew(struct layer *layer, uint64_t bytes, struct error *err);

int layer_set_opaque(int parent, const char *name, struct error *err);
bool layer_is_whiteout(const struct stat *st);
/* May an image bring this attribute? Not what steers overlayfs or SELinux on this host. */
bool layer_xattr_wanted(const char *name);
