#include "cri/streaming/carrier.h"

#include <string.h>

#include "cri/streaming/limits.h"
#include "cri/streaming/websocket.h"

enum { TUNNEL_HEADER = 4 };

struct spdy_carrier {
    struct carrier base;
    struct spdy_reader spdy;
    struct websocket_reader websocket; /* in a tunnel */
    bool tunnel, replied;
    uint32_t last_id;
    size_t open;
};

static struct spdy_carrier *
of(struct carrier *carrier)
{
    return holder_of(carrier, struct spdy_carrier, base);
}

/* Frames of ours stand where a tunnel's header has been left room for. */

static size_t
wrap(const struct spdy_carrier *c, char *frame, size_t length)
{
    if (!c->tunnel)
        return length;
    size_t header = websocket_header_length(length);
    if (header != TUNNEL_HEADER)
        memmove(frame + header, frame + TUNNEL_HEADER, length);
    (void)websocket_put_header(frame, WEBSOCKET_BINARY, length);
    return header + length;
}

static void
send_control(struct spdy_carrier *c, const char *frame, size_t length)
{
    size_t before = c->tunnel ? TUNNEL_HEADER : 0;
    char *to = conn_reserve(c->base.conn, before + length);
    memcpy(to + before, frame, length);
    conn_commit(c->base.conn, wrap(c, to, length));
}

static size_t
no_more(const struct carrier *carrier, size_t length)
{
    (void)carrier;
    (void)length;
    return 0;
}

static size_t
seal(struct carrier *carrier, const struct stream *stream, char *frame, size_t length, bool fin)
{
    struct spdy_carrier *c = of(carrier);
    (void)spdy_put_data_header(frame + carrier->kind->before - SPDY_HEADER_BYTES, stream->id, length, fin);
    return wrap(c, frame, SPDY_HEADER_BYTES + length);
}

static void
reply(struct carrier *carrier, const struct stream *stream)
{
    struct spdy_carrier *c = of(carrier);
    char frame[SPDY_REPLY_BYTES_MAX];
    send_control(c, frame, spdy_put_reply(frame, stream->id, !c->replied));
    c->replied = true;
}

static void
reset(struct carrier *carrier, const struct stream *stream)
{
    char frame[SPDY_RESET_BYTES];
    send_control(of(carrier), frame, spdy_put_reset(frame, stream->id, SPDY_CANCEL));
}

static void
refuse(struct spdy_carrier *c, uint32_t id, enum spdy_reset status)
{
    char frame[SPDY_RESET_BYTES];
    send_control(c, frame, spdy_put_reset(frame, id, status));
}

/* A receiver of GOAWAY reads nothing more: it comes last. */
static void
farewell(struct carrier *carrier, bool normal)
{
    struct spdy_carrier *c = of(carrier);
    char frame[SPDY_GOAWAY_BYTES];
    send_control(c, frame, spdy_put_goaway(frame, c->last_id));
    if (c->tunnel)
        carrier_websocket_close(&c->base, normal ? WEBSOCKET_NORMAL : WEBSOCKET_PROTOCOL_ERROR);
}

/* What the client says. */

static void
on_opened(void *arg, uint32_t id, const struct stream_headers *headers, bool fin)
{
    struct spdy_carrier *c = arg;
    if (id % 2 == 0 || id <= c->last_id) {
        refuse(c, id, SPDY_PROTOCOL_ERROR);
        return;
    }
    c->last_id = id;
    if (HASH_COUNT(c->base.streams) >= STREAMS_MAX) {
        refuse(c, id, SPDY_REFUSED_STREAM);
        return;
    }
    struct stream *stream = carrier_add(&c->base, id);
    c->base.user_calls->opened(c->base.user, stream, headers);
    stream = fin && !c->base.gone ? carrier_find(&c->base, id) : NULL;
    if (stream)
        carrier_ended(stream);
}

static void
on_data(void *arg, uint32_t id, const char *data, size_t length)
{
    const struct spdy_carrier *c = arg;
    struct stream *stream = carrier_find(&c->base, id);
    if (stream && !stream->in_done)
        c->base.user_calls->data(c->base.user, stream, data, length);
}

static void
on_ended(void *arg, uint32_t id)
{
    const struct spdy_carrier *c = arg;
    struct stream *stream = carrier_find(&c->base, id);
    if (stream)
        carrier_ended(stream);
}

static void
on_reset(void *arg, uint32_t id)
{
    const struct spdy_carrier *c = arg;
    struct stream *stream = carrier_find(&c->base, id);
    if (stream)
        carrier_was_reset(stream);
}

static void
on_ping(void *arg, uint32_t id)
{
    struct spdy_carrier *c = arg;
    char frame[SPDY_PING_BYTES];
    if (id % 2) /* even ones would be answers to ours */
        send_control(c, frame, spdy_put_ping(frame, id));
}

static void
on_goaway(void *arg)
{
    struct spdy_carrier *c = arg;
    conn_finish(c->base.conn);
    carrier_lost(&c->base);
}

static const struct spdy_events spdy_events = {on_opened, on_data, on_ended, on_reset, on_ping, on_goaway};

static void
read_spdy(void *carrier, char *data, size_t length)
{
    struct spdy_carrier *c = carrier;
    if (spdy_read(&c->spdy, data, length) < 0)
        carrier_broken(&c->base, c->spdy.wrong);
}

/* In a tunnel: how SPDY's bytes are cut into messages means nothing. */

static void
on_message(void *arg, enum websocket_opcode opcode, char *data, size_t length, bool begins, bool ends)
{
    (void)begins;
    (void)ends;
    struct spdy_carrier *c = arg;
    if (opcode != WEBSOCKET_BINARY)
        carrier_broken(&c->base, "text in a tunnel for SPDY");
    else
        read_spdy(c, data, length);
}

static void
on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t length)
{
    struct spdy_carrier *c = arg;
    if (opcode == WEBSOCKET_CLOSE) {
        carrier_websocket_close(&c->base, WEBSOCKET_NORMAL);
        on_goaway(c);
    } else if (opcode == WEBSOCKET_PING) {
        carrier_websocket_control(&c->base, WEBSOCKET_PONG, data, length);
    }
}

static const struct websocket_events websocket_events = {on_message, on_control};

static void
read_tunnel(void *carrier, char *data, size_t length)
{
    struct spdy_carrier *c = carrier;
    if (websocket_read(&c->websocket, data, length) < 0)
        carrier_broken(&c->base, c->websocket.wrong);
}

static void
stop(struct carrier *carrier)
{
    of(carrier)->spdy.stopped = of(carrier)->websocket.stopped = true;
}

static void
free_carrier(struct carrier *carrier)
{
    spdy_close(&of(carrier)->spdy);
    free(of(carrier));
}

#define KIND(before_, input_)                                                                                                                        \
    {                                                                                                                                                \
        .before = (before_), .after = no_more, .seal = seal, .accept = reply, .reset = reset, .farewell = farewell, .input = (input_), .stop = stop, \
        .free = free_carrier, .ends_streams = true, .cut_looks_well = true,                                                                          \
    }
static const struct carrier_kind plain = KIND(SPDY_HEADER_BYTES, read_spdy), tunnelled = KIND(TUNNEL_HEADER + SPDY_HEADER_BYTES, read_tunnel);
static const struct conn_owner plain_calls = {read_spdy, carrier_room, carrier_lost}, tunnel_calls = {read_tunnel, carrier_room, carrier_lost};

struct carrier *
carrier_spdy_new(struct conn *conn, bool tunnel, const struct carrier_user *calls, void *user)
{
    struct spdy_carrier *c = mem_zalloc(1, sizeof *c);
    carrier_init(&c->base, tunnel ? &tunnelled : &plain, conn, tunnel ? &tunnel_calls : &plain_calls, calls, user);
    c->tunnel = tunnel;
    spdy_open(&c->spdy, &spdy_events, c);
    websocket_open(&c->websocket, &websocket_events, c);
    return &c->base;
}
