/* Configurations of pods and containers: their members as tables (runtime/fields.h), from which their records, copies and ends are made, and their
 * shared references. */
#pragma once

#include "runtime/fields.h"
#include "runtime/runtime.h"

extern const struct fields pod_config_fields, container_config_fields, resources_fields;

/* "uid/namespace/name/attempt" and "pod id/name/attempt": what makes a call the same as another. Caller frees. */
char *pod_config_key(const struct pod_config *config);
char *container_config_key(const char *pod_id, const struct container_config *config);
