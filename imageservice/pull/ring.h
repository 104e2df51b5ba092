/* A ring of bytes between two threads: one writes, one reads, each waits for the other; so a fast download never outgrows memory.
 *
 *   writer: ring_room → fill → ring_push … ring_end        reader: ring_take … until 0
 *   or, where it may not wait: ring_offer
 *
 * Either side may give up with ring_fail: both sides then see that error from their next call on. The first failure is kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/error.h"

struct ring;

struct ring *ring_new(size_t capacity);
void ring_free(struct ring *ring);
CLEANUP_DEFINE(ring_freep, struct ring *, ring_free)

/* Wait for free space: its address, *length bytes of it (at least 1). NULL after ring_fail. */
char *ring_room(struct ring *ring, size_t *length);
/* So many bytes of the room are filled. */
void ring_push(struct ring *ring, size_t length);
/* Copy all of the bytes in without waiting: 1 done; 0 no room for all, nothing taken: `woken(arg)` is called once half the ring is free; -1 after
 * ring_fail. */
int ring_offer(struct ring *ring, const void *data, size_t length);
void ring_on_room(struct ring *ring, void (*woken)(void *arg), void *arg);
void ring_end(struct ring *ring);

/* Give back what was taken before and wait for more: 1 with *data, 0 at the end, -1 with the failure. */
int ring_take(struct ring *ring, const char **data, size_t *length, struct error *err);

void ring_fail(struct ring *ring, const struct error *why);
