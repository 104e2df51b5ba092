/* The gRPC server: takes connections as fds, runs each call where its rpc's kind says, answers it, logs it when it fails.
 *
 *   server_start ──▶ serving ──server_stop──▶ gone
 *
 * A few threads poll; they answer quick rpcs themselves and hand blocking ones to threads of their own (cri/workers.h), so that no blocked call ever
 * delays another. A call's patience (base/cancel.h) ends when its client leaves, when the connection breaks, shortly before its deadline (so that the
 * answer with the stage it was in still arrives), and when the server stops. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cri/call.h"

struct server;

/* `services` is kept. `most_calls`: blocking calls at once. */
struct server *server_start(const struct services *services, size_t most_calls, struct error *err);
/* A connected socket, non-blocking; the server's from now on. */
void server_add_connection(struct server *server, int fd);
/* Take no more calls; those under way have until give_up_ns to end by themselves, then lose their patience, and are answered UNAVAILABLE when they
 * end. True when all had ended and everything is freed before end_ns (both monotonic); else false: threads still run, and only the process' end ends
 * them. */
bool server_stop(struct server *server, int64_t give_up_ns, int64_t end_ns);

/* The code of grpc/status.h for an error of ours. */
int server_status_of(enum error_kind kind);
