/* crispd's socket, and the lock that keeps a second crispd off it. One thread. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct listener {
    int fd;
    gid_t group; /* the socket's: its members may speak, as root may */
    char *path;  /* NULL when the service manager made the socket: it stays then */
};

/* Take the lock file, which is made where missing; held as long as the fd is open. ERR_EXISTS with the other process' id when another crispd has it.
 */
int listener_lock(const char *path, struct error *err);

/* Listen on `path`, mode 0660: on the socket the service manager passed, else on one made here. A stale socket is replaced; ERR_EXISTS when somebody
 * answers on it or something else than a socket is there. */
int listener_open(struct listener *listener, const char *path, struct error *err);
/* Stop listening and remove the socket that was made here. */
void listener_close(struct listener *listener);

/* A connection from a peer that is root or of the socket's group (SO_PEERCRED, SO_PEERGROUPS); others are closed at once and logged. -1 when there is
 * none now: with errnum EAGAIN simply none, else why (EMFILE, …). */
int listener_accept(const struct listener *listener, struct error *err);
