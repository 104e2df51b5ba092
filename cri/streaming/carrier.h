/* What carries a session's streams to and from its client: SPDY/3.1, WebSocket's channels, or SPDY/3.1 inside of WebSocket's messages. Sessions see
 * streams that open, bring bytes, end, and are reset; the framing is hidden here.
 *
 *   open ──carrier_finish──▶ all is sent, the client closes ──▶ gone
 *     └──the client is gone or breaks the protocol: user->lost──▶ gone
 *
 * A carrier owns its connection and streams and frees itself once it is gone and the running handler has returned; its user forgets it with those
 * calls. */
#pragma once

#include <uthash.h>

#include "cri/streaming/conn.h"
#include "cri/streaming/spdy.h"
#include "cri/streaming/websocket.h"

struct carrier;

struct stream {
    struct carrier *carrier;
    uint32_t id;            /* SPDY's, or the channel */
    bool in_done, out_done; /* half-closed, by the client and by us; reset: both */
    void *owner;            /* the user's; NULL: nobody's */
    UT_hash_handle hh;
};

struct carrier_user {
    void (*opened)(void *user, struct stream *stream, const struct stream_headers *headers); /* carrier_accept it, or carrier_drop it */
    void (*data)(void *user, struct stream *stream, const char *data, size_t length);
    void (*ended)(void *user, struct stream *stream); /* no more comes on it */
    void (*reset)(void *user, struct stream *stream); /* nor goes; it is freed when this returns */
    void (*room)(void *user);                         /* carrier_has_room again */
    void (*lost)(void *user);
};

/* One kind of framing. A message's bytes stand at `frame + before`; `seal` puts the framing around them, at most `after(length)` bytes more behind
 * them, and returns the frame's length. */
struct carrier_kind {
    size_t before;
    size_t (*after)(const struct carrier *carrier, size_t length);
    size_t (*seal)(struct carrier *carrier, const struct stream *stream, char *frame, size_t length, bool fin);
    void (*accept)(struct carrier *carrier, const struct stream *stream);
    void (*reset)(struct carrier *carrier, const struct stream *stream);
    void (*farewell)(struct carrier *carrier, bool normal);
    void (*input)(void *carrier, char *data, size_t length);
    void (*stop)(struct carrier *carrier); /* read nothing more: it is gone */
    void (*free)(struct carrier *carrier);
    bool ends_streams;   /* can say that a stream has ended */
    bool cut_looks_well; /* to clients, a connection that is cut may look like success */
};

/* The part that all have; each kind's own struct begins with it. */
struct carrier {
    const struct carrier_kind *kind;
    const struct carrier_user *user_calls;
    void *user;
    struct conn *conn;
    struct stream *streams; /* by id */
    struct task end;
    bool gone;
};

/* Take the connection, on which the upgrade was agreed; carrier_input gets what came behind the request. `tunnel`: in WebSocket's messages. */
struct carrier *carrier_spdy_new(struct conn *conn, bool tunnel, const struct carrier_user *calls, void *user);
/* Streams are opened by carrier_channel_open. `half_close`: v5's message that ends a channel. */
struct carrier *carrier_websocket_new(struct conn *conn, bool base64, bool half_close, const struct carrier_user *calls, void *user);
struct stream *carrier_channel_open(struct carrier *carrier, uint32_t channel, void *owner);
void carrier_input(struct carrier *carrier, char *data, size_t length);

void carrier_accept(struct stream *stream, void *owner);
/* Bytes on a stream; ignored once we have ended it. `fin`: the last. */
void carrier_send(struct stream *stream, const void *data, size_t length, bool fin);
/* Read from fd and send: as read(2); the end (0) is the caller's to pass on. */
ssize_t carrier_send_from(struct stream *stream, int fd);
/* Done with a stream, which is freed: it is reset unless both sides have ended it. */
void carrier_drop(struct stream *stream);
bool carrier_has_room(const struct carrier *carrier);
void carrier_pause(const struct carrier *carrier, bool paused);
/* `normal`: what had to be said was said. */
void carrier_finish(struct carrier *carrier, bool normal);

/* For the kinds. */
void carrier_init(struct carrier *carrier, const struct carrier_kind *kind, struct conn *conn, const struct conn_owner *callbacks,
                  const struct carrier_user *calls, void *user);
struct stream *carrier_find(const struct carrier *carrier, uint32_t id);
struct stream *carrier_add(struct carrier *carrier, uint32_t id);
/* What the client has done. */
void carrier_ended(struct stream *stream);
void carrier_was_reset(struct stream *stream);
/* It breaks the protocol: it is told so, and is gone. */
void carrier_broken(struct carrier *carrier, const char *why);
/* WebSocket's control frames (RFC 6455, 5.5), of at most WEBSOCKET_CONTROL_MAX bytes. */
void carrier_websocket_control(struct carrier *carrier, enum websocket_opcode opcode, const char *data, size_t length);
void carrier_websocket_close(struct carrier *carrier, enum websocket_status status);
/* conn_owner's. */
void carrier_lost(void *carrier);
void carrier_room(void *carrier);
