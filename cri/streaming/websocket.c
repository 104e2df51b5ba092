#include "cri/streaming/websocket.h"

#include <endian.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f, LENGTH_16 = 126, LENGTH_64 = 127, MASK_BYTES = 4, CONTROL = 0x8 };

static int
fail(struct websocket_reader *reader, const char *why)
{
    reader->wrong = why;
    return -1;
}

static size_t
length_bytes(unsigned length)
{
    return length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
}

static enum websocket_opcode
opcode_of(const struct websocket_reader *reader)
{
    return reader->header[0] & OPCODE;
}

static bool
is_fin(const struct websocket_reader *reader)
{
    return reader->header[0] & FIN;
}

static bool
is_control(const struct websocket_reader *reader)
{
    return reader->header[0] & CONTROL;
}

static uint64_t
payload_length(const struct websocket_reader *reader)
{
    uint64_t length = reader->header[1] & LENGTH, value = 0;
    size_t bytes = length_bytes((unsigned)length);
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | reader->header[2 + i];
    return bytes ? value : length;
}

static int
check_control(struct websocket_reader *reader)
{
    enum websocket_opcode opcode = opcode_of(reader);
    if (opcode != WEBSOCKET_CLOSE && opcode != WEBSOCKET_PING && opcode != WEBSOCKET_PONG)
        return fail(reader, "a frame of an unknown kind");
    if (!is_fin(reader) || reader->remaining > WEBSOCKET_CONTROL_MAX)
        return fail(reader, "a control frame that is too long or in pieces");
    reader->control_length = 0;
    return 0;
}

static int
check_message(struct websocket_reader *reader)
{
    enum websocket_opcode opcode = opcode_of(reader);
    if (opcode > WEBSOCKET_BINARY)
        return fail(reader, "a frame of an unknown kind");
    if ((opcode == WEBSOCKET_MORE) != (reader->message != WEBSOCKET_MORE))
        return fail(reader, opcode == WEBSOCKET_MORE ? "a frame that goes on with no message" : "a message within another");
    if (opcode != WEBSOCKET_MORE) {
        reader->message = opcode;
        reader->message_begun = false;
    }
    return 0;
}

static int
begin_frame(struct websocket_reader *reader)
{
    if (reader->header[0] & RESERVED)
        return fail(reader, "a frame of an extension");
    if (!(reader->header[1] & MASKED))
        return fail(reader, "a frame without mask");
    reader->remaining = payload_length(reader);
    reader->masked = 0;
    if (reader->remaining >> 63)
        return fail(reader, "a frame of a wrong length");
    return is_control(reader) ? check_control(reader) : check_message(reader);
}

/* Eight bytes at once: the mask's four, twice. */
static void
unmask(struct websocket_reader *reader, char *data, size_t length)
{
    const unsigned char *mask = reader->header + reader->need - MASK_BYTES;
    unsigned char turned[8];
    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(reader->masked + i) % MASK_BYTES];
    reader->masked += length;
    uint64_t wide;
    memcpy(&wide, turned, sizeof wide);
    for (; length >= sizeof wide; data += sizeof wide, length -= sizeof wide) {
        uint64_t word;
        memcpy(&word, data, sizeof word);
        word ^= wide;
        memcpy(data, &word, sizeof word);
    }
    for (size_t i = 0; i < length; i++)
        data[i] = (char)(data[i] ^ turned[i]);
}

static void
hand_on(struct websocket_reader *reader, char *data, size_t length)
{
    bool begins = !reader->message_begun, ends = is_fin(reader) && !reader->remaining;
    enum websocket_opcode opcode = reader->message;
    if (!length && !ends)
        return;
    reader->message_begun = true;
    if (ends)
        reader->message = WEBSOCKET_MORE;
    reader->events->message(reader->arg, opcode, data, length, begins, ends);
}

static void
read_payload(struct websocket_reader *reader, char *data, size_t length)
{
    unmask(reader, data, length);
    reader->remaining -= length;
    if (!is_control(reader)) {
        hand_on(reader, data, length);
        return;
    }
    memcpy(reader->control + reader->control_length, data, length);
    reader->control_length += length;
    if (!reader->remaining)
        reader->events->control(reader->arg, opcode_of(reader), reader->control, reader->control_length);
}

/* One more byte of a header; 1 when it is whole. */
static int
read_header(struct websocket_reader *reader, char byte)
{
    reader->header[reader->have++] = (unsigned char)byte;
    if (reader->have == 2)
        reader->need = 2 + length_bytes(reader->header[1] & LENGTH) + (reader->header[1] & MASKED ? MASK_BYTES : 0);
    if (reader->have < 2 || reader->have < reader->need)
        return 0;
    return begin_frame(reader) < 0 ? -1 : 1;
}

int
websocket_read(struct websocket_reader *reader, char *data, size_t length)
{
    while (length && !reader->stopped) {
        if (reader->have < 2 || reader->have < reader->need) {
            int whole = TRY(read_header(reader, *data++));
            length--;
            if (!whole)
                continue;
        }
        size_t n = length < reader->remaining ? length : (size_t)reader->remaining;
        read_payload(reader, data, n);
        data += n;
        length -= n;
        if (!reader->remaining)
            reader->have = 0;
    }
    return 0;
}

void
websocket_open(struct websocket_reader *reader, const struct websocket_events *events, void *arg)
{
    *reader = (struct websocket_reader){.events = events, .arg = arg, .wrong = ""};
}

size_t
websocket_header_length(size_t length)
{
    return length < LENGTH_16 ? 2 : length <= UINT16_MAX ? 4 : 10;
}

size_t
websocket_put_header(char *out, enum websocket_opcode opcode, size_t length)
{
    size_t header = websocket_header_length(length);
    uint64_t value = htobe64((uint64_t)length);
    out[0] = (char)(FIN | (int)opcode);
    out[1] = (char)(header == 2 ? length : header == 4 ? LENGTH_16 : LENGTH_64);
    memcpy(out + 2, (const char *)&value + sizeof value - (header - 2), header - 2);
    return header;
}

void
websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT_SIZE])
{
    char text[256];
    unsigned char digest[EVP_MAX_MD_SIZE];
    int length = snprintf(text, sizeof text, "%.200s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    (void)EVP_Digest(text, (size_t)length, digest, NULL, EVP_sha1(), NULL);
    (void)EVP_EncodeBlock((unsigned char *)out, digest, 20);
}
