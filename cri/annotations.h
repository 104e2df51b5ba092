/* A pod's wishes for its network that CRI has no field for and users give as annotations. */
#pragma once

#include "base/error.h"
#include "runtime/runtime.h"

/* kubernetes.io/ingress-bandwidth and egress-bandwidth: bits a second as a Kubernetes quantity ("10M", "1.5G", "512Ki"), 1k to 1P
 * (kubernetes.io, "Network Plugins: Support traffic shaping"). io.crisp/mac and io.crisp/ip: the address asked for. ERR_INVALID naming the
 * annotation. */
int annotations_read(struct pod_config *pod, struct error *err);
