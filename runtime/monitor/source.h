/* Where things come from in the monitor's loop: a file descriptor and the handler of what it has. Handlers never block. One event is taken from epoll
 * at a time, so a handler may remove any source, its own too. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct monitor;

/* Whom to answer: a request of the present connection. serial 0: nobody. */
struct asker {
    uint32_t serial;
    uint32_t connection;
};

struct source {
    void (*ready)(struct monitor *m, struct source *source);
    int fd;          /* owned; -1: none */
    uint32_t events; /* what is waited for; 0: only that the other end is gone */
    bool watched;    /* in the epoll set */
};

void source_open(struct monitor *m, struct source *source, int fd, void (*ready)(struct monitor *m, struct source *source));
/* The same for other events than EPOLLIN. */
void source_open_for(struct monitor *m, struct source *source, int fd, uint32_t events, void (*ready)(struct monitor *m, struct source *source));
/* Wait for these from now on. */
void source_wait_for(struct monitor *m, struct source *source, uint32_t events);
/* Stop and go on watching: an epoll set reports a hang-up even where nothing is asked for, so a paused source is taken out of it. */
void source_pause(struct monitor *m, struct source *source);
void source_resume(struct monitor *m, struct source *source);
void source_close(struct monitor *m, struct source *source);

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
