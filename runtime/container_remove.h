/* Taking a container away, for container_remove and pod_remove. */
#pragma once

#include "runtime/objects.h"

/* Kill it where it lives, forget it, remove what it had. Takes its turn. Already removed is fine. */
int container_take_away(struct runtime *rt, struct container *container, const struct cancel *cancel, struct error *err);
