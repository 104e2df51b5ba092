#include "base/cancel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

int
cancel_open(struct cancel *cancel, int64_t deadline_ns, struct error *err)
{
    cancel->deadline_ns = deadline_ns;
    cancel->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return cancel->fd < 0 ? error_errno(err, errno, "eventfd") : 0;
}

void
cancel_close(struct cancel *cancel)
{
    if (cancel->fd >= 0)
        (void)close(cancel->fd);
    cancel->fd = -1;
}

void
cancel_now(struct cancel *cancel)
{
    (void)eventfd_write(cancel->fd, 1);
}

bool
cancel_is_set(const struct cancel *cancel)
{
    struct pollfd p = {.fd = cancel ? cancel->fd : -1, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

int
cancel_check(const struct cancel *cancel, const char *stage, struct error *err)
{
    if (!cancel)
        return 0;
    if (cancel_is_set(cancel))
        return error_set(err, ERR_CANCELLED, "the caller went away while %s", stage);
    if (clock_monotonic_ns() >= cancel->deadline_ns)
        return error_set(err, ERR_DEADLINE, "the deadline passed while %s", stage);
    return 0;
}

int
cancel_wait(const struct cancel *cancel, int fd, int64_t timeout_ns, const char *stage, struct error *err)
{
    int64_t start = clock_monotonic_ns();
    int64_t end = timeout_ns > INT64_MAX - start ? INT64_MAX : start + timeout_ns;
    int64_t until = clock_earlier(end, cancel ? cancel->deadline_ns : INT64_MAX);
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = cancel ? cancel->fd : -1, .events = POLLIN}};
    for (;;) {
        int64_t left = until == INT64_MAX ? INT64_MAX : until - clock_monotonic_ns();
        struct timespec ts = {.tv_sec = left / NS_PER_SECOND, .tv_nsec = left % NS_PER_SECOND};
        if (left <= 0)
            ts = (struct timespec){0};
        int n = ppoll(p, 2, left == INT64_MAX ? NULL : &ts, NULL);
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "wait while %s", stage);
        if (n > 0 && p[0].revents)
            return 1;
        if (n >= 0 && cancel_check(cancel, stage, err) < 0)
            return -1;
        if (n == 0 && clock_monotonic_ns() >= end)
            return 0;
    }
}
