/* The streaming server's event loop: one thread that waits for fds, times, and messages from other threads. Everything in cri/streaming/ lives in it
 * but tokens and the jobs that wait for a process; its handlers never block. Events are taken one at a time, so a handler may end any watch, its own
 * too. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct conn;
struct loop;

/* An fd that is waited for. `ready` gets epoll's events. */
struct watch {
    void (*ready)(struct watch *watch, uint32_t events);
    int fd; /* owned; -1: none */
    uint32_t events;
    bool added;
};

struct timer {
    void (*fire)(struct timer *timer);
    int64_t due_ns; /* monotonic */
    size_t place;   /* in the heap, from 1; 0: not set */
};

/* Something to be run by the loop's thread. */
struct task {
    void (*run)(struct task *task);
    struct task *next;
    bool queued;
};

struct loop *loop_new(struct error *err);
/* After loop_run has returned. */
void loop_free(struct loop *loop);
/* Until loop_stop, which any thread may call. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* From any thread: run it soon. A task that is queued is not queued again. */
void loop_post(struct loop *loop, struct task *task);
/* From a handler: run it when the handler has returned. */
void loop_after(struct loop *loop, struct task *task);

void watch_open(struct loop *loop, struct watch *watch, int fd, uint32_t events, void (*ready)(struct watch *watch, uint32_t events));
/* Wait for these; 0: for nothing at all, not even a hang-up. */
void watch_for(struct loop *loop, struct watch *watch, uint32_t events);
void watch_close(struct loop *loop, struct watch *watch);

/* Set, or set anew. */
void timer_set(struct loop *loop, struct timer *timer, int64_t after_ns, void (*fire)(struct timer *timer));
void timer_clear(struct loop *loop, struct timer *timer);

/* The connections, conn.c's: those that no one owns any more end with the loop. */
struct conn **loop_conns(struct loop *loop);

/* Scratch memory for a read that is handed on at once. */
enum { LOOP_SCRATCH_BYTES = 128 << 10 };
char *loop_scratch(struct loop *loop);

#define holder_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
