/* One fd with a few bytes, over a unix socket (SCM_RIGHTS): how a terminal's master goes from the process that opened it to the monitor, and from
 * there to crispd. Nothing is allocated. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* As send(2); the fd stays the caller's. */
ssize_t fd_send(int socket, const void *data, size_t length, int fd);
/* As recv(2), without waiting; *fd is the caller's, close-on-exec, -1 when none came. */
ssize_t fd_receive(int socket, void *data, size_t length, int *fd);
