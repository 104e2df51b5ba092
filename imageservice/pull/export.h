/* An archive of images that are here: an OCI image layout as a tar, with a manifest.json beside, so that docker load reads it as well. */
#pragma once

#include "imageservice/pull/http.h"

/* Where things are, and where to write; all borrowed. */
struct export_places {
    int incoming, layers_dir, blobs_dir;
    int out; /* a file, pipe or socket */
};

/* Write what the JSON in the file `request` asks for (imageservice/protocol.h, PULL_EXPORT). A layer whose blob is gone is made anew from its
 * directory, and with it the configuration and the manifest that name it: `notes` gets a sentence for each image of which that is so. What came
 * before a failure was written. */
int export_run(const struct export_places *places, int request, const struct http_scope *scope, struct strv *notes, struct error *err);

/* Write the unpacked layer `root` as a tar into `file`: whiteouts as the OCI image spec has them, hard links, extended attributes, times to the
 * nanosecond, names in order. `digest` gets what was written. */
struct digest;
int export_layer(int root, int file, const struct http_scope *scope, struct digest *digest, struct error *err);
