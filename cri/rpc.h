/* The rpcs of CRI v1, and those of our own: one table, one line each. What a line says decides where the call runs (cri/server.c) and who answers it.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "base/error.h"
#include "cri/call.h"

enum rpc_kind {
    RPC_QUICK,     /* answered from memory, on the thread that received it: its handler waits for nothing */
    RPC_BLOCKING,  /* on a thread of its own */
    RPC_STREAMING, /* many answers to one request */
};

/* Fill `response` (empty, of the rpc's output type) from `request` (of its input type), or fail. Both live in the call's arena. A list is filled by
 * answer_add, so that one handler serves the rpc that answers at once and the one that streams: their messages look the same. */
typedef int rpc_handler(struct call *call, const void *request, void *response, struct error *err);

struct rpc {
    const ProtobufCServiceDescriptor *service;
    const char *name;
    enum rpc_kind kind;
    rpc_handler *handler; /* NULL: not built; the answer is UNIMPLEMENTED */
};

extern const struct rpc rpcs[];
extern const size_t rpc_count;

/* "/runtime.v1.RuntimeService/Version"; caller frees. */
char *rpc_path(const struct rpc *rpc);

/* Check and unpack the request, have it handled: 0 with *response in the call's arena (a stream has sent it), or an error worded for the client.
 * ERR_INVALID for bytes that are no such request, ERR_UNSUPPORTED for an rpc that is not built. */
int rpc_serve(const struct rpc *rpc, struct call *call, const void *bytes, size_t length, ProtobufCMessage **response, struct error *err);
