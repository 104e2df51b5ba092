/* The janitor: what must be done soon but not in a caller's time. One thread that tries jobs until they succeed: flushing records to disk, removing
 * directories and cgroups that are still busy. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct janitor;

/* True when nothing is left to do. Runs in the janitor's thread, without any lock held. */
typedef bool janitor_work(void *arg, const char *what);

/* `arg` goes to every job. */
int janitor_open(void *arg, struct janitor **out, struct error *err);
/* Does the jobs that are left, for at most a second, then ends the thread. */
void janitor_close(struct janitor *janitor);
/* Do `work` on `what` (copied) after delay_ns, and again with growing pauses until it succeeds, for at most a minute, after which it is logged and
 * given up. The same job that is waiting already is not added twice. Any thread. */
void janitor_add(struct janitor *janitor, janitor_work *work, const char *what, int64_t delay_ns);
