/* A pod's wishes in CNI's words: CNI_ARGS, and the capability arguments of CNI's CONVENTIONS.md. No state; any thread. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "runtime/network/cni_config.h"
#include "runtime/network/network.h"

/* The record (record.h) of an attachment before ADD: {"kind": "cni", "pod", "netns", "file", "config", "args", "capabilities"}; ADD's end puts "ips"
 * and "result" in. NULL with ERR_INVALID for a name that CNI_ARGS cannot carry. */
json_t *cni_request_record(const struct network_request *request, const struct cni_config *config, struct error *err);
