/* Ending a running container: signal, grace, SIGKILL. */
#pragma once

#include "runtime/objects.h"

/* As container_stop, on the object. Takes no turn: several callers share the earliest end of grace, and nothing they wait for is held by any of them.
 */
int container_bring_down(struct runtime *rt, struct container *container, int64_t grace_ns, const struct cancel *cancel, struct error *err);
