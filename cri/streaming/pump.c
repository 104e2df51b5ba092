#include "cri/streaming/pump.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/str.h"
#include "cri/streaming/limits.h"

/* Taps. */

static ssize_t
tap_read(struct tap *tap)
{
    char thrown_away[4096];
    return tap->stream ? carrier_send_from(tap->stream, tap->watch.fd) : read(tap->watch.fd, thrown_away, sizeof thrown_away);
}

static void
tap_ready(struct watch *watch, uint32_t events)
{
    struct tap *tap = holder_of(watch, struct tap, watch);
    (void)events;
    if (tap->stream && !carrier_has_room(tap->stream->carrier)) {
        watch_for(tap->loop, watch, 0);
        return;
    }
    ssize_t n = tap_read(tap);
    int errnum = n < 0 ? errno : 0;
    if (n > 0 && tap->moved)
        tap->moved(tap, (size_t)n);
    if (n > 0 || errnum == EAGAIN || errnum == EINTR)
        return;
    watch_close(tap->loop, watch);
    /* A terminal's master says EIO when the last slave has closed. */
    tap->ended(tap, errnum == EIO ? 0 : errnum);
}

void
tap_open(struct tap *tap, struct loop *loop, int fd, struct stream *stream)
{
    tap->loop = loop;
    tap->stream = stream;
    watch_open(loop, &tap->watch, fd, EPOLLIN, tap_ready);
}

void
tap_resume(struct tap *tap)
{
    watch_for(tap->loop, &tap->watch, EPOLLIN);
}

bool
tap_rests(const struct tap *tap)
{
    return tap->watch.fd >= 0 && !tap->watch.added;
}

void
tap_close(struct tap *tap)
{
    tap->stream = NULL;
    if (tap->loop)
        watch_close(tap->loop, &tap->watch);
}

/* Sinks. */

void
sink_close(struct sink *sink)
{
    sink->over = true;
    sink->from = 0;
    buf_free(&sink->waiting);
    watch_close(sink->loop, &sink->watch);
    if (!sink->full)
        return;
    sink->full = false;
    sink->changed(sink);
}

static void
sink_fail(struct sink *sink, int errnum)
{
    sink_close(sink);
    sink->failed(sink, errnum);
}

/* What fits; -1: it failed and is over. */
static ssize_t
sink_write(struct sink *sink, const char *data, size_t length)
{
    ssize_t n = sink->watch.fd >= 0 && length ? write(sink->watch.fd, data, length) : 0;
    if (n >= 0)
        return n;
    int errnum = errno;
    if (errnum == EAGAIN || errnum == EINTR)
        return 0;
    sink_fail(sink, errnum);
    return -1;
}

size_t
sink_waiting(const struct sink *sink)
{
    return sink->waiting.length - sink->from;
}

static void
update(struct sink *sink)
{
    bool full = sink_waiting(sink) >= (sink->full ? INPUT_LOW : INPUT_HIGH);
    watch_for(sink->loop, &sink->watch, sink_waiting(sink) ? EPOLLOUT : 0);
    if (full != sink->full) {
        sink->full = full;
        sink->changed(sink);
    }
    if (sink->ending && !sink->over && !sink_waiting(sink) && sink->watch.fd >= 0) {
        sink->ending = false;
        sink->drained(sink);
    }
}

static void
flush(struct sink *sink)
{
    ssize_t n = sink_waiting(sink) ? sink_write(sink, sink->waiting.data + sink->from, sink_waiting(sink)) : 0;
    if (n < 0)
        return;
    sink->from += (size_t)n;
    if (!sink_waiting(sink)) {
        sink->from = 0;
        buf_free(&sink->waiting);
    }
    update(sink);
}

static void
sink_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    flush(holder_of(watch, struct sink, watch));
}

void
sink_open(struct sink *sink, int fd)
{
    watch_open(sink->loop, &sink->watch, fd, 0, sink_ready);
    flush(sink);
}

/* What was written of it makes room first, where that is worth the move. */
static bool
keep(struct sink *sink, const char *data, size_t length)
{
    if (sink->from > sink->waiting.length / 2) {
        buf_consume(&sink->waiting, sink->from);
        sink->from = 0;
    }
    sink->waiting.limit = INPUT_MAX;
    return buf_add(&sink->waiting, data, length);
}

void
sink_put(struct sink *sink, const char *data, size_t length)
{
    if (sink->over || sink->ending)
        return;
    ssize_t n = sink_waiting(sink) ? 0 : sink_write(sink, data, length);
    if (n < 0)
        return;
    if ((size_t)n == length || keep(sink, data + n, length - (size_t)n))
        update(sink);
    else
        sink_fail(sink, ENOBUFS);
}

void
sink_end(struct sink *sink)
{
    if (sink->over)
        return;
    sink->ending = true;
    update(sink);
}
