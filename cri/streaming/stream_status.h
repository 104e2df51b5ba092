/* How a command ended, as the client reads it from the error stream: text for versions 1 to 3 of channel.k8s.io (nothing: well), a Status of
 * Kubernetes' API in JSON from 4 on. */
#pragma once

#include "base/error.h"

/* Caller frees. `err` NULL: it ran, and `exit_code` is its own. */
char *stream_status(int version, int exit_code, const struct error *err);
