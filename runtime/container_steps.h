/* The making of a container as a table of steps, each with its undo (as runtime/pod_steps.h). */
#pragma once

#include "runtime/objects.h"
#include "runtime/spec.h"

/* For a container in phase MAKING; in the end it is CREATED (or EXITED already) and recorded. */
int container_make(struct runtime *rt, struct container *container, struct error *err);
size_t container_step_count(void);
/* Remove its cgroup, now or as soon as its last process has left. */
void container_cgroup_remove(struct runtime *rt, const char *cgroup);
/* "<what the operation would have done>: <why not>", as what the request asked for cannot be had: ERR_INVALID for what is missing, in the way, or no program. Always -1. */
int container_launch_error(const struct spec_builder *spec, int failed_op, struct error *err);
