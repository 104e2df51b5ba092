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

/* Days since 1970-01-01 as year, month, day of the Gregorian calendar: counted in years that begin in March, so that the leap day is the last, and in
 * eras of 400 years (146097 days), of which all are alike. gmtime_r would read /etc/localtime and allocate, which the monitor must not. */
static void
civil_date(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t shifted = days + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned march_month = (5 * of_year + 2) / 153;
    *day = of_year - (153 * march_month + 2) / 5 + 1;
    *month = march_month < 10 ? march_month + 3 : march_month - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2);
}

void
clock_format_rfc3339(int64_t unix_ns, char *out)
{
    int64_t seconds = unix_ns / NS_PER_SECOND - (unix_ns % NS_PER_SECOND < 0), year;
    int64_t days = seconds / 86400 - (seconds % 86400 < 0);
    unsigned of_day = (unsigned)(seconds - days * 86400), month, day;
    civil_date(days, &year, &month, &day);
    (void)snprintf(out, CLOCK_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%09uZ", (unsigned)year % 10000U, month % 100, day % 100,
                   of_day / 3600 % 100, of_day / 60 % 60, of_day % 60, (unsigned)(unix_ns - seconds * NS_PER_SECOND) % 1000000000U);
}
