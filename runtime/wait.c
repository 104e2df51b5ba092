#include "runtime/wait.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"

struct waiter {
    int fd;
    struct waiter *prev, *next;
};

int
waiters_wait(struct waiters *waiters, pthread_mutex_t *lock, const struct cancel *cancel, int64_t timeout_ns, const char *stage, struct error *err)
{
    struct waiter self = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (self.fd < 0)
        return error_errno(err, errno, "%s", stage);
    DL_APPEND(waiters->head, &self);
    pthread_mutex_unlock(lock);
    int woken = cancel_wait(cancel, self.fd, timeout_ns, stage, err);
    pthread_mutex_lock(lock);
    DL_DELETE(waiters->head, &self);
    (void)close(self.fd);
    return woken;
}

void
waiters_wake(struct waiters *waiters)
{
    struct waiter *waiter;
    DL_FOREACH(waiters->head, waiter)
    (void)eventfd_write(waiter->fd, 1);
}

int
turn_take(struct turn *turn, pthread_mutex_t *lock, const char *what, const struct cancel *cancel, struct error *err)
{
    while (turn->holder) {
        if (waiters_wait(&turn->waiters, lock, cancel, INT64_MAX, what, err) < 0)
            return turn->holder ? error_prefix(err, "%s is under way for %.1f s", turn->holder,
                                               (double)(clock_monotonic_ns() - turn->since_ns) / (double)NS_PER_SECOND)
                                : -1;
    }
    turn->holder = what;
    turn->since_ns = clock_monotonic_ns();
    return 0;
}

void
turn_give(struct turn *turn)
{
    turn->holder = NULL;
    waiters_wake(&turn->waiters);
}
