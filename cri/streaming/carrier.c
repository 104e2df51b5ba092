#include "cri/streaming/carrier.h"

#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "cri/streaming/limits.h"

static void
stream_free(struct stream *stream)
{
    HASH_DEL(stream->carrier->streams, stream);
    free(stream);
}

static void
free_task(struct task *task)
{
    struct carrier *carrier = holder_of(task, struct carrier, end);
    struct stream *stream, *next;
    HASH_ITER (hh, carrier->streams, stream, next) {
        stream_free(stream);
    }
    carrier->kind->free(carrier);
}

void
carrier_init(struct carrier *carrier, const struct carrier_kind *kind, struct conn *conn, const struct conn_owner *callbacks,
             const struct carrier_user *calls, void *user)
{
    *carrier = (struct carrier){.kind = kind, .user_calls = calls, .user = user, .conn = conn, .end.run = free_task};
    conn_set_owner(conn, callbacks, carrier);
}

static void
go(struct carrier *carrier)
{
    carrier->gone = true;
    carrier->kind->stop(carrier);
    loop_after(conn_loop(carrier->conn), &carrier->end);
}

void
carrier_lost(void *owner)
{
    struct carrier *carrier = owner;
    if (carrier->gone)
        return;
    go(carrier);
    carrier->user_calls->lost(carrier->user);
}

void
carrier_broken(struct carrier *carrier, const char *why)
{
    if (carrier->gone)
        return;
    log_debug("a streaming client breaks its protocol", "how", why);
    carrier->kind->farewell(carrier, false);
    conn_finish(carrier->conn);
    go(carrier);
    carrier->user_calls->lost(carrier->user);
}

void
carrier_room(void *owner)
{
    struct carrier *carrier = owner;
    if (!carrier->gone)
        carrier->user_calls->room(carrier->user);
}

void
carrier_input(struct carrier *carrier, char *data, size_t length)
{
    if (length && !carrier->gone)
        carrier->kind->input(carrier, data, length);
}

/* Streams. */

struct stream *
carrier_find(const struct carrier *carrier, uint32_t id)
{
    struct stream *stream;
    HASH_FIND(hh, carrier->streams, &id, sizeof id, stream);
    return stream;
}

struct stream *
carrier_add(struct carrier *carrier, uint32_t id)
{
    struct stream *stream = mem_zalloc(1, sizeof *stream);
    stream->carrier = carrier;
    stream->id = id;
    HASH_ADD(hh, carrier->streams, id, sizeof id, stream);
    return stream;
}

void
carrier_accept(struct stream *stream, void *owner)
{
    stream->owner = owner;
    stream->carrier->kind->accept(stream->carrier, stream);
}

void
carrier_drop(struct stream *stream)
{
    if (!stream->in_done || !stream->out_done)
        stream->carrier->kind->reset(stream->carrier, stream);
    stream_free(stream);
}

void
carrier_ended(struct stream *stream)
{
    if (stream->in_done)
        return;
    stream->in_done = true;
    stream->carrier->user_calls->ended(stream->carrier->user, stream);
}

void
carrier_was_reset(struct stream *stream)
{
    struct carrier *carrier = stream->carrier;
    stream->in_done = stream->out_done = true;
    carrier->user_calls->reset(carrier->user, stream);
    stream_free(stream);
}

/* Output. */

static char *
frame_begin(const struct carrier *carrier, size_t length)
{
    return conn_reserve(carrier->conn, carrier->kind->before + length + carrier->kind->after(carrier, length));
}

static void
frame_end(struct stream *stream, char *frame, size_t length, bool fin)
{
    struct carrier *carrier = stream->carrier;
    conn_commit(carrier->conn, carrier->kind->seal(carrier, stream, frame, length, fin));
    stream->out_done |= fin;
}

void
carrier_send(struct stream *stream, const void *data, size_t length, bool fin)
{
    if (stream->out_done || stream->carrier->gone)
        return;
    char *frame = frame_begin(stream->carrier, length);
    if (length)
        memcpy(frame + stream->carrier->kind->before, data, length);
    if (length || stream->carrier->kind->ends_streams || !fin)
        frame_end(stream, frame, length, fin);
    stream->out_done |= fin;
}

ssize_t
carrier_send_from(struct stream *stream, int fd)
{
    char *frame = frame_begin(stream->carrier, CHUNK_BYTES);
    ssize_t n = read(fd, frame + stream->carrier->kind->before, CHUNK_BYTES);
    if (n > 0 && !stream->out_done)
        frame_end(stream, frame, (size_t)n, false);
    return n;
}

bool
carrier_has_room(const struct carrier *carrier)
{
    return !carrier->gone && conn_has_room(carrier->conn);
}

void
carrier_pause(const struct carrier *carrier, bool paused)
{
    if (!carrier->gone)
        conn_pause(carrier->conn, paused);
}

void
carrier_websocket_control(struct carrier *carrier, enum websocket_opcode opcode, const char *data, size_t length)
{
    char frame[WEBSOCKET_HEADER_MAX + WEBSOCKET_CONTROL_MAX];
    size_t header = websocket_put_header(frame, opcode, length);
    memcpy(frame + header, data, length);
    conn_send(carrier->conn, frame, header + length);
}

void
carrier_websocket_close(struct carrier *carrier, enum websocket_status status)
{
    const char code[] = {(char)((unsigned)status >> 8), (char)((unsigned)status & 0xff)};
    carrier_websocket_control(carrier, WEBSOCKET_CLOSE, code, sizeof code);
}

/* The end. */

void
carrier_finish(struct carrier *carrier, bool normal)
{
    if (carrier->gone)
        return;
    carrier->kind->farewell(carrier, normal);
    conn_finish(carrier->conn);
    go(carrier);
}
