/* An operation: a pod_run or container_create under way, which goes on to its end whoever waits for it.
 *
 *   operation_new ──operation_stage…──▶ operation_end ──the last reference is dropped──▶ freed
 *
 * Those who ask for the same join it and get its result. Everything is guarded by the runtime's lock, except that the thread that carries it out may
 * read its own fields. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/id.h"
#include "runtime/wait.h"

struct operation {
    pthread_mutex_t *lock;
    int references;
    const char *stage; /* static, "network" */
    int64_t began_ns, stage_ns;
    bool done, failed;
    struct error error;
    struct waiters waiters;
};

/* One reference, the caller's. */
struct operation *operation_new(pthread_mutex_t *lock);
/* Takes the lock by itself. */
void operation_stage(struct operation *operation, const char *stage);
/* With the lock held: it is over; `error` NULL means well. Wakes all who wait. */
void operation_end(struct operation *operation, const struct error *error);
/* With the lock held: wait for its end; takes and drops a reference of its own. 0, the operation's own error, or, when the patience ends, an error
 * that names the stage and since when. */
int operation_wait(struct operation *operation, const struct cancel *cancel, struct error *err);
void operation_drop(struct operation *operation);
