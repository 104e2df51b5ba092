#include "imageservice/pull/tar.h"

#include <archive.h>
#include <archive_entry.h>

#include "base/str.h"

enum { XATTRS_MAX = 64 };

/* libarchive 3.6 reads "-1.5" as -1 s and 0.5 s more. */
static struct timespec
time_of(struct archive_entry *e)
{
    struct timespec t = {archive_entry_mtime(e), archive_entry_mtime_nsec(e)};
    if (t.tv_sec < 0 && t.tv_nsec > 0)
        t = (struct timespec){t.tv_sec - 1, 1000000000 - t.tv_nsec};
    return t;
}

struct tar {
    struct archive *archive;
    struct ring *plain;
    struct error failure; /* of the ring */
};

static la_ssize_t
read_ring(struct archive *archive, void *arg, const void **out)
{
    struct tar *tar = arg;
    const char *data;
    size_t length = 0;
    int result = ring_take(tar->plain, &data, &length, &tar->failure);
    if (result < 0) {
        archive_set_error(archive, EIO, "%s", tar->failure.message);
        return ARCHIVE_FATAL;
    }
    *out = data;
    return result == 0 ? 0 : (la_ssize_t)length;
}

/* The ring's failure came first: libarchive's words only follow from it. */
static int
damaged(const struct tar *tar, struct error *err)
{
    if (tar->failure.kind != ERR_NONE) {
        if (err)
            *err = tar->failure;
        return -1;
    }
    const char *words = archive_error_string(tar->archive);
    return error_set(err, ERR_INVALID, "its archive is damaged: %s", words ? words : "no reason given");
}

static int
read_block(void *arg, const void **data, size_t *length, int64_t *offset, struct error *err)
{
    struct tar *tar = arg;
    int status = archive_read_data_block(tar->archive, data, length, offset);
    if (status == ARCHIVE_EOF)
        return 0;
    return status < ARCHIVE_WARN ? damaged(tar, err) : 1;
}

static int
collect_xattrs(struct archive_entry *e, struct layer_xattr out[XATTRS_MAX], struct error *err)
{
    int count = archive_entry_xattr_reset(e);
    if (count > XATTRS_MAX)
        return error_set(err, ERR_INVALID, "entry %.256s has %d extended attributes; the limit is %d", archive_entry_pathname(e), count, XATTRS_MAX);
    for (int i = 0; i < count; i++)
        (void)archive_entry_xattr_next(e, &out[i].name, &out[i].value, &out[i].size);
    return count;
}

static int
unpack_entry(struct tar *tar, struct archive_entry *e, struct layer *layer, struct error *err)
{
    struct layer_xattr xattrs[XATTRS_MAX];
    const char *path = archive_entry_pathname(e), *hard_link = archive_entry_hardlink(e);
    if (!path)
        return error_set(err, ERR_INVALID, "an entry has no name");
    size_t xattr_count = (size_t)TRY(collect_xattrs(e, xattrs, err));
    struct layer_entry entry = {
        .path = path,
        .link = hard_link ? hard_link : archive_entry_symlink(e),
        .hard_link = hard_link != NULL,
        .mode = archive_entry_mode(e),
        .uid = archive_entry_uid(e),
        .gid = archive_entry_gid(e),
        .device = archive_entry_rdev(e),
        .mtime = time_of(e),
        .size = archive_entry_size(e),
        .xattrs = xattrs,
        .xattr_count = xattr_count,
    };
    return layer_apply(layer, &entry, read_block, tar, err);
}

static int
unpack_all(struct tar *tar, struct layer *layer, struct error *err)
{
    for (;;) {
        struct archive_entry *e;
        int status = archive_read_next_header(tar->archive, &e);
        if (status == ARCHIVE_EOF)
            return 0;
        /* A warning is about a name's encoding or a time out of range; the entry is there. */
        if (status < ARCHIVE_WARN)
            return damaged(tar, err);
        TRY(unpack_entry(tar, e, layer, err));
    }
}

/* What stands behind the archive's end is part of the diff id. */
static int
drain(struct tar *tar, struct error *err)
{
    const char *data;
    size_t length;
    while (TRY(ring_take(tar->plain, &data, &length, err)) > 0)
        continue;
    return 0;
}

static int
unpack(struct tar *tar, struct layer *layer, struct error *err)
{
    (void)archive_read_support_format_tar(tar->archive);
    (void)archive_read_support_format_empty(tar->archive);
    if (archive_read_open(tar->archive, tar, NULL, read_ring, NULL) != ARCHIVE_OK)
        return damaged(tar, err);
    TRY(unpack_all(tar, layer, err));
    return drain(tar, err);
}

int
tar_unpack(struct ring *plain, struct layer *layer, struct error *err)
{
    struct tar tar = {.archive = archive_read_new(), .plain = plain};
    if (!tar.archive)
        return error_set(err, ERR_EXHAUSTED, "no memory for the archive's reader");
    int result = unpack(&tar, layer, err);
    (void)archive_read_free(tar.archive);
    if (result < 0 && err)
        ring_fail(plain, err);
    return result;
}
