/* Bytes between a stream and an fd (a pipe, a terminal's master, a socket), both without blocking.
 *
 * A tap brings what an fd has to the client, as long as the client's connection has room. A sink takes what the client sends to an fd, keeping what
 * the fd does not take yet; above INPUT_HIGH its owner lets the client's connection rest, above INPUT_MAX it fails. Both own their fd. */
#pragma once

#include "cri/streaming/carrier.h"

struct tap {
    struct loop *loop;
    struct watch watch; /* fd -1: not open, or over */
    void *owner;
    struct stream *stream;                        /* NULL: the client does not want it any more: read and thrown away */
    void (*moved)(struct tap *tap, size_t bytes); /* so much was read; may be NULL */
    void (*ended)(struct tap *tap, int errnum);   /* 0: its end. It is closed */
};

void tap_open(struct tap *tap, struct loop *loop, int fd, struct stream *stream);
/* There is room again. */
void tap_resume(struct tap *tap);
/* It does not read for want of room. */
bool tap_rests(const struct tap *tap);
void tap_close(struct tap *tap);

struct sink {
    struct loop *loop;
    struct watch watch; /* fd -1: not open yet (it keeps what comes), or over */
    struct buf waiting;
    size_t from;                                   /* of what waits: written already */
    bool ending;                                   /* nothing comes any more: when all is written, `drained` */
    bool over;                                     /* takes nothing: what comes is thrown away */
    bool full;                                     /* above INPUT_HIGH, and not yet down to INPUT_LOW */
    void (*changed)(struct sink *sink);            /* `full` did */
    void (*drained)(struct sink *sink);            /* all was written after sink_end; its owner closes it */
    void (*failed)(struct sink *sink, int errnum); /* nobody takes it any more, or ENOBUFS: it is over and closed */
};

/* `loop` and the callbacks must be set before. */
void sink_open(struct sink *sink, int fd);
void sink_put(struct sink *sink, const char *data, size_t length);
void sink_end(struct sink *sink);
void sink_close(struct sink *sink);
/* Bytes that wait to be taken. */
size_t sink_waiting(const struct sink *sink);
