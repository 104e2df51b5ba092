/* Waiting under the runtime's lock, and taking turns on one object.
 *
 * A caller waits with its patience (base/cancel.h), which is an fd, so a condition variable will not do: each waiter has an eventfd that whoever
 * changes the object writes to. All functions here are called with the lock held and return with it held; waiting gives it up meanwhile. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"

struct waiter;

/* Those who wait for one object to change. Zero-initialized: nobody. */
struct waiters {
    struct waiter *head;
};

/* 1 woken (look again: it may have been for somebody else), 0 timeout_ns passed (INT64_MAX: none), -1 the patience is over, as cancel_check. */
int waiters_wait(struct waiters *waiters, pthread_mutex_t *lock, const struct cancel *cancel, int64_t timeout_ns, const char *stage,
                 struct error *err);
void waiters_wake(struct waiters *waiters);

/* One thread at a time changes an object; the others wait with their own patience. */
struct turn {
    const char *holder; /* what is being done ("start"), NULL: free. Static */
    int64_t since_ns;
    struct waiters waiters;
};

/* Fails only when the patience ends; the error names who has the turn and since when. */
int turn_take(struct turn *turn, pthread_mutex_t *lock, const char *what, const struct cancel *cancel, struct error *err);
void turn_give(struct turn *turn);
