#include "runtime/monitor/writer.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "runtime/monitor/monitor.h"

enum { WRITER_STACK_BYTES = 128 << 10, RETRY_MS = 200 };

static void
list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    if (list->last)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static struct job *
list_take(struct job_list *list)
{
    struct job *job = list->first;
    if (!job)
        return NULL;
    list->first = job->next;
    if (!list->first)
        list->last = NULL;
    return job;
}

/* With the lock held. */
static void
call_again(struct writer *writer, struct job *job)
{
    int64_t until = clock_monotonic_ns() + RETRY_MS * NS_PER_MS;
    struct timespec ts = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    job->next = writer->todo.first;
    writer->todo.first = job;
    if (!job->next)
        writer->todo.last = job;
    (void)eventfd_write(writer->returned.fd, 1);
    (void)pthread_cond_timedwait(&writer->wake, &writer->lock, &ts);
}

static void *
writer_thread(void *arg)
{
    struct writer *writer = arg;
    (void)pthread_mutex_lock(&writer->lock);
    for (;;) {
        struct job *job = list_take(writer->urgent.first ? &writer->urgent : &writer->todo);
        if (!job) {
            (void)pthread_cond_wait(&writer->wake, &writer->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&writer->lock);
        job->again = false;
        job->work(job);
        (void)pthread_mutex_lock(&writer->lock);
        if (job->again) {
            call_again(writer, job);
            continue;
        }
        list_add(&writer->finished, job);
        (void)eventfd_write(writer->returned.fd, 1);
    }
    return NULL;
}

static void
writer_returned(struct monitor *m, struct source *source)
{
    struct writer *writer = container_of(source, struct writer, returned);
    eventfd_t count;
    (void)eventfd_read(source->fd, &count);
    for (;;) {
        (void)pthread_mutex_lock(&writer->lock);
        struct job *job = list_take(&writer->finished);
        (void)pthread_mutex_unlock(&writer->lock);
        if (!job)
            break;
        job->busy = false;
        job->done(m, job);
    }
    stdio_tell_stalls(m);
}

int
writer_start(struct monitor *m, struct writer *writer)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return errno;
    source_open(m, &writer->returned, fd, writer_returned);
    (void)pthread_mutex_init(&writer->lock, NULL);
    pthread_condattr_t clock;
    (void)pthread_condattr_init(&clock);
    (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&writer->wake, &clock);
    (void)pthread_condattr_destroy(&clock);
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, WRITER_STACK_BYTES);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int errnum = pthread_create(&thread, &attributes, writer_thread, writer);
    (void)pthread_attr_destroy(&attributes);
    return errnum;
}

static void
submit(struct writer *writer, struct job_list *list, struct job *job)
{
    job->busy = true;
    (void)pthread_mutex_lock(&writer->lock);
    list_add(list, job);
    (void)pthread_mutex_unlock(&writer->lock);
    (void)pthread_cond_signal(&writer->wake);
}

void
writer_submit(struct writer *writer, struct job *job)
{
    submit(writer, &writer->todo, job);
}

void
writer_submit_urgent(struct writer *writer, struct job *job)
{
    submit(writer, &writer->urgent, job);
}
