/* The making of a container as a table of steps, each with its undo (as runtime/pod_steps.h). */
#pragma once

#include "runtime/objects.h"
#include "runtime/spec.h"

/* For a container in phase MAKING; in the end it is CREATED (or EXITED already) and recorded. */
int container_make(struct runtime *rt, struct container *container, struct error *err);
size_t container_step_count(void);
/* Hold the layers of its image and of the images it mounts, under its id. */
int container_hold_layers(struct runtime *rt, const struct container *container, struct error *err);
/* What is on this machine of a container whose processes are dead, named by its cgroup's path: the cgroup, then the record. Where its last process is
 * still leaving the janitor does it, so that a successor finds the record as long as there is something to remove. */
void container_give_back(struct runtime *rt, const char *cgroup);
/* "<what the operation would have done>: <why not>", as what the request asked for cannot be had: ERR_INVALID for what is missing, in the way, or no
 * program. Always -1. */
int container_launch_error(const struct spec_builder *spec, int failed_op, struct error *err);
