/* Events: what the runtime says of its changes, for each that listens (GetContainerEvents).
 *
 * A change is queued for every subscriber at once, and each one's own thread puts it into words and sends it. A subscriber that does not keep up
 * loses its stream, with RESOURCE_EXHAUSTED, and not single events: who is told of everything or of the end never believes what is long over. */
#pragma once

#include "runtime/runtime.h"

struct events;

struct events *events_new(void);
/* No stream is open any more and the runtime is closed. */
void events_free(struct events *events);

/* runtime_options.changed; `arg` is the struct events. Waits for nobody. */
void events_publish(void *arg, struct change *change);
