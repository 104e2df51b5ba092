/* A client's connection, TCP or TLS, in the loop: bytes in as they come, bytes out through a buffer with a limit.
 *
 *   open ──conn_finish──▶ finishing (sends what waits, then waits for the client to close) ──▶ gone
 *     └──the client leaves, or reads nothing while it asks for more: owner->lost──▶ gone           └─ conn_close at any time
 *
 * It frees itself once it is gone and the running handler has returned; after conn_finish, conn_close or `lost` its owner forgets it. */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "cri/streaming/loop.h"

struct conn;

struct conn_owner {
    void (*input)(void *owner, char *data, size_t length); /* may be changed in place; valid until it returns */
    void (*room)(void *owner);                             /* there is room for output again; may be NULL */
    void (*lost)(void *owner);
};

/* Takes fd, non-blocking. `tls`: NULL or the server's context. */
struct conn *conn_new(struct loop *loop, int fd, SSL_CTX *tls, const struct conn_owner *callbacks, void *owner);
void conn_set_owner(struct conn *conn, const struct conn_owner *callbacks, void *owner);
struct loop *conn_loop(const struct conn *conn);
/* Monotonic: when bytes last went in or out. */
int64_t conn_last_active_ns(const struct conn *conn);

/* Output: the place for `length` more bytes, of which conn_commit says how many there are. They are sent when the handler has returned. */
char *conn_reserve(struct conn *conn, size_t length);
void conn_commit(struct conn *conn, size_t length);
void conn_send(struct conn *conn, const void *data, size_t length);
/* Whether those who produce output shall; where not, owner->room comes. */
bool conn_has_room(struct conn *conn);
/* Do not read from the client, who is noticed to leave nevertheless; and read on. */
void conn_pause(struct conn *conn, bool paused);

void conn_finish(struct conn *conn);
void conn_close(struct conn *conn);
/* The loop has ended: so do those that wait for their clients to close. */
void conns_close(struct loop *loop);
