/* Time: nanoseconds as int64_t. Wall-clock times (clock_now_ns) are for people and for CRI's timestamps; durations and deadlines use
 * clock_monotonic_ns. */
#pragma once

#include <stdint.h>

enum { CLOCK_RFC3339_SIZE = 31 }; /* "2026-01-02T03:04:05.678901234Z" and its NUL */

#define NS_PER_SECOND INT64_C(1000000000)
#define NS_PER_MS     INT64_C(1000000)

int64_t clock_now_ns(void);
int64_t clock_monotonic_ns(void);
/* Of two deadlines the one that comes first; INT64_MAX is never. */
static inline int64_t
clock_earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
/* RFC 3339 with nanoseconds, UTC; `out` has CLOCK_RFC3339_SIZE bytes. */
void clock_format_rfc3339(int64_t unix_ns, char *out);
