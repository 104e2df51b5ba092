/* Capabilities of a container as bit masks (capabilities(7)). */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "runtime/runtime.h"

struct caps {
    uint64_t allowed; /* effective, permitted, bounding */
    uint64_t ambient; /* inheritable and ambient */
};

/* What this process may give at all. */
uint64_t caps_bounding_set(void);
/* "CAP_NET_ADMIN", "net_admin" → mask; "ALL" → `all`. ERR_INVALID for a name that is no capability. */
int caps_parse(const char *name, uint64_t all, uint64_t *out, struct error *err);
/* The default fourteen, less what is dropped, plus what is added; all for privileged ones; never more than `bounding`. ERR_INVALID for a name that is
 * no capability. */
int caps_resolve(const struct container_config *config, uint64_t bounding, struct caps *out, struct error *err);
