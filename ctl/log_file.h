/* A container's log in the CRI format: lines of `TIME STREAM TAG TEXT`, where TAG is F for what ends a line of the container's and P for what does
 * not (kubernetes/design-proposals, kubelet-cri-logging). The file is followed also when it is rotated: moved away and made anew. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct log_format {
    bool timestamps; /* in front of each line */
    bool json;       /* an object a line */
};

struct log_file;

/* Start at the last `tail` lines, at the beginning if -1. The path is kept and must live as long. */
struct log_file *log_file_open(const char *path, const struct log_format *format, int64_t tail, struct error *err);
void log_file_close(struct log_file *log);
CLEANUP_DEFINE(log_file_closep, struct log_file *, log_file_close)

/* Print all whole records that are there now, each to the stream that the container wrote it to. */
int log_file_copy(struct log_file *log, struct error *err);

/* Wait until the file changes, `interrupt` (an fd, or -1) is readable, or the time is over. Returns 1 for `interrupt`, else 0. */
int log_file_wait(struct log_file *log, int interrupt, int timeout_ms);
