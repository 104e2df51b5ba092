/* containers/ID/exit: how a container's init ended, written by its monitor before anybody is told, read by crispd when neither event nor monitor is
 * left.
 *
 * Text, one `key=value` a line, the last line is `end`, so that a torn file reads as none:
 *
 *   version=1
 *   status=137
 *   oom_killed=0
 *   finished_ns=1767323045678901234
 *   end
 *
 * A reader skips keys it does not know. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_RECORD_MAX = 256 };

/* How a container's init ended. */
struct exit_report {
    int status;          /* as CRI's exit_code: 0–255, 128+signal when killed by one */
    bool oom_killed;     /* the cgroup's own oom_kill counter had moved */
    int64_t finished_ns; /* wall clock */
};

/* Returns the length; `out` has EXIT_RECORD_MAX bytes. */
size_t exit_record_format(const struct exit_report *report, char *out);
/* Takes NUL-terminated text; false where it is torn or no record. */
bool exit_record_parse(const char *text, struct exit_report *out);
/* Reads containers_dir/ID/exit: false where there is none, or a torn one. Allocates nothing. */
bool exit_record_read(int containers_dir, const char *container_id, struct exit_report *out);
/* fsync it and its directory; what is not there needs none. The monitor does so half a second after an exit, unless the container was deleted or the
 * pod ended before: for containers that exited within the last second before link_end it is the caller's, off the hot path. */
void exit_record_sync(int containers_dir, const char *container_id);
