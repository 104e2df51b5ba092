#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <isa-l/igzip_lib.h>
#include <pthread.h>
#include <zstd.h>

#include "base/str.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/unpress.h"

enum { TEXT_SIZE = 300000, PACKED_MAX = 1 << 20 };

static char text[TEXT_SIZE];

static int
set_up(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (size_t i = 0; i < sizeof text; i++) {
        seed = seed * 1103515245 + 12345;
        text[i] = (char)("abcdefgh\n"[(seed >> 16) % 9]);
    }
    return 0;
}

static size_t
gzip(const char *data, size_t length, char *out)
{
    static uint8_t level_buf[ISAL_DEF_LVL1_DEFAULT];
    struct isal_zstream z;
    isal_deflate_stateless_init(&z);
    z.gzip_flag = IGZIP_GZIP;
    z.level = 1;
    z.level_buf = level_buf;
    z.level_buf_size = sizeof level_buf;
    z.next_in = (uint8_t *)(uintptr_t)data;
    z.avail_in = (uint32_t)length;
    z.next_out = (uint8_t *)out;
    z.avail_out = PACKED_MAX;
    assert_int_equal(isal_deflate_stateless(&z), COMP_OK);
    return z.total_out;
}

struct feed {
    struct ring *packed;
    const char *data;
    size_t length, piece;
};

static void *
feed(void *arg)
{
    struct feed *f = arg;
    while (f->length) {
        size_t n;
        char *at = ring_room(f->packed, &n);
        if (!at)
            return NULL;
        n = n < f->piece ? n : f->piece;
        n = n < f->length ? n : f->length;
        memcpy(at, f->data, n);
        ring_push(f->packed, n);
        f->data += n;
        f->length -= n;
    }
    ring_end(f->packed);
    return NULL;
}

struct decompressor {
    struct ring *packed, *plain;
    struct digest *digest;
    struct error err;
    int result;
};

static void *
decompress(void *arg)
{
    struct decompressor *d = arg;
    d->result = unpress_run(d->packed, d->plain, d->digest, -1, &d->err);
    return NULL;
}

/* Run packed bytes through, in pieces of this size; the result is compared with text[0…expected]. */
static int
run(const char *packed, size_t length, size_t piece, size_t expected, struct error *err)
{
    pthread_t feeder, worker;
    struct decompressor d = {.packed = ring_new(4096), .plain = ring_new(10000), .digest = digest_new(NULL)};
    struct feed f = {d.packed, packed, length, piece};
    size_t at = 0, n;
    const char *data;
    (void)pthread_create(&feeder, NULL, feed, &f);
    (void)pthread_create(&worker, NULL, decompress, &d);
    while (ring_take(d.plain, &data, &n, err) > 0) {
        assert_true(at + n <= sizeof text);
        assert_memory_equal(data, text + at, n);
        at += n;
    }
    (void)pthread_join(worker, NULL);
    (void)pthread_join(feeder, NULL);
    if (d.result == 0) {
        char got[DIGEST_SIZE], wanted[DIGEST_SIZE];
        digest_finish(d.digest, got);
        digest_of(NULL, text, expected, wanted);
        assert_int_equal(at, expected);
        assert_string_equal(got, wanted);
    } else if (err)
        *err = d.err;
    digest_free(d.digest);
    ring_free(d.packed);
    ring_free(d.plain);
    return d.result;
}

static void
expect_good(const char *packed, size_t length, size_t piece, size_t expected)
{
    struct error err = {0};
    if (run(packed, length, piece, expected, &err) < 0)
        fail_msg("%s", err.message);
}

static char packed[2 * PACKED_MAX];

static void
gzip_of_many_members_is_one_stream_whatever_the_pieces(void **state)
{
    (void)state;
    size_t length = 0, at = 0;
    for (size_t size = 1; at < sizeof text; size = size * 3 + 1) {
        size_t n = size < sizeof text - at ? size : sizeof text - at;
        length += gzip(text + at, n, packed + length);
        at += n;
    }
    static const size_t pieces[] = {1, 2, 3, 5, 7, 11, 64, 1000, 4096, PACKED_MAX};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        expect_good(packed, length, pieces[i], sizeof text);
}

static void
bytes_behind_the_last_member_are_ignored(void **state)
{
    (void)state;
    size_t length = gzip(text, 5000, packed);
    memset(packed + length, 0, 600);
    expect_good(packed, length + 600, 100, 5000);
    memset(packed + length, 'x', 600);
    expect_good(packed, length + 1, 100, 5000);
    expect_good(packed, length + 600, 1, 5000);
}

static void
a_cut_or_damaged_gzip_stream_is_refused(void **state)
{
    (void)state;
    size_t length = gzip(text, 50000, packed);
    for (size_t cut = 4; cut < length; cut += 1 + cut / 8) {
        struct error err = {0};
        assert_int_equal(run(packed, cut, 700, 0, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
    packed[length - 6] ^= 1; /* of the checksum */
    struct error err = {0};
    assert_int_equal(run(packed, length, 700, 0, &err), -1);
    assert_non_null(strstr(err.message, "checksum"));
}

static void
zstd_frames_and_skippable_frames_are_one_stream(void **state)
{
    (void)state;
    static const char skippable[] = "\x5a\x2a\x4d\x18\x03\x00\x00\x00xyz";
    size_t length = 0;
    memcpy(packed, skippable, sizeof skippable - 1);
    length += sizeof skippable - 1;
    length += ZSTD_compress(packed + length, PACKED_MAX, text, 100000, 3);
    memcpy(packed + length, skippable, sizeof skippable - 1);
    length += sizeof skippable - 1;
    length += ZSTD_compress(packed + length, PACKED_MAX, text + 100000, TEXT_SIZE - 100000, 19);
    static const size_t pieces[] = {1, 3, 7, 100, 4096};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        expect_good(packed, length, pieces[i], sizeof text);
    struct error err = {0};
    assert_int_equal(run(packed, length - 1, 100, 0, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

/* As `zstd --long=27 -22` makes of a pipe, and older builders of what they call better. */
static void
a_large_zstd_window_is_taken(void **state)
{
    (void)state;
    ZSTD_CCtx *z = ZSTD_createCCtx();
    (void)ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, LIMIT_ZSTD_LARGE_WINDOW_LOG);
    ZSTD_outBuffer out = {packed, PACKED_MAX, 0};
    for (size_t at = 0; at < TEXT_SIZE; at += TEXT_SIZE / 2) {
        ZSTD_inBuffer in = {text + at, TEXT_SIZE / 2, 0};
        (void)ZSTD_compressStream2(z, &out, &in, at ? ZSTD_e_end : ZSTD_e_continue);
    }
    (void)ZSTD_freeCCtx(z);
    assert_int_equal((unsigned char)packed[5], (LIMIT_ZSTD_LARGE_WINDOW_LOG - 10) << 3);
    static const size_t pieces[] = {1, 17, 4096};
    for (size_t i = 0; i < 3; i++)
        expect_good(packed, out.pos, pieces[i], sizeof text);
}

static void
a_zstd_window_above_the_limit_is_refused(void **state)
{
    (void)state;
    /* The head of a frame with a window of 2^(10+21) bytes (RFC 8878, 3.1.1.1.2), and an empty last block. */
    static const char frame[] = "\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    struct error err = {0};
    assert_int_equal(run(frame, sizeof frame - 1, 100, 0, &err), -1);
    assert_int_equal(err.kind, ERR_UNSUPPORTED);
}

static void
what_is_not_compressed_passes_as_it_is(void **state)
{
    (void)state;
    expect_good(text, sizeof text, 1000, sizeof text);
    expect_good(text, 3, 1, 3);
    expect_good(text, 0, 1, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gzip_of_many_members_is_one_stream_whatever_the_pieces),
        cmocka_unit_test(bytes_behind_the_last_member_are_ignored),
        cmocka_unit_test(a_cut_or_damaged_gzip_stream_is_refused),
        cmocka_unit_test(zstd_frames_and_skippable_frames_are_one_stream),
        cmocka_unit_test(a_large_zstd_window_is_taken),
        cmocka_unit_test(a_zstd_window_above_the_limit_is_refused),
        cmocka_unit_test(what_is_not_compressed_passes_as_it_is),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
