#include "runtime/janitor.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

struct job {
    janitor_work *work;
    char *what;
    int64_t next_ns, pause_ns, give_up_ns;
    struct job *prev, *next;
};

struct janitor {
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows; nothing else is locked under it */
    pthread_cond_t changed;
    struct job *jobs;
    bool closing;
    int64_t close_ns; /* when jobs that still fail are given up */
};

static const int64_t close_patience_ns = NS_PER_SECOND;
static const int64_t first_pause_ns = 2 * NS_PER_MS, longest_pause_ns = 500 * NS_PER_MS, patience_ns = 60 * NS_PER_SECOND;

static void
job_free(struct job *job)
{
    free(job->what);
    free(job);
}

/* With the lock held: the job that is due first. */
static struct job *
first_due(struct janitor *janitor)
{
    struct job *job, *first = NULL;
    DL_FOREACH(janitor->jobs, job)
    if (!first || job->next_ns < first->next_ns)
        first = job;
    return first;
}

/* With the lock held: wait until something is due or changes. */
static void
wait_until(struct janitor *janitor, const struct job *first)
{
    if (!first) {
        pthread_cond_wait(&janitor->changed, &janitor->lock);
        return;
    }
    struct timespec until = {.tv_sec = first->next_ns / NS_PER_SECOND, .tv_nsec = first->next_ns % NS_PER_SECOND};
    pthread_cond_timedwait(&janitor->changed, &janitor->lock, &until);
}

/* Takes the job out of the list, tries it without the lock, puts it back where it has to be tried again. */
static void
try_job(struct janitor *janitor, struct job *job)
{
    DL_DELETE(janitor->jobs, job);
    pthread_mutex_unlock(&janitor->lock);
    bool done = job->work(janitor->arg, job->what);
    int64_t now = clock_monotonic_ns();
    job->next_ns = now + job->pause_ns;
    job->pause_ns = job->pause_ns * 2 < longest_pause_ns ? job->pause_ns * 2 : longest_pause_ns;
    pthread_mutex_lock(&janitor->lock);
    bool give_up = now >= (janitor->closing ? janitor->close_ns : job->give_up_ns);
    if (!done && give_up)
        log_warn("given up cleaning", "what", job->what);
    if (done || give_up)
        job_free(job);
    else
        DL_APPEND(janitor->jobs, job);
}

static void *
janitor_loop(void *arg)
{
    struct janitor *janitor = arg;
    pthread_mutex_lock(&janitor->lock);
    while (!janitor->closing || janitor->jobs) {
        struct job *first = first_due(janitor);
        if (first && first->next_ns <= clock_monotonic_ns())
            try_job(janitor, first);
        else
            wait_until(janitor, first);
    }
    pthread_mutex_unlock(&janitor->lock);
    return NULL;
}

int
janitor_open(void *arg, struct janitor **out, struct error *err)
{
    struct janitor *janitor = mem_zalloc(1, sizeof *janitor);
    janitor->arg = arg;
    pthread_mutex_init(&janitor->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&janitor->changed, &attr);
    pthread_condattr_destroy(&attr);
    int errnum = pthread_create(&janitor->thread, NULL, janitor_loop, janitor);
    if (errnum) {
        free(janitor);
        return error_errno(err, errnum, "start the janitor's thread");
    }
    *out = janitor;
    return 0;
}

void
janitor_close(struct janitor *janitor)
{
    if (!janitor)
        return;
    pthread_mutex_lock(&janitor->lock);
    struct job *job;
    janitor->closing = true;
    janitor->close_ns = clock_monotonic_ns() + close_patience_ns;
    DL_FOREACH(janitor->jobs, job)
    {
        job->next_ns = 0;
        job->pause_ns = first_pause_ns;
    }
    pthread_cond_signal(&janitor->changed);
    pthread_mutex_unlock(&janitor->lock);
    pthread_join(janitor->thread, NULL);
    pthread_cond_destroy(&janitor->changed);
    pthread_mutex_destroy(&janitor->lock);
    free(janitor);
}

void
janitor_add(struct janitor *janitor, janitor_work *work, const char *what, int64_t delay_ns)
{
    int64_t now = clock_monotonic_ns();
    pthread_mutex_lock(&janitor->lock);
    struct job *job;
    DL_FOREACH(janitor->jobs, job)
    if (job->work == work && str_eq(job->what, what))
        break;
    if (!job) {
        job = mem_zalloc(1, sizeof *job);
        *job = (struct job){
            .work = work, .what = str_dup(what), .next_ns = now + delay_ns, .pause_ns = first_pause_ns, .give_up_ns = now + delay_ns + patience_ns};
        DL_APPEND(janitor->jobs, job);
        pthread_cond_signal(&janitor->changed);
    }
    pthread_mutex_unlock(&janitor->lock);
}
