#include "cri/streaming/spdy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cri/streaming/limits.h"
#include "cri/streaming/spdy_dictionary.h"

enum {
    TYPE_SYN_STREAM = 1,
    TYPE_SYN_REPLY = 2,
    TYPE_RST_STREAM = 3,
    TYPE_SETTINGS = 4,
    TYPE_PING = 6,
    TYPE_GOAWAY = 7,
    TYPE_HEADERS = 8,
    TYPE_WINDOW_UPDATE = 9,
    TYPES,

    VERSION = 0x8003,
    FLAG_FIN = 1,
    SYN_STREAM_FIXED = 10, /* id, associated id, priority, slot */
    HEADERS_FIXED = 4,     /* id */
    SETTINGS_MAX = 4096,
    HEADERS_MAX = 64,
};

/* Numbers. */

static uint32_t
get_u32(const void *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return ntohl(value);
}

static uint32_t
get_u24(const unsigned char *from)
{
    return (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
}

static char *
put_u32(char *to, uint32_t value)
{
    value = htonl(value);
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static int
fail(struct spdy_reader *reader, const char *why)
{
    reader->wrong = why;
    return -1;
}

/* Header blocks. */

static int
inflate_block(struct spdy_reader *reader, const char *data, size_t length, struct buf *out)
{
    char chunk[1024];
    z_stream *z = &reader->inflate;
    if (!reader->inflating && inflateInit(z) != Z_OK)
        return fail(reader, "no memory");
    reader->inflating = true;
    z->next_in = (unsigned char *)(uintptr_t)data;
    z->avail_in = (unsigned)length;
    do {
        z->next_out = (unsigned char *)chunk;
        z->avail_out = sizeof chunk;
        int result = inflate(z, Z_SYNC_FLUSH);
        if (result == Z_NEED_DICT)
            result = inflateSetDictionary(z, spdy_dictionary, sizeof spdy_dictionary);
        /* Z_BUF_ERROR: nothing more to do, which is how a block ends. */
        if (result != Z_OK && result != Z_BUF_ERROR)
            return fail(reader, "a header block cannot be inflated");
        if (!buf_add(out, chunk, sizeof chunk - z->avail_out))
            return fail(reader, "a header block is too large");
        if (result == Z_BUF_ERROR)
            break;
    } while (z->avail_in || !z->avail_out);
    return 0;
}

/* The next string of a block, inside of it; NULL at a wrong length. */
static const char *
next_string(const char **at, const char *end, size_t *length)
{
    if (end - *at < 4)
        return NULL;
    *length = get_u32(*at);
    const char *string = *at + 4;
    if ((size_t)(end - string) < *length)
        return NULL;
    *at = string + *length;
    return string;
}

/* A value that does not fit is none that we know. */
static void
keep(char *to, size_t size, const char *value, size_t length)
{
    if (length < size && !memchr(value, 0, length))
        (void)snprintf(to, size, "%.*s", (int)length, value);
}

static int
parse_headers(struct spdy_reader *reader, const struct buf *block, struct stream_headers *headers)
{
    const struct {
        const char *name;
        char *to;
        size_t size;
    } known[] = {
        {"streamtype", headers->type, sizeof headers->type},
        {"port", headers->port, sizeof headers->port},
        {"requestid", headers->request_id, sizeof headers->request_id},
    };
    *headers = (struct stream_headers){.type = ""};
    if (block->length < 4)
        return fail(reader, "a header block is cut");
    const char *at = block->data + 4, *end = block->data + block->length;
    uint32_t count = get_u32(block->data);
    if (count > HEADERS_MAX)
        return fail(reader, "too many headers");
    while (count--) {
        size_t name_length, length;
        const char *name = next_string(&at, end, &name_length);
        const char *value = name ? next_string(&at, end, &length) : NULL;
        if (!value)
            return fail(reader, "a header block is cut");
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (name_length == strlen(known[i].name) && strncasecmp(name, known[i].name, name_length) == 0)
                keep(known[i].to, known[i].size, value, length);
    }
    return 0;
}

static int
read_headers(struct spdy_reader *reader, const char *data, size_t length, struct stream_headers *headers)
{
    cleanup_buf struct buf block = BUF(HEADER_BLOCK_MAX);
    TRY(inflate_block(reader, data, length, &block));
    return parse_headers(reader, &block, headers);
}

/* Control frames: each gets its whole payload. */

static int
syn_stream(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    struct stream_headers headers;
    TRY(read_headers(reader, data + SYN_STREAM_FIXED, length - SYN_STREAM_FIXED, &headers));
    reader->events->opened(reader->arg, get_u32(data) & INT32_MAX, &headers, fin);
    return 0;
}

/* Of streams that we opened there are none; the compressor's state must follow all the same. */
static int
other_headers(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    struct stream_headers headers;
    TRY(read_headers(reader, data + HEADERS_FIXED, length - HEADERS_FIXED, &headers));
    if (fin)
        reader->events->ended(reader->arg, get_u32(data) & INT32_MAX);
    return 0;
}

static int
rst_stream(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    (void)length;
    (void)fin;
    reader->events->reset(reader->arg, get_u32(data) & INT32_MAX);
    return 0;
}

static int
ping(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    (void)length;
    (void)fin;
    reader->events->ping(reader->arg, get_u32(data));
    return 0;
}

static int
goaway(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    (void)data;
    (void)length;
    (void)fin;
    reader->events->goaway(reader->arg);
    return 0;
}

/* There is no flow control: windows are neither tracked nor kept by anybody. */
static int
ignore(struct spdy_reader *reader, const char *data, size_t length, bool fin)
{
    (void)reader;
    (void)data;
    (void)length;
    (void)fin;
    return 0;
}

static const struct {
    size_t least, most; /* bytes of the payload */
    int (*handle)(struct spdy_reader *reader, const char *data, size_t length, bool fin);
} controls[TYPES] = {
    [TYPE_SYN_STREAM] = {SYN_STREAM_FIXED, HEADER_BLOCK_MAX, syn_stream},
    [TYPE_SYN_REPLY] = {HEADERS_FIXED, HEADER_BLOCK_MAX, other_headers},
    [TYPE_RST_STREAM] = {8, 8, rst_stream},
    [TYPE_SETTINGS] = {4, SETTINGS_MAX, ignore},
    [TYPE_PING] = {4, 4, ping},
    [TYPE_GOAWAY] = {8, 8, goaway},
    [TYPE_HEADERS] = {HEADERS_FIXED, HEADER_BLOCK_MAX, other_headers},
    [TYPE_WINDOW_UPDATE] = {8, 8, ignore},
};

/* Frames. */

static bool
is_control(const struct spdy_reader *reader)
{
    return reader->header[0] & 0x80;
}

static unsigned
control_type(const struct spdy_reader *reader)
{
    return (unsigned)reader->header[2] << 8 | reader->header[3];
}

static bool
is_fin(const struct spdy_reader *reader)
{
    return reader->header[4] & FLAG_FIN;
}

static int
begin_frame(struct spdy_reader *reader)
{
    reader->remaining = get_u24(reader->header + 5);
    if (!is_control(reader))
        return 0;
    unsigned type = control_type(reader);
    if (((unsigned)reader->header[0] << 8 | reader->header[1]) != VERSION)
        return fail(reader, "a control frame of another version of SPDY");
    if (type >= TYPES || !controls[type].handle)
        return fail(reader, "a control frame of an unknown type");
    if (reader->remaining < controls[type].least || reader->remaining > controls[type].most)
        return fail(reader, "a control frame of a wrong length");
    return 0;
}

static int
end_frame(struct spdy_reader *reader)
{
    reader->have = 0;
    if (!is_control(reader)) {
        if (is_fin(reader))
            reader->events->ended(reader->arg, get_u32(reader->header));
        return 0;
    }
    size_t length = reader->control.length;
    reader->control.length = 0;
    return controls[control_type(reader)].handle(reader, reader->control.data, length, is_fin(reader));
}

/* What of `data` belongs to the payload. */
static size_t
read_payload(struct spdy_reader *reader, const char *data, size_t length)
{
    size_t n = length < reader->remaining ? length : reader->remaining;
    reader->remaining -= n;
    if (is_control(reader))
        (void)buf_add(&reader->control, data, n);
    else if (n)
        reader->events->data(reader->arg, get_u32(reader->header), data, n);
    return n;
}

int
spdy_read(struct spdy_reader *reader, const char *data, size_t length)
{
    while (length && !reader->stopped) {
        if (reader->have < SPDY_HEADER_BYTES) {
            reader->header[reader->have++] = (unsigned char)*data++;
            length--;
            if (reader->have < SPDY_HEADER_BYTES)
                continue;
            TRY(begin_frame(reader));
        }
        size_t n = read_payload(reader, data, length);
        data += n;
        length -= n;
        if (!reader->remaining)
            TRY(end_frame(reader));
    }
    return 0;
}

void
spdy_open(struct spdy_reader *reader, const struct spdy_events *events, void *arg)
{
    *reader = (struct spdy_reader){.events = events, .arg = arg, .control = BUF(HEADER_BLOCK_MAX), .wrong = ""};
}

void
spdy_close(struct spdy_reader *reader)
{
    if (reader->inflating)
        (void)inflateEnd(&reader->inflate);
    reader->inflating = false;
    buf_free(&reader->control);
}

/* Making frames. */

static char *
put_control(char *out, unsigned type, size_t length)
{
    out = put_u32(out, (uint32_t)VERSION << 16 | type);
    return put_u32(out, (uint32_t)length);
}

size_t
spdy_put_data_header(char *out, uint32_t id, size_t length, bool fin)
{
    put_u32(put_u32(out, id), (fin ? (uint32_t)FLAG_FIN << 24 : 0U) | (uint32_t)length);
    return SPDY_HEADER_BYTES;
}

/* No headers: the number 0, stored, and the mark of a flush, without which the client waits for more (tested: it gave up after 30 s). */
size_t
spdy_put_reply(char *out, uint32_t id, bool first)
{
    static const char zlib_header[] = "\x78\x01", none[] = "\x00\x04\x00\xfb\xff\x00\x00\x00\x00\x00\x00\x00\xff\xff";
    enum { ZLIB_HEADER = sizeof zlib_header - 1, NONE = sizeof none - 1 };
    size_t block = NONE + (first ? ZLIB_HEADER : 0U);
    char *at = put_u32(put_control(out, TYPE_SYN_REPLY, 4 + block), id);
    if (first) {
        memcpy(at, zlib_header, ZLIB_HEADER);
        at += ZLIB_HEADER;
    }
    memcpy(at, none, NONE);
    return SPDY_HEADER_BYTES + 4 + block;
}

size_t
spdy_put_reset(char *out, uint32_t id, enum spdy_reset status)
{
    put_u32(put_u32(put_control(out, TYPE_RST_STREAM, 8), id), status);
    return SPDY_RESET_BYTES;
}

size_t
spdy_put_ping(char *out, uint32_t id)
{
    put_u32(put_control(out, TYPE_PING, 4), id);
    return SPDY_PING_BYTES;
}

size_t
spdy_put_goaway(char *out, uint32_t last_id)
{
    put_u32(put_u32(put_control(out, TYPE_GOAWAY, 8), last_id), 0);
    return SPDY_GOAWAY_BYTES;
}
