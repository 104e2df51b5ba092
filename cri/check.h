/* Checks of what a request says, each failing with ERR_INVALID and a sentence that names the field. `what` is the field's name in CRI. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* An id, or the beginning of one: ERR_INVALID when it is empty or could be taken for a path, ERR_NOT_FOUND when no id looks like that. */
int check_id(const char *id, const char *what, struct error *err);
int check_count(size_t count, const char *what, struct error *err);
int check_range(int64_t value, int64_t least, int64_t most, const char *what, struct error *err);
/* Absolute, and no component is "..". */
int check_path(const char *path, const char *what, struct error *err);
/* One line of a file such as resolv.conf: printable, no blanks where `blanks` is 0. */
int check_line(const char *text, int blanks, const char *what, struct error *err);

/* Seconds of a request as nanoseconds, at most INT64_MAX / 2 of them, so that a clock can be added. ERR_INVALID when negative. */
int check_seconds(int64_t seconds, const char *what, int64_t *out_ns, struct error *err);

/* For calls to which absence is no failure: 0 and no error any more where `err` says that something is not there, else -1. */
int forgive_absence(struct error *err);
