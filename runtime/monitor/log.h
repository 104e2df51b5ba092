/* The log file's side of stdio.h: what the logs' writer does in its thread. The format is CRI's (kubernetes/cri-api, "ContainerConfig.log_path"; KEP
 * "CRI: log format"). */
#pragma once

#include "runtime/monitor/stdio.h"

/* Open log->path (0640, append, a regular file in its directory) and close what was open; open_errno tells: EINVAL where something else stands there.
 * The old file stays where the new one cannot be opened. */
void log_open_work(struct job *job);
/* Write a block's records, each as a line of its own. */
void log_write_work(struct job *job);
void log_close_work(struct job *job);

/* How many bytes of `data` are whole records: up to the last newline, and pieces of LOG_PIECE_MAX of what follows it. */
size_t log_whole_records(const char *data, size_t length);
