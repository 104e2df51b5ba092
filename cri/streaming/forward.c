#include "cri/streaming/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "cri/streaming/limits.h"
#include "cri/streaming/pump.h"
#include "runtime/runtime.h"

enum { FAMILIES = 2 };

struct pair {
    struct pair *prev, *next;
    struct forward *forward;
    char request_id[24];
    uint16_t port;
    struct stream *data, *error; /* NULL: not there yet, or done with */
    int sockets[FAMILIES];       /* to be tried, in order; -1 */
    int family;                  /* the one that is tried */
    int errnum;                  /* why the last one failed */
    struct watch connecting;
    struct sink in;
    struct tap out;
    bool in_done;          /* the client has ended it, and all it sent was written */
    struct timer timer;    /* until both streams are there */
    struct timer patience; /* while the client rests for its sake */
    size_t waited;         /* bytes, when that was set */
    bool excused;          /* … and the client does not rest, though it is full: it does not read either */
};

struct forward {
    struct forward *prev, *next;
    struct forward_list *list;
    struct carrier *carrier;
    struct errand *errand;
    struct pair *pairs;
    size_t full; /* sinks that are */
    bool channels;
    struct timer idle;
};

/* ---- the end of a pair ---- */

static void
pair_free(struct pair *p)
{
    struct loop *loop = p->forward->list->loop;
    timer_clear(loop, &p->timer);
    timer_clear(loop, &p->patience);
    watch_close(loop, &p->connecting);
    sink_close(&p->in);
    tap_close(&p->out);
    for (int i = 0; i < FAMILIES; i++)
        if (p->sockets[i] >= 0)
            (void)close(p->sockets[i]);
    DL_DELETE(p->forward->pairs, p);
    free(p);
}

static void all_ended(struct timer *timer);

/* Streams that are left are given up; the error stream is ended first: nothing was wrong. Channels cannot be ended, nor opened anew: after the last
 * the session is over. */
static void
pair_end(struct pair *p)
{
    struct forward *f = p->forward;
    struct stream *error = steal(p->error), *data = steal(p->data);
    if (error) {
        carrier_send(error, NULL, 0, true);
        carrier_drop(error);
    }
    if (data)
        carrier_drop(data);
    pair_free(p);
    if (f->channels && !f->pairs)
        timer_set(f->list->loop, &f->idle, 0, all_ended);
}

/* For the client these words are the end of all it forwards: only where nothing could be reached. */
static void
pair_fail(struct pair *p, const char *words)
{
    struct stream *error = steal(p->error);
    if (error) {
        carrier_send(error, words, strlen(words), true);
        carrier_drop(error);
    }
    pair_end(p);
}

/* What was sent to the pod is not all: its side shall not take the end for a good one. */
static void
break_off(struct pair *p)
{
    int fd = p->in.watch.fd >= 0 ? p->in.watch.fd : p->out.watch.fd;
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    pair_end(p);
}

static void
end_if_done(struct pair *p)
{
    if (p->in_done && p->out.watch.fd < 0)
        pair_end(p);
}

/* ---- bytes ---- */

/* Bytes for the pod, with those in the socket: epoll tells of room there only when a third of it is free. */
static size_t
bytes_waiting(const struct pair *p)
{
    int unsent = 0;
    (void)ioctl(p->in.watch.fd, SIOCOUTQ, &unsent);
    return sink_waiting(&p->in) + (size_t)unsent;
}

static void patience_over(struct timer *timer);

/* Count the pair among those for whose sake the client rests, or not. */
static void
hold(struct pair *p, bool held)
{
    struct forward *f = p->forward;
    f->full += held ? 1 : (size_t)-1;
    if (f->carrier)
        carrier_pause(f->carrier, f->full != 0);
    p->waited = bytes_waiting(p);
    if (held)
        timer_set(f->list->loop, &p->patience, STALL_NS, patience_over);
    else
        timer_clear(f->list->loop, &p->patience);
}

static void
give_up(struct pair *p)
{
    static const char words[] = "nobody reads in the pod";
    log_debug("a forwarded connection is broken off: nobody reads in the pod", "pod", p->forward->errand->id);
    if (p->forward->channels && p->error) /* which have no other word for it */
        carrier_send(p->error, words, strlen(words), false);
    break_off(p);
}

/* The client rests as long as the pod reads, be it slowly: no client of SPDY keeps its windows, so that one stream cannot rest by itself. A pod that
 * reads nothing is not waited for: the others of the session would be, too. Where it does not because the client takes no answer from it, the client
 * may be one that first wants to be rid of what it says: that is taken, up to INPUT_MAX. */
static void
patience_over(struct timer *timer)
{
    struct pair *p = holder_of(timer, struct pair, patience);
    size_t waits = bytes_waiting(p);
    if (waits < p->waited) {
        p->waited = waits;
        timer_set(p->forward->list->loop, timer, STALL_NS, patience_over);
    } else if (tap_rests(&p->out)) {
        p->excused = true;
        hold(p, false);
    } else {
        give_up(p);
    }
}

static void
in_changed(struct sink *sink)
{
    struct pair *p = holder_of(sink, struct pair, in);
    if (!p->excused)
        hold(p, sink->full);
    p->excused = false;
}

static void
in_drained(struct sink *sink)
{
    struct pair *p = holder_of(sink, struct pair, in);
    (void)shutdown(sink->watch.fd, SHUT_WR);
    p->in_done = true;
    end_if_done(p);
}

static void
in_failed(struct sink *sink, int errnum)
{
    struct pair *p = holder_of(sink, struct pair, in);
    if (errnum == ENOBUFS)
        give_up(p);
    else
        pair_end(p);
}

static void
out_ended(struct tap *tap, int errnum)
{
    struct pair *p = tap->owner;
    if (errnum || p->forward->channels) { /* which cannot say that there comes no more */
        pair_end(p);
        return;
    }
    carrier_send(p->data, NULL, 0, true);
    end_if_done(p);
}

/* ---- connecting ---- */

static void
connected(struct pair *p, int fd)
{
    int in = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* epoll knows a file once by each fd */
    if (in < 0) {
        (void)close(fd);
        pair_fail(p, "too many files are open");
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    tap_open(&p->out, p->forward->list->loop, fd, p->data);
    sink_open(&p->in, in);
}

static void try_next(struct pair *p);

static void
connect_ended(struct pair *p, int errnum)
{
    int fd = steal(p->connecting.fd);
    if (!errnum) {
        connected(p, fd);
        return;
    }
    (void)close(fd);
    p->errnum = errnum;
    p->family++;
    try_next(p);
}

static void
connect_ready(struct watch *watch, uint32_t events)
{
    struct pair *p = holder_of(watch, struct pair, connecting);
    int errnum = 0;
    socklen_t length = sizeof errnum;
    (void)events;
    watch_for(p->forward->list->loop, watch, 0);
    if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &errnum, &length) < 0)
        errnum = errno;
    connect_ended(p, errnum);
}

static int
connect_localhost(int fd, int family, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int result = family == 0 ? connect(fd, (struct sockaddr *)&v4, sizeof v4) : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    return result == 0 ? 0 : errno;
}

static void
try_next(struct pair *p)
{
    while (p->family < FAMILIES && p->sockets[p->family] < 0)
        p->family++;
    if (p->family == FAMILIES) {
        char words[160];
        (void)snprintf(words, sizeof words, "port %u of the pod: nothing could be reached on localhost by IPv4 or IPv6: %s", p->port,
                       strerrordesc_np(p->errnum));
        pair_fail(p, words);
        return;
    }
    int fd = steal(p->sockets[p->family]);
    int errnum = connect_localhost(fd, p->family, p->port);
    watch_open(p->forward->list->loop, &p->connecting, fd, 0, connect_ready);
    if (errnum == EINPROGRESS)
        watch_for(p->forward->list->loop, &p->connecting, EPOLLOUT);
    else
        connect_ended(p, errnum);
}

/* A socket belongs to the network its thread was in when it was made. The loop's thread goes there and comes back; if it could not, crispd would
 * listen in the pod. */
static int
make_sockets(int netns, int sockets[FAMILIES])
{
    static const int families[FAMILIES] = {AF_INET, AF_INET6};
    cleanup_close int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0 || setns(netns, CLONE_NEWNET) < 0)
        return errno;
    int errnum = 0;
    for (int i = 0; i < FAMILIES; i++) {
        sockets[i] = socket(families[i], SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        errnum = sockets[i] < 0 ? errno : errnum;
    }
    if (setns(home, CLONE_NEWNET) < 0) {
        log_error("crispd is caught in a pod's network", "error", strerrordesc_np(errno));
        abort();
    }
    return sockets[0] < 0 && sockets[1] < 0 ? errnum : 0;
}

static void
pair_start(struct pair *p)
{
    struct error err;
    timer_clear(p->forward->list->loop, &p->timer);
    cleanup_close int netns = pod_open_netns(p->forward->list->runtime, p->forward->errand->id, &err);
    if (netns < 0) {
        pair_fail(p, err.message);
        return;
    }
    p->errnum = make_sockets(netns, p->sockets);
    if (p->errnum)
        pair_fail(p, "a socket cannot be made in the pod's network");
    else
        try_next(p);
}

/* ---- pairing ---- */

static void
pair_over(struct timer *timer)
{
    pair_end(holder_of(timer, struct pair, timer));
}

static struct pair *
pair_new(struct forward *f, const char *request_id, uint16_t port)
{
    struct pair *p = mem_zalloc(1, sizeof *p);
    p->forward = f;
    p->port = port;
    (void)snprintf(p->request_id, sizeof p->request_id, "%s", request_id);
    p->sockets[0] = p->sockets[1] = p->connecting.fd = -1;
    p->in = (struct sink){.loop = f->list->loop, .watch.fd = -1, .changed = in_changed, .drained = in_drained, .failed = in_failed};
    p->out = (struct tap){.loop = f->list->loop, .watch.fd = -1, .ended = out_ended, .owner = p};
    DL_APPEND(f->pairs, p);
    timer_set(f->list->loop, &p->timer, STREAMS_NS, pair_over);
    return p;
}

static struct pair *
pair_find(const struct forward *f, const char *request_id)
{
    struct pair *p;
    DL_FOREACH(f->pairs, p)
    {
        if (strcmp(p->request_id, request_id) == 0)
            return p;
    }
    return NULL;
}

static void
on_opened(void *user, struct stream *stream, const struct stream_headers *headers)
{
    struct forward *f = user;
    bool is_data = strcmp(headers->type, "data") == 0;
    uint64_t port;
    char id[24];
    if ((!is_data && strcmp(headers->type, "error") != 0) || str_to_u64(headers->port, UINT16_MAX, "port", &port, NULL) < 0 || port == 0) {
        carrier_drop(stream);
        return;
    }
    /* Clients of long ago name no pairs: there the data stream follows its error stream. */
    if (*headers->request_id)
        (void)snprintf(id, sizeof id, "%s", headers->request_id);
    else
        (void)snprintf(id, sizeof id, "-%u", is_data ? stream->id - 2 : stream->id);
    struct pair *p = pair_find(f, id);
    if (p && (p->port != port || (is_data ? p->data : p->error))) {
        carrier_drop(stream);
        return;
    }
    if (!p)
        p = pair_new(f, id, (uint16_t)port);
    *(is_data ? &p->data : &p->error) = stream;
    carrier_accept(stream, p);
    if (p->data && p->error)
        pair_start(p);
}

static void
on_data(void *user, struct stream *stream, const char *data, size_t length)
{
    struct pair *p = stream->owner;
    (void)user;
    if (stream == p->data)
        sink_put(&p->in, data, length);
}

static void
on_ended(void *user, struct stream *stream)
{
    struct pair *p = stream->owner;
    (void)user;
    if (stream == p->data)
        sink_end(&p->in);
}

/* The client has broken it off: so is the connection in the pod. */
static void
on_reset(void *user, struct stream *stream)
{
    struct pair *p = stream->owner;
    (void)user;
    if (stream == p->error) {
        p->error = NULL;
        return;
    }
    p->data = NULL;
    break_off(p);
}

static void
on_room(void *user)
{
    struct forward *f = user;
    struct pair *p;
    DL_FOREACH(f->pairs, p)
    {
        tap_resume(&p->out);
        if (p->excused)
            hold(p, true);
        p->excused = false;
    }
}

/* ---- the session ---- */

static void
forward_free(struct forward *f)
{
    struct pair *p, *next;
    timer_clear(f->list->loop, &f->idle);
    f->carrier = NULL;
    DL_FOREACH_SAFE(f->pairs, p, next)
    {
        p->data = p->error = NULL; /* the carrier's to free */
        pair_free(p);
    }
    DL_DELETE(f->list->first, f);
    f->list->count--;
    errand_free(f->errand);
    free(f);
}

static void
on_lost(void *user)
{
    forward_free(user);
}

static const struct carrier_user carrier_calls = {on_opened, on_data, on_ended, on_reset, on_room, on_lost};

static void
finish(struct forward *f)
{
    carrier_finish(f->carrier, true);
    forward_free(f);
}

static void
all_ended(struct timer *timer)
{
    finish(holder_of(timer, struct forward, idle));
}

static void
idle_over(struct timer *timer)
{
    struct forward *f = holder_of(timer, struct forward, idle);
    int64_t idle_ns = clock_monotonic_ns() - conn_last_active_ns(f->carrier->conn);
    if (idle_ns >= f->list->idle_ns)
        finish(f);
    else
        timer_set(f->list->loop, timer, f->list->idle_ns - idle_ns, idle_over);
}

/* The first message on each channel is the port, in two bytes, the lower first [kubernetes' WebSocket port-forward]. */
static void
open_channels(struct forward *f)
{
    for (unsigned i = 0; i < f->errand->port_count; i++) {
        char id[24];
        uint16_t port = f->errand->ports[i];
        const char first[2] = {(char)(port & 0xff), (char)(port >> 8)};
        (void)snprintf(id, sizeof id, "%u", i);
        struct pair *p = pair_new(f, id, port);
        p->data = carrier_channel_open(f->carrier, 2 * i, p);
        p->error = carrier_channel_open(f->carrier, 2 * i + 1, p);
        carrier_send(p->data, first, sizeof first, false);
        carrier_send(p->error, first, sizeof first, false);
        pair_start(p);
    }
}

void
forward_new(struct forward_list *list, struct conn *conn, const struct agreement *agreement, struct errand *errand, char *data, size_t length)
{
    struct forward *f = mem_zalloc(1, sizeof *f);
    f->list = list;
    f->errand = errand;
    DL_APPEND(list->first, f);
    list->count++;
    f->channels = agreement->way == OVER_CHANNELS;
    f->carrier = f->channels ? carrier_websocket_new(conn, agreement->base64, false, &carrier_calls, f)
                             : carrier_spdy_new(conn, agreement->way == OVER_TUNNEL, &carrier_calls, f);
    timer_set(list->loop, &f->idle, list->idle_ns, idle_over);
    if (f->channels)
        open_channels(f);
    carrier_input(f->carrier, data, length);
}

void
forwards_end(struct forward_list *list)
{
    struct forward *f, *next;
    DL_FOREACH_SAFE(list->first, f, next)
    {
        finish(f);
    }
}
