/* Messages between crispd and its helpers (crisp-monitor, crisp-pull): one datagram each on a SOCK_SEQPACKET socket, at most MESSAGE_MAX bytes, with
 * up to MESSAGE_FDS_MAX fds by SCM_RIGHTS. What is larger travels as a sealed memfd (file_sealed_memfd).
 *
 * A message is a header and fields; a field is a tag, a length, and bytes. A reader skips tags it does not know and takes a missing field for zero or
 * empty, so that a new crispd talks to monitors that an older one started. Tags are never reused. The header's version is that of this form: it
 * changes only where an older reader would misread it, which then refuses the message. Building and reading allocate nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { MESSAGE_MAX = 96 << 10, MESSAGE_FDS_MAX = 8, MESSAGE_VERSION = 1 };

struct message {
    uint16_t type;   /* of the protocol's own enum */
    uint32_t serial; /* an answer carries its request's; 0 in events */
    size_t length;   /* of data in use */
    int fds[MESSAGE_FDS_MAX];
    size_t fd_count; /* of fds received (owned by the message until message_take_fd) or to send (borrowed) */
    unsigned char data[MESSAGE_MAX];
};

/* Start building; forgets what was there, without closing anything. */
void message_begin(struct message *m, uint16_t type, uint32_t serial);
/* Append a field. Too much is remembered and makes message_send fail with ERR_EXHAUSTED. */
void message_put(struct message *m, uint16_t tag, const void *value, size_t length);
void message_put_string(struct message *m, uint16_t tag, const char *value); /* NULL is left out */
void message_put_u64(struct message *m, uint16_t tag, uint64_t value);
void message_put_i64(struct message *m, uint16_t tag, int64_t value);
/* The fd stays the caller's; it must be open until message_send returned. */
void message_put_fd(struct message *m, int fd);

/* 0 sent; -1 with ERR_UNAVAILABLE when the peer is gone, ERR_EXHAUSTED when the socket is full (non-blocking) or the message too large. */
int message_send(int socket, const struct message *m, struct error *err);
/* 1 received (whole and well-formed), 0 the peer has closed, -1 error: ERR_EXHAUSTED with errnum EAGAIN where a non-blocking socket has nothing,
 * ERR_INVALID for a malformed datagram or one of another version: its fds are closed, and m->serial is what stands where a serial does (0 in one that
 * is too short), so that its sender can be told. */
int message_receive(int socket, struct message *m, struct error *err);

/* Read a field: the first of that tag. A string is NUL-terminated inside the message and lives as long as it. */
const char *message_string(const struct message *m, uint16_t tag); /* "" when absent */
uint64_t message_u64(const struct message *m, uint16_t tag);
int64_t message_i64(const struct message *m, uint16_t tag);
const void *message_bytes(const struct message *m, uint16_t tag, size_t *length); /* NULL when absent */
/* Walk repeated fields: start with *cursor = 0; NULL at the end. */
const void *message_next(const struct message *m, uint16_t tag, size_t *cursor, size_t *length);

/* The i-th received fd, now the caller's; -1 when there is none. */
int message_take_fd(struct message *m, size_t i);
/* Close the received fds nobody took. */
void message_close_fds(struct message *m);
