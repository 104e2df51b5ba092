/* The end of a pod, however it comes: asked for, by its monitor's death, or found at start. */
#pragma once

#include "runtime/objects.h"

/* Kill its containers, give network, namespaces and monitor back, record NOTREADY with `reason` ("" where it was asked for). The caller has the pod's
 * turn. What is done already is skipped, so that it may be called again after a failure (a CNI plugin that fails, say). */
int pod_bring_down(struct runtime *rt, struct pod *pod, const char *reason, struct error *err);

/* hub_options.lost: must not block, so the rest is done in a thread. */
void pod_lost(void *arg, const char *pod_id);
