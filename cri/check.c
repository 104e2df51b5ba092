#include "cri/check.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/str.h"
#include "cri/limits.h"

int
check_id(const char *id, const char *what, struct error *err)
{
    if (str_empty(id))
        return error_set(err, ERR_INVALID, "%s is empty", what);
    if (strchr(id, '/') || id[0] == '.')
        return error_set(err, ERR_INVALID, "%s \"%.100s\" is no id", what, id);
    if (!id_prefix_valid(id))
        return error_set(err, ERR_NOT_FOUND, "%s \"%.100s\" is not there", what, id);
    return 0;
}

int
check_count(size_t count, const char *what, struct error *err)
{
    return count > LIST_MAX ? error_set(err, ERR_INVALID, "%s: %zu entries are more than %d", what, count, LIST_MAX) : 0;
}

int
check_range(int64_t value, int64_t least, int64_t most, const char *what, struct error *err)
{
    if (value >= least && value <= most)
        return 0;
    return error_set(err, ERR_INVALID, "%s: %lld is not within %lld and %lld", what, (long long)value, (long long)least, (long long)most);
}

int
check_path(const char *path, const char *what, struct error *err)
{
    cleanup_strv struct strv parts = {0};
    strv_split(&parts, path, '/', true);
    if (path[0] != '/' || strv_has(&parts, ".."))
        return error_set(err, ERR_INVALID, "%s: \"%.200s\" is not absolute or leads upwards", what, path);
    return 0;
}

int
check_line(const char *text, int blanks, const char *what, struct error *err)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (iscntrl(*c) || (!blanks && isspace(*c)))
            return error_set(err, ERR_INVALID, "%s: \"%.100s\" holds a blank or a control character", what, text);
    return *text ? 0 : error_set(err, ERR_INVALID, "%s: it is empty", what);
}

int
check_seconds(int64_t seconds, const char *what, int64_t *out_ns, struct error *err)
{
    TRY(check_range(seconds, 0, INT64_MAX, what, err));
    *out_ns = seconds > INT64_MAX / 2 / NS_PER_SECOND ? INT64_MAX / 2 : seconds * NS_PER_SECOND;
    return 0;
}

int
forgive_absence(struct error *err)
{
    if (err->kind != ERR_NOT_FOUND)
        return -1;
    *err = (struct error){0};
    return 0;
}
