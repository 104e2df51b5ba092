/* CRI's IDMappings, of pods and of mounts, to the runtime's form and back. Which make sense is the runtime's to say (runtime/idmap.h). */
#pragma once

#include "api.pb-c.h"
#include "cri/call.h"
#include "runtime/runtime.h"

int id_mappings_read(struct id_mapping **out, size_t *out_count, Runtime__V1__IDMapping *const *in, size_t count, const char *what,
                     struct error *err);
/* For an answer: *list gets the messages, the count is returned. */
size_t id_mappings_write(struct call *call, const struct id_mapping *in, size_t count, Runtime__V1__IDMapping ***list);
