/* An exec or attach session: the client's streams on one side, a process' stdio on the other, and a job in a thread that waits for the process.
 *
 *   opening ──all streams are there──▶ running ──the process has ended──▶ draining ──its output has been read──▶ (status said) gone
 *      └──30 s──▶ gone                    └──the client is gone──▶ abandoned ──the job has ended──▶ gone
 *
 * All lives in the loop's thread but the job. A session owns its fds and buffers and is closed from any side: the process', the client's, time's, the
 * server's. */
#pragma once

#include <jansson.h>

#include "cri/streaming/carrier.h"
#include "cri/streaming/token.h"
#include "cri/workers.h"

struct runtime;
struct session;

struct session_list {
    struct session *first;
    size_t count;
    struct loop *loop;
    struct runtime *runtime;
    struct workers *workers;
    int64_t idle_ns;
};

/* What was agreed on with the client. */
struct agreement {
    enum { OVER_SPDY, OVER_TUNNEL, OVER_CHANNELS } way;
    bool base64;
    int version; /* of channel.k8s.io: 1 to 5 */
};

/* Takes the errand and the connection; `data`: what came behind the request. */
void session_new(struct session_list *list, struct conn *conn, const struct agreement *agreement, struct errand *errand, char *data, size_t length);
/* The server ends: all get an error. Those whose jobs go on stay until these have ended. */
void sessions_end(struct session_list *list);
