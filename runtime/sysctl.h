/* Sysctls of a pod: only those that belong to a namespace of its own may be set (kubernetes' "safe" and "unsafe" lists are both within that). */
#pragma once

#include "base/error.h"
#include "runtime/runtime.h"

/* ERR_INVALID naming the first one that the pod may not set: not namespaced, or of a namespace it shares with the host. */
int sysctl_check(const struct pod_config *config, struct error *err);
/* What the operator's configuration sets in pods with a network of their own and the pod does not set by itself; appended to `out`. */
void sysctl_defaults(const struct pod_config *config, const struct runtime_options *options, struct strmap *out);
