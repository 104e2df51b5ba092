#include "imageservice/pull/space.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "imageservice/digest.h"
#include "imageservice/pull/limits.h"

enum { MIB = 1 << 20, RESERVE_MAX_MIB = 256 };

int
space_check(int fd, uint64_t needed, struct error *err)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0 || fs.f_blocks == 0)
        return 0; /* a file system that doesn't tell is tried */
    uint64_t unit = (uint64_t)fs.f_bsize, reserve = fs.f_blocks / 100 * unit, free = fs.f_bavail * unit;
    if (reserve > (uint64_t)RESERVE_MAX_MIB * MIB)
        reserve = (uint64_t)RESERVE_MAX_MIB * MIB;
    if (free >= reserve && free - reserve >= needed)
        return 0;
    if (needed)
        (void)error_set(err, ERR_EXHAUSTED, "it needs %" PRIu64 " MiB of disk at least; %" PRIu64 " MiB are free, of which %" PRIu64 " MiB stay so",
                        (needed + MIB - 1) / MIB, free / MIB, reserve / MIB);
    else
        (void)error_set(err, ERR_EXHAUSTED, "the disk is full but for %" PRIu64 " MiB, and %" PRIu64 " MiB stay free", free / MIB, reserve / MIB);
    if (err)
        err->errnum = ENOSPC;
    return -1;
}

static uint64_t
add_up(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

/* Beside each other at one time are as many as are fetched at once; for sure there is one: the largest. */
void
space_add(struct space_needed *needed, const struct descriptor *layer, int partial, bool keep_blobs)
{
    struct stat st;
    char name[DIGEST_SIZE];
    digest_as_name(layer->digest, name);
    int64_t have = fstatat(partial, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : 0;
    uint64_t rest = have < layer->size ? (uint64_t)(layer->size - have) : 0;
    needed->unpacked = add_up(needed->unpacked, (uint64_t)layer->size);
    if (keep_blobs)
        needed->packed = add_up(needed->packed, rest);
    else if (layer->size >= LIMIT_PARTIAL_BYTES && rest > needed->packed)
        needed->packed = rest;
}
