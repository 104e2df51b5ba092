/* SPDY/3.1 frames as far as streaming needs them: reading what a client sends, incrementally, and making what a server answers.
 * Source: the SPDY Protocol Draft 3.1 (chromium.org), and what Kubernetes' clients really send (docs of the format are in spdy.c's tables).
 *
 * Only the reading side has a compressor's state: each header block is inflated, also those of streams that are refused. All that is answered is
 * constant. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include "base/str.h"

enum { SPDY_HEADER_BYTES = 8, SPDY_REPLY_BYTES_MAX = 28, SPDY_RESET_BYTES = 16, SPDY_PING_BYTES = 12, SPDY_GOAWAY_BYTES = 16 };
enum spdy_reset { SPDY_PROTOCOL_ERROR = 1, SPDY_INVALID_STREAM = 2, SPDY_REFUSED_STREAM = 3, SPDY_CANCEL = 5 };

/* What a stream says it is. Empty: not said. */
struct stream_headers {
    char type[16]; /* streamtype: error, stdin, stdout, stderr, resize, data */
    char port[8];
    char request_id[24]; /* requestid */
};

struct spdy_events {
    void (*opened)(void *arg, uint32_t id, const struct stream_headers *headers, bool fin);
    void (*data)(void *arg, uint32_t id, const char *data, size_t length); /* as it comes, in pieces */
    void (*ended)(void *arg, uint32_t id);                                 /* FIN */
    void (*reset)(void *arg, uint32_t id);
    void (*ping)(void *arg, uint32_t id);
    void (*goaway)(void *arg);
};

struct spdy_reader {
    const struct spdy_events *events;
    void *arg;
    unsigned char header[SPDY_HEADER_BYTES];
    size_t have;        /* of the header */
    size_t remaining;   /* of the payload */
    struct buf control; /* a control frame's payload */
    z_stream inflate;
    bool inflating;    /* inflate is initialized */
    bool stopped;      /* set by whoever wants nothing more of it, from an event too */
    const char *wrong; /* why spdy_read failed */
};

void spdy_open(struct spdy_reader *reader, const struct spdy_events *events, void *arg);
void spdy_close(struct spdy_reader *reader);
/* All of `data`; -1 when the peer breaks the protocol (reader->wrong says how): nothing more can be read. */
int spdy_read(struct spdy_reader *reader, const char *data, size_t length);

/* Frames; each returns its length. `first`: the connection's first SYN_REPLY, which opens the compressor's stream. */
size_t spdy_put_data_header(char *out, uint32_t id, size_t length, bool fin);
size_t spdy_put_reply(char *out, uint32_t id, bool first);
size_t spdy_put_reset(char *out, uint32_t id, enum spdy_reset status);
size_t spdy_put_ping(char *out, uint32_t id);
size_t spdy_put_goaway(char *out, uint32_t last_id);
