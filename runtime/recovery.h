/* Recovery: a new crispd takes in what an earlier one left. Never fatal: what cannot be read is set aside, what was half made is undone, a pod whose
 * monitor is gone is brought down, and all of that for one pod delays no other. */
#pragma once

#include "runtime/objects.h"

/* Read every record; then meet each monitor in a thread of its own. Returns when the records are read. */
void recovery_begin(struct runtime *rt);
