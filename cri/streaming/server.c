#include "cri/streaming/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "cri/streaming/forward.h"
#include "cri/streaming/http.h"
#include "cri/streaming/limits.h"
#include "cri/streaming/websocket.h"

enum { BACKLOG = 512 };

/* A connection on which no request has come yet. */
struct visitor {
    struct visitor *prev, *next;
    struct streaming *streaming;
    struct conn *conn;
    struct buf head;
    struct timer timer;
};

struct streaming {
    struct loop *loop;
    pthread_t thread;
    struct watch listener;
    struct timer accept_again;
    struct task stop;
    SSL_CTX *tls;
    char *base; /* "http://127.0.0.1:1234" */
    struct tokens *tokens;
    struct workers *workers;
    struct visitor *visitors;
    size_t visitor_count, most;
    struct session_list sessions;
    struct forward_list forwards;
};

/* What is served where. */
struct route {
    const char *name;
    enum errand_kind kind;
    const char *const *spdy, *const *websocket; /* protocols, the client's order counts */
};

static const char *const exec_spdy[] = {"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", NULL};
static const char *const exec_websocket[] = {
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", NULL,
};
static const char *const forward_spdy[] = {"portforward.k8s.io", NULL};
static const char tunnel[] = "SPDY/3.1+portforward.k8s.io";
static const char *const forward_websocket[] = {tunnel, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", NULL};
static const struct route routes[] = {
    {"exec", ERRAND_EXEC, exec_spdy, exec_websocket},
    {"attach", ERRAND_ATTACH, exec_spdy, exec_websocket},
    {"portforward", ERRAND_PORT_FORWARD, forward_spdy, forward_websocket},
};

/* ---- visitors ---- */

/* The connection is somebody else's from now on. */
static void
visitor_leave(struct visitor *v)
{
    timer_clear(v->streaming->loop, &v->timer);
    DL_DELETE(v->streaming->visitors, v);
    v->streaming->visitor_count--;
    buf_free(&v->head);
    free(v);
}

static void
refuse(struct visitor *v, const char *status, const char *words, const char *const accepted[])
{
    cleanup_buf struct buf answer = BUF(4096);
    (void)buf_addf(&answer, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\nConnection: close\r\n", status,
                   strlen(words) + 1);
    for (; accepted && *accepted; accepted++)
        (void)buf_addf(&answer, "X-Accepted-Stream-Protocol-Versions: %s\r\n", *accepted);
    (void)buf_addf(&answer, "\r\n%s\n", words);
    conn_send(v->conn, answer.data, answer.length);
    conn_finish(v->conn);
    visitor_leave(v);
}

static void
visitor_lost(void *owner)
{
    visitor_leave(owner);
}

static void
visitor_over(struct timer *timer)
{
    struct visitor *v = holder_of(timer, struct visitor, timer);
    conn_close(v->conn);
    visitor_leave(v);
}

/* ---- upgrading ---- */

static void
agree(struct agreement *agreement, bool websocket, const char *protocol)
{
    bool versioned = protocol[0] == 'v';
    *agreement = (struct agreement){
        .way = !websocket                      ? OVER_SPDY
               : strcmp(protocol, tunnel) == 0 ? OVER_TUNNEL
                                               : OVER_CHANNELS,
        .base64 = strstr(protocol, "base64") != NULL,
        .version = versioned ? protocol[1] - '0' : 1,
    };
}

static void
send_spdy_upgrade(struct conn *conn, const char *protocol)
{
    cleanup_free char *text =
        str_printf("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: %s\r\n\r\n", protocol);
    conn_send(conn, text, strlen(text));
}

static void
send_websocket_upgrade(struct conn *conn, const struct http_request *request, const char *protocol)
{
    char key[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept(request->websocket_key, key);
    cleanup_free char *text = str_printf(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n", key,
        request->has_protocols ? "Sec-WebSocket-Protocol: " : "", request->has_protocols ? protocol : "", request->has_protocols ? "\r\n" : "");
    conn_send(conn, text, strlen(text));
}

static void
hand_over(struct visitor *v, const struct agreement *agreement, struct errand *errand, size_t used)
{
    struct streaming *streaming = v->streaming;
    struct conn *conn = v->conn;
    cleanup_buf struct buf head = v->head;
    v->head = BUF(0);
    visitor_leave(v);
    if (errand->kind == ERRAND_PORT_FORWARD)
        forward_new(&streaming->forwards, conn, agreement, errand, head.data + used, head.length - used);
    else
        session_new(&streaming->sessions, conn, agreement, errand, head.data + used, head.length - used);
}

static const char *
choose(const struct route *route, const struct http_request *request)
{
    if (request->spdy)
        return http_choose(request, route->spdy);
    /* A WebSocket client that names none is one of the first days. */
    return request->has_protocols               ? http_choose(request, route->websocket)
           : route->kind == ERRAND_PORT_FORWARD ? "v4.channel.k8s.io"
                                                : "channel.k8s.io";
}

/* The token is used up by the request, whatever is wrong with it. */
static void
serve(struct visitor *v, const struct http_request *request, size_t used)
{
    const struct route *route = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (request->path.count == 2 && strcmp(request->path.items[0], routes[i].name) == 0)
            route = &routes[i];
    struct errand *errand = route ? tokens_take(v->streaming->tokens, request->path.items[1], route->kind) : NULL;
    const char *protocol = errand && (request->spdy || request->websocket) ? choose(route, request) : NULL;
    if (!errand)
        refuse(v, "404 Not Found", "there is nothing, or not any more: ask for a new URL", NULL);
    else if (!request->spdy && !request->websocket)
        refuse(v, "400 Bad Request", "the request must ask for an upgrade to SPDY/3.1 or to WebSocket", NULL);
    else if (request->spdy && !request->has_protocols)
        refuse(v, "400 Bad Request", "the header X-Stream-Protocol-Version is missing", NULL);
    else if (!protocol)
        refuse(v, "403 Forbidden", "none of the protocols asked for is known", request->spdy ? route->spdy : NULL);
    else if (v->streaming->sessions.count + v->streaming->forwards.count >= v->streaming->most)
        refuse(v, "503 Service Unavailable", "too many sessions are open", NULL);
    if (!errand || !protocol || v->streaming->sessions.count + v->streaming->forwards.count >= v->streaming->most) {
        errand_free(errand);
        return;
    }
    struct agreement agreement;
    agree(&agreement, request->websocket, protocol);
    if (request->spdy)
        send_spdy_upgrade(v->conn, protocol);
    else
        send_websocket_upgrade(v->conn, request, protocol);
    hand_over(v, &agreement, errand, used);
}

static void
visitor_input(void *owner, char *data, size_t length)
{
    struct visitor *v = owner;
    cleanup_http_request struct http_request request = {0};
    bool fits = buf_add(&v->head, data, length);
    long used = fits ? http_request_parse(&request, v->head.data, v->head.length) : -1;
    if (used < 0)
        refuse(v, "400 Bad Request", "this is no request for a stream", NULL);
    else if (used > 0)
        serve(v, &request, (size_t)used);
}

static const struct conn_owner visitor_calls = {visitor_input, NULL, visitor_lost};

/* ---- the listener ---- */

static void accept_ready(struct watch *watch, uint32_t events);

static void
accept_over(struct timer *timer)
{
    struct streaming *s = holder_of(timer, struct streaming, accept_again);
    watch_for(s->loop, &s->listener, EPOLLIN);
}

static void
visitor_new(struct streaming *s, int fd)
{
    struct visitor *v = mem_zalloc(1, sizeof *v);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    v->streaming = s;
    v->head = BUF(REQUEST_BYTES_MAX + LOOP_SCRATCH_BYTES); /* what a client in a hurry sends behind its request as well */
    v->conn = conn_new(s->loop, fd, s->tls, &visitor_calls, v);
    timer_set(s->loop, &v->timer, REQUEST_NS, visitor_over);
    DL_APPEND(s->visitors, v);
    s->visitor_count++;
}

static void
accept_ready(struct watch *watch, uint32_t events)
{
    struct streaming *s = holder_of(watch, struct streaming, listener);
    (void)events;
    if (s->visitor_count >= s->most) {
        visitor_over(&s->visitors->timer); /* the oldest: who has come and says nothing */
        return;
    }
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        visitor_new(s, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        /* The connection stays in the backlog; trying again at once would only burn a processor. */
        watch_for(s->loop, watch, 0);
        timer_set(s->loop, &s->accept_again, QUIET_NS, accept_over);
    }
}

static int
parse_address(const char *text, uint16_t port, struct sockaddr_storage *address, struct error *err)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    *address = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return (int)sizeof *v4;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
        return error_set(err, ERR_INVALID, "streaming.address: \"%s\" is no IP address", text);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return (int)sizeof *v6;
}

/* Whoever asks is on this machine, or on the one whose address was configured: a listener on all addresses is named by loopback. */
static char *
base_url(int fd, bool tls)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "127.0.0.1";
    const struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    (void)getsockname(fd, (struct sockaddr *)&address, &length);
    bool is_v6 = address.ss_family == AF_INET6;
    if (is_v6 && !IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    else if (is_v6)
        (void)strcpy(host, "::1");
    else if (v4->sin_addr.s_addr != htonl(INADDR_ANY))
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    return str_printf(is_v6 ? "%s://[%s]:%u" : "%s://%s:%u", tls ? "https" : "http", host, ntohs(is_v6 ? v6->sin6_port : v4->sin_port));
}

static int
listen_on(struct streaming *s, const struct streaming_options *o, struct error *err)
{
    struct sockaddr_storage address;
    int length = TRY(parse_address(o->address, o->port, &address, err));
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(err, errno, "make a socket");
    watch_open(s->loop, &s->listener, fd, 0, accept_ready);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&address, (socklen_t)length) < 0 || listen(fd, BACKLOG) < 0)
        return error_errno(err, errno, "listen on %s port %u", o->address, o->port);
    s->base = base_url(fd, s->tls != NULL);
    watch_for(s->loop, &s->listener, EPOLLIN);
    return 0;
}

/* ---- life ---- */

static int
tls_error(const char *file, struct error *err)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    return error_set(err, ERR_INVALID, "streaming: %s: %s", file, reason);
}

static int
open_tls(struct streaming *s, const struct streaming_options *o, struct error *err)
{
    if (str_empty(o->tls_cert) && str_empty(o->tls_key))
        return 0;
    s->tls = SSL_CTX_new(TLS_server_method());
    if (!s->tls || !SSL_CTX_set_min_proto_version(s->tls, TLS1_2_VERSION))
        return tls_error("TLS", err);
    (void)SSL_CTX_set_mode(s->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_options(s->tls, SSL_OP_NO_RENEGOTIATION);
    if (SSL_CTX_use_certificate_chain_file(s->tls, o->tls_cert) != 1)
        return tls_error(o->tls_cert, err);
    if (SSL_CTX_use_PrivateKey_file(s->tls, o->tls_key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(s->tls) != 1)
        return tls_error(o->tls_key, err);
    return 0;
}

static void
end_all(struct task *task)
{
    struct streaming *s = holder_of(task, struct streaming, stop);
    watch_close(s->loop, &s->listener);
    timer_clear(s->loop, &s->accept_again);
    while (s->visitors)
        visitor_over(&s->visitors->timer);
    sessions_end(&s->sessions);
    forwards_end(&s->forwards);
}

static void *
serve_thread(void *arg)
{
    struct streaming *s = arg;
    (void)pthread_setname_np(pthread_self(), "streaming");
    loop_run(s->loop);
    return NULL;
}

static void
streaming_free(struct streaming *s)
{
    if (s->loop) {
        watch_close(s->loop, &s->listener);
        conns_close(s->loop);
        loop_free(s->loop);
    }
    tokens_free(s->tokens);
    SSL_CTX_free(s->tls);
    free(s->base);
    free(s);
}

static int
start(struct streaming *s, const struct streaming_options *o, struct error *err)
{
    s->loop = TRY_PTR(loop_new(err));
    s->sessions = (struct session_list){.loop = s->loop, .runtime = o->runtime, .workers = s->workers, .idle_ns = o->idle_ns};
    s->forwards = (struct forward_list){.loop = s->loop, .runtime = o->runtime, .idle_ns = o->idle_ns};
    TRY(open_tls(s, o, err));
    TRY(listen_on(s, o, err));
    int errnum = pthread_create(&s->thread, NULL, serve_thread, s);
    return errnum ? error_errno(err, errnum, "start a thread") : 0;
}

struct streaming *
streaming_open(const struct streaming_options *options, struct error *err)
{
    struct streaming *s = mem_zalloc(1, sizeof *s);
    s->listener.fd = -1;
    s->stop.run = end_all;
    s->most = options->sessions;
    s->tokens = tokens_new();
    s->workers = workers_new(options->sessions);
    if (start(s, options, err) == 0)
        return s;
    (void)workers_stop(s->workers, INT64_MAX);
    streaming_free(s);
    return NULL;
}

bool
streaming_close(struct streaming *s, int64_t deadline_ns)
{
    if (!s)
        return true;
    loop_post(s->loop, &s->stop);
    bool ended = workers_stop(s->workers, deadline_ns);
    if (!ended)
        return false;
    (void)poll(NULL, 0, 50); /* for the last words to leave the machine */
    loop_stop(s->loop);
    pthread_join(s->thread, NULL);
    streaming_free(s);
    return true;
}

char *
streaming_url(struct streaming *s, struct errand *errand, struct error *err)
{
    char token[TOKEN_SIZE];
    const char *name = "";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (routes[i].kind == errand->kind)
            name = routes[i].name;
    TRY_OR_NULL(tokens_add(s->tokens, errand, token, err));
    return str_printf("%s/%s/%s", s->base, name, token);
}
