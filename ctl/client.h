/* A client of crispd, or of any other CRI server, over its unix socket: one connection, one call at a time, one thread. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "admin.pb-c.h"
#include "api.pb-c.h"
#include "base/cleanup.h"
#include "base/error.h"

struct client;

/* Connect to a socket: a path, or unix://PATH as CONTAINER_RUNTIME_ENDPOINT has it. The caller closes the client. Fails with the errno of connect(2)
 * and the path in the sentence, or ERR_INVALID for an endpoint of another kind. */
struct client *client_open(const char *endpoint, struct error *err);
void client_close(struct client *client);
CLEANUP_DEFINE(client_closep, struct client *, client_close)

enum { CALL_FOREVER = 0, CALL_SECONDS = 30, CALL_SECONDS_LONG = 240 };

/* Call an rpc of RuntimeService, ImageService or crisp's own Admin by its name; the answer's type follows from that name, and the caller frees it
 * (cleanup_message). seconds is the deadline, CALL_FOREVER none. Fails with the server's own sentence and the kind of its status code; ERR_DEADLINE
 * when no answer came.
 */
void *client_call(struct client *client, const char *rpc, const ProtobufCMessage *request, int64_t seconds, struct error *err);

/* The same for an rpc whose answer says nothing. */
int client_do(struct client *client, const char *rpc, const ProtobufCMessage *request, int64_t seconds, struct error *err);

/* For any pointer to an answer: `cleanup_message Runtime__V1__VersionResponse *answer = client_call(…)`. */
void message_freep(void *message);
#define cleanup_message cleanup(message_freep)
