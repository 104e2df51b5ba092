/* A layer's archive: read by libarchive (tar in all its dialects), written by layer_apply. */
#pragma once

#include "imageservice/pull/layer.h"
#include "imageservice/pull/ring.h"

/* Unpack the tar stream in `plain` into `layer`, to the stream's very end. LC_CTYPE must be C: in any
 * other locale libarchive brings names into Unicode's normal form, and two of them may then be one. ERR_INVALID for a damaged archive, the
 * errors of layer_apply, or the failure of the ring; on failure the ring has failed. */
int tar_unpack(struct ring *plain, struct layer *layer, struct error *err);
