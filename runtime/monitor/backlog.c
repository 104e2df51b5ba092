#include "runtime/monitor/backlog.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int
backlog_open(struct backlog *backlog, size_t size)
{
    *backlog = (struct backlog){.size = size};
    if (!size)
        return 0;
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bytes == MAP_FAILED)
        return errno;
    backlog->bytes = bytes;
    return 0;
}

void
backlog_close(struct backlog *backlog)
{
    if (backlog->bytes)
        (void)munmap(backlog->bytes, backlog->size);
    *backlog = (struct backlog){.size = 0};
}

/* Copy in behind what is used. */
static void
put_bytes(struct backlog *backlog, const void *data, size_t length)
{
    size_t at = (backlog->from + backlog->used) % backlog->size, to_end = backlog->size - at;
    size_t first = length < to_end ? length : to_end;
    memcpy(backlog->bytes + at, data, first);
    memcpy(backlog->bytes, (const char *)data + first, length - first);
    backlog->used += length;
}

static void
look_at(const struct backlog *backlog, void *data, size_t length)
{
    size_t to_end = backlog->size - backlog->from, first = length < to_end ? length : to_end;
    memcpy(data, backlog->bytes + backlog->from, first);
    memcpy((char *)data + first, backlog->bytes, length - first);
}

static void
take_bytes(struct backlog *backlog, void *data, size_t length)
{
    look_at(backlog, data, length);
    backlog->from = (backlog->from + length) % backlog->size;
    backlog->used -= length;
}

bool
backlog_put(struct backlog *backlog, const struct backlog_piece *piece, const char *data)
{
    if (backlog->size - backlog->used < sizeof *piece + piece->length)
        return false;
    put_bytes(backlog, piece, sizeof *piece);
    put_bytes(backlog, data, piece->length);
    return true;
}

bool
backlog_peek(const struct backlog *backlog, struct backlog_piece *piece)
{
    if (!backlog->used)
        return false;
    look_at(backlog, piece, sizeof *piece);
    return true;
}

void
backlog_take(struct backlog *backlog, struct backlog_piece *piece, char *data)
{
    take_bytes(backlog, piece, sizeof *piece);
    take_bytes(backlog, data, piece->length);
    if (backlog->used)
        return;
    backlog->from = 0;
    (void)madvise(backlog->bytes, backlog->size, MADV_DONTNEED);
}
