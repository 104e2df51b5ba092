/* An archive of images: an OCI image layout as a tar (oci-layout, index.json, blobs/), or what docker save writes (manifest.json and the files it
 * names). Read in place: what its entries are called and where they lie is all that is kept of it in memory.
 *
 * Reference-counted and safe in any thread once opened: a layer is unpacked by another thread, and may outlive the import that began it. */
#pragma once

#include "base/json.h"
#include "imageservice/digest.h"
#include "imageservice/manifest.h"
#include "imageservice/pull/registry.h"

struct bundle;

/* An image of the archive, for this machine. */
struct bundle_image {
    struct document manifest;
    char digest[DIGEST_SIZE]; /* of what the archive names: an index's, where there is one; "" in an archive that knows no digests */
    struct strv names;        /* normalized, with tag or digest */
};

struct bundle_images {
    struct bundle_image *items;
    size_t count, bytes; /* of the manifests */
};

/* Add to a sum of manifests or of configurations; ERR_EXHAUSTED beyond LIMIT_BUNDLE_DOCUMENT_BYTES. */
int bundle_count_document(size_t *sum, size_t length, struct error *err);

/* See spool_open for `source` and `incoming`. ERR_INVALID for what is no tar or is cut short, ERR_EXHAUSTED beyond LIMIT_BUNDLE_ENTRIES. */
struct bundle *bundle_open(int source, int incoming, const struct http_scope *scope, struct error *err);
struct bundle *bundle_ref(struct bundle *bundle);
void bundle_unref(struct bundle *bundle);
CLEANUP_DEFINE(bundle_unrefp, struct bundle *, bundle_unref)

/* Which images are in it that this machine runs. An index may lack what is for others; ERR_NOT_FOUND where nothing is left, ERR_INVALID for an
 * archive that contradicts itself, names an image in a way that is no name, or by a digest that is not its own. Also on failure the caller frees what
 * is in `out`. */
int bundle_read_images(struct bundle *bundle, const struct http_scope *scope, struct bundle_images *out, struct error *err);
void bundle_images_free(struct bundle_images *images);

/* A manifest or configuration, verified. ERR_NOT_FOUND when the archive lacks it, ERR_INTERNAL for another digest. */
int bundle_document(const struct bundle *bundle, const char *digest, struct document *out, struct error *err);
/* As registry_blob. */
int bundle_blob(const struct bundle *bundle, const struct http_scope *scope, const struct descriptor *descriptor, struct ring *ring, bool *corrupt,
                struct error *err);

/* The descriptor of one layer more; `packed` as spool_packed says it. */
void bundle_add_layer(json_t *layers, const char *digest, int64_t size, const char *packed);
/* An OCI manifest of these descriptors. `annotations` may be NULL. */
void bundle_make_manifest(json_t *layers, const char *config_digest, size_t config_length, const struct strmap *annotations, struct document *out);
