#include "runtime/operation.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"

struct operation *
operation_new(pthread_mutex_t *lock)
{
    struct operation *operation = mem_zalloc(1, sizeof *operation);
    operation->lock = lock;
    operation->references = 1;
    operation->stage = "beginning";
    operation->began_ns = operation->stage_ns = clock_monotonic_ns();
    return operation;
}

void
operation_stage(struct operation *operation, const char *stage)
{
    pthread_mutex_lock(operation->lock);
    operation->stage = stage;
    operation->stage_ns = clock_monotonic_ns();
    pthread_mutex_unlock(operation->lock);
}

void
operation_end(struct operation *operation, const struct error *error)
{
    operation->done = true;
    operation->failed = error != NULL;
    if (error)
        operation->error = *error;
    waiters_wake(&operation->waiters);
}

void
operation_drop(struct operation *operation)
{
    if (--operation->references == 0)
        free(operation);
}

static double
seconds_since(int64_t then_ns)
{
    return (double)(clock_monotonic_ns() - then_ns) / (double)NS_PER_SECOND;
}

int
operation_wait(struct operation *operation, const struct cancel *cancel, struct error *err)
{
    operation->references++;
    int result = 0;
    while (!operation->done && result >= 0)
        result = waiters_wait(&operation->waiters, operation->lock, cancel, INT64_MAX, "waiting for it to end", err);
    if (operation->done) {
        result = operation->failed ? -1 : 0;
        if (operation->failed && err)
            *err = operation->error;
    } else {
        error_prefix(err, "in stage \"%s\" for %.1f s (began %.1f s ago; it goes on, ask again)", operation->stage,
                     seconds_since(operation->stage_ns), seconds_since(operation->began_ns));
    }
    operation_drop(operation);
    return result < 0 ? -1 : 0;
}
