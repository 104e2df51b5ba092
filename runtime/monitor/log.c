#include "runtime/monitor/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime/monitor/monitor.h"

enum { LOG_MODE = 0640, BATCH_RECORDS = 128, PREFIX_MAX = CLOCK_RFC3339_SIZE + 12, LOSS_MAX = 96 };

/* A pod that has the node's logs mounted can put anything in the way, at any time: symlinks lead nowhere but within the pod's log directory, which is
 * none itself, and a FIFO does not block. */
static int
open_log(const struct log *log)
{
    struct open_how how = {.flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, .mode = LOG_MODE};
    char directory[PATH_MAX];
    if (!log->directory_length)
        return (int)syscall(SYS_openat2, AT_FDCWD, log->path, &how, sizeof how);
    (void)snprintf(directory, sizeof directory, "%.*s", (int)log->directory_length, log->path);
    cleanup_close int top = open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    return top < 0 ? -1 : (int)syscall(SYS_openat2, top, log->path + log->directory_length + 1, &how, sizeof how);
}

/* What stands in the way is no file: a FIFO (ENXIO), a symlink (ELOOP; EXDEV out of the directory, ENOTDIR where that is one), a directory. */
static bool
is_no_file(int errnum)
{
    return errnum == ENXIO || errnum == ELOOP || errnum == EXDEV || errnum == ENOTDIR || errnum == EISDIR;
}

void
log_open_work(struct job *job)
{
    struct log *log = container_of(job, struct log, open_job);
    struct stat st;
    cleanup_close int fd = open_log(log);
    log->open_errno = fd < 0 || fstat(fd, &st) < 0 ? errno : S_ISREG(st.st_mode) ? 0 : EINVAL;
    if (is_no_file(log->open_errno))
        log->open_errno = EINVAL;
    if (log->open_errno)
        return;
    if (log->fd >= 0)
        (void)close(log->fd);
    log->fd = steal(fd);
    log->write_errno = 0;
}

void
log_close_work(struct job *job)
{
    struct log *log = container_of(job, struct log, close_job);
    if (log->fd >= 0)
        (void)close(log->fd);
    log->fd = -1;
}

size_t
log_whole_records(const char *data, size_t length)
{
    const char *newline = memrchr(data, '\n', length);
    size_t whole = newline ? (size_t)(newline - data) + 1 : 0;
    while (length - whole > LOG_PIECE_MAX)
        whole += LOG_PIECE_MAX;
    return whole;
}

/* Drop what has been written from the front. */
static void
advance(struct iovec **vector, int *count, size_t written)
{
    while (*count && written >= (*vector)->iov_len) {
        written -= (*vector)->iov_len;
        (*vector)++;
        (*count)--;
    }
    if (!*count)
        return;
    (*vector)->iov_base = (char *)(*vector)->iov_base + written;
    (*vector)->iov_len -= written;
}

/* The records of a block, a batch at a time. All share one of two prefixes, since they share their time and stream. */
struct batch {
    char full[PREFIX_MAX], piece[PREFIX_MAX], loss[LOSS_MAX];
    size_t prefix_length;
    int count, records;
    struct iovec vector[3 * BATCH_RECORDS];
    struct {
        size_t file, data; /* bytes up to the end of the record: of the file, of the block */
    } ends[BATCH_RECORDS];
};

static void
batch_prefixes(struct batch *batch, const struct block *block)
{
    char time[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(block->read_ns, time);
    int n = snprintf(batch->full, sizeof batch->full, "%s %s F ", time, block->stream->name);
    batch->prefix_length = (size_t)n;
    memcpy(batch->piece, batch->full, batch->prefix_length);
    batch->piece[batch->prefix_length - 2] = 'P';
}

static void
batch_put(struct batch *batch, const char *data, size_t length)
{
    batch->vector[batch->count++] = (struct iovec){(void *)(uintptr_t)data, length};
}

/* A record is whole: `used` bytes of the block more, `length` bytes of the file. */
static void
batch_end_record(struct batch *batch, size_t used, size_t length)
{
    size_t last = batch->records ? batch->ends[batch->records - 1].file : 0, data = batch->records ? batch->ends[batch->records - 1].data : 0;
    batch->ends[batch->records].file = last + length;
    batch->ends[batch->records].data = data + used;
    batch->records++;
}

static void
batch_add_loss(struct batch *batch, uint64_t bytes)
{
    int n = snprintf(batch->loss, sizeof batch->loss, "crisp: %llu bytes of output were lost here, as the log could not be written\n",
                     (unsigned long long)bytes);
    batch_put(batch, batch->full, batch->prefix_length);
    batch_put(batch, batch->loss, (size_t)n);
    batch_end_record(batch, 0, batch->prefix_length + (size_t)n);
}

/* Put the record at `data` into the batch; its length. */
static size_t
batch_add(struct batch *batch, const char *data, size_t length)
{
    size_t search = length > LOG_PIECE_MAX ? LOG_PIECE_MAX + 1 : length;
    const char *newline = memchr(data, '\n', search);
    size_t used = newline ? (size_t)(newline - data) + 1 : search > LOG_PIECE_MAX ? LOG_PIECE_MAX : search;
    batch_put(batch, newline ? batch->full : batch->piece, batch->prefix_length);
    batch_put(batch, data, used);
    if (!newline)
        batch_put(batch, "\n", 1);
    batch_end_record(batch, used, batch->prefix_length + used + !newline);
    return used;
}

static void
batch_fill(struct batch *batch, uint64_t lost, const struct block *block)
{
    batch->count = batch->records = 0;
    if (lost)
        batch_add_loss(batch, lost);
    for (size_t at = block->from; at < block->length && batch->records < BATCH_RECORDS;)
        at += batch_add(batch, block->data + at, block->length - at);
}

static int
batch_write(int fd, struct batch *batch, size_t *written)
{
    struct iovec *vector = batch->vector;
    int count = batch->count;
    while (count) {
        ssize_t n = writev(fd, vector, count);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n < 0)
            continue;
        *written += (size_t)n;
        advance(&vector, &count, (size_t)n);
    }
    return 0;
}

/* A record that was cut is taken back, so that each line of the file is one, whichever file goes on with it. */
static void
cut_back(int fd, size_t bytes)
{
    struct stat st;
    if (bytes && fstat(fd, &st) == 0)
        (void)!ftruncate(fd, st.st_size - (off_t)bytes);
}

/* 0 or an errno; the block is then written up to the end of a record. */
static int
write_batch(struct log *log, struct block *block, struct batch *batch)
{
    size_t written = 0;
    int whole = 0;
    batch_fill(batch, log->lost, block);
    int errnum = batch_write(log->fd, batch, &written);
    while (whole < batch->records && batch->ends[whole].file <= written)
        whole++;
    if (!whole) {
        cut_back(log->fd, written);
        return errnum;
    }
    cut_back(log->fd, written - batch->ends[whole - 1].file);
    block->from += batch->ends[whole - 1].data;
    log->lost = 0;
    return errnum;
}

/* A full disk is waited for, which slows the container instead of losing lines; any other error loses the block. */
void
log_write_work(struct job *job)
{
    struct block *block = container_of(job, struct block, job);
    struct log *log = &block->stream->container->stdio.log;
    struct batch batch;
    int errnum = 0;
    if (log->fd < 0)
        return;
    log->lost += block->lost;
    block->lost = 0;
    batch_prefixes(&batch, block);
    while (!errnum && (block->from < block->length || log->lost))
        errnum = write_batch(log, block, &batch);
    job->again = (errnum == ENOSPC || errnum == EDQUOT) && !log->abandon;
    log->stalled = job->again ? errnum : 0;
    if (!errnum || job->again)
        return;
    log->lost += block->length - block->from;
    if (!log->write_errno)
        log->write_errno = errnum;
}
