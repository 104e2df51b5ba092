/* From a container's configuration to its launch spec (runtime/spec.h): all that its init, or an exec in it, does between clone and exec. */
#pragma once

#include "runtime/devices.h"
#include "runtime/objects.h"
#include "runtime/spec.h"

/* The spec of a container's init; caller frees. NULL with ERR_INVALID where the configuration cannot be had. */
struct spec_builder *container_spec(struct runtime *rt, const struct container *container, const struct devices *devices, struct error *err);
/* The spec of an exec of `command` in it, with a terminal of its own where `tty`. */
struct spec_builder *exec_spec(struct runtime *rt, const struct container *container, const struct strv *command, bool tty, struct error *err);

/* "POD's hostname" or the node's: what HOSTNAME and /etc/hostname say. Caller frees. */
char *pod_hostname(const struct pod_config *config);

/* runtime/mounts.c: everything mounted in the container's root, in order, then its devices and links in /dev. */
void mounts_compile(struct runtime *rt, const struct container *container, const struct devices *devices, struct spec_builder *b);
