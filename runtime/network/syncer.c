#include "runtime/network/syncer.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "runtime/network/worker.h"

enum { ITEMS_MAX = 256, GATHER_NS = 300 * 1000 * 1000 };

struct item {
    int dir; /* ours */
    char name[96];
};

struct syncer {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct item *items;
    size_t count;
    bool stop;
};

static void
sync_item(const struct item *item)
{
    cleanup_close int file = openat(item->dir, item->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (file >= 0)
        (void)fsync(file);
    (void)fsync(item->dir); /* an entry that is gone shall stay gone, too */
    (void)close(item->dir);
}

static void
sync_items(struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sync_item(&items[i]);
    free(items);
}

/* Wait for something to do, then a little for more of it: one flush of the journal serves all. NULL with *count 0 at the end. */
static struct item *
gather(struct syncer *s, size_t *count)
{
    (void)pthread_mutex_lock(&s->lock);
    while (!s->count && !s->stop)
        (void)pthread_cond_wait(&s->changed, &s->lock);
    int64_t until = clock_monotonic_ns() + GATHER_NS;
    struct timespec ts = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    while (!s->stop && s->count < ITEMS_MAX / 2 && pthread_cond_timedwait(&s->changed, &s->lock, &ts) == 0)
        ;
    *count = s->count;
    s->count = 0;
    struct item *items = steal(s->items);
    (void)pthread_mutex_unlock(&s->lock);
    return items;
}

static void *
run(void *data)
{
    struct syncer *s = data;
    for (;;) {
        size_t count;
        struct item *items = gather(s, &count);
        if (!count)
            return NULL;
        sync_items(items, count);
    }
}

int
syncer_open(struct syncer **out, struct error *err)
{
    struct syncer *s = mem_zalloc(1, sizeof *s);
    pthread_condattr_t clock;
    (void)pthread_condattr_init(&clock);
    (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->changed, &clock);
    (void)pthread_condattr_destroy(&clock);
    if (worker_start(&s->thread, run, s, "net-sync", err) < 0) {
        free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void
syncer_close(struct syncer *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    (void)pthread_cond_signal(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

void
syncer_add(struct syncer *s, int dir, const char *name)
{
    struct item item = {.dir = fcntl(dir, F_DUPFD_CLOEXEC, 3)};
    if (item.dir < 0)
        return; /* out of fds: the kernel's own write-back does it some seconds later */
    (void)snprintf(item.name, sizeof item.name, "%s", name);
    (void)pthread_mutex_lock(&s->lock);
    bool room = s->count < ITEMS_MAX;
    if (room) {
        s->items = mem_realloc(s->items, s->count + 1, sizeof *s->items);
        s->items[s->count++] = item;
        (void)pthread_cond_signal(&s->changed);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (!room)
        sync_item(&item);
}
