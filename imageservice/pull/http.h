/* HTTP: one thread drives all transfers (libcurl multi); the others hand a request in and wait for its end.
 *
 * Only HTTP/1.1: blobs then come over connections of their own, each with its own flow control, so that a layer whose unpacking waits holds back
 * nothing but itself; libcurl's HTTP/2 buffers up to 32 MiB for each paused stream, which is half of all the memory we may use.
 *
 * Redirects are followed here, LIMIT_REDIRECTS of them; `authorization`, `private_headers` and the peer's TLS settings go only to the origin (scheme,
 * host and port) that they were given for. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "imageservice/pull/ring.h"

struct http;

/* How to reach one host. */
struct http_peer {
    char *ca_pem;                   /* trusted beside the system's; NULL none */
    char *client_cert, *client_key; /* paths; NULL none */
    bool skip_verify;
    int64_t dial_timeout_ms; /* 0: 30 s */
};

/* Transfers that end together: cancelled by http_cancel. */
struct http_scope {
    atomic_bool cancelled;
};

struct http_response {
    int status;
    struct buf body;                     /* what no sink took */
    char *content_type, *content_digest; /* NULL when not given */
    struct strv challenges;              /* values of WWW-Authenticate */
    int64_t retry_after_s;               /* -1 not given */
    int64_t range_start;                 /* of Content-Range; -1 not given */
    bool body_too_large;
    bool not_connected; /* after a failure: not even the connection came up */
};

struct http_request {
    const char *url;
    const char *form;                   /* body of a POST; NULL: GET */
    const char *authorization;          /* value of the header; NULL none */
    const struct strv *headers;         /* whole lines */
    const struct strv *private_headers; /* whole lines, only for this origin; may be NULL */
    const struct http_peer *peer;       /* may be NULL */
    const struct http_scope *scope;
    size_t body_limit;
    /* The bodies of 200 and 206 go here, in the HTTP thread: as ring_offer answers, 0 pauses until `ring` has room. NULL: into response->body. */
    int (*sink)(void *arg, const struct http_response *response, const void *data, size_t length);
    void *sink_arg;
    struct ring *ring;
};

struct http *http_start(struct error *err);
void http_stop(struct http *http);

/* Wait for the answer, whatever its status. -1: there was none, or not all of it: ERR_UNAVAILABLE in libcurl's words, ERR_CANCELLED. The caller frees
 * the response with http_response_free in either case. */
int http_perform(struct http *http, const struct http_request *request, struct http_response *response, struct error *err);
void http_response_free(struct http_response *response);
#define cleanup_response cleanup(http_response_free)

/* Break off the scope's transfers, now and from now on. Any thread. */
void http_cancel(struct http *http, struct http_scope *scope);
