/* The digest of an unpacked layer: what it is later compared with, where the bytes it was unpacked from are gone.
 *
 * It is over the path, type, mode, owner, device, mtime, link count, attributes, target and contents of everything in the tree, in no order, so that
 * it needs no memory for a directory of any size. It finds what a disk or a hand did to the tree; it withstands nobody who can write the index too.
 */
#pragma once

#include <stdbool.h>

#include "base/cancel.h"
#include "base/error.h"

enum { TREE_DIGEST_SIZE = 32 + 1 }; /* short, as a message carries one for each layer of an image */

/* The digest of all below `root` (a directory's fd, borrowed) as 32 hex digits. Follows no symlink, crosses no mount and opens nothing but
 * directories and regular files. With `from_disk` what the page cache holds is dropped first, so that the disk is what is read, and again behind it.
 */
int tree_digest(int root, bool from_disk, const struct cancel *cancel, char out[TREE_DIGEST_SIZE], struct error *err);
bool tree_digest_valid(const char *text);
