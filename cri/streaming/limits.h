/* What a client of the streaming server may take, with the reason of each limit. */
#pragma once

#include "base/clock.h"

enum {
    TOKENS_MAX = 1000,            /* outstanding; the kubelet turns the refusal into 429 */
    REQUEST_BYTES_MAX = 16 << 10, /* an HTTP request's head; what Go clients send is below 1 KiB */
    HEADER_BLOCK_MAX = 8 << 10,   /* of a SPDY stream, compressed and inflated; what clients send is below 200 bytes */
    STREAMS_MAX = 4096,           /* of one connection, open at once: 2048 forwarded connections */
    CHUNK_BYTES = 61440,          /* read at once on its way to the client: with its headers below 64 KiB, WebSocket's shorter length */
    OUTPUT_HIGH = 256 << 10,      /* waiting for a client: nothing more is read for it */
    OUTPUT_LOW = 64 << 10,        /* … until it is down to this */
    OUTPUT_MAX = 1 << 20,         /* waiting for a client that asks for replies and reads none: it is cut off */
    INPUT_HIGH = 1 << 20,         /* waiting for one stream of a process or forwarded connection: its client is not read */
    INPUT_LOW = 256 << 10,
    INPUT_MAX = 16 << 20, /* … which is read nevertheless where it takes no answer either: more than its kernel and ours hold on the way */
};

#define TOKEN_NS   (INT64_C(60) * NS_PER_SECOND)
#define REQUEST_NS (INT64_C(10) * NS_PER_SECOND) /* TLS and HTTP, from the connection's start */
#define STREAMS_NS (INT64_C(30) * NS_PER_SECOND) /* until a client has opened the streams it must */
#define QUIET_NS   (INT64_C(100) * NS_PER_MS)    /* silence after a command's end: what it wrote has been read; a child may hold the pipe */
#define DRAIN_NS   (INT64_C(1000) * NS_PER_MS)   /* … and the child that is not silent is not waited for longer */
#define STALL_NS                                                                                                                      \
    (INT64_C(10) * NS_PER_SECOND) /* a pod reads nothing of a forwarded connection, whose session rests; a client gives up after 30 s \
                                   */
#define FAREWELL_NS (INT64_C(10) * NS_PER_SECOND) /* all was sent: for the client to close first, so that it has read it */
