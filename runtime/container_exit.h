/* How a container comes to EXITED: its monitor says so, a record says so, or it is known that nothing of it can live any more. */
#pragma once

#include "runtime/objects.h"

/* hub_options.exited; takes the lock, blocks on nothing. */
void container_exited(void *arg, const char *pod_id, const char *container_id, const struct exit_report *report);

/* With the lock held. `reason` "" means what the report tells (Completed, Error, OOMKilled). False where it had ended before. */
bool container_end(struct runtime *rt, struct container *container, const struct exit_report *report, const char *reason, const char *message);

/* With the lock held: move it on to EXITED where its end was reported and nothing holds that back any more. */
void container_end_if_exited(struct runtime *rt, struct container *container);

/* Its processes are gone for certain (killed by cgroup, monitor gone): take its exit record, or say 137 with `reason`. Records it. */
void container_settle(struct runtime *rt, struct container *container, const char *reason);
