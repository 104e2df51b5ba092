/* Results of CNI ADD, converted between the versions of the spec: 0.3 and 0.4 name each address's family in "version", 1.x do not; 1.1 knows fields
 * of interfaces and routes that the others do not. No state; any thread. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

/* Check a plugin's result and bring it to version `to`. A result without cniVersion is of version `to`. ERR_INVALID with what is wrong (no object, an
 * address that is none, an interface index out of range, a version that crisp does not speak). The caller decrefs. */
json_t *cni_result_convert(const json_t *result, const char *to, struct error *err);

/* The pod's addresses, in the result's order: of the interfaces in a sandbox, and those of no interface. */
void cni_result_ips(const json_t *result, struct strv *ips);
