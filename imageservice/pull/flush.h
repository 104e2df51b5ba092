/* Durability: one syncfs(2) for all pulls that wait for it at the same time. */
#pragma once

#include "base/error.h"

/* Begin now, so that less is left for the flush that is waited for; nothing if one runs already. `fd` is another open file description than those of
 * flush_filesystem: the kernel tells each description of a failed write once (syncfs(2)), and here nobody would hear of it. Any thread. */
void flush_soon(int fd);
/* Returns when everything written to the file system of `fd` before the call is on the disk. Any thread. */
int flush_filesystem(int fd, struct error *err);
