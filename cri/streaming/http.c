#include "cri/streaming/http.h"

#include <http_parser.h>
#include <string.h>
#include <strings.h>

#include "cri/streaming/limits.h"

/* http-parser hands over fields and values in pieces. */
struct parse {
    struct http_request *request;
    struct buf url, name, value;
    struct buf connection, upgrade;
    bool in_value, whole;
};

/* Values of one header, repeated or separated by commas. */
static void
add_values(struct strv *list, const char *text)
{
    while (*text) {
        text += strspn(text, ", \t");
        size_t length = strcspn(text, ",");
        size_t trimmed = length;
        while (trimmed && strchr(" \t", text[trimmed - 1]))
            trimmed--;
        if (trimmed)
            strv_take(list, str_ndup(text, trimmed));
        text += length;
    }
}

static void
header_whole(struct parse *p)
{
    struct http_request *r = p->request;
    const char *name = p->name.length ? p->name.data : "", *value = p->value.length ? p->value.data : "";
    if (strcasecmp(name, "Connection") == 0)
        (void)buf_addf(&p->connection, "%s,", value);
    else if (strcasecmp(name, "Upgrade") == 0)
        (void)buf_addf(&p->upgrade, "%s,", value);
    else if (strcasecmp(name, "X-Stream-Protocol-Version") == 0 || strcasecmp(name, "Sec-WebSocket-Protocol") == 0) {
        r->has_protocols = true;
        add_values(&r->protocols, value);
    } else if (strcasecmp(name, "Sec-WebSocket-Key") == 0 && !r->websocket_key)
        r->websocket_key = str_dup(value);
    else if (strcasecmp(name, "Sec-WebSocket-Version") == 0 && !r->websocket_version)
        r->websocket_version = str_dup(value);
    p->name.length = p->value.length = 0;
    p->in_value = false;
}

static int
on_url(http_parser *parser, const char *data, size_t length)
{
    struct parse *p = parser->data;
    return buf_add(&p->url, data, length) ? 0 : -1;
}

static int
on_field(http_parser *parser, const char *data, size_t length)
{
    struct parse *p = parser->data;
    if (p->in_value)
        header_whole(p);
    return buf_add(&p->name, data, length) ? 0 : -1;
}

static int
on_value(http_parser *parser, const char *data, size_t length)
{
    struct parse *p = parser->data;
    p->in_value = true;
    return buf_add(&p->value, data, length) ? 0 : -1;
}

static int
on_headers(http_parser *parser)
{
    struct parse *p = parser->data;
    if (p->in_value)
        header_whole(p);
    return 0;
}

static int
on_message(http_parser *parser)
{
    struct parse *p = parser->data;
    p->whole = true;
    http_parser_pause(parser, 1); /* what follows is no HTTP */
    return 0;
}

static bool
mentions(const struct buf *header, const char *word)
{
    return header->length && strcasestr(header->data, word);
}

static void
finish(struct parse *p)
{
    struct http_request *r = p->request;
    bool upgrade = mentions(&p->connection, "upgrade");
    r->spdy = upgrade && mentions(&p->upgrade, "SPDY/3.1");
    r->websocket = upgrade && !r->spdy && mentions(&p->upgrade, "websocket") && !str_empty(r->websocket_key) && str_eq(r->websocket_version, "13");
    char *url = p->url.length ? p->url.data : NULL;
    if (url)
        url[strcspn(url, "?#")] = '\0';
    strv_split(&r->path, url ? url : "", '/', true);
}

/* http-parser ends at the blank line of an upgrade, and after the body of what is none. */
static long
parse(struct parse *p, const char *data, size_t length)
{
    static const http_parser_settings settings = {
        .on_url = on_url,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_headers_complete = on_headers,
        .on_message_complete = on_message,
    };
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = p;
    size_t used = http_parser_execute(&parser, &settings, data, length);
    if (!p->whole)
        return HTTP_PARSER_ERRNO(&parser) == HPE_OK ? 0 : -1;
    if (parser.method != HTTP_GET && parser.method != HTTP_POST)
        return -1;
    finish(p);
    return (long)used;
}

long
http_request_parse(struct http_request *out, const char *data, size_t length)
{
    *out = (struct http_request){0};
    struct buf limited = BUF(REQUEST_BYTES_MAX);
    struct parse p = {.request = out, .url = limited, .name = limited, .value = limited, .connection = limited, .upgrade = limited};
    long used = parse(&p, data, length);
    struct buf *bufs[] = {&p.url, &p.name, &p.value, &p.connection, &p.upgrade};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
        buf_free(bufs[i]);
    if (used != 0 || length < REQUEST_BYTES_MAX)
        return used;
    return -1;
}

void
http_request_free(struct http_request *request)
{
    strv_free(&request->path);
    strv_free(&request->protocols);
    free(request->websocket_key);
    free(request->websocket_version);
    *request = (struct http_request){0};
}

const char *
http_choose(const struct http_request *request, const char *const known[])
{
    for (size_t i = 0; i < request->protocols.count; i++)
        for (const char *const *k = known; *k; k++)
            if (strcmp(request->protocols.items[i], *k) == 0)
                return *k;
    return NULL;
}
