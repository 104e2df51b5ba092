#include "ctl/format.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

static const char digest_prefix[] = "sha256:";

enum { SHORT_ID = 12 };

char *
format_id(const char *id)
{
    if (str_starts(id, digest_prefix))
        id += strlen(digest_prefix);
    return str_ndup(id, strnlen(id, SHORT_ID));
}

char *
format_age(int64_t unix_ns)
{
    static const struct {
        int64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    if (unix_ns <= 0)
        return str_dup("-");
    int64_t seconds = (clock_now_ns() - unix_ns) / NS_PER_SECOND;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (seconds >= units[i].seconds)
            return str_printf("%" PRId64 "%c", seconds / units[i].seconds, units[i].unit);
    }
    return str_dup("0s");
}

char *
format_bytes(uint64_t bytes)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB"};
    if (bytes < 1000)
        return str_printf("%" PRIu64 " B", bytes);
    double value = (double)bytes / 1000;
    size_t unit = 0;
    for (; value >= 999.95 && unit + 1 < sizeof units / sizeof *units; unit++)
        value /= 1000;
    return str_printf("%.1f %s", value, units[unit]);
}

char *
format_image(const Runtime__V1__ImageSpec *image)
{
    if (!image)
        return str_dup("-");
    if (!str_empty(image->user_specified_image))
        return str_dup(image->user_specified_image);
    return str_starts(image->image, digest_prefix) ? format_id(image->image) : str_dup(image->image);
}

const char *
format_container_state(Runtime__V1__ContainerState state)
{
    static const char *const names[] = {
        [RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED] = "created",
        [RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING] = "running",
        [RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED] = "exited",
    };
    size_t i = (size_t)state;
    return i < sizeof names / sizeof *names ? names[i] : "unknown";
}
