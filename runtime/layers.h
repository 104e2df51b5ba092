/* Reading single files of an image without mounting it: the layers looked through from the top, as overlayfs would show them (whiteouts, opaque
 * directories, symlinks). A mount only to read /etc/passwd would make each start wait for the disk. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

/* The content of a regular file at `path` (absolute) in `layers`, directories named below `layers_dir`, the lowest first: 1 and *out (NUL-terminated,
 * caller frees), 0 when the image has no such file, -1 on error. Neither `..` nor a symlink leaves the layers. */
int layers_read(const char *layers_dir, const struct strv *layers, const char *path, size_t limit, char **out, struct error *err);
/* Whether the image has a file or directory at `path`; "" is its root. 0, or -1 with ERR_INVALID where it has none. */
int layers_have(const char *layers_dir, const struct strv *layers, const char *path, struct error *err);
