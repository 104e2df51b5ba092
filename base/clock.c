#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t
now(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_SECOND + ts.tv_nsec;
}

int64_t
clock_now_ns(void)
{
    return now(CLOCK_REALTIME);
}

int64_t
clock_monotonic_ns(void)
{
    return now(CLOCK_MONOTONIC);
}

void
clock_format_rfc3339(int64_t unix_ns, char *out)
{
    time_t seconds = unix_ns / NS_PER_SECOND;
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    size_t n = strftime(out, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, CLOCK_RFC3339_SIZE - n, ".%09uZ", (unsigned)(unix_ns % NS_PER_SECOND) % 1000000000U);
}
