/* A stranger's WebSocket frames: the first byte says how the bytes are cut. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/str.h"
#include "cri/streaming/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_message(void *arg, enum websocket_opcode opcode, char *data, size_t length, bool begins, bool ends)
{
    bool *within = arg;
    (void)opcode;
    if (begins == *within || (!length && !ends))
        abort(); /* pieces of a message come in order and are not empty */
    *within = !ends;
    for (size_t i = 0; i < length; i++)
        data[i] = (char)(data[i] + 1);
}

static void
on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t length)
{
    (void)arg;
    (void)data;
    if (opcode < WEBSOCKET_CLOSE || length > WEBSOCKET_CONTROL_MAX)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct websocket_events events = {on_message, on_control};
    struct websocket_reader reader;
    bool within = false;
    if (size < 1)
        return 0;
    size_t step = data[0] ? data[0] : size;
    cleanup_free char *copy = mem_dup(data, size);
    websocket_open(&reader, &events, &within);
    for (size_t at = 1; at < size; at += step)
        if (websocket_read(&reader, copy + at, size - at < step ? size - at : step) < 0)
            break;
    return 0;
}
