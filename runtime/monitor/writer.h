/* A thread that does what may block on a disk, one job after the other, so that the loop never does. There are two: one for exit records, one for log
 * files and fsync, since a log directory that hangs must not hold back the news of an exit.
 *
 * A job belongs to the writer from writer_submit until its `done` ran in the loop. Nothing is allocated: jobs are parts of what they are about. */
#pragma once

#include <pthread.h>

#include "runtime/monitor/source.h"

struct job {
    void (*work)(struct job *job);                    /* in the writer's thread */
    void (*done)(struct monitor *m, struct job *job); /* in the loop */
    struct job *next;
    bool busy; /* submitted and not done; the loop's */
};

struct job_list {
    struct job *first, *last;
};

struct writer {
    pthread_mutex_t lock; /* guards todo and finished; held for moments only */
    pthread_cond_t wake;
    struct job_list todo, finished;
    struct source returned; /* eventfd: finished is not empty */
};

/* 0 or an errno. */
int writer_start(struct monitor *m, struct writer *writer);
void writer_submit(struct writer *writer, struct job *job);
