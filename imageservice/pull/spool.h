/* An archive as it was handed over (a file, a pipe, a socket; plain, gzip or zstd, told by its bytes) made into a plain file that can be read at any
 * place. */
#pragma once

#include "imageservice/pull/http.h"

/* `source` is borrowed. A plain regular file is used as it is (the fd is a copy); all else goes, unpacked, into an unnamed file in `incoming`, gone
 * with the process. Returns the file's fd, which the caller closes. ERR_INVALID for a damaged stream, ERR_EXHAUSTED for a full disk, ERR_CANCELLED
 * with the scope. */
int spool_open(int source, int incoming, const struct http_scope *scope, struct error *err);

/* How the bytes that `file` has at `offset` are packed: "gzip", "zstd", or NULL for plain ones. */
const char *spool_packed(int file, int64_t offset);

/* An unnamed file in `incoming`, for reading and writing. */
int spool_file(int incoming, struct error *err);

/* Append to such a file. ERR_EXHAUSTED, with ENOSPC, where the disk would lose what space_check keeps free. */
int spool_write(int file, const void *data, size_t length, struct error *err);
