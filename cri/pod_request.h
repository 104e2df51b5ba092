/* RunPodSandboxRequest → what the runtime runs. */
#pragma once

#include "api.pb-c.h"
#include "base/error.h"
#include "runtime/runtime.h"

/* The runtime's form of the request: the caller's to hand to pod_run or free. NULL with ERR_INVALID naming the field where the request
 * cannot be put into that form (what it means is the runtime's to judge), ERR_UNSUPPORTED for what crisp
 * does not build. Puts the request's maps in order (wire_sort_maps). */
struct pod_config *pod_request_read(Runtime__V1__RunPodSandboxRequest *request, struct error *err);

/* The request in a form that equals another's exactly when they ask the same: packed, with its maps in order. `*bytes` is the caller's to free. */
void request_canonical(ProtobufCMessage *request, void **bytes, size_t *length);
