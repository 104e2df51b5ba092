/* A thread that does what may block on a disk, one job after the other, so that the loop never does. There are two: one for exit records, one for log
 * files and fsync, since a log directory that hangs must not hold back the news of an exit.
 *
 * A job belongs to the writer from writer_submit until its `done` ran in the loop. Nothing is allocated: jobs are parts of what they are about. A job
 * whose work sets `again` stays the next one; it is called again in RETRY_MS, or when something is submitted. */
#pragma once

#include <pthread.h>

#include "runtime/monitor/source.h"

struct job {
    void (*work)(struct job *job);                    /* in the writer's thread */
    void (*done)(struct monitor *m, struct job *job); /* in the loop */
    struct job *next;
    bool busy;  /* submitted and not done; the loop's */
    bool again; /* set by work: not finished, and what hinders it passes (a full disk) */
};

struct job_list {
    struct job *first, *last;
};

struct writer {
    pthread_mutex_t lock; /* guards the lists; held for moments only */
    pthread_cond_t wake;
    struct job_list urgent, todo, finished;
    struct source returned; /* eventfd: finished is not empty, or a job has to be called again */
};

/* 0 or an errno. */
int writer_start(struct monitor *m, struct writer *writer);
void writer_submit(struct writer *writer, struct job *job);
/* It is next, in front also of a job that has to be called again. */
void writer_submit_urgent(struct writer *writer, struct job *job);
