/* Decompression of a layer as it streams: gzip (ISA-L; several members), zstd (several frames, skippable ones), or none, told by the first bytes
 * whatever the media type says. Bytes behind the last member that begin no other are ignored, as gzip(1) does. */
#pragma once

#include "imageservice/digest.h"
#include "imageservice/pull/ring.h"

/* Read `packed` to its end, write what is in it to `plain` and end that, adding all of it to `diff_id`; the packed bytes also go to the file `keep`
 * unless that is -1 (where it can't be written it is made empty, which fails nothing). ERR_INVALID for a damaged or cut stream, ERR_UNSUPPORTED for a
 * zstd window above the limit, or the failure of either ring. On failure both rings have failed. */
int unpress_run(struct ring *packed, struct ring *plain, struct digest *diff_id, int keep, struct error *err);
/* The same for what shall stay as it is, compressed or not. */
int unpress_pass(struct ring *packed, struct ring *plain, struct digest *diff_id, int keep, struct error *err);
