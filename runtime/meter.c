#include "runtime/meter.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"

enum { ROUND_SECONDS = 60 };
/* Between two containers: the walk is in nobody's way. */
static const int64_t pause_ns = 20 * NS_PER_MS;

struct meter {
    struct runtime *rt;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool running, closing;
};

/* With the meter's lock held: true when it is to end. */
static bool
rest(struct meter *meter, int64_t ns)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t end = until.tv_sec * NS_PER_SECOND + until.tv_nsec + ns;
    until = (struct timespec){end / NS_PER_SECOND, end % NS_PER_SECOND};
    while (!meter->closing && pthread_cond_timedwait(&meter->changed, &meter->lock, &until) == 0)
        ;
    return meter->closing;
}

static void
measure(struct runtime *rt, struct container *c)
{
    uint64_t bytes, inodes;
    cleanup_free char *upper = str_printf("%s/upper", c->id);
    if (file_usage(rt->containers_dir, upper, &bytes, &inodes, NULL) < 0)
        return;
    HOLD(&rt->lock);
    c->writable_bytes = (int64_t)bytes;
    c->writable_inodes = (int64_t)inodes;
    c->writable_time_ns = clock_now_ns();
}

static struct container **
all_containers(struct runtime *rt, size_t *count)
{
    HOLD(&rt->lock);
    struct container *c, *next;
    struct container **list = mem_zalloc(HASH_CNT(by_id, rt->containers_by_id) + 1, sizeof *list);
    *count = 0;
    HASH_ITER (by_id, rt->containers_by_id, c, next)
        list[(*count)++] = container_reference(c);
    return list;
}

static void
walk_all(struct meter *meter)
{
    size_t count;
    bool closing = false;
    struct container **list = all_containers(meter->rt, &count);
    for (size_t i = 0; i < count && !closing; i++) {
        measure(meter->rt, list[i]);
        HOLD(&meter->lock);
        closing = rest(meter, pause_ns);
    }
    containers_put(meter->rt, list, count);
}

static void *
meter_loop(void *arg)
{
    struct meter *meter = arg;
    bool closing = false;
    while (!closing) {
        walk_all(meter);
        HOLD(&meter->lock);
        closing = rest(meter, ROUND_SECONDS * NS_PER_SECOND);
    }
    return NULL;
}

struct meter *
meter_open(struct runtime *rt)
{
    struct meter *meter = mem_zalloc(1, sizeof *meter);
    meter->rt = rt;
    pthread_mutex_init(&meter->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&meter->changed, &attr);
    pthread_condattr_destroy(&attr);
    return meter;
}

void
meter_close(struct meter *meter)
{
    if (!meter)
        return;
    pthread_mutex_lock(&meter->lock);
    meter->closing = true;
    bool running = meter->running;
    pthread_cond_signal(&meter->changed);
    pthread_mutex_unlock(&meter->lock);
    if (running)
        pthread_join(meter->thread, NULL);
    pthread_cond_destroy(&meter->changed);
    pthread_mutex_destroy(&meter->lock);
    free(meter);
}

void
meter_wanted(struct meter *meter)
{
    HOLD(&meter->lock);
    if (!meter->running && !meter->closing)
        meter->running = pthread_create(&meter->thread, NULL, meter_loop, meter) == 0;
}
