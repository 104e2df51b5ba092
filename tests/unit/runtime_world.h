/* A small world for tests of the runtime: a temporary directory with one busybox layer, network, mount and IPC namespaces of its own, the built-in
 * network, a runtime. Needs root; world_make says false where that is missing. */
#pragma once

#include <stdbool.h>

#include "runtime/runtime.h"

struct world {
    char dir[64];
    char *root, *state, *layers, *logs, *cni;
    char *cgroup, *monitors; /* parents of cgroups, of this process alone */
    struct runtime_options options;
    struct runtime *rt;
};

/* Namespaces and directories, once a process. */
bool world_make(struct world *world);
/* The runtime; aborts with its words where it fails. */
void world_open(struct world *world);
void world_close(struct world *world);
/* Removes the directories; returns what is left over ("" when nothing): mounts, cgroups, netns, monitors, records. Static. */
const char *world_leftovers(struct world *world);
void world_unmake(struct world *world);
/* All of this at the end of a group of tests: -1, and what it is printed, where something is left over. */
int world_end(struct world *world);

/* A pod named `name`; with the builder's choices of the caller made after it. */
struct pod_config *world_pod(const struct world *world, const char *name);
/* A container of `pod_id` that runs `sh -c script`. */
struct container_config *world_container(const char *pod_id, const char *name, const char *script);
/* Run, create, start with a script; fail the test with the error's words. */
void world_run_pod(struct world *world, const char *name, char id[ID_SIZE]);
void world_run_container(struct world *world, const char *pod_id, const char *name, const char *script, char id[ID_SIZE]);
/* Run `sh -c script` in the container; its stdout, static, cut at 64 KiB; "" with the exit code in *code. */
const char *world_exec(struct world *world, const char *id, const char *script, int *code);
/* Wait until it is EXITED (10 s), and its exit code. */
int world_exit_code(struct world *world, const char *id);
