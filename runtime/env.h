/* The environment of a container's processes. */
#pragma once

#include "runtime/runtime.h"

/* The configured one, with PATH, HOSTNAME, HOME (and with a tty TERM) where missing. Appended to `out`. */
void env_compile(const struct container_config *config, bool tty, const char *hostname, const char *home, struct strv *out);
