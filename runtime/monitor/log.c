#include "runtime/monitor/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime/monitor/monitor.h"

enum { LOG_MODE = 0640, BATCH_RECORDS = 128, PREFIX_MAX = CLOCK_RFC3339_SIZE + 12, RETRY_MS = 200 };

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

/* A full disk is waited for, which slows the container instead of losing lines, and goes on where the record was cut; any other error loses the
 * batch. */
static int
write_vector(const struct log *log, struct iovec *vector, int count)
{
    while (count) {
        ssize_t n = writev(log->fd, vector, count);
        if (n >= 0) {
            advance(&vector, &count, (size_t)n);
            continue;
        }
        if (errno == EINTR)
            continue;
        if ((errno != ENOSPC && errno != EDQUOT) || log->abandon)
            return errno;
        (void)nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000L}, NULL);
    }
    return 0;
}

/* The records of a block, a batch at a time. All share one of two prefixes, since they share their time and stream. */
struct batch {
    char full[PREFIX_MAX], piece[PREFIX_MAX];
    size_t prefix_length;
    int count;
    struct iovec vector[3 * BATCH_RECORDS];
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

/* Put the record at `data` into the batch; its length. */
static size_t
batch_add(struct batch *batch, char *data, size_t length)
{
    static char newline_byte[] = "\n";
    size_t search = length > LOG_PIECE_MAX ? LOG_PIECE_MAX + 1 : length;
    const char *newline = memchr(data, '\n', search);
    size_t used = newline ? (size_t)(newline - data) + 1 : search > LOG_PIECE_MAX ? LOG_PIECE_MAX : search;
    struct iovec *v = batch->vector + batch->count;
    v[0] = (struct iovec){newline ? batch->full : batch->piece, batch->prefix_length};
    v[1] = (struct iovec){data, used};
    batch->count += 2;
    if (!newline) {
        v[2] = (struct iovec){newline_byte, 1};
        batch->count++;
    }
    return used;
}

void
log_write_work(struct job *job)
{
    struct block *block = container_of(job, struct block, job);
    struct log *log = &block->stream->container->stdio.log;
    struct batch batch;
    if (log->fd < 0)
        return;
    batch_prefixes(&batch, block);
    for (size_t at = 0; at < block->length;) {
        batch.count = 0;
        while (at < block->length && batch.count + 3 <= 3 * BATCH_RECORDS)
            at += batch_add(&batch, block->data + at, block->length - at);
        int errnum = write_vector(log, batch.vector, batch.count);
        if (errnum && !log->write_errno)
            log->write_errno = errnum;
    }
}
