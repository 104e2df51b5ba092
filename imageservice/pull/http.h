/* HTTP: one thread drives all transfers (libcurl multi); the others hand a request in and wait for its end.
 *
 * Only HTTP/1.1: blobs then come over connections of their own, each with its own flow control, so that a layer whose unpacking waits holds back
 * nothing but itself; libcurl's HTTP/2 buffers up to 32 MiB for each paused stream, which is half of all the memory we may use.
 *
 * Redirects are followed here, LIMIT_REDIRECTS of them; `authorization`, `private_headers` and the client's certificate go only to the origin
 * (scheme, host and port) that they were given for. What the peer trusts holds for where it sends us, too: a private registry's storage has the same
 * CA.
 *
 * A transfer has no time limit, but must bring options.stall_seconds times options.least_rate bytes in each stretch of stall_seconds: a trickle is no
 * progress. Time in which the ring has no room doesn't count.
 *
 * Proxies are those of the environment, as libcurl reads it; loopback is asked directly, as Go's clients do. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "imageservice/pull/ring.h"

struct http;

struct http_options {
    int64_t least_rate; /* bytes per second; 0: none is asked for */
    int64_t stall_seconds;
};

/* Why there was no answer, or not all of it. */
enum http_failure {
    HTTP_BROKE_OFF,
    HTTP_NOT_CONNECTED,
    HTTP_NOT_TRUSTED, /* certificates: theirs, or ours */
    HTTP_STALLED,
};

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
    enum http_failure failure;
};

struct http_request {
    const char *url;
    const char *form;                   /* body of a POST; NULL: GET, or */
    bool head;                          /* HEAD */
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

struct http *http_start(const struct http_options *options, struct error *err);
void http_stop(struct http *http);

/* Wait for the answer, whatever its status. -1: there was none, or not all of it: ERR_UNAVAILABLE in libcurl's words, ERR_CANCELLED. The caller frees
 * the response with http_response_free in either case. */
int http_perform(struct http *http, const struct http_request *request, struct http_response *response, struct error *err);
void http_response_free(struct http_response *response);
#define cleanup_response cleanup(http_response_free)

/* How many bytes are progress, after which a host that breaks off again has all its tries again. */
int64_t http_progress_bytes(const struct http *http);

/* The host of both is the same, whatever the scheme and port. */
bool http_same_machine(const char *url_a, const char *url_b);
/* "localhost", 127.0.0.0/8 or ::1, with or without a port. */
bool http_host_is_loopback(const char *host);

/* Break off the scope's transfers, now and from now on. Any thread. */
void http_cancel(struct http *http, struct http_scope *scope);
