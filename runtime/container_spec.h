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

/* Whose pid namespace it is in; POD means: as the pod has it. */
enum namespace_mode container_pid_mode(const struct container *container);
/* Its init is a child of the process that makes the root file system (SPEC_ENTER): others may look at it from its first moment in the pid namespace,
 * or it lacks the rights. */
bool container_enters(const struct container *container);

/* Then it has no other root than the container's. In a user namespace the host's /proc must be in sight when one is mounted, and the kernel lets
 * nobody there look at a process of ours. */
bool container_pivots_early(const struct container *container);

/* `options` (or NULL) of a new mount with the label for all that is in it, where SELinux is in charge; caller frees. */
char *mount_options_labelled(const char *options, const char *label);
/* Options of an overlay: its lower directories, `lowest` beneath the layers. False where they do not fit. */
enum { OVERLAY_OPTIONS_MAX = 4095 /* mount(2) takes one page */ };
bool overlay_lowers(struct buf *options, const struct strv *layers, const char *lowest);
/* That sentence, ERR_INVALID; always -1. */
int overlay_too_long(size_t layers, struct error *err);

/* runtime/mounts.c: everything mounted in the container's root, in order, then its devices and links in /dev. SPEC_ENTER is among it. ERR_INVALID
 * where an image to be mounted has too many layers, or a place that the init mounts itself. */
int mounts_compile(struct runtime *rt, const struct container *container, const struct devices *devices, struct spec_builder *b, struct error *err);
