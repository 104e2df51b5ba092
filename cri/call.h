/* One call of an rpc, as its handler sees it: what it may use, whose patience it must watch, and memory that lives until the answer is sent. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cancel.h"
#include "base/error.h"
#include "cri/arena.h"

struct configuration;
struct events;
struct images;
struct runtime;
struct streaming;

/* What handlers work with; set once, before the first call. */
struct services {
    const struct configuration *configuration;
    struct images *images;
    struct runtime *runtime;
    struct streaming *streaming;
    struct events *events;
};

struct call {
    const struct services *services;
    const struct cancel *cancel; /* NULL for calls that wait for nothing */
    /* Of a stream, else NULL: send one more message (NULL: only let the caller know that the stream is open) and wait until it is out of our
     * hands. Fails with ERR_CANCELLED or ERR_DEADLINE when the caller's patience ends. */
    int (*send)(struct call *call, const ProtobufCMessage *message, struct error *err);
    struct arena arena;
    struct {
        size_t room, bytes;
        bool sent;
    } list;             /* answer_add's */
    const char *object; /* whom the call is about, for the log; "" when it is about nobody */
    struct call_release *releases;
};

/* From the call's arena. */
void *call_alloc(struct call *call, size_t size);
/* For the log: the pod, container or image the call is about. `object` must live as long as the call. */
void call_about(struct call *call, const char *object);
/* Have release(what) called when the answer was sent, the last one first: answers point into what the runtime handed out. */
void call_defer(struct call *call, void (*release)(void *), void *what);
/* End the caller's patience: what waits or sends on behalf of the call ends. Any thread, while the call is handled. */
void call_give_up(const struct call *call);
void call_end(struct call *call);
