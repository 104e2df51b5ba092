#include "runtime/monitor/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/fd_pass.h"
#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

/* Slots. */

static struct attachment *
slot_take(struct monitor *m)
{
    for (size_t i = 0; i < ATTACHMENTS_MAX; i++) {
        if (m->attachments[i].container)
            continue;
        if (i >= m->attachments_used)
            m->attachments_used = i + 1;
        return &m->attachments[i];
    }
    return NULL;
}

/* Whole pages of a client's chunks go back to the kernel. */
static void
slot_release(struct attachment *a)
{
    enum { PAGE = 4096 };
    uintptr_t from = ((uintptr_t)a->in_data + PAGE - 1) & ~(uintptr_t)(PAGE - 1), to = (uintptr_t)(a + 1) & ~(uintptr_t)(PAGE - 1);
    (void)madvise((void *)from, to - from, MADV_DONTNEED);
    a->container = NULL;
}

static struct stream *
stream_of(const struct copy *copy)
{
    struct attachment *a = copy->attachment;
    return copy == &a->copies[0] ? &a->container->stdio.out : &a->container->stdio.err;
}

static char *
chunk_of(const struct copy *copy)
{
    return copy->attachment->data[copy - copy->attachment->copies];
}

/* The budget. */

static int64_t
debt_now(const struct attachment *a, int64_t now)
{
    int64_t debt = a->debt_ns - (now - a->debt_at_ns) / STALL_BUDGET_TENTHS;
    return debt > 0 ? debt : 0;
}

static bool
stalls(const struct attachment *a)
{
    return a->copies[0].waiting || a->copies[1].waiting;
}

static void
stall_begin(struct attachment *a)
{
    int64_t now = clock_monotonic_ns();
    if (a->stall_ns)
        return;
    a->debt_ns = debt_now(a, now);
    a->debt_at_ns = a->stall_ns = now;
}

static void
stall_end(struct attachment *a)
{
    int64_t now = clock_monotonic_ns();
    if (!a->stall_ns || stalls(a))
        return;
    a->debt_ns += now - a->stall_ns;
    a->debt_at_ns = now;
    a->stall_ns = 0;
}

/* Leaving. */

static void
release_stream(struct monitor *m, struct copy *copy)
{
    if (!copy->waiting)
        return;
    copy->waiting = 0;
    struct stream *stream = stream_of(copy);
    stream->held--;
    stream_resume(m, stream);
}

static void
copy_close(struct monitor *m, struct copy *copy)
{
    release_stream(m, copy);
    source_close(m, &copy->source);
    stall_end(copy->attachment);
}

static void
input_close(struct monitor *m, struct attachment *a)
{
    source_close(m, &a->in);
    a->in_waiting = 0;
    if (a->had_input && a->container->stdio.stdin_once)
        stdio_close_input(m, a->container);
    a->had_input = false;
}

static void
leave(struct monitor *m, struct attachment *a)
{
    copy_close(m, &a->copies[0]);
    copy_close(m, &a->copies[1]);
    input_close(m, a);
    answer_ok(m, &a->asker);
    slot_release(a);
}

/* Its streams are independent: it leaves with the last. */
static void
leave_if_over(struct monitor *m, struct attachment *a)
{
    if (a->in.fd < 0 && a->copies[0].source.fd < 0 && a->copies[1].source.fd < 0)
        leave(m, a);
}

/* Output. */

/* What fits of `length` bytes; -1 when crispd has closed its end, which it does for all of a client's pipes together. */
static ssize_t
put(const struct copy *copy, const char *data, size_t length)
{
    ssize_t n = write(copy->source.fd, data, length);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void
copy_ready(struct monitor *m, struct source *source)
{
    struct copy *copy = container_of(source, struct copy, source);
    struct attachment *a = copy->attachment;
    ssize_t n = copy->waiting ? put(copy, chunk_of(copy) + copy->from, copy->waiting) : -1; /* nothing waits: it is the reader who has gone */
    if (n < 0) {
        leave(m, a);
        return;
    }
    copy->from += (size_t)n;
    if ((size_t)n < copy->waiting) {
        copy->waiting -= (size_t)n;
        return;
    }
    release_stream(m, copy);
    stall_end(a);
    source_wait_for(m, source, 0);
    if (copy->ending) {
        copy_close(m, copy);
        leave_if_over(m, a);
    }
}

static void
copy_output(struct monitor *m, struct copy *copy, const char *data, size_t length)
{
    ssize_t n = put(copy, data, length);
    if (n < 0) {
        leave(m, copy->attachment);
        return;
    }
    if ((size_t)n == length)
        return;
    copy->from = 0;
    copy->waiting = length - (size_t)n;
    memcpy(chunk_of(copy), data + n, copy->waiting);
    stream_of(copy)->held++;
    source_pause(m, &stream_of(copy)->source);
    stall_begin(copy->attachment);
    source_wait_for(m, &copy->source, EPOLLOUT);
}

static struct copy *
copy_of(struct attachment *a, const struct stream *stream)
{
    if (a->container != stream->container)
        return NULL;
    struct copy *copy = &a->copies[stream == &stream->container->stdio.err];
    return copy->source.fd >= 0 ? copy : NULL;
}

void
attach_output(struct monitor *m, struct stream *stream, const char *data, size_t length)
{
    for (size_t i = 0; i < m->attachments_used; i++) {
        struct copy *copy = copy_of(&m->attachments[i], stream);
        if (copy)
            copy_output(m, copy, data, length);
    }
}

void
attach_output_ended(struct monitor *m, struct stream *stream)
{
    for (size_t i = 0; i < m->attachments_used; i++) {
        struct copy *copy = copy_of(&m->attachments[i], stream);
        if (!copy)
            continue;
        copy->ending = true;
        if (copy->waiting)
            continue;
        copy_close(m, copy);
        leave_if_over(m, &m->attachments[i]);
    }
}

/* Input. */

/* Hand on what waits; false where the container takes no more for now. */
static bool
input_flush(struct monitor *m, struct attachment *a)
{
    struct container *c = a->container;
    while (a->in_waiting && c->stdio.in.fd >= 0) {
        ssize_t n = write(c->stdio.in.fd, a->in_data + a->in_from, a->in_waiting);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            source_resume(m, &c->stdio.in);
            source_pause(m, &a->in);
            return false;
        }
        if (n < 0) { /* nobody reads it any more */
            stdio_close_input(m, c);
            break;
        }
        a->in_from += (size_t)n;
        a->in_waiting -= (size_t)n;
    }
    a->in_waiting = 0; /* a container without stdin: thrown away */
    source_resume(m, &a->in);
    return true;
}

static void
input_ready(struct monitor *m, struct source *source)
{
    struct attachment *a = container_of(source, struct attachment, in);
    ssize_t n = read(source->fd, a->in_data, sizeof a->in_data);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        input_close(m, a);
        leave_if_over(m, a);
        return;
    }
    a->in_from = 0;
    a->in_waiting = (size_t)n;
    (void)input_flush(m, a);
}

void
attach_input_ready(struct monitor *m, struct source *source)
{
    const struct container *c = container_of(container_of(source, struct stdio, in), struct container, stdio);
    source_pause(m, source);
    for (size_t i = 0; i < m->attachments_used; i++)
        if (m->attachments[i].container == c && m->attachments[i].in_waiting)
            (void)input_flush(m, &m->attachments[i]);
}

/* Life. */

static void
copy_open(struct monitor *m, struct attachment *a, int which, int fd)
{
    struct copy *copy = &a->copies[which];
    *copy = (struct copy){.attachment = a, .source.fd = -1};
    if (fd < 0)
        return;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    source_open_for(m, &copy->source, fd, 0, copy_ready);
    if (!stream_of(copy)->is_open)
        copy_close(m, copy); /* a terminal has no stderr; or it has ended */
}

static void
send_console(const struct container *c, int socket)
{
    if (socket >= 0 && c->stdio.tty && c->stdio.in.fd >= 0)
        (void)fd_send(socket, "c", 1, c->stdio.in.fd);
    if (socket >= 0)
        (void)close(socket);
}

void
attach_begin(struct monitor *m, struct container *c, struct message *request, struct asker asker)
{
    struct attachment *a = slot_take(m);
    if (!a || (c->state != CONTAINER_RUNNING && c->state != CONTAINER_STARTING)) {
        answer_refusal(m, &asker, a ? EBUSY : EAGAIN, a ? "it is not running" : "too many clients are attached in its pod at once");
        return;
    }
    int in = protocol_take_fd(request, FD_STDIN), out = protocol_take_fd(request, FD_STDOUT), err = protocol_take_fd(request, FD_STDERR);
    send_console(c, protocol_take_fd(request, FD_CONSOLE));
    a->container = c;
    a->asker = asker;
    a->had_input = in >= 0;
    a->in = (struct source){.fd = -1};
    a->in_waiting = 0;
    a->stall_ns = a->debt_ns = a->debt_at_ns = 0;
    copy_open(m, a, 0, out);
    copy_open(m, a, 1, err);
    if (in >= 0) {
        (void)fcntl(in, F_SETFL, O_NONBLOCK);
        source_open(m, &a->in, in, input_ready);
    }
    leave_if_over(m, a);
}

void
attach_exited(struct monitor *m, struct container *c)
{
    for (size_t i = 0; i < m->attachments_used; i++) {
        struct attachment *a = &m->attachments[i];
        if (a->container != c)
            continue;
        input_close(m, a);
        leave_if_over(m, a);
    }
}

void
attach_end_all(struct monitor *m, struct container *c)
{
    for (size_t i = 0; i < m->attachments_used; i++)
        if (m->attachments[i].container == c)
            leave(m, &m->attachments[i]);
}

static int64_t
patience_ends(const struct attachment *a)
{
    return a->container && a->stall_ns ? a->stall_ns + STALL_BUDGET_NS - a->debt_ns : INT64_MAX;
}

int64_t
attach_due(const struct monitor *m)
{
    int64_t due = INT64_MAX;
    for (size_t i = 0; i < m->attachments_used; i++)
        due = patience_ends(&m->attachments[i]) < due ? patience_ends(&m->attachments[i]) : due;
    return due;
}

void
attach_advance(struct monitor *m, int64_t now)
{
    for (size_t i = 0; i < m->attachments_used; i++) {
        struct attachment *a = &m->attachments[i];
        if (patience_ends(a) > now)
            continue;
        answer_refusal(m, &a->asker, ETIMEDOUT, "the client read too slowly: the container writes faster");
        leave(m, a);
    }
}
