#include "runtime/monitor/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/monitor/log.h"
#include "runtime/monitor/monitor.h"

/* Blocks. */

void
block_pool_open(struct block_pool *pool)
{
    for (size_t i = 0; i < BLOCKS_MAX; i++)
        pool->free[i] = &pool->blocks[BLOCKS_MAX - 1 - i]; /* the first is used most */
    pool->free_count = BLOCKS_MAX;
}

/* A burst's pages go back to the kernel, so that an idle pod costs what it did before. */
static void
block_release(struct block_pool *pool, struct block *block, size_t used)
{
    enum { PAGE = 4096, KEPT = 2 * PAGE };
    char *from = (char *)(((uintptr_t)block->data + KEPT + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    char *to = (char *)((uintptr_t)(block->data + used) & ~(uintptr_t)(PAGE - 1));
    if (to > from)
        (void)madvise(from, (size_t)(to - from), MADV_DONTNEED);
    if (block != &pool->spare)
        pool->free[pool->free_count++] = block;
}

static struct block *
block_take(struct monitor *m, struct stream *stream)
{
    if (m->blocks.free_count == 0 || stream->in_flight == BLOCKS_PER_STREAM)
        return NULL;
    return m->blocks.free[--m->blocks.free_count];
}

static void block_written(struct monitor *m, struct job *job);

static void
block_submit(struct monitor *m, struct block *block, struct stream *stream, size_t length, int64_t read_ns, uint64_t lost)
{
    block->job = (struct job){.work = log_write_work, .done = block_written};
    block->stream = stream;
    block->length = length;
    block->from = 0;
    block->read_ns = read_ns;
    block->lost = lost;
    stream->in_flight++;
    writer_submit(&m->logs, &block->job);
}

/* The backlog of a nonblocking container. */

static void
backlog_add(struct stream *stream, const char *data, size_t length)
{
    struct stdio *stdio = &stream->container->stdio;
    struct backlog_piece piece = {.read_ns = clock_now_ns(), .lost = stream->lost, .length = (uint32_t)length, .is_err = stream == &stdio->err};
    if (backlog_put(&stdio->backlog, &piece, data))
        stream->lost = 0;
    else
        stream->lost += length;
}

/* Hand on to the writer what there are blocks for; at its end stands what found no room in it. */
static void
backlog_drain(struct monitor *m, struct stdio *stdio)
{
    struct stream *streams[] = {&stdio->out, &stdio->err};
    struct backlog_piece piece;
    while (backlog_peek(&stdio->backlog, &piece)) {
        struct block *block = block_take(m, streams[piece.is_err]);
        if (!block)
            return;
        backlog_take(&stdio->backlog, &piece, block->data);
        block_submit(m, block, streams[piece.is_err], piece.length, piece.read_ns, piece.lost);
    }
    for (size_t i = 0; i < 2; i++) {
        struct block *block = streams[i]->lost ? block_take(m, streams[i]) : NULL;
        if (!block)
            continue;
        block_submit(m, block, streams[i], 0, clock_now_ns(), streams[i]->lost);
        streams[i]->lost = 0;
    }
}

void
stream_resume(struct monitor *m, struct stream *stream)
{
    if (stream->is_open && !stream->throttled && !stream->held && stream->in_flight < BLOCKS_PER_STREAM)
        source_resume(m, &stream->source);
}

static void
streams_resume(struct monitor *m)
{
    for (size_t i = 0; i < m->containers_used; i++) {
        struct stdio *stdio = &m->containers[i].stdio;
        if (m->containers[i].state == CONTAINER_NONE)
            continue;
        backlog_drain(m, stdio);
        stream_resume(m, &stdio->out);
        stream_resume(m, &stdio->err);
    }
}

static void
block_written(struct monitor *m, struct job *job)
{
    struct block *block = container_of(job, struct block, job);
    struct container *c = block->stream->container;
    block->stream->in_flight--;
    block_release(&m->blocks, block, block->length);
    streams_resume(m);
    if (c->stdio.log.write_errno && !c->stdio.log.told) {
        c->stdio.log.told = true;
        warn(m, c->id, "output was lost: the log cannot be written", c->stdio.log.write_errno);
    }
    container_advance(m, c);
}

static void
tell_stall(struct monitor *m, struct container *c, int64_t now)
{
    struct log *log = &c->stdio.log;
    int stalled = log->stalled;
    if (!stalled == !log->stall_told || (stalled && now < log->quiet_ns))
        return;
    log->stall_told = stalled != 0;
    log->quiet_ns = now + STALL_QUIET_NS;
    warn(m, c->id,
         !stalled                ? "its log is written again"
         : c->stdio.backlog.size ? "its log waits for space; what it writes beyond its buffer is lost"
                                 : "its log waits for space, and so does the container once its pipe is full",
         stalled);
}

void
stdio_tell_stalls(struct monitor *m)
{
    int64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < m->containers_used; i++)
        if (m->containers[i].state != CONTAINER_NONE)
            tell_stall(m, &m->containers[i], now);
}

/* Streams. */

static void
keep_tail(struct stream *stream, const char *data, size_t length)
{
    memcpy(stream->tail, data, length);
    stream->tail_length = length;
    stream->flush_ns = length ? clock_monotonic_ns() + FLUSH_NS : 0;
}

/* Where to put what comes next of a stream; NULL: nowhere, it has to wait. */
static struct block *
stream_block(struct monitor *m, struct stream *stream)
{
    const struct backlog *backlog = &stream->container->stdio.backlog;
    struct block *block = backlog->used || stream->lost ? NULL : block_take(m, stream);
    return block || !backlog->size ? block : &m->blocks.spare;
}

static void
block_hand_on(struct monitor *m, struct block *block, struct stream *stream, size_t length)
{
    if (block != &m->blocks.spare) {
        block_submit(m, block, stream, length, clock_now_ns(), 0);
        return;
    }
    backlog_add(stream, block->data, length);
    block_release(&m->blocks, block, length);
}

/* The tail as a piece without newline. False where no block is free: it is tried again when one comes back. */
static bool
flush_tail(struct monitor *m, struct stream *stream)
{
    if (!stream->tail_length)
        return true;
    struct block *block = stream_block(m, stream);
    if (!block)
        return false;
    memcpy(block->data, stream->tail, stream->tail_length);
    block_hand_on(m, block, stream, stream->tail_length);
    stream->tail_length = 0;
    stream->flush_ns = 0;
    return true;
}

static void
stream_end(struct monitor *m, struct stream *stream)
{
    source_close(m, &stream->source);
    stream->is_open = stream->throttled = false;
    (void)flush_tail(m, stream);
    attach_output_ended(m, stream);
    container_advance(m, stream->container);
}

/* Count what was read against the rate; a stream that is ahead of it by more than a burst pauses. */
static void
charge(struct monitor *m, struct stream *stream, size_t bytes)
{
    struct stdio *stdio = &stream->container->stdio;
    if (!stdio->rate)
        return;
    int64_t now = clock_monotonic_ns();
    stdio->paid_ns = (stdio->paid_ns > now ? stdio->paid_ns : now) + (int64_t)bytes * NS_PER_SECOND / stdio->rate;
    if (stdio->paid_ns <= now + BURST_NS)
        return;
    stream->throttled = true;
    source_pause(m, &stream->source);
}

static void
stream_ready(struct monitor *m, struct source *source)
{
    struct stream *stream = container_of(source, struct stream, source);
    struct block *block = stream_block(m, stream);
    if (!block) {
        source_pause(m, source);
        return;
    }
    memcpy(block->data, stream->tail, stream->tail_length);
    ssize_t n = read(source->fd, block->data + stream->tail_length, STREAM_READ_MAX);
    if (n <= 0) {
        block_release(&m->blocks, block, 0);
        /* A terminal's master says EIO when the last slave has closed. */
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            stream_end(m, stream);
        return;
    }
    charge(m, stream, (size_t)n);
    attach_output(m, stream, block->data + stream->tail_length, (size_t)n);
    size_t length = stream->tail_length + (size_t)n, whole = log_whole_records(block->data, length);
    keep_tail(stream, block->data + whole, length - whole);
    if (whole)
        block_hand_on(m, block, stream, whole);
    else
        block_release(&m->blocks, block, length);
}

static void
stream_open(struct monitor *m, struct container *c, struct stream *stream, const char *name, int fd)
{
    stream->container = c;
    stream->name = name;
    stream->is_open = true;
    source_open(m, &stream->source, fd, stream_ready);
}

/* Stdio. */

static void
stdio_clear(struct container *c)
{
    struct stdio *stdio = &c->stdio;
    stdio->out = (struct stream){.source.fd = -1, .tail = stdio->tails[0], .container = c};
    stdio->err = (struct stream){.source.fd = -1, .tail = stdio->tails[1], .container = c};
    stdio->in.fd = -1;
    stdio->rate = stdio->paid_ns = 0;
    stdio->log.fd = -1;
    stdio->log.open_job = stdio->log.close_job = (struct job){0};
    stdio->log.write_errno = stdio->log.open_errno = 0;
    stdio->log.told = stdio->log.stall_told = false;
    stdio->log.lost = 0;
    stdio->log.quiet_ns = 0;
    stdio->log.stalled = 0;
    stdio->log.abandon = false;
    stdio->backlog = (struct backlog){.size = 0};
    stdio->log.path[0] = '\0';
}

static int
output_pipe(struct monitor *m, struct container *c, struct stream *stream, const char *name, int *child)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    *child = ends[1];
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK); /* the container's end stays blocking: programs expect that */
    stream_open(m, c, stream, name, ends[0]);
    return 0;
}

static void
input_open(struct monitor *m, struct stdio *stdio, int fd)
{
    source_open_for(m, &stdio->in, fd, EPOLLOUT, attach_input_ready);
    source_pause(m, &stdio->in);
}

static int
input_pipe(struct monitor *m, struct stdio *stdio, int *child)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    *child = ends[0];
    (void)fcntl(ends[1], F_SETFL, O_NONBLOCK);
    input_open(m, stdio, ends[1]);
    return 0;
}

int
stdio_open(struct monitor *m, struct container *c, bool tty, bool stdin_open, int child[3])
{
    child[0] = child[1] = child[2] = -1;
    stdio_clear(c);
    c->stdio.tty = tty;
    if (tty)
        return 0;
    int errnum = stdin_open ? input_pipe(m, &c->stdio, &child[0]) : 0;
    if (!errnum)
        errnum = output_pipe(m, c, &c->stdio.out, "stdout", &child[1]);
    return errnum ? errnum : output_pipe(m, c, &c->stdio.err, "stderr", &child[2]);
}

void
stdio_console(struct monitor *m, struct container *c, int master)
{
    (void)fcntl(master, F_SETFL, O_NONBLOCK);
    int in = fcntl(master, F_DUPFD_CLOEXEC, 0); /* epoll knows a file once by each fd */
    if (in >= 0)
        input_open(m, &c->stdio, in);
    stream_open(m, c, &c->stdio.out, "stdout", master);
}

static void
log_opened(struct monitor *m, struct job *job)
{
    struct log *log = container_of(job, struct log, open_job);
    struct container *c = container_of(log, struct container, stdio.log);
    if (!log->open_errno)
        log->told = false;
    container_log_opened(m, c, log->open_errno);
}

void
stdio_log_reopen(struct monitor *m, struct container *c)
{
    c->stdio.log.open_job = (struct job){.work = log_open_work, .done = log_opened};
    writer_submit_urgent(&m->logs, &c->stdio.log.open_job);
}

void
stdio_log_open(struct monitor *m, struct container *c, const char *path, size_t directory_length)
{
    size_t length = strnlen(path, sizeof c->stdio.log.path - 1);
    memcpy(c->stdio.log.path, path, length);
    c->stdio.log.path[length] = '\0';
    c->stdio.log.directory_length = directory_length < length ? directory_length : 0;
    if (length)
        stdio_log_reopen(m, c);
    else
        container_log_opened(m, c, 0);
}

void
stdio_close_input(struct monitor *m, struct container *c)
{
    if (!c->stdio.tty)
        source_close(m, &c->stdio.in);
}

static bool
stream_drained(const struct stream *stream)
{
    return !stream->is_open && stream->tail_length == 0 && stream->in_flight == 0 && stream->lost == 0;
}

bool
stdio_drained(const struct container *c)
{
    return stream_drained(&c->stdio.out) && stream_drained(&c->stdio.err) && c->stdio.backlog.used == 0;
}

static int64_t
stream_due(const struct stream *stream)
{
    int64_t flush = stream->flush_ns ? stream->flush_ns : INT64_MAX;
    int64_t resume = stream->throttled ? stream->container->stdio.paid_ns - BURST_NS : INT64_MAX;
    return flush < resume ? flush : resume;
}

int64_t
stdio_due(const struct container *c)
{
    int64_t out = stream_due(&c->stdio.out), err = stream_due(&c->stdio.err);
    return out < err ? out : err;
}

void
stdio_advance(struct monitor *m, struct container *c, int64_t now)
{
    struct stream *streams[] = {&c->stdio.out, &c->stdio.err};
    for (size_t i = 0; i < 2; i++) {
        struct stream *stream = streams[i];
        if (stream->flush_ns && stream->flush_ns <= now && !flush_tail(m, stream))
            stream->flush_ns = now + FLUSH_NS; /* no block is free */
        if (stream->throttled && c->stdio.paid_ns - BURST_NS <= now) {
            stream->throttled = false;
            stream_resume(m, stream);
        }
    }
}

static void
log_closed(struct monitor *m, struct job *job)
{
    container_advance(m, container_of(container_of(job, struct log, close_job), struct container, stdio.log));
}

void
stdio_close(struct monitor *m, struct container *c)
{
    struct stdio *stdio = &c->stdio;
    struct stream *streams[] = {&stdio->out, &stdio->err};
    attach_end_all(m, c);
    source_close(m, &stdio->in);
    for (size_t i = 0; i < 2; i++) {
        if (streams[i]->is_open)
            source_close(m, &streams[i]->source);
        streams[i]->is_open = streams[i]->throttled = false;
        (void)flush_tail(m, streams[i]);
        streams[i]->lost = 0;
    }
    backlog_close(&stdio->backlog);
    stdio->log.close_job = (struct job){.work = log_close_work, .done = log_closed};
    writer_submit(&m->logs, &stdio->log.close_job);
}

bool
stdio_closed(const struct container *c)
{
    const struct stdio *stdio = &c->stdio;
    return stdio->out.in_flight == 0 && stdio->err.in_flight == 0 && !stdio->log.open_job.busy && !stdio->log.close_job.busy;
}
