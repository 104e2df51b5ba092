/* An artifact's blob: no archive but one file, which a layer holds under the blob's title. */
#pragma once

#include "imageservice/pull/layer.h"
#include "imageservice/pull/ring.h"

/* Write what comes in `plain`, to its very end, as the file `title` of `layer`: root's, for all to read, as old as time. ERR_INVALID for a title that
 * is no path inside of the layer, the errors of layer_apply, or the failure of the ring; on failure the ring has failed. */
int artifact_unpack(struct ring *plain, struct layer *layer, const char *title, int64_t size, struct error *err);
