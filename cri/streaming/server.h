/* The streaming server: HTTP, one request a connection, which is upgraded to SPDY/3.1 or WebSocket under the token that Exec, Attach or PortForward
 * gave out.
 *
 *   streaming_open ──▶ serving ──streaming_close──▶ gone
 *
 * One thread serves all connections (loop.h); a thread more waits for each process. SPDY and WebSocket are served on the same URL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cri/streaming/token.h"

struct runtime;
struct streaming;

struct streaming_options {
    const char *address;            /* an IPv4 or IPv6 address */
    uint16_t port;                  /* 0: any */
    const char *tls_cert, *tls_key; /* files in PEM; "": no TLS */
    int64_t idle_ns;
    size_t sessions; /* at once */
    struct runtime *runtime;
};

struct streaming *streaming_open(const struct streaming_options *options, struct error *err);
/* All sessions end with an error, then the thread. False when a process is still waited for at deadline_ns (monotonic): then nothing was freed. */
bool streaming_close(struct streaming *streaming, int64_t deadline_ns);

/* The URL under which the client gets what the errand says, for CRI's answer; caller frees. Takes the errand. ERR_EXHAUSTED: too many wait for their
 * clients. Any thread. */
char *streaming_url(struct streaming *streaming, struct errand *errand, struct error *err);
