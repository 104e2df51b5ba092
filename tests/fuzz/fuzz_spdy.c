/* A stranger's SPDY: the first byte says how the bytes are cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cri/streaming/spdy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_opened(void *arg, uint32_t id, const struct stream_headers *headers, bool fin)
{
    (void)arg;
    (void)id;
    (void)fin;
    if (strlen(headers->type) + strlen(headers->port) + strlen(headers->request_id) > 64)
        abort();
}

static void
on_data(void *arg, uint32_t id, const char *bytes, size_t length)
{
    unsigned *sum = arg;
    (void)id;
    for (size_t i = 0; i < length; i++)
        *sum += (unsigned char)bytes[i];
}

static void
on_stream(void *arg, uint32_t id)
{
    (void)arg;
    (void)id;
}

static void
on_goaway(void *arg)
{
    (void)arg;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct spdy_events events = {on_opened, on_data, on_stream, on_stream, on_stream, on_goaway};
    struct spdy_reader reader;
    unsigned sum = 0;
    if (size < 1)
        return 0;
    size_t step = data[0] ? data[0] : size;
    spdy_open(&reader, &events, &sum);
    for (size_t at = 1; at < size; at += step)
        if (spdy_read(&reader, (const char *)data + at, size - at < step ? size - at : step) < 0)
            break;
    spdy_close(&reader);
    return 0;
}
