/* Room on the disk. The last of it stays free, as what else lives there (logs, the records of pods, the kubelet) suffers more from a full disk than a
 * pull that is refused. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "imageservice/manifest.h"

/* Has the file system of `fd` these bytes and its reserve: a hundredth of it, 256 MiB at most? `needed` 0 asks for the reserve alone. ERR_EXHAUSTED
 * with the numbers, and ENOSPC, when not.
 */
int space_check(int fd, uint64_t needed, struct error *err);

/* What fetching a layer takes at least: it unpacks to no less than it is packed, and where it is kept meanwhile (see partial_open) the rest of that
 * comes on top. */
struct space_needed {
    uint64_t unpacked, packed;
};

/* One more layer; `partial` is the fd of images/partial. */
void space_add(struct space_needed *needed, const struct descriptor *layer, int partial, bool keep_blobs);
