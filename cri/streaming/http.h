/* The one HTTP request of a streaming connection: a GET or POST that asks for an upgrade to SPDY/3.1 or WebSocket. Parsed by http-parser. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct http_request {
    bool spdy, websocket;  /* what it asks to be upgraded to */
    struct strv path;      /* "/exec/TOKEN" in its parts */
    struct strv protocols; /* X-Stream-Protocol-Version or Sec-WebSocket-Protocol, in the client's order */
    bool has_protocols;
    char *websocket_key, *websocket_version;
};

/* Parse what came so far: the request's length in bytes, 0: more is needed, or -1: it is none. Fills `out` when it is whole; http_request_free in
 * every case. */
long http_request_parse(struct http_request *out, const char *data, size_t length);
void http_request_free(struct http_request *request);
#define cleanup_http_request cleanup(http_request_free)

/* The first protocol the client names that is in `known`; NULL: none. */
const char *http_choose(const struct http_request *request, const char *const known[]);
