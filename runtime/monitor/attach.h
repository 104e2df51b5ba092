/* Attached clients: copies of what a container writes, and bytes for its stdin, through pipes that crispd made.
 *
 *   free ──attach_begin──▶ attached ──its output has ended, or crispd closed its ends, or it was too slow──▶ free (the ATTACH is answered)
 *
 * A client has a pipe and one chunk of 64 KiB for each stream. Where both are full the container's stream is not read (held), so that a client that
 * keeps up on the whole loses nothing; for a while only: what a client may hold a container up is a budget of STALL_BUDGET_NS that comes back at a
 * tenth of the time's pace. Whoever has used it up is detached, so that no client stalls a container or its log.
 *
 * When the first client that had stdin leaves or closes it, stdin_once closes the container's [CRI ContainerConfig.stdin_once]. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/monitor/source.h"

enum { ATTACH_INPUT_BYTES = 16384, ATTACH_OUTPUT_BYTES = 65536, STALL_BUDGET_TENTHS = 10 };
#define STALL_BUDGET_NS (INT64_C(2000) * 1000 * 1000)

struct container;
struct message;
struct stream;

/* One stream of a client. */
struct copy {
    struct source source; /* the pipe's write end; fd -1: not wanted, or over */
    struct attachment *attachment;
    size_t from, waiting; /* in data: what did not fit into the pipe; its stream is held meanwhile */
    bool ending;          /* close when nothing waits any more */
};

struct attachment {
    struct container *container; /* NULL: the slot is free */
    struct asker asker;
    struct source in; /* the pipe's read end; paused while something waits */
    bool had_input;
    size_t in_from, in_waiting;
    int64_t stall_ns;                 /* monotonic, when the present stall began; 0: none */
    int64_t debt_ns, debt_at_ns;      /* what of the budget was used, as of then */
    struct copy copies[2];            /* stdout, stderr */
    char in_data[ATTACH_INPUT_BYTES]; /* the large ones at the end: pages that most never touch */
    char data[2][ATTACH_OUTPUT_BYTES];
};

void attach_begin(struct monitor *m, struct container *c, struct message *request, struct asker asker);
/* What was read of a stream; afterwards stream->held tells whether to go on reading. */
void attach_output(struct monitor *m, struct stream *stream, const char *data, size_t length);
void attach_output_ended(struct monitor *m, struct stream *stream);
/* The container's init is gone: no more input. */
void attach_exited(struct monitor *m, struct container *c);
/* Let all of its clients go. */
void attach_end_all(struct monitor *m, struct container *c);
/* The container's stdin has room again. */
void attach_input_ready(struct monitor *m, struct source *source);
/* The next moment at which somebody's budget is used up; and what to do then. */
int64_t attach_due(const struct monitor *m);
void attach_advance(struct monitor *m, int64_t now);
