/* Compressed streams: the first byte says how the rest is cut into pieces. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "imageservice/pull/unpress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct feed {
    struct ring *ring;
    const uint8_t *data;
    size_t size, piece;
};

static void *
feed(void *arg)
{
    struct feed *f = arg;
    while (f->size) {
        size_t n;
        char *at = ring_room(f->ring, &n);
        if (!at)
            return NULL;
        n = n < f->size ? n : f->size;
        n = n < f->piece ? n : f->piece;
        memcpy(at, f->data, n);
        ring_push(f->ring, n);
        f->data += n;
        f->size -= n;
    }
    ring_end(f->ring);
    return NULL;
}

/* Throw what comes out away; a bomb is broken off. */
static void *
drain(void *arg)
{
    struct ring *plain = arg;
    const char *data;
    size_t length, total = 0;
    struct error err = {0};
    while (ring_take(plain, &data, &length, &err) > 0 && total < 8 << 20)
        total += length;
    (void)error_set(&err, ERR_CANCELLED, "enough");
    ring_fail(plain, &err);
    return NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    pthread_t feeder, drainer;
    struct error err;
    struct ring *packed = ring_new(512), *plain = ring_new(4096);
    struct digest *digest = digest_new(NULL);
    struct feed f = {packed, data + 1, size - 1, (size_t)data[0] + 1};
    (void)pthread_create(&feeder, NULL, feed, &f);
    (void)pthread_create(&drainer, NULL, drain, plain);
    (void)unpress_run(packed, plain, digest, -1, &err);
    (void)pthread_join(feeder, NULL);
    (void)pthread_join(drainer, NULL);
    digest_free(digest);
    ring_free(packed);
    ring_free(plain);
    return 0;
}
