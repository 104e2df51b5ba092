/* Durability: one syncfs(2) for all pulls that wait for it at the same time. */
#pragma once

#include "base/error.h"

/* Returns when everything written to the file system of `fd` before the call is on the disk. Any thread. */
int flush_filesystem(int fd, struct error *err);
