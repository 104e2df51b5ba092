/* Records on disk, below root:
 *
 *   pods/ID/record, containers/ID/record   what is known of it
 *   pods/ID/network.json                   the network's (runtime/network)
 *   containers/ID/exit                     the monitor's (runtime/exit_record.h)
 *   containers/ID/upper, work              the writable layer
 *   trash/                                 directories on their way out
 *   set-aside/                             records that were damaged or said what another says
 *
 * A record is lines of JSON, one object a line. The first line is the configuration and the request as the kubelet sent it (base64 of the form that
 * cri/ gave); each further line is the state from then on: the last whole one counts, a torn one at the end is as if it had not been written. A
 * record without a state was never finished: its beginnings are undone at start. So a state costs one write and no new inode (on ext4, making files
 * where many were deleted is what a start waits for longest). A record that has grown is replaced as a whole.
 *
 * Nothing here is fsynced in a caller's time: the janitor does that within a second. */
#pragma once

#include "runtime/objects.h"

enum {
    RECORD_VERSION = 1,
    RECORD_MAX = 64 << 20,    /* a request is at most 16 MiB; JSON and base64 make it larger */
    RECORD_GROWN = 128 << 10, /* states that follow the first line; then the record is replaced */
};

/* Make pods/ID with the configuration. On failure nothing is left. Returns an fd of it. */
int record_pod_new(struct runtime *rt, const struct pod *pod, struct error *err);
/* Append the pod's present state (takes the lock to read it). */
int record_pod_state(struct runtime *rt, struct pod *pod, struct error *err);
int record_pod_dir(struct runtime *rt, const char *id, struct error *err);

/* Make containers/ID with configuration, upper and work. */
int record_container_new(struct runtime *rt, const struct container *container, struct error *err);
int record_container_state(struct runtime *rt, struct container *container, struct error *err);

/* Out of sight at once, deleted soon. What is gone is fine. */
void record_pod_discard(struct runtime *rt, const char *id);
void record_container_discard(struct runtime *rt, const char *id);

enum record_loaded {
    RECORD_WHOLE,
    RECORD_UNFINISHED, /* configuration only: its making was cut short */
    RECORD_ORPHAN,     /* a container whose pod is not there any more */
    RECORD_DAMAGED,    /* err says how */
};
/* Fill an object in its memory (one reference, in no table). With RECORD_DAMAGED *out is NULL; with RECORD_UNFINISHED it has the configuration if
 * that was readable, else NULL. */
enum record_loaded record_pod_load(struct runtime *rt, const char *id, struct pod **out, struct error *err);
/* Pods must be in their table. An orphan, and where its state can be read a damaged one, has no pod, but a cgroup. */
enum record_loaded record_container_load(struct runtime *rt, const char *id, struct container **out, struct error *err);
/* Move a directory of pods/ or containers/ to set-aside/ and remember why, for runtime_info_json. */
void record_set_aside(struct runtime *rt, const char *kind, const char *id, const char *why);
