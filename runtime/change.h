/* Telling of changes: what runtime_options.changed gets is made here, under the lock, so that changes are told in the order in which they happen. */
#pragma once

#include "runtime/objects.h"

/* With the lock held, when it has happened: `id` is the container's, or the pod's own. */
void change_tell(struct runtime *rt, enum change_kind kind, const char *id, const struct pod *pod);
