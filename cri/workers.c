#include "cri/workers.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/str.h"
#include "cri/limits.h"

struct workers {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work, ended;
    struct job *first, **last;
    size_t most, busy, queued, idle, threads; /* busy: jobs that run or are queued */
    bool stopping;
};

struct workers *
workers_new(size_t most)
{
    struct workers *w = mem_zalloc(1, sizeof *w);
    w->most = most;
    w->last = &w->first;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, &monotonic);
    pthread_cond_init(&w->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return w;
}

static struct timespec
timespec_of(int64_t monotonic_ns)
{
    return (struct timespec){.tv_sec = monotonic_ns / NS_PER_SECOND, .tv_nsec = monotonic_ns % NS_PER_SECOND};
}

/* Under the lock; false when there was nothing to do for a while. */
static bool
wait_for_work(struct workers *w)
{
    struct timespec until = timespec_of(clock_monotonic_ns() + WORKER_IDLE_SECONDS * NS_PER_SECOND);
    w->idle++;
    while (!w->first && !w->stopping)
        if (pthread_cond_timedwait(&w->work, &w->lock, &until) != 0)
            break;
    w->idle--;
    return w->first != NULL;
}

static void
take_and_run(struct workers *w)
{
    struct job *job = w->first;
    w->first = job->next;
    w->queued--;
    if (!w->first)
        w->last = &w->first;
    pthread_mutex_unlock(&w->lock);
    job->run(job);
    pthread_mutex_lock(&w->lock);
    w->busy--;
}

static void *
work(void *arg)
{
    struct workers *w = arg;
    pthread_mutex_lock(&w->lock);
    while (w->first || wait_for_work(w))
        take_and_run(w);
    bool last = --w->threads == 0;
    bool stopping = w->stopping;
    if (last && stopping)
        pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
    /* After a burst of calls their memory goes back to the kernel. */
    if (last && !stopping)
        (void)malloc_trim(0);
    return NULL;
}

static bool
add_thread(struct workers *w)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    bool made = pthread_create(&thread, &attributes, work, w) == 0;
    pthread_attr_destroy(&attributes);
    w->threads += made;
    return made;
}

bool
workers_run(struct workers *w, struct job *job)
{
    pthread_mutex_lock(&w->lock);
    bool taken = w->busy < w->most && !w->stopping && (w->idle > w->queued || add_thread(w));
    if (taken) {
        job->next = NULL;
        *w->last = job;
        w->last = &job->next;
        w->busy++;
        w->queued++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return taken;
}

bool
workers_stop(struct workers *w, int64_t deadline_ns)
{
    struct timespec until = timespec_of(deadline_ns);
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_broadcast(&w->work);
    while (w->threads > 0)
        if (pthread_cond_timedwait(&w->ended, &w->lock, &until) != 0)
            break;
    bool ended = w->threads == 0;
    pthread_mutex_unlock(&w->lock);
    if (!ended)
        return false;
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->ended);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return true;
}
