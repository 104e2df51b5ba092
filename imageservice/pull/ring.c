#include "imageservice/pull/ring.h"

#include <pthread.h>
#include <string.h>

#include "base/str.h"

enum { SPAN_MAX = 256 << 10 }; /* what a reader holds at once, so that the writer gets room meanwhile */

struct ring {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    char *data;
    size_t capacity;
    size_t head, used; /* bytes from head on, wrapping */
    size_t taken;      /* of used: handed to the reader */
    bool ended, failed, offer_refused;
    unsigned waiting;
    struct error failure;
    void (*woken)(void *arg);
    void *woken_arg;
};

struct ring *
ring_new(size_t capacity)
{
    struct ring *ring = mem_zalloc(1, sizeof *ring);
    (void)pthread_mutex_init(&ring->lock, NULL);
    (void)pthread_cond_init(&ring->changed, NULL);
    ring->capacity = capacity;
    ring->data = mem_alloc(capacity);
    return ring;
}

void
ring_free(struct ring *ring)
{
    (void)pthread_cond_destroy(&ring->changed);
    (void)pthread_mutex_destroy(&ring->lock);
    free(ring->data);
    free(ring);
}

static void
wait_change(struct ring *ring)
{
    ring->waiting++;
    (void)pthread_cond_wait(&ring->changed, &ring->lock);
    ring->waiting--;
}

static void
tell_change(struct ring *ring)
{
    if (ring->waiting)
        (void)pthread_cond_broadcast(&ring->changed);
}

/* The free bytes that stand in one piece behind the used ones. */
static size_t
free_span(const struct ring *ring, size_t *at)
{
    *at = (ring->head + ring->used) % ring->capacity;
    size_t free_bytes = ring->capacity - ring->used, to_end = ring->capacity - *at;
    return free_bytes < to_end ? free_bytes : to_end;
}

char *
ring_room(struct ring *ring, size_t *length)
{
    size_t at = 0;
    (void)pthread_mutex_lock(&ring->lock);
    while (!ring->failed && (*length = free_span(ring, &at)) == 0)
        wait_change(ring);
    bool failed = ring->failed;
    (void)pthread_mutex_unlock(&ring->lock);
    return failed ? NULL : ring->data + at;
}

void
ring_push(struct ring *ring, size_t length)
{
    (void)pthread_mutex_lock(&ring->lock);
    ring->used += length;
    tell_change(ring);
    (void)pthread_mutex_unlock(&ring->lock);
}

static void
copy_in(struct ring *ring, const char *data, size_t length)
{
    while (length) {
        size_t at, span = free_span(ring, &at);
        size_t n = span < length ? span : length;
        memcpy(ring->data + at, data, n);
        ring->used += n;
        data += n;
        length -= n;
    }
}

int
ring_offer(struct ring *ring, const void *data, size_t length)
{
    (void)pthread_mutex_lock(&ring->lock);
    int result = ring->failed ? -1 : ring->capacity - ring->used >= length;
    ring->offer_refused = result == 0;
    if (result > 0) {
        copy_in(ring, data, length);
        tell_change(ring);
    }
    (void)pthread_mutex_unlock(&ring->lock);
    return result;
}

void
ring_on_room(struct ring *ring, void (*woken)(void *arg), void *arg)
{
    (void)pthread_mutex_lock(&ring->lock);
    ring->woken = woken;
    ring->woken_arg = arg;
    (void)pthread_mutex_unlock(&ring->lock);
}

void
ring_end(struct ring *ring)
{
    (void)pthread_mutex_lock(&ring->lock);
    ring->ended = true;
    tell_change(ring);
    (void)pthread_mutex_unlock(&ring->lock);
}

/* Called with the lock held; `woken` must not call back into the ring. */
static void
wake_offerer(struct ring *ring)
{
    if (!ring->offer_refused || (!ring->failed && ring->used > ring->capacity / 2))
        return;
    ring->offer_refused = false;
    if (ring->woken)
        ring->woken(ring->woken_arg);
}

int
ring_take(struct ring *ring, const char **data, size_t *length, struct error *err)
{
    (void)pthread_mutex_lock(&ring->lock);
    ring->head = (ring->head + ring->taken) % ring->capacity;
    ring->used -= ring->taken;
    ring->taken = 0;
    wake_offerer(ring);
    tell_change(ring);
    while (!ring->failed && !ring->used && !ring->ended)
        wait_change(ring);
    int result = ring->failed ? -1 : ring->used > 0;
    if (result > 0) {
        size_t to_end = ring->capacity - ring->head;
        ring->taken = ring->used < to_end ? ring->used : to_end;
        if (ring->taken > SPAN_MAX)
            ring->taken = SPAN_MAX;
        *data = ring->data + ring->head;
        *length = ring->taken;
    }
    if (result < 0 && err)
        *err = ring->failure;
    (void)pthread_mutex_unlock(&ring->lock);
    return result;
}

void
ring_fail(struct ring *ring, const struct error *why)
{
    (void)pthread_mutex_lock(&ring->lock);
    if (!ring->failed) {
        ring->failed = true;
        ring->failure = *why;
    }
    tell_change(ring);
    wake_offerer(ring);
    (void)pthread_mutex_unlock(&ring->lock);
}
