/* WebSocket (RFC 6455), a server's side: reading a client's frames incrementally, making ours. Extensions are never agreed on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEBSOCKET_ACCEPT_SIZE = 29, WEBSOCKET_HEADER_MAX = 10, WEBSOCKET_CONTROL_MAX = 125 };
enum websocket_opcode { WEBSOCKET_MORE = 0, WEBSOCKET_TEXT = 1, WEBSOCKET_BINARY = 2, WEBSOCKET_CLOSE = 8, WEBSOCKET_PING = 9, WEBSOCKET_PONG = 10 };
enum websocket_status { WEBSOCKET_NORMAL = 1000, WEBSOCKET_GOING_AWAY = 1001, WEBSOCKET_PROTOCOL_ERROR = 1002 };

struct websocket_events {
    /* A piece of a message, unmasked in place. `begins`, `ends`: the message does with it; a message without bytes is one piece. */
    void (*message)(void *arg, enum websocket_opcode opcode, char *data, size_t length, bool begins, bool ends);
    void (*control)(void *arg, enum websocket_opcode opcode, const char *data, size_t length);
};

struct websocket_reader {
    const struct websocket_events *events;
    void *arg;
    unsigned char header[14];
    size_t have, need; /* of the header */
    uint64_t remaining;
    size_t masked;                 /* bytes of the payload so far: where in the mask it goes on */
    enum websocket_opcode message; /* under way; WEBSOCKET_MORE: none */
    bool message_begun;            /* a piece of it was handed on */
    char control[WEBSOCKET_CONTROL_MAX];
    size_t control_length;
    bool stopped;      /* set by whoever wants nothing more of it, from an event too */
    const char *wrong; /* why websocket_read failed */
};

void websocket_open(struct websocket_reader *reader, const struct websocket_events *events, void *arg);
/* All of `data`, which is changed; -1 when the peer breaks the protocol (reader->wrong says how). */
int websocket_read(struct websocket_reader *reader, char *data, size_t length);

/* The header of a whole message; its length. */
size_t websocket_put_header(char *out, enum websocket_opcode opcode, size_t length);
size_t websocket_header_length(size_t length);
/* Sec-WebSocket-Accept for a Sec-WebSocket-Key. */
void websocket_accept(const char *key, char out[WEBSOCKET_ACCEPT_SIZE]);
