#include "imageservice/pull/flush.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"

/* A flush that began after a caller came covers that caller; one that was running already does not. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool running;
    uint64_t begun, done; /* flushes */
    uint64_t failed;      /* the last one that failed */
    int errnum;
} flush = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

/* With the lock held, which is given up meanwhile. */
static void
run(int fd)
{
    uint64_t mine = ++flush.begun;
    flush.running = true;
    (void)pthread_mutex_unlock(&flush.lock);
    int errnum = syncfs(fd) < 0 ? errno : 0;
    (void)pthread_mutex_lock(&flush.lock);
    flush.running = false;
    flush.done = mine;
    if (errnum) {
        flush.failed = mine;
        flush.errnum = errnum;
    }
    (void)pthread_cond_broadcast(&flush.ended);
}

static void *
run_soon(void *arg)
{
    int *fd = arg;
    (void)pthread_mutex_lock(&flush.lock);
    run(*fd);
    (void)pthread_mutex_unlock(&flush.lock);
    (void)close(*fd);
    free(fd);
    return NULL;
}

/* With the lock held, which the thread gets as its flush begins. */
static bool
start_soon(int fd)
{
    pthread_t thread;
    int *own = mem_alloc(sizeof *own);
    *own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (*own >= 0 && pthread_create(&thread, NULL, run_soon, own) == 0)
        return pthread_detach(thread) == 0;
    if (*own >= 0)
        (void)close(*own);
    free(own);
    return false;
}

void
flush_soon(int fd)
{
    (void)pthread_mutex_lock(&flush.lock);
    if (!flush.running)
        flush.running = start_soon(fd);
    (void)pthread_mutex_unlock(&flush.lock);
}

int
flush_filesystem(int fd, struct error *err)
{
    (void)pthread_mutex_lock(&flush.lock);
    uint64_t wanted = flush.begun + 1;
    while (flush.done < wanted) {
        if (flush.running)
            (void)pthread_cond_wait(&flush.ended, &flush.lock);
        else
            run(fd);
    }
    int errnum = flush.failed >= wanted ? flush.errnum : 0;
    (void)pthread_mutex_unlock(&flush.lock);
    return errnum ? error_errno(err, errnum, "flush the layers to the disk") : 0;
}
