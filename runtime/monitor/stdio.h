/* A container's stdio: its stdin kept open, its output read in blocks of 64 KiB and written to its log in the CRI format
 *
 *   2026-01-02T03:04:05.678901234Z stdout F line
 *
 * by the logs' writer. A line longer than LOG_PIECE_MAX is cut into pieces tagged P; so is what has no newline when the stream ends, or when nothing
 * follows for FLUSH_NS (a prompt). What waits for its newline is kept in the stream's tail. The memory is bounded: a pod has BLOCKS_MAX blocks, a
 * stream has at most BLOCKS_PER_STREAM of them on their way; when there is none, or the container writes more than its rate, the pipe is not read,
 * which slows the container instead of losing a line. A nonblocking container is read nevertheless: what its log cannot take goes to its backlog, and
 * what finds no room there is lost; the log says how much, where it was lost.
 *
 * The log's fd belongs to the writer's thread: open, write, reopen and close are jobs. Reopen comes before what waits to be written, between two
 * records, so that it helps where a file is on a full disk. */
#pragma once

#include <limits.h>
#include <stddef.h>

#include "runtime/monitor/backlog.h"
#include "runtime/monitor/source.h"
#include "runtime/monitor/writer.h"

enum { LOG_PIECE_MAX = 16384, STREAM_READ_MAX = 65536, BLOCKS_MAX = 8, BLOCKS_PER_STREAM = 2 };
#define FLUSH_NS (INT64_C(500) * 1000 * 1000)
/* How often at most a log that stalls is told of: a disk may be full and not full many times a second. */
#define STALL_QUIET_NS (INT64_C(10) * 1000 * 1000 * 1000)
/* How far a container may run ahead of its rate. */
#define BURST_NS (INT64_C(1000) * 1000 * 1000)

struct container;

/* Whole records on their way to the log. */
struct block {
    struct job job;
    struct stream *stream;
    int64_t read_ns; /* wall clock: the records' time */
    uint64_t lost;   /* bytes of the stream that were lost in front of it */
    size_t length;
    size_t from; /* the writer's: written so far */
    char data[LOG_PIECE_MAX + STREAM_READ_MAX];
};

struct block_pool {
    struct block *free[BLOCKS_MAX];
    size_t free_count;
    struct block blocks[BLOCKS_MAX];
    struct block spare; /* what goes to a backlog is read into it */
};

struct stream {
    struct source source;
    struct container *container;
    const char *name; /* "stdout" */
    unsigned in_flight;
    bool is_open;
    int64_t flush_ns; /* monotonic: the tail goes out then; 0: it is empty */
    bool throttled;   /* not read until stdio.paid_ns */
    unsigned held;    /* not read: so many attached clients have not taken what was read before (attach.h) */
    uint64_t lost;    /* bytes; to be told in the log */
    size_t tail_length;
    char *tail; /* LOG_PIECE_MAX bytes of stdio.tails */
};

struct log {
    struct job open_job, close_job;
    int fd;                  /* the writer's */
    int open_errno;          /* of the last open job */
    int write_errno;         /* the first in this file that lost something; written by the writer, read when its block is back */
    bool told;               /* … and told to crispd */
    uint64_t lost;           /* the writer's: bytes to be told of in the log */
    _Atomic int stalled;     /* the errno for whose passing the writer waits; 0 */
    bool stall_told;         /* … and told to crispd */
    int64_t quiet_ns;        /* monotonic: until then no new one is */
    _Atomic bool abandon;    /* do not wait for space any longer */
    size_t directory_length; /* of path: the pod's log directory; 0: not known */
    char path[PATH_MAX];
};

struct stdio {
    bool tty, stdin_once;
    int64_t rate;     /* bytes a second; 0: no limit */
    int64_t paid_ns;  /* monotonic: what was read so far is paid for then, at that rate */
    struct source in; /* where input for the container is written (pipe or terminal): watched while an attached client waits for room */
    struct stream out, err;
    struct backlog backlog;
    struct log log;
    char tails[2][LOG_PIECE_MAX]; /* at the end: pages that most containers never touch */
};

void block_pool_open(struct block_pool *pool);

/* Make the pipes the container's process gets: child[0..2], to be closed by the caller after the clone; -1 where the terminal or /dev/null takes the
 * place. 0 or an errno. */
int stdio_open(struct monitor *m, struct container *c, bool tty, bool stdin_open, int child[3]);
/* Tell crispd of logs that wait for space, or do so no longer. */
void stdio_tell_stalls(struct monitor *m);
/* The terminal's master, which the container's process has opened. */
void stdio_console(struct monitor *m, struct container *c, int master);
/* Log to `path` from now on, the first `directory_length` bytes of which are the pod's log directory; container_log_opened tells the outcome. "":
 * throw output away. */
void stdio_log_open(struct monitor *m, struct container *c, const char *path, size_t directory_length);
/* Open the path again; container_log_opened tells the outcome. Not while one is under way. */
void stdio_log_reopen(struct monitor *m, struct container *c);
/* All output has been read and written. */
bool stdio_drained(const struct container *c);
/* When it has something to do without an event (a tail to flush, a rate's pause that is over): monotonic, INT64_MAX: never. */
int64_t stdio_due(const struct container *c);
void stdio_advance(struct monitor *m, struct container *c, int64_t now);
/* Read on, unless something else keeps it from that. */
void stream_resume(struct monitor *m, struct stream *stream);
/* End the container's input; with a terminal that is only for us to know. */
void stdio_close_input(struct monitor *m, struct container *c);
/* Stop reading, write what was read. The log closes when that is done. */
void stdio_close(struct monitor *m, struct container *c);
/* stdio_close was called and no job is under way. */
bool stdio_closed(const struct container *c);
