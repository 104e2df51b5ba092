#include "runtime/idmap.h"

#include "base/cleanup.h"

enum { RANGE_TEXT_MAX = 33, TEXT_MAX = 4095, RANGES_MAX = TEXT_MAX / RANGE_TEXT_MAX }; /* the kernel takes less than a page of text, at once */

static bool
overlap(uint32_t a, uint32_t a_length, uint32_t b, uint32_t b_length)
{
    return a < (uint64_t)b + b_length && b < (uint64_t)a + a_length;
}

static int
check_range(const struct id_mapping *m, const char *what, struct error *err)
{
    if (m->length == 0)
        return error_set(err, ERR_INVALID, "%s: a range of length 0", what);
    /* The last id means "none". */
    if ((uint64_t)m->host_id + m->length > UINT32_MAX || (uint64_t)m->container_id + m->length > UINT32_MAX)
        return error_set(err, ERR_INVALID, "%s: %u ids from %u inside and %u outside are beyond the last one", what, m->length, m->container_id,
                         m->host_id);
    return 0;
}

static int
check_ranges(const struct id_mapping *list, size_t count, const char *what, struct error *err)
{
    if (count > RANGES_MAX)
        return error_set(err, ERR_INVALID, "%s: %zu ranges are more than %d", what, count, RANGES_MAX);
    for (size_t i = 0; i < count; i++) {
        TRY(check_range(&list[i], what, err));
        for (size_t j = 0; j < i; j++)
            if (overlap(list[i].container_id, list[i].length, list[j].container_id, list[j].length) ||
                overlap(list[i].host_id, list[i].length, list[j].host_id, list[j].length))
                return error_set(err, ERR_INVALID, "%s: two ranges have ids in common", what);
    }
    return 0;
}

int
idmap_check(const struct id_maps *maps, const char *what, bool has_root, struct error *err)
{
    if (maps->uid_count == 0 || maps->gid_count != maps->uid_count)
        return error_set(err, ERR_INVALID, "%s: %zu ranges of user ids and %zu of group ids: as many of either are needed, and one at least", what,
                         maps->uid_count, maps->gid_count);
    TRY(check_ranges(maps->uids, maps->uid_count, what, err));
    TRY(check_ranges(maps->gids, maps->gid_count, what, err));
    if (has_root && (idmap_uid(maps, 0) == NO_ID || idmap_gid(maps, 0) == NO_ID))
        return error_set(err, ERR_INVALID, "%s: the id 0 inside is not mapped", what);
    return 0;
}

static bool
same(const struct id_mapping *a, const struct id_mapping *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].host_id != b[i].host_id || a[i].container_id != b[i].container_id || a[i].length != b[i].length)
            return false;
    return true;
}

bool
idmap_equal(const struct id_maps *a, const struct id_maps *b)
{
    return a->uid_count == b->uid_count && a->gid_count == b->gid_count && same(a->uids, b->uids, a->uid_count) &&
           same(a->gids, b->gids, a->gid_count);
}

static int64_t
outside(const struct id_mapping *list, size_t count, int64_t inside)
{
    for (size_t i = 0; i < count; i++)
        if (inside >= list[i].container_id && inside - list[i].container_id < list[i].length)
            return list[i].host_id + (inside - list[i].container_id);
    return count ? NO_ID : inside;
}

int64_t
idmap_uid(const struct id_maps *maps, int64_t inside)
{
    return outside(maps->uids, maps->uid_count, inside);
}

int64_t
idmap_gid(const struct id_maps *maps, int64_t inside)
{
    return outside(maps->gids, maps->gid_count, inside);
}

static char *
text(const struct id_mapping *list, size_t count)
{
    struct buf out = BUF(TEXT_MAX);
    for (size_t i = 0; i < count; i++)
        (void)buf_addf(&out, "%u %u %u\n", list[i].container_id, list[i].host_id, list[i].length);
    return out.data;
}

char *
idmap_uid_text(const struct id_maps *maps)
{
    return text(maps->uids, maps->uid_count);
}

char *
idmap_gid_text(const struct id_maps *maps)
{
    return text(maps->gids, maps->gid_count);
}
