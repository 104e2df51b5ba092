/* Channels: a message is the channel's number and bytes for it, binary as they are, or as a digit and base64 in text. */
#include <openssl/evp.h>
#include <string.h>

#include "base/str.h"
#include "cri/streaming/carrier.h"
#include "cri/streaming/websocket.h"

enum { CLOSE_CHANNEL = 255, QUAD = 4, TRIPLE = 3 };

struct websocket_carrier {
    struct carrier base;
    struct websocket_reader reader;
    bool base64, half_close;
    bool closing;     /* the message ends a channel */
    uint32_t channel; /* the message's, which may not be there, or not any more */
    char quad[QUAD];  /* base64 that came in pieces */
    size_t quad_length;
};

static struct websocket_carrier *
of(struct carrier *carrier)
{
    return holder_of(carrier, struct websocket_carrier, base);
}

/* Output. */

static size_t
after(const struct carrier *carrier, size_t length)
{
    const struct websocket_carrier *c = holder_of(carrier, struct websocket_carrier, base);
    return c->base64 ? length / TRIPLE + QUAD + 2 : 0;
}

static size_t
encode(char *payload, size_t length)
{
    cleanup_free unsigned char *copy = mem_dup(payload, length);
    return (size_t)EVP_EncodeBlock((unsigned char *)payload, copy, (int)length);
}

static size_t
seal(struct carrier *carrier, const struct stream *stream, char *frame, size_t length, bool fin)
{
    (void)fin;
    const struct websocket_carrier *c = of(carrier);
    char *payload = frame + carrier->kind->before;
    if (c->base64)
        length = encode(payload, length);
    size_t header = websocket_header_length(length + 1);
    memmove(frame + header + 1, payload, length);
    (void)websocket_put_header(frame, c->base64 ? WEBSOCKET_TEXT : WEBSOCKET_BINARY, length + 1);
    frame[header] = (char)(c->base64 ? '0' + stream->id : stream->id);
    return header + 1 + length;
}

static void
nothing(struct carrier *carrier, const struct stream *stream)
{
    (void)carrier;
    (void)stream;
}

static void
farewell(struct carrier *carrier, bool normal)
{
    carrier_websocket_close(carrier, normal ? WEBSOCKET_NORMAL : WEBSOCKET_PROTOCOL_ERROR);
}

/* Input. */

static void
hand_on(struct websocket_carrier *c, const char *data, size_t length)
{
    struct stream *stream = carrier_find(&c->base, c->channel);
    if (length && stream && !stream->in_done)
        c->base.user_calls->data(c->base.user, stream, data, length);
}

static void
end_channel(struct websocket_carrier *c, uint32_t channel)
{
    struct stream *stream = carrier_find(&c->base, channel);
    c->closing = false;
    if (stream)
        carrier_ended(stream);
    else
        carrier_broken(&c->base, "the end of a channel that is not there");
}

/* The decoded bytes of `length` (whole groups of four), or -1. */
static long
decode(const char *data, size_t length, unsigned char *out)
{
    int n = EVP_DecodeBlock(out, (const unsigned char *)data, (int)length);
    if (n < 0 || length == 0)
        return length ? -1 : 0;
    return n - (data[length - 1] == '=') - (data[length - 2] == '=');
}

static void
decode_on(struct websocket_carrier *c, const char *data, size_t length)
{
    unsigned char out[3072];
    for (size_t n; length && !c->base.gone; data += n, length -= n) {
        n = length < sizeof out / TRIPLE * QUAD ? length : sizeof out / TRIPLE * QUAD;
        long bytes = decode(data, n, out);
        if (bytes < 0)
            carrier_broken(&c->base, "what is no base64");
        else
            hand_on(c, (const char *)out, (size_t)bytes);
    }
}

static void
base64_piece(struct websocket_carrier *c, const char *data, size_t length)
{
    while (c->quad_length && length) {
        c->quad[c->quad_length++] = *data++;
        length--;
        if (c->quad_length == QUAD) {
            c->quad_length = 0;
            decode_on(c, c->quad, QUAD);
        }
    }
    size_t whole = length / QUAD * QUAD;
    decode_on(c, data, whole);
    memcpy(c->quad + c->quad_length, data + whole, length - whole);
    c->quad_length += length - whole;
}

static void
channel_begins(struct websocket_carrier *c, unsigned char first)
{
    c->channel = c->base64 ? (uint32_t)first - '0' : first;
    c->closing = c->half_close && first == CLOSE_CHANNEL;
    c->quad_length = 0;
}

static void
on_message(void *arg, enum websocket_opcode opcode, char *data, size_t length, bool begins, bool ends)
{
    struct websocket_carrier *c = arg;
    (void)opcode; /* text is bytes as well [some clients send their base64 as binary] */
    if (begins && length) {
        channel_begins(c, (unsigned char)*data);
        data++;
        length--;
    }
    if (c->closing && length)
        end_channel(c, (unsigned char)*data);
    else if (c->base64)
        base64_piece(c, data, length);
    else
        hand_on(c, data, length);
    if (ends && !c->base.gone && (c->closing || c->quad_length))
        carrier_broken(&c->base, c->closing ? "the end of no channel" : "what is no base64");
}

static void
on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t length)
{
    struct websocket_carrier *c = arg;
    if (opcode == WEBSOCKET_CLOSE) {
        carrier_websocket_close(&c->base, WEBSOCKET_NORMAL);
        conn_finish(c->base.conn);
        carrier_lost(&c->base);
    } else if (opcode == WEBSOCKET_PING) {
        carrier_websocket_control(&c->base, WEBSOCKET_PONG, data, length);
    }
}

static const struct websocket_events events = {on_message, on_control};

static void
input(void *carrier, char *data, size_t length)
{
    struct websocket_carrier *c = carrier;
    if (websocket_read(&c->reader, data, length) < 0)
        carrier_broken(&c->base, c->reader.wrong);
}

static void
stop(struct carrier *carrier)
{
    of(carrier)->reader.stopped = true;
}

static void
free_carrier(struct carrier *carrier)
{
    free(of(carrier));
}

static const struct carrier_kind kind = {
    .before = WEBSOCKET_HEADER_MAX + 1,
    .after = after,
    .seal = seal,
    .accept = nothing,
    .reset = nothing,
    .farewell = farewell,
    .input = input,
    .stop = stop,
    .free = free_carrier,
};
static const struct conn_owner calls_of_conn = {input, carrier_room, carrier_lost};

struct carrier *
carrier_websocket_new(struct conn *conn, bool base64, bool half_close, const struct carrier_user *calls, void *user)
{
    struct websocket_carrier *c = mem_zalloc(1, sizeof *c);
    carrier_init(&c->base, &kind, conn, &calls_of_conn, calls, user);
    c->base64 = base64;
    c->half_close = half_close;
    websocket_open(&c->reader, &events, c);
    return &c->base;
}

struct stream *
carrier_channel_open(struct carrier *carrier, uint32_t channel, void *owner)
{
    struct stream *stream = carrier_add(carrier, channel);
    stream->owner = owner;
    return stream;
}
