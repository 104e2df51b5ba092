/* What systemd, or another service manager, and crispd say to each other: sd_notify(3) and sd_listen_fds(3), whose protocols are a datagram and three
 * variables. libsystemd would bring seven libraries and 1.5 MB of resident memory along. */
#pragma once

#include "base/error.h"

/* "READY=1", "STOPPING=1". Nothing happens where no manager listens. */
void service_notify(const char *state);

/* The listening unix stream socket the manager passed, CLOEXEC and non-blocking; -1 with err untouched when it passed none, -1 with ERR_INVALID when
 * it passed something else. To be called once. */
int service_passed_socket(struct error *err);
