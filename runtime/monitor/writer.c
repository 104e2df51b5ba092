#include "runtime/monitor/writer.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>

#include "runtime/monitor/monitor.h"

enum { WRITER_STACK_BYTES = 128 << 10 };

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

static void *
writer_thread(void *arg)
{
    struct writer *writer = arg;
    (void)pthread_mutex_lock(&writer->lock);
    for (;;) {
        struct job *job = list_take(&writer->todo);
        if (!job) {
            (void)pthread_cond_wait(&writer->wake, &writer->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&writer->lock);
        job->work(job);
        (void)pthread_mutex_lock(&writer->lock);
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
            return;
        job->busy = false;
        job->done(m, job);
    }
}

int
writer_start(struct monitor *m, struct writer *writer)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return errno;
    source_open(m, &writer->returned, fd, writer_returned);
    (void)pthread_mutex_init(&writer->lock, NULL);
    (void)pthread_cond_init(&writer->wake, NULL);
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, WRITER_STACK_BYTES);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int errnum = pthread_create(&thread, &attributes, writer_thread, writer);
    (void)pthread_attr_destroy(&attributes);
    return errnum;
}

void
writer_submit(struct writer *writer, struct job *job)
{
    job->busy = true;
    (void)pthread_mutex_lock(&writer->lock);
    list_add(&writer->todo, job);
    (void)pthread_mutex_unlock(&writer->lock);
    (void)pthread_cond_signal(&writer->wake);
}
