#include "cri/streaming/loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"

struct task_list {
    struct task *first, **last;
};

struct loop {
    int epoll;
    bool stopped; /* [lock] */
    struct watch wake;
    pthread_mutex_t lock;
    struct task_list posted; /* [lock] */
    struct task_list after;
    struct timer **heap; /* heap[1] is due first */
    size_t timers, capacity;
    struct conn *conns;
    char scratch[LOOP_SCRATCH_BYTES];
};

/* Tasks. */

static void
list_add(struct task_list *list, struct task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    task->next = NULL;
    *list->last = task;
    list->last = &task->next;
}

static struct task *
list_take(struct task_list *list)
{
    struct task *task = list->first;
    if (!task)
        return NULL;
    list->first = task->next;
    if (!list->first)
        list->last = &list->first;
    task->queued = false;
    return task;
}

void
loop_post(struct loop *loop, struct task *task)
{
    pthread_mutex_lock(&loop->lock);
    list_add(&loop->posted, task);
    pthread_mutex_unlock(&loop->lock);
    (void)eventfd_write(loop->wake.fd, 1);
}

void
loop_after(struct loop *loop, struct task *task)
{
    list_add(&loop->after, task);
}

static struct task *
take_posted(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct task *task = list_take(&loop->posted);
    pthread_mutex_unlock(&loop->lock);
    return task;
}

static void
woken(struct watch *watch, uint32_t events)
{
    struct loop *loop = holder_of(watch, struct loop, wake);
    eventfd_t count;
    (void)events;
    (void)eventfd_read(watch->fd, &count);
    for (struct task *task; (task = take_posted(loop));)
        task->run(task);
}

/* Watches. */

void
watch_open(struct loop *loop, struct watch *watch, int fd, uint32_t events, void (*ready)(struct watch *watch, uint32_t events))
{
    *watch = (struct watch){.ready = ready, .fd = fd};
    watch_for(loop, watch, events);
}

void
watch_for(struct loop *loop, struct watch *watch, uint32_t events)
{
    if (watch->fd < 0 || (watch->added ? watch->events == events : !events))
        return;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int operation = !events ? EPOLL_CTL_DEL : watch->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    (void)epoll_ctl(loop->epoll, operation, watch->fd, &event);
    watch->added = events != 0;
    watch->events = events;
}

void
watch_close(struct loop *loop, struct watch *watch)
{
    watch_for(loop, watch, 0);
    if (watch->fd >= 0)
        (void)close(watch->fd);
    watch->fd = -1;
}

/* Timers: a binary heap. */

static void
place(struct loop *loop, struct timer *timer, size_t at)
{
    loop->heap[at] = timer;
    timer->place = at;
}

static void
sift(struct loop *loop, struct timer *timer, size_t at)
{
    for (; at > 1 && loop->heap[at / 2]->due_ns > timer->due_ns; at /= 2)
        place(loop, loop->heap[at / 2], at);
    for (size_t child; (child = 2 * at) <= loop->timers; at = child) {
        if (child < loop->timers && loop->heap[child + 1]->due_ns < loop->heap[child]->due_ns)
            child++;
        if (loop->heap[child]->due_ns >= timer->due_ns)
            break;
        place(loop, loop->heap[child], at);
    }
    place(loop, timer, at);
}

void
timer_clear(struct loop *loop, struct timer *timer)
{
    size_t at = timer->place;
    if (!at)
        return;
    timer->place = 0;
    struct timer *last = loop->heap[loop->timers--];
    if (last != timer)
        sift(loop, last, at);
}

void
timer_set(struct loop *loop, struct timer *timer, int64_t after_ns, void (*fire)(struct timer *timer))
{
    timer_clear(loop, timer);
    timer->fire = fire;
    timer->due_ns = clock_monotonic_ns() + after_ns;
    if (++loop->timers >= loop->capacity) {
        loop->capacity = 2 * loop->timers + 16;
        loop->heap = mem_realloc(loop->heap, loop->capacity, sizeof(struct timer *));
    }
    sift(loop, timer, loop->timers);
}

static int
wait_ms(const struct loop *loop)
{
    if (!loop->timers)
        return -1;
    int64_t left = loop->heap[1]->due_ns - clock_monotonic_ns();
    return left <= 0 ? 0 : left / NS_PER_MS >= INT32_MAX ? INT32_MAX : (int)(left / NS_PER_MS) + 1;
}

static void
fire_due(struct loop *loop)
{
    while (loop->timers && loop->heap[1]->due_ns <= clock_monotonic_ns()) {
        struct timer *timer = loop->heap[1];
        timer_clear(loop, timer);
        timer->fire(timer);
    }
}

/* Life. */

struct loop *
loop_new(struct error *err)
{
    struct loop *loop = mem_zalloc(1, sizeof *loop);
    loop->posted.last = &loop->posted.first;
    loop->after.last = &loop->after.first;
    (void)pthread_mutex_init(&loop->lock, NULL);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll < 0 || wake < 0)
        (void)error_errno(err, errno, "make an event loop");
    watch_open(loop, &loop->wake, wake, EPOLLIN, woken);
    if (loop->epoll >= 0 && wake >= 0)
        return loop;
    loop_free(loop);
    return NULL;
}

void
loop_free(struct loop *loop)
{
    for (struct task *task; (task = list_take(&loop->after)) || (task = take_posted(loop));)
        task->run(task);
    watch_close(loop, &loop->wake);
    cleanup_closep(&loop->epoll);
    (void)pthread_mutex_destroy(&loop->lock);
    free(loop->heap);
    free(loop);
}

static bool
stopped(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    bool is = loop->stopped;
    pthread_mutex_unlock(&loop->lock);
    return is;
}

void
loop_run(struct loop *loop)
{
    while (!stopped(loop)) {
        struct epoll_event event;
        if (epoll_wait(loop->epoll, &event, 1, wait_ms(loop)) > 0) {
            struct watch *watch = event.data.ptr;
            watch->ready(watch, event.events);
        }
        fire_due(loop);
        for (struct task *task; (task = list_take(&loop->after));)
            task->run(task);
    }
}

void
loop_stop(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->stopped = true;
    pthread_mutex_unlock(&loop->lock);
    (void)eventfd_write(loop->wake.fd, 1);
}

struct conn **
loop_conns(struct loop *loop)
{
    return &loop->conns;
}

char *
loop_scratch(struct loop *loop)
{
    return loop->scratch;
}
