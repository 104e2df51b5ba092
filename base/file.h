/* Files and directories. Paths that come from outside are never joined as strings: they are resolved beneath a directory fd with
 * file_open_beneath. Every fd returned is CLOEXEC and the caller's to close. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/str.h"

/* open(2) with the path in the error. dirfd may be AT_FDCWD. */
int file_open(int dirfd, const char *path, int flags, mode_t mode, struct error *err);

/* openat2(2) with RESOLVE_IN_ROOT (path and symlinks are taken as if dirfd were /) and RESOLVE_NO_MAGICLINKS. */
int file_open_beneath(int dirfd, const char *path, int flags, mode_t mode, struct error *err);

/* Make a directory and its missing parents (mode for those made) beneath dirfd, following symlinks only inside it; returns an O_PATH fd of the last.
 */
int file_mkdirs_beneath(int dirfd, const char *path, mode_t mode, struct error *err);

/* Make a directory and its missing parents, as mkdir -p. ERR_EXISTS when something else is there. */
int file_mkdirs(const char *path, mode_t mode, struct error *err);

/* Read a whole file of at most `limit` bytes; NUL-terminated, caller frees. ERR_EXHAUSTED when larger. out_length may be NULL. */
int file_read(int dirfd, const char *path, size_t limit, char **out, size_t *out_length, struct error *err);
int file_read_fd(int fd, const char *what, size_t limit, char **out, size_t *out_length, struct error *err);

/* Write all bytes to an fd, over short writes and EINTR. */
int file_write_all(int fd, const char *what, const void *data, size_t length, struct error *err);

/* Write into an existing file (a cgroup or proc file): one write(2), the file is never created. */
int file_put(int dirfd, const char *path, const char *text, struct error *err);

/* Replace a file as a whole: temporary file beside it, rename. A reader sees the old or the new one. With `durable` the file and its directory are
 * fsynced as well. On failure the old file stays and nothing is left. */
int file_replace(int dirfd, const char *path, const void *data, size_t length, mode_t mode, bool durable, struct error *err);

/* Remove from a directory what file_replace left there in processes that were killed. For its owner's start: nobody else may be writing there. */
void file_sweep_replaced(int dirfd);

/* Remove a directory with all that is in it. Never crosses a mount (a mounted directory below fails with EBUSY: the data behind it is not ours to
 * delete) and follows no symlink. What is gone already is no error. However deep the tree, it takes a bounded number of fds. */
int file_remove_tree(int dirfd, const char *path, struct error *err);

/* Bytes on disk (blocks) and inodes of everything below, down to 128 levels (deeper trees are made to trouble who walks them); crosses no mount. A
 * file that vanishes meanwhile is skipped. */
int file_usage(int dirfd, const char *path, uint64_t *bytes, uint64_t *inodes, struct error *err);

/* A sealed memfd (no write, grow, shrink) with these bytes, named for /proc. */
int file_sealed_memfd(const char *name, const void *data, size_t length, struct error *err);
