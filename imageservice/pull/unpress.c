#include "imageservice/pull/unpress.h"

#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/limits.h"

struct unpress {
    struct ring *packed, *plain;
    struct digest *diff_id;
    int keep;
    bool as_is;
    const char *in; /* what of the packed bytes is at hand */
    size_t in_length;
    int64_t out_bytes;
    char head[18]; /* the first bytes of a member, gathered over the ring's pieces: as many as a zstd frame's header can have */
    size_t head_length;
};

/* 1 there are bytes at hand, 0 the end, -1 failed. */
static int
more(struct unpress *u, struct error *err)
{
    if (u->in_length)
        return 1;
    int taken = TRY(ring_take(u->packed, &u->in, &u->in_length, err));
    if (taken && u->keep >= 0 && file_write_all(u->keep, "the layer's blob", u->in, u->in_length, NULL) < 0) {
        (void)ftruncate(u->keep, 0);
        u->keep = -1;
    }
    return taken;
}

static void
consume(struct unpress *u, size_t length)
{
    u->in += length;
    u->in_length -= length;
}

static char *
room(struct unpress *u, size_t *length, struct error *err)
{
    char *at = ring_room(u->plain, length);
    if (!at)
        (void)error_set(err, ERR_CANCELLED, "unpacking ended early");
    return at;
}

static int
produced(struct unpress *u, const char *at, size_t length, struct error *err)
{
    u->out_bytes += (int64_t)length;
    if (u->out_bytes > LIMIT_LAYER_BYTES)
        return error_set(err, ERR_INVALID, "the layer is larger than %lld bytes unpacked", (long long)LIMIT_LAYER_BYTES);
    digest_add(u->diff_id, at, length);
    ring_push(u->plain, length);
    return 0;
}

static int
put(struct unpress *u, const char *data, size_t length, struct error *err)
{
    while (length) {
        size_t n;
        char *at = TRY_PTR(room(u, &n, err));
        n = n < length ? n : length;
        memcpy(at, data, n);
        TRY(produced(u, at, n, err));
        data += n;
        length -= n;
    }
    return 0;
}

/* Gather the bytes that tell what comes next, behind what is left of those before; fewer only at the end. */
static int
peek(struct unpress *u, struct error *err)
{
    while (u->head_length < sizeof u->head) {
        if (TRY(more(u, err)) == 0)
            break;
        u->head[u->head_length++] = *u->in;
        consume(u, 1);
    }
    return 0;
}

static void
consume_head(struct unpress *u, size_t length)
{
    u->head_length -= length;
    memmove(u->head, u->head + length, u->head_length);
}

static bool
is_gzip(const struct unpress *u)
{
    return u->head_length >= 4 && memcmp(u->head, "\x1f\x8b", 2) == 0;
}

static bool
is_zstd(const struct unpress *u)
{
    bool frame = memcmp(u->head, "\x28\xb5\x2f\xfd", 4) == 0;
    bool skippable = memcmp(u->head + 1, "\x2a\x4d\x18", 3) == 0 && ((unsigned char)u->head[0] & 0xf0) == 0x50;
    return u->head_length >= 4 && (frame || skippable);
}

static int
cut_short(const char *format, struct error *err)
{
    return error_set(err, ERR_INVALID, "its %s stream ends in the middle: it was cut short", format);
}

/* Inflate into the room there is; 1 while the member goes on, 0 at its end. */
static int
gzip_step(struct unpress *u, struct inflate_state *z, struct error *err)
{
    size_t n;
    char *at = TRY_PTR(room(u, &n, err));
    z->next_out = (uint8_t *)at;
    z->avail_out = (uint32_t)n;
    int status = isal_inflate(z);
    if (status != ISAL_DECOMP_OK)
        return error_set(err, ERR_INVALID, status == ISAL_INCORRECT_CHECKSUM ? "its gzip checksum is wrong" : "its gzip stream is damaged (%d)",
                         status);
    TRY(produced(u, at, n - z->avail_out, err));
    return z->block_state != ISAL_BLOCK_FINISH;
}

static int
gzip_member(struct unpress *u, struct inflate_state *z, struct error *err)
{
    isal_inflate_reset(z);
    z->crc_flag = ISAL_GZIP;
    z->next_in = (uint8_t *)u->head;
    z->avail_in = (uint32_t)u->head_length;
    bool from_head = true;
    for (;;) {
        int step = TRY(gzip_step(u, z, err));
        if (from_head)
            consume_head(u, u->head_length - z->avail_in);
        else
            consume(u, u->in_length - z->avail_in);
        if (!step)
            return 0;
        /* A full output buffer may hide more output; only when it had room to spare is input what is missing. */
        if (from_head)
            z->next_in = (uint8_t *)u->head;
        if (z->avail_in || z->avail_out == 0)
            continue;
        if (TRY(more(u, err)) == 0)
            return cut_short("gzip", err);
        from_head = false;
        z->next_in = (uint8_t *)(uintptr_t)u->in;
        z->avail_in = (uint32_t)u->in_length;
    }
}

static int
gzip_run(struct unpress *u, struct error *err)
{
    cleanup_free struct inflate_state *z = mem_zalloc(1, sizeof *z);
    isal_inflate_init(z);
    while (is_gzip(u)) {
        TRY(gzip_member(u, z, err));
        TRY(peek(u, err));
    }
    return 0;
}

static int
zstd_error(size_t code, struct error *err)
{
    if (strstr(ZSTD_getErrorName(code), "memory"))
        return error_set(err, ERR_UNSUPPORTED, "its zstd stream wants a window above %d MiB of memory", 1 << (LIMIT_ZSTD_LARGE_WINDOW_LOG - 20));
    return error_set(err, ERR_INVALID, "its zstd stream is damaged: %s", ZSTD_getErrorName(code));
}

/* Feed `in` until it is used up or the frame has ended; 1 while the frame goes on. */
static int
zstd_feed(struct unpress *u, ZSTD_DStream *z, ZSTD_inBuffer *in, struct error *err)
{
    for (;;) {
        size_t n;
        char *at = TRY_PTR(room(u, &n, err));
        ZSTD_outBuffer out = {at, n, 0};
        size_t left = ZSTD_decompressStream(z, &out, in);
        if (ZSTD_isError(left))
            return zstd_error(left, err);
        TRY(produced(u, at, out.pos, err));
        if (left == 0)
            return 0;
        if (in->pos == in->size && out.pos < out.size)
            return 1;
    }
}

static int
zstd_frame(struct unpress *u, ZSTD_DStream *z, struct error *err)
{
    ZSTD_inBuffer in = {u->head, u->head_length, 0};
    int goes_on = TRY(zstd_feed(u, z, &in, err));
    consume_head(u, in.pos);
    while (goes_on) {
        if (TRY(more(u, err)) == 0)
            return cut_short("zstd", err);
        in = (ZSTD_inBuffer){u->in, u->in_length, 0};
        goes_on = TRY(zstd_feed(u, z, &in, err));
        consume(u, in.pos);
    }
    return 0;
}

CLEANUP_DEFINE(zstd_freep, ZSTD_DStream *, ZSTD_freeDStream)

static ZSTD_DStream *
zstd_new(int window_log, struct error *err)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    if (z)
        (void)ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, window_log);
    else
        (void)error_set(err, ERR_EXHAUSTED, "no memory for zstd");
    return z;
}

/* Is the frame's window too large for `z`? Its header is at hand; where it is not, the stream is cut short. */
static bool
is_large(const struct unpress *u, ZSTD_DStream *z)
{
    char none;
    ZSTD_outBuffer out = {&none, 0, 0};
    ZSTD_inBuffer in = {u->head, u->head_length, 0};
    size_t result = ZSTD_decompressStream(z, &out, &in);
    (void)ZSTD_DCtx_reset(z, ZSTD_reset_session_only);
    return ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge;
}

/* Of all streams, one at a time. */
static int
zstd_large_frame(struct unpress *u, struct error *err)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    (void)pthread_mutex_lock(&one);
    ZSTD_DStream *z = zstd_new(LIMIT_ZSTD_LARGE_WINDOW_LOG, err);
    int result = z ? zstd_frame(u, z, err) : -1;
    (void)ZSTD_freeDStream(z);
    (void)pthread_mutex_unlock(&one);
    return result;
}

static int
zstd_run(struct unpress *u, struct error *err)
{
    cleanup(zstd_freep) ZSTD_DStream *z = TRY_PTR(zstd_new(LIMIT_ZSTD_WINDOW_LOG, err));
    while (is_zstd(u)) {
        TRY(is_large(u, z) ? zstd_large_frame(u, err) : zstd_frame(u, z, err));
        TRY(peek(u, err));
    }
    return 0;
}

static int
plain_run(struct unpress *u, struct error *err)
{
    TRY(put(u, u->head, u->head_length, err));
    while (TRY(more(u, err))) {
        TRY(put(u, u->in, u->in_length, err));
        consume(u, u->in_length);
    }
    return 0;
}

static int
run(struct unpress *u, struct error *err)
{
    TRY(peek(u, err));
    if (u->as_is)
        return plain_run(u, err);
    TRY(is_gzip(u) ? gzip_run(u, err) : is_zstd(u) ? zstd_run(u, err) : plain_run(u, err));
    while (TRY(more(u, err)))
        consume(u, u->in_length);
    return 0;
}

static int
run_to_end(struct unpress *u, struct error *err)
{
    if (run(u, err) < 0) {
        ring_fail(u->packed, err);
        ring_fail(u->plain, err);
        return -1;
    }
    ring_end(u->plain);
    return 0;
}

int
unpress_run(struct ring *packed, struct ring *plain, struct digest *diff_id, int keep, struct error *err)
{
    return run_to_end(&(struct unpress){.packed = packed, .plain = plain, .diff_id = diff_id, .keep = keep}, err);
}

int
unpress_pass(struct ring *packed, struct ring *plain, struct digest *diff_id, int keep, struct error *err)
{
    return run_to_end(&(struct unpress){.packed = packed, .plain = plain, .diff_id = diff_id, .keep = keep, .as_is = true}, err);
}
