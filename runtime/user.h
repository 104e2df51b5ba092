/* Who a container runs as: "uid", "name", "uid:gid", "name:group" with names looked up in the image's /etc/passwd and /etc/group. */
#pragma once

#include "base/error.h"
#include "runtime/objects.h"

/* Fill `out` (owned by the caller). ERR_INVALID for a name that the image does not have or a number that is no id. */
int user_resolve(const char *layers_dir, const struct container_config *config, struct credentials *out, struct error *err);
