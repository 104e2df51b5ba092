/* Log lines: `time=2026-01-02T03:04:05.678901234Z level=info msg="…" key=value …`, UTC, one write(2) a line, to stderr; where stderr is the
 * journal (JOURNAL_STREAM, systemd.exec(5)), with the priority in front as <N> (sd-daemon(3)). Any thread may log. Secrets are never passed here. */
#pragma once

#include "base/error.h"
#include "base/str.h"

/* The underscores: <syslog.h> has these names without. */
enum log_level { LOG_DEBUG_, LOG_INFO_, LOG_WARN_, LOG_ERROR_ };

/* Set once, before threads start. */
void log_open(enum log_level least);
/* "debug", "info", "warn", "error" → level; ERR_INVALID otherwise. */
int log_level_parse(const char *name, enum log_level *out, struct error *err);

/* log_info("pod started", "pod", id, "took_ms", "3", NULL): a sentence, then pairs of key and value (strings; a NULL value is left out with
 * its key), then NULL. Values are quoted where needed. */
void log_line(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* Warnings and errors of late, the oldest first, added to `lines`; what is longer than LOG_RECENT_BYTES is cut, what is no UTF-8 shown as `?`. */
enum { LOG_RECENT_LINES = 32, LOG_RECENT_BYTES = 512 };
void log_recent(struct strv *lines);

/* The array is never made; a value that is no string (an int, say, which log_line would follow as a pointer) does not compile in it. */
#define log_(level, ...) (sizeof((const char *const[]){__VA_ARGS__}) ? log_line(level, __VA_ARGS__, NULL) : (void)0)

#define log_debug(...) log_(LOG_DEBUG_, __VA_ARGS__)
#define log_info(...)  log_(LOG_INFO_, __VA_ARGS__)
#define log_warn(...)  log_(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_(LOG_ERROR_, __VA_ARGS__)
