/* A layer: the changes of one image layer, unpacked once into a directory that overlayfs uses as a lower one.
 *
 *   absent ──layer_begin──▶ unpacking ──layer_apply…──layer_finish──▶ whole ──layer_settle──▶ settled ──(crispd renames it)
 *
 * Nothing here ever leaves the layer's directory, whatever the archive says: a path is cleaned by its text (".." above the root is refused), parents
 * are resolved by openat2 with RESOLVE_IN_ROOT, so that a symlink leads at most to the layer's own root, and the last component is never followed.
 *
 * Whiteouts (OCI image spec, "Changesets") become what overlayfs reads: a character device 0:0 for a deleted name, trusted.overlay.opaque=y on an
 * opaque directory (but name by name for the root, where overlayfs heeds that not). An archive is applied in its order; within one layer a whiteout
 * hides only what is below it, never what the layer itself brings.
 *
 * One thread uses a layer at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"

struct layer;

struct layer_xattr {
    const char *name;
    const void *value;
    size_t size;
};

/* One entry of the archive; borrowed for the call. */
struct layer_entry {
    const char *path;
    const char *link; /* the symlink's text, or the hard link's path in the archive */
    bool hard_link;
    mode_t mode; /* with the type; ignored for hard links */
    int64_t uid, gid;
    dev_t device;
    struct timespec mtime;
    int64_t size;
    const struct layer_xattr *xattrs;
    size_t xattr_count;
};

/* The contents of a regular file: 1 with the next block (offsets rise; what is left out is a hole), 0 at the end, -1 failed. */
typedef int layer_read(void *arg, const void **data, size_t *length, int64_t *offset, struct error *err);

/* Make the directory `name` in `incoming` (an fd that is borrowed for the layer's life). */
struct layer *layer_begin(int incoming, const char *name, struct error *err);

/* Unpack one entry. ERR_INVALID when it contradicts itself or the spec, ERR_EXHAUSTED at a limit or a full disk. */
int layer_apply(struct layer *layer, const struct layer_entry *entry, layer_read *read, void *arg, struct error *err);

/* After the last entry: every file of it is there. Small ones are made by a thread that layer_begin's layer has for them until here, so an error may
 * be another entry's than the one being applied; it names that. */
int layer_finish(struct layer *layer, struct error *err);

/* Then, with the layers below it (fds of their roots, the lowest first): directories without an entry take their attributes from
 * below, whiteouts of nothing go, hard links into lower layers are made by copying, directories get their times. */
int layer_settle(struct layer *layer, const int lower[], size_t lower_count, struct error *err);

/* The layer's root, owned by the layer. */
int layer_root(const struct layer *layer);
/* What it takes on disk, counted while unpacking. */
void layer_usage(const struct layer *layer, uint64_t *bytes, uint64_t *inodes);
/* The directory stays. */
void layer_close(struct layer *layer);
CLEANUP_DEFINE(layer_closep, struct layer *, layer_close)
