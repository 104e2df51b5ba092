/* One pull: from a reference to unpacked, flushed layers and a message that says where they are. Runs in a thread of its own.
 *
 *   resolve ──▶ manifest ──▶ signature ──▶ configuration ──▶ ask crispd what is there ──▶ fetch the rest ──▶ settle ──▶ flush and digest
 *       ──▶ PULL_DONE ──▶ wait for PULL_COMMITTED
 *
 * An import goes the same way for each image of its archive, with a pull of its own for each, up to the flush; then it sends PULL_DONE for one after
 * the other, so that a bad archive leaves nothing.
 *
 * Any step's failure is PULL_FAILED. The main thread hands crispd's messages in; the pull frees itself after its end. */
#pragma once

#include "base/message.h"
#include "imageservice/pull/layers.h"

struct pull;

/* What all pulls share. */
struct pull_context {
    int socket;     /* to crispd */
    int incoming;   /* fd of the session's directory */
    int partial;    /* fd of images/partial */
    int layers_dir; /* fd of the store's layers, read-only */
    int blobs_dir;  /* fd of images/blobs, read-only */
    bool keep_blobs;
    struct registry_context registries;
    struct layers *layers;
};

/* Begin what PULL_START, PULL_IMPORT or PULL_EXPORT (whose fds are taken) says. Returns at once; a failure to begin is answered with PULL_FAILED. */
void pull_start(const struct pull_context *context, struct message *start);
/* PULL_HAVE, PULL_CANCEL or PULL_COMMITTED for a pull under way; for one that is gone it is ignored. */
void pull_message(struct message *message);
/* Cancel all and wait until they are gone. */
void pull_end_all(void);
