/* The meter: what containers' writable layers take on disk, by a slow walk in a thread of its own that begins when somebody asks for the first time.
 */
#pragma once

#include "runtime/objects.h"

struct meter *meter_open(struct runtime *rt);
void meter_close(struct meter *meter);
/* Somebody wants to know: from now on they are walked once a minute. Any thread. */
void meter_wanted(struct meter *meter);
