/* What the streaming server is made of: tokens, requests, the framings of SPDY and WebSocket, statuses. Bytes of SPDY are those of a real client
 * (crictl 1.36). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "cri/streaming/http.h"
#include "cri/streaming/limits.h"
#include "cri/streaming/spdy.h"
#include "cri/streaming/spdy_dictionary.h"
#include "cri/streaming/stream_status.h"
#include "cri/streaming/token.h"
#include "cri/streaming/websocket.h"

/* ---- tokens ---- */

static struct errand *
errand(enum errand_kind kind)
{
    struct errand *e = mem_zalloc(1, sizeof *e);
    e->kind = kind;
    e->id = str_dup("abc");
    return e;
}

static void
test_a_token_serves_once_and_for_its_own_kind(void **state)
{
    (void)state;
    struct tokens *tokens = tokens_new();
    struct error err = {0};
    char token[TOKEN_SIZE], other[TOKEN_SIZE];
    assert_int_equal(tokens_add(tokens, errand(ERRAND_EXEC), token, &err), 0);
    assert_int_equal(strlen(token), 8);
    assert_int_equal(strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 8);
    struct errand *e = tokens_take(tokens, token, ERRAND_EXEC);
    assert_non_null(e);
    assert_string_equal(e->id, "abc");
    errand_free(e);
    assert_null(tokens_take(tokens, token, ERRAND_EXEC));
    assert_int_equal(tokens_add(tokens, errand(ERRAND_ATTACH), other, &err), 0);
    assert_string_not_equal(token, other);
    assert_null(tokens_take(tokens, other, ERRAND_EXEC));
    assert_null(tokens_take(tokens, other, ERRAND_ATTACH)); /* used up by the attempt */
    assert_null(tokens_take(tokens, "", ERRAND_ATTACH));
    tokens_free(tokens);
}

static void
test_at_most_a_thousand_tokens_wait(void **state)
{
    (void)state;
    struct tokens *tokens = tokens_new();
    struct error err = {0};
    char token[TOKEN_SIZE];
    for (int i = 0; i < TOKENS_MAX; i++)
        assert_int_equal(tokens_add(tokens, errand(ERRAND_EXEC), token, &err), 0);
    assert_int_equal(tokens_add(tokens, errand(ERRAND_EXEC), (char[TOKEN_SIZE]){0}, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    errand_free(tokens_take(tokens, token, ERRAND_EXEC));
    assert_int_equal(tokens_add(tokens, errand(ERRAND_EXEC), token, &err), 0);
    tokens_free(tokens);
}

/* ---- HTTP ---- */

static long
parse(struct http_request *out, const char *text)
{
    return http_request_parse(out, text, strlen(text));
}

static void
test_the_request_of_a_real_client(void **state)
{
    (void)state;
    static const char text[] =
        "POST /exec/abcdefgh HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\nConnection: Upgrade\r\n"
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io, v3.channel.k8s.io\r\n"
        "Accept-Encoding: gzip\r\n\r\n";
    static const char *const known[] = {"v3.channel.k8s.io", "v4.channel.k8s.io", NULL};
    cleanup_http_request struct http_request r = {0};
    cleanup_free char *more = str_printf("%sSPDY", text);
    assert_int_equal(parse(&r, more), sizeof text - 1);
    assert_true(r.spdy);
    assert_false(r.websocket);
    assert_int_equal(r.path.count, 2);
    assert_string_equal(r.path.items[1], "abcdefgh");
    assert_int_equal(r.protocols.count, 3);
    assert_string_equal(http_choose(&r, known), "v4.channel.k8s.io");
    for (size_t cut = 0; cut < sizeof text - 1; cut++) {
        cleanup_http_request struct http_request part = {0};
        assert_int_equal(http_request_parse(&part, text, cut), 0);
    }
}

static void
test_requests_that_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x16\x03\x01\x02", "BREW /exec/a HTTP/1.1\r\n\r\n", "PUT /exec/a HTTP/1.1\r\n\r\n",
                                      "GET /exec/a\r\nX\r\n\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_http_request struct http_request r = {0};
        assert_int_equal(parse(&r, bad[i]), -1);
    }
    cleanup_http_request struct http_request plain = {0};
    assert_true(parse(&plain, "GET /exec/a?b=c HTTP/1.1\r\nHost: x\r\n\r\n") > 0);
    assert_false(plain.spdy || plain.websocket);
    assert_string_equal(plain.path.items[1], "a");
    cleanup_free char *large = mem_alloc(REQUEST_BYTES_MAX + 1);
    memset(large, 'a', REQUEST_BYTES_MAX);
    memcpy(large, "GET /", 5);
    cleanup_http_request struct http_request r = {0};
    assert_int_equal(http_request_parse(&r, large, REQUEST_BYTES_MAX), -1);
}

/* ---- SPDY ---- */

struct heard {
    struct buf text; /* what happened, a line each */
    struct spdy_reader *spdy;
    struct websocket_reader *websocket;
};

static void
on_opened(void *arg, uint32_t id, const struct stream_headers *headers, bool fin)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "open %u %s %s %s%s\n", id, headers->type, headers->port, headers->request_id, fin ? " fin" : ""));
}

static void
on_data(void *arg, uint32_t id, const char *data, size_t length)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "data %u %.*s\n", id, (int)length, data));
}

static void
on_ended(void *arg, uint32_t id)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "end %u\n", id));
}

static void
on_reset(void *arg, uint32_t id)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "reset %u\n", id));
}

static void
on_ping(void *arg, uint32_t id)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "ping %u\n", id));
}

static void
on_goaway(void *arg)
{
    struct heard *h = arg;
    assert_true(buf_adds(&h->text, "goaway\n"));
    h->spdy->stopped = true;
}

static const struct spdy_events spdy_events = {on_opened, on_data, on_ended, on_reset, on_ping, on_goaway};

/* A client's side, with a compressor of its own. */
struct client {
    z_stream deflate;
    struct buf bytes;
};

static void
client_open(struct client *c)
{
    *c = (struct client){.bytes = BUF(1 << 20)};
    assert_int_equal(deflateInit(&c->deflate, 9), Z_OK);
    assert_int_equal(deflateSetDictionary(&c->deflate, spdy_dictionary, sizeof spdy_dictionary), Z_OK);
}

static void
client_close(struct client *c)
{
    (void)deflateEnd(&c->deflate);
    buf_free(&c->bytes);
}

static void
add_u32(struct buf *b, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)(value >> 24), (unsigned char)(value >> 16), (unsigned char)(value >> 8), (unsigned char)value};
    assert_true(buf_add(b, bytes, sizeof bytes));
}

static void
add_string(struct buf *b, const char *text)
{
    add_u32(b, (uint32_t)strlen(text));
    assert_true(buf_adds(b, text));
}

/* `headers`: names and values, NULL at the end. */
static void
client_syn(struct client *c, uint32_t id, bool fin, const char *const headers[])
{
    cleanup_buf struct buf plain = BUF(1 << 16);
    unsigned char packed[4096];
    uint32_t count = 0;
    while (headers[2 * count])
        count++;
    add_u32(&plain, count);
    for (uint32_t i = 0; i < 2 * count; i++)
        add_string(&plain, headers[i]);
    c->deflate.next_in = (unsigned char *)plain.data;
    c->deflate.avail_in = (unsigned)plain.length;
    c->deflate.next_out = packed;
    c->deflate.avail_out = sizeof packed;
    assert_int_equal(deflate(&c->deflate, Z_SYNC_FLUSH), Z_OK);
    size_t length = sizeof packed - c->deflate.avail_out;
    add_u32(&c->bytes, 0x80030001);
    add_u32(&c->bytes, (fin ? 0x01000000U : 0U) | (uint32_t)(10 + length));
    add_u32(&c->bytes, id);
    add_u32(&c->bytes, 0);
    assert_true(buf_add(&c->bytes, "\0\0", 2));
    assert_true(buf_add(&c->bytes, packed, length));
}

static void
client_control(struct client *c, uint32_t type, uint32_t first, uint32_t second, bool two)
{
    add_u32(&c->bytes, 0x80030000 | type);
    add_u32(&c->bytes, two ? 8 : 4);
    add_u32(&c->bytes, first);
    if (two)
        add_u32(&c->bytes, second);
}

static void
client_data(struct client *c, uint32_t id, const char *text, bool fin)
{
    add_u32(&c->bytes, id);
    add_u32(&c->bytes, (fin ? 0x01000000U : 0U) | (uint32_t)strlen(text));
    assert_true(buf_adds(&c->bytes, text));
}

/* What is heard of the bytes when they come `step` at a time; caller frees. */
static char *
hear(const struct buf *bytes, size_t step, int expected)
{
    struct spdy_reader reader;
    struct heard heard = {.text = BUF(1 << 20), .spdy = &reader};
    int result = 0;
    spdy_open(&reader, &spdy_events, &heard);
    for (size_t at = 0; at < bytes->length && result == 0; at += step)
        result = spdy_read(&reader, bytes->data + at, bytes->length - at < step ? bytes->length - at : step);
    assert_int_equal(result, expected);
    spdy_close(&reader);
    return heard.text.length ? heard.text.data : str_dup("");
}

static void
test_spdy_frames_however_they_are_cut(void **state)
{
    (void)state;
    static const char expected[] = "open 1 error  \nopen 3 stdin  \nopen 5 data 8080 7 fin\nend 0\ndata 3 hello\nend 3\nping 1\nreset 5\ngoaway\n";
    struct client c;
    client_open(&c);
    client_syn(&c, 1, false, (const char *const[]){"streamtype", "error", NULL});
    client_syn(&c, 3, false, (const char *const[]){"streamType", "stdin", "x-other", "1", NULL});
    client_syn(&c, 5, true, (const char *const[]){"streamtype", "data", "port", "8080", "requestid", "7", NULL});
    client_data(&c, 0, "", true);
    client_data(&c, 3, "hello", true);
    client_control(&c, 4, 0, 0, false);      /* SETTINGS */
    client_control(&c, 9, 3, 1 << 20, true); /* WINDOW_UPDATE */
    client_control(&c, 6, 1, 0, false);
    client_control(&c, 3, 5, 5, true);
    client_control(&c, 7, 0, 0, true);
    client_data(&c, 3, "nobody reads this", false);
    cleanup_free char *whole = hear(&c.bytes, c.bytes.length, 0);
    assert_string_equal(whole, expected);
    for (size_t step = 6; step < 64; step++) { /* data in pieces is told in pieces */
        cleanup_free char *text = hear(&c.bytes, step, 0);
        assert_non_null(strstr(text, "open 5 data 8080 7 fin\n"));
        assert_non_null(strstr(text, "ping 1\nreset 5\ngoaway\n"));
    }
    client_close(&c);
}

static void
test_spdy_that_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        {"\x80\x02\x00\x01\x00\x00\x00\x0a", 8},                          /* another version */
        {"\x80\x03\x00\x05\x00\x00\x00\x00", 8},                          /* an unknown type */
        {"\x80\x03\x00\x01\x00\x00\x00\x09", 8},                          /* too short */
        {"\x80\x03\x00\x01\x00\xff\xff\xff", 8},                          /* too long */
        {"\x80\x03\x00\x06\x00\x00\x00\x08", 8},                          /* a PING of eight bytes */
        {"\x80\x03\x00\x01\x00\x00\x00\x0c\0\0\0\x01\0\0\0\0\0\0zz", 20}, /* no header block */
        {"\x80\x03\x00\x01\x00\x00\x00\x0a\0\0\0\x01\0\0\0\0\0\0", 18},   /* an empty one */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf bytes = {.data = (char *)(uintptr_t)bad[i].bytes, .length = bad[i].length};
        cleanup_free char *text = hear(&bytes, bad[i].length, -1);
        assert_string_equal(text, "");
    }
}

static void
test_a_spdy_header_block_has_a_limit(void **state)
{
    (void)state;
    struct client c;
    client_open(&c);
    cleanup_free char *large = mem_alloc(HEADER_BLOCK_MAX + 1);
    memset(large, 'a', HEADER_BLOCK_MAX);
    large[HEADER_BLOCK_MAX] = '\0';
    client_syn(&c, 1, false, (const char *const[]){"name", large, NULL});
    cleanup_free char *text = hear(&c.bytes, c.bytes.length, -1);
    assert_string_equal(text, "");
    client_close(&c);
}

/* What we answer is what a client can read: its decompressor follows our constant blocks. */
static void
test_spdy_replies_inflate(void **state)
{
    (void)state;
    z_stream z = {0};
    assert_int_equal(inflateInit(&z), Z_OK);
    for (uint32_t id = 1; id < 100; id += 2) {
        char frame[SPDY_REPLY_BYTES_MAX];
        unsigned char plain[64];
        size_t length = spdy_put_reply(frame, id, id == 1);
        assert_true(length <= sizeof frame);
        z.next_in = (unsigned char *)frame + 12;
        z.avail_in = (unsigned)length - 12;
        z.next_out = plain;
        z.avail_out = sizeof plain;
        assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
        assert_int_equal(sizeof plain - z.avail_out, 4);
        assert_memory_equal(plain, "\0\0\0\0", 4);
    }
    (void)inflateEnd(&z);
}

/* ---- WebSocket ---- */

static void
on_message(void *arg, enum websocket_opcode opcode, char *data, size_t length, bool begins, bool ends)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "%s%s%.*s%s\n", begins ? "[" : "", opcode == WEBSOCKET_TEXT ? "text " : "", (int)length, data, ends ? "]" : ""));
}

static void
on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t length)
{
    struct heard *h = arg;
    assert_true(buf_addf(&h->text, "control %d %.*s\n", (int)opcode, (int)length, data));
}

static const struct websocket_events websocket_events = {on_message, on_control};

static void
add_frame(struct buf *b, int first, const char *text)
{
    static const unsigned char mask[4] = {0x11, 0xfe, 0x37, 0x80};
    size_t length = strlen(text);
    char header[14] = {(char)first};
    size_t size = 2;
    header[1] = (char)(0x80 | (length < 126 ? (int)length : 126));
    if (length >= 126) {
        header[2] = (char)(length >> 8);
        header[3] = (char)length;
        size = 4;
    }
    memcpy(header + size, mask, 4);
    assert_true(buf_add(b, header, size + 4));
    for (size_t i = 0; i < length; i++)
        assert_true(buf_add(b, (char[]){(char)(text[i] ^ mask[i % 4])}, 1));
}

static int
hear_websocket(const struct buf *bytes, size_t step, char **text)
{
    struct websocket_reader reader;
    struct heard heard = {.text = BUF(1 << 20), .websocket = &reader};
    cleanup_free char *copy = mem_dup(bytes->data, bytes->length); /* it is unmasked in place */
    int result = 0;
    websocket_open(&reader, &websocket_events, &heard);
    for (size_t at = 0; at < bytes->length && result == 0; at += step)
        result = websocket_read(&reader, copy + at, bytes->length - at < step ? bytes->length - at : step);
    *text = heard.text.length ? heard.text.data : str_dup("");
    return result;
}

static void
test_websocket_frames(void **state)
{
    (void)state;
    cleanup_buf struct buf bytes = BUF(1 << 16);
    add_frame(&bytes, 0x82, "0123456789abcdefghij");
    add_frame(&bytes, 0x89, "are you there");
    add_frame(&bytes, 0x02, "be");
    add_frame(&bytes, 0x89, ""); /* between the pieces of a message */
    add_frame(&bytes, 0x80, "gun");
    add_frame(&bytes, 0x81, "");
    add_frame(&bytes, 0x88, "");
    cleanup_free char *text = NULL;
    assert_int_equal(hear_websocket(&bytes, bytes.length, &text), 0);
    assert_string_equal(text, "[0123456789abcdefghij]\ncontrol 9 are you there\n[be\ncontrol 9 \ngun]\n[text ]\ncontrol 8 \n");
    for (size_t step = 1; step < 40; step++) {
        cleanup_free char *pieces = NULL;
        assert_int_equal(hear_websocket(&bytes, step, &pieces), 0);
        assert_non_null(strstr(pieces, "control 9 are you there\n"));
        assert_non_null(strstr(pieces, "control 8 \n"));
    }
}

static void
test_websocket_that_is_none(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        {"\x82\x01x", 3},                           /* without mask */
        {"\xc2\x81\0\0\0\0x", 7},                   /* an extension's bit */
        {"\x83\x81\0\0\0\0x", 7},                   /* an unknown kind */
        {"\x8b\x81\0\0\0\0x", 7},                   /* … of control */
        {"\x09\x81\0\0\0\0x", 7},                   /* control in pieces */
        {"\x89\xfe\x00\x7e\0\0\0\0", 8},            /* … too long */
        {"\x80\x81\0\0\0\0x", 7},                   /* goes on with nothing */
        {"\x02\x81\0\0\0\0x\x82\x81\0\0\0\0x", 14}, /* one within another */
        {"\x82\xff\xff\0\0\0\0\0\0\0\0\0\0\0", 14}, /* a negative length */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf bytes = {.data = (char *)(uintptr_t)bad[i].bytes, .length = bad[i].length};
        cleanup_free char *text = NULL;
        assert_int_equal(hear_websocket(&bytes, bad[i].length, &text), -1);
    }
}

static void
test_websocket_headers_and_key(void **state)
{
    (void)state;
    char header[WEBSOCKET_HEADER_MAX], key[WEBSOCKET_ACCEPT_SIZE];
    assert_int_equal(websocket_put_header(header, WEBSOCKET_BINARY, 125), 2);
    assert_memory_equal(header, "\x82\x7d", 2);
    assert_int_equal(websocket_put_header(header, WEBSOCKET_BINARY, 126), 4);
    assert_memory_equal(header, "\x82\x7e\0\x7e", 4);
    assert_int_equal(websocket_put_header(header, WEBSOCKET_TEXT, 65536), 10);
    assert_memory_equal(header, "\x81\x7f\0\0\0\0\0\x01\0\0", 10);
    websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", key); /* RFC 6455, section 1.3 */
    assert_string_equal(key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/* ---- statuses ---- */

static void
test_statuses_as_clients_read_them(void **state)
{
    (void)state;
    struct error err = {.kind = ERR_INTERNAL, .message = "no \"such\" thing"};
    struct {
        int version, exit_code;
        const struct error *err;
        const char *expected;
    } cases[] = {
        {4, 0, NULL, "{\"status\":\"Success\"}"},
        {5, 7, NULL,
         "{\"status\":\"Failure\",\"reason\":\"NonZeroExitCode\",\"message\":\"command terminated with exit code "
         "7\",\"details\":{\"causes\":[{\"reason\":\"ExitCode\","
         "\"message\":\"7\"}]}}"},
        {4, 0, &err,
         "{\"status\":\"Failure\",\"reason\":\"InternalError\",\"message\":\"Internal error occurred: no \\\"such\\\" "
         "thing\",\"code\":500,\"details\":{\"causes\":[{"
         "\"message\":\"Internal error occurred: no \\\"such\\\" thing\"}]}}"},
        {2, 0, NULL, ""},
        {1, 3, NULL, "command terminated with exit code 3"},
        {3, 0, &err, "Internal error occurred: no \"such\" thing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_free char *text = stream_status(cases[i].version, cases[i].exit_code, cases[i].err);
        assert_string_equal(text, cases[i].expected);
    }
    (void)snprintf(err.message, sizeof err.message, "\xff");
    cleanup_free char *text = stream_status(4, 0, &err);
    assert_non_null(strstr(text, "Failure"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_token_serves_once_and_for_its_own_kind),
        cmocka_unit_test(test_at_most_a_thousand_tokens_wait),
        cmocka_unit_test(test_the_request_of_a_real_client),
        cmocka_unit_test(test_requests_that_are_refused),
        cmocka_unit_test(test_spdy_frames_however_they_are_cut),
        cmocka_unit_test(test_spdy_that_is_none),
        cmocka_unit_test(test_a_spdy_header_block_has_a_limit),
        cmocka_unit_test(test_spdy_replies_inflate),
        cmocka_unit_test(test_websocket_frames),
        cmocka_unit_test(test_websocket_that_is_none),
        cmocka_unit_test(test_websocket_headers_and_key),
        cmocka_unit_test(test_statuses_as_clients_read_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
