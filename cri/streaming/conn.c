#include "cri/streaming/conn.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "base/str.h"
#include "cri/streaming/limits.h"

enum { FIRST_OUTPUT = 4096, KEPT_OUTPUT = 16384, TLS_READS = 8 };

struct conn {
    struct conn *prev, *next;
    struct loop *loop;
    struct watch watch;
    struct task flush, end, pending;
    struct timer farewell;
    const struct conn_owner *callbacks;
    void *owner;
    SSL *tls;
    char *out;
    size_t from, to, capacity; /* out[from…to) waits */
    int64_t active_ns;
    bool paused, full, finishing, said_goodbye, gone;
    bool read_wants_write, write_wants_read; /* TLS */
};

static void conn_ready(struct watch *watch, uint32_t events);
static void flush_task(struct task *task);
static void pending_task(struct task *task);

static void
free_task(struct task *task)
{
    struct conn *conn = holder_of(task, struct conn, end);
    if (conn->pending.queued) { /* it comes first */
        loop_post(conn->loop, task);
        return;
    }
    SSL_free(conn->tls);
    free(conn->out);
    free(conn);
}

struct conn *
conn_new(struct loop *loop, int fd, SSL_CTX *tls, const struct conn_owner *callbacks, void *owner)
{
    struct conn *conn = mem_zalloc(1, sizeof *conn);
    conn->loop = loop;
    conn->callbacks = callbacks;
    conn->owner = owner;
    conn->flush.run = flush_task;
    conn->pending.run = pending_task;
    conn->end.run = free_task;
    conn->active_ns = clock_monotonic_ns();
    DL_APPEND(*loop_conns(loop), conn);
    if (tls && (conn->tls = SSL_new(tls)) && SSL_set_fd(conn->tls, fd))
        SSL_set_accept_state(conn->tls);
    watch_open(loop, &conn->watch, fd, EPOLLIN, conn_ready);
    return conn;
}

void
conn_set_owner(struct conn *conn, const struct conn_owner *callbacks, void *owner)
{
    conn->callbacks = callbacks;
    conn->owner = owner;
}

struct loop *
conn_loop(const struct conn *conn)
{
    return conn->loop;
}

int64_t
conn_last_active_ns(const struct conn *conn)
{
    return conn->active_ns;
}

void
conn_close(struct conn *conn)
{
    if (conn->gone)
        return;
    conn->gone = true;
    DL_DELETE(*loop_conns(conn->loop), conn);
    timer_clear(conn->loop, &conn->farewell);
    watch_close(conn->loop, &conn->watch);
    loop_after(conn->loop, &conn->end);
}

void
conns_close(struct loop *loop)
{
    while (*loop_conns(loop))
        conn_close(*loop_conns(loop));
}

static void
lose(struct conn *conn)
{
    if (conn->gone)
        return;
    bool owned = !conn->finishing;
    conn_close(conn);
    if (owned)
        conn->callbacks->lost(conn->owner);
}

/* Bytes, or 0: not now, or -1: the end. */

static ssize_t
result_of_tls(struct conn *conn, int n, bool *wants_other, int other)
{
    int reason = n > 0 ? SSL_ERROR_NONE : SSL_get_error(conn->tls, n);
    ERR_clear_error();
    *wants_other = reason == other;
    if (n > 0)
        return n;
    return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t
get(struct conn *conn, char *data, size_t length)
{
    if (conn->tls)
        return result_of_tls(conn, SSL_read(conn->tls, data, (int)length), &conn->read_wants_write, SSL_ERROR_WANT_WRITE);
    ssize_t n = recv(conn->watch.fd, data, length, 0);
    return n > 0 ? n : n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static ssize_t
put(struct conn *conn, const char *data, size_t length)
{
    if (conn->tls)
        return result_of_tls(conn, SSL_write(conn->tls, data, (int)length), &conn->write_wants_read, SSL_ERROR_WANT_READ);
    ssize_t n = send(conn->watch.fd, data, length, MSG_NOSIGNAL);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void
wait_for_events(struct conn *conn)
{
    uint32_t events = conn->paused && !conn->finishing ? EPOLLRDHUP : EPOLLIN;
    if (conn->to > conn->from || conn->read_wants_write)
        events |= EPOLLOUT;
    if (conn->write_wants_read)
        events |= EPOLLIN;
    if (!conn->gone)
        watch_for(conn->loop, &conn->watch, events);
}

/* Output. */

char *
conn_reserve(struct conn *conn, size_t length)
{
    if (conn->from == conn->to)
        conn->from = conn->to = 0;
    if (conn->capacity - conn->to >= length)
        return conn->out + conn->to;
    if (conn->from) {
        memmove(conn->out, conn->out + conn->from, conn->to - conn->from);
        conn->to -= conn->from;
        conn->from = 0;
    }
    if (conn->capacity - conn->to < length) {
        size_t wanted = conn->to + length;
        conn->capacity = conn->capacity ? conn->capacity : FIRST_OUTPUT;
        while (conn->capacity < wanted)
            conn->capacity *= 2;
        conn->out = mem_realloc(conn->out, conn->capacity, 1);
    }
    return conn->out + conn->to;
}

void
conn_commit(struct conn *conn, size_t length)
{
    conn->to += length;
    if (length && !conn->gone)
        loop_after(conn->loop, &conn->flush);
}

void
conn_send(struct conn *conn, const void *data, size_t length)
{
    memcpy(conn_reserve(conn, length), data, length);
    conn_commit(conn, length);
}

bool
conn_has_room(struct conn *conn)
{
    bool room = !conn->gone && conn->to - conn->from < OUTPUT_HIGH;
    conn->full |= !room;
    return room;
}

/* Nothing waits: a large buffer is given back, as most sessions are silent most of the time. */
static void
shrink(struct conn *conn)
{
    conn->from = conn->to = 0;
    if (conn->capacity <= KEPT_OUTPUT)
        return;
    free(conn->out);
    conn->out = NULL;
    conn->capacity = 0;
}

/* A slow client is waited for as long as it reads. */
static void
farewell_over(struct timer *timer)
{
    struct conn *conn = holder_of(timer, struct conn, farewell);
    if (!conn->said_goodbye && clock_monotonic_ns() - conn->active_ns < FAREWELL_NS)
        timer_set(conn->loop, timer, FAREWELL_NS, farewell_over);
    else
        conn_close(conn);
}

/* All was sent. The client closes when it has read it; closing here with its bytes unread would make the kernel throw away what is on its way. */
static void
say_goodbye(struct conn *conn)
{
    if (conn->said_goodbye)
        return;
    conn->said_goodbye = true;
    if (conn->tls)
        (void)SSL_shutdown(conn->tls);
    ERR_clear_error();
    (void)shutdown(conn->watch.fd, SHUT_WR);
    timer_set(conn->loop, &conn->farewell, FAREWELL_NS, farewell_over);
}

static void
flush(struct conn *conn)
{
    while (conn->from < conn->to) {
        ssize_t n = put(conn, conn->out + conn->from, conn->to - conn->from);
        if (n < 0) {
            lose(conn);
            return;
        }
        if (n == 0)
            break;
        conn->from += (size_t)n;
        conn->active_ns = clock_monotonic_ns();
    }
    if (conn->to - conn->from > OUTPUT_MAX) {
        lose(conn);
        return;
    }
    if (conn->from == conn->to)
        shrink(conn);
    if (conn->finishing && conn->from == conn->to)
        say_goodbye(conn);
    wait_for_events(conn);
    if (conn->full && conn->to - conn->from < OUTPUT_LOW) {
        conn->full = false;
        if (!conn->finishing && conn->callbacks->room)
            conn->callbacks->room(conn->owner);
    }
}

static void
flush_task(struct task *task)
{
    struct conn *conn = holder_of(task, struct conn, flush);
    if (!conn->gone)
        flush(conn);
}

/* Input. */

static bool
read_once(struct conn *conn)
{
    char *data = loop_scratch(conn->loop);
    ssize_t n = get(conn, data, LOOP_SCRATCH_BYTES);
    if (n < 0)
        lose(conn);
    if (n <= 0)
        return false;
    conn->active_ns = clock_monotonic_ns();
    if (!conn->finishing)
        conn->callbacks->input(conn->owner, data, (size_t)n);
    return !conn->gone && (!conn->paused || conn->finishing);
}

/* OpenSSL keeps what it has decrypted where epoll does not see it. */
static void
read_some(struct conn *conn)
{
    for (int i = 0; read_once(conn) && conn->tls && SSL_has_pending(conn->tls); i++)
        if (i == TLS_READS) {
            loop_post(conn->loop, &conn->pending);
            break;
        }
}

static void
pending_task(struct task *task)
{
    struct conn *conn = holder_of(task, struct conn, pending);
    if (!conn->gone && !conn->paused)
        read_some(conn);
    if (!conn->gone)
        wait_for_events(conn);
}

static void
conn_ready(struct watch *watch, uint32_t events)
{
    struct conn *conn = holder_of(watch, struct conn, watch);
    if (conn->paused && !conn->finishing && events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
        lose(conn);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) || conn->read_wants_write)
        if (!conn->paused || conn->finishing)
            read_some(conn);
    if (!conn->gone && (events & EPOLLOUT || conn->write_wants_read))
        flush(conn);
    if (!conn->gone)
        wait_for_events(conn);
}

void
conn_pause(struct conn *conn, bool paused)
{
    if (conn->paused == paused || conn->gone)
        return;
    conn->paused = paused;
    wait_for_events(conn);
    if (!paused && conn->tls && SSL_has_pending(conn->tls))
        loop_post(conn->loop, &conn->pending);
}

void
conn_finish(struct conn *conn)
{
    if (conn->gone || conn->finishing)
        return;
    conn->finishing = true;
    /* A client that reads nothing more is not waited for either. */
    timer_set(conn->loop, &conn->farewell, FAREWELL_NS, farewell_over);
    loop_after(conn->loop, &conn->flush);
}
