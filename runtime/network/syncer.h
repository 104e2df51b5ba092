/* Makes files durable within a second of their writing, by a thread of its own, so that nobody on a hot path waits for a disk. Any thread may call.
 */
#pragma once

#include "base/error.h"

struct syncer;

int syncer_open(struct syncer **out, struct error *err);
/* Syncs what is left, then ends the thread. */
void syncer_close(struct syncer *syncer);
/* `dir` is borrowed for the call; `name` (below 96 bytes) may be gone when its turn comes. */
void syncer_add(struct syncer *syncer, int dir, const char *name);
