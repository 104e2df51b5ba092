/* Inside link.h: the hub's thread and what link.c and hub.c share.
 *
 * Locks, in order: hub.lock (the list of links), link.lock (its state and waiting calls). Neither is held over a callback or anything that blocks. A
 * link lives as long as somebody refers to it: its owner, the list, the hub's thread while it handles it, a call under way. */
#pragma once

#include <pthread.h>

#include "base/message.h"
#include "runtime/link.h"
#include "runtime/protocol.h"

/* A call that waits for its answer. On the caller's stack. */
struct call {
    struct call *next;
    uint32_t serial;
    int wake;      /* eventfd: answered or lost */
    bool answered; /* `answer` is filled; false once woken: the monitor is lost, or */
    bool unread;   /* … its answer cannot be read */
    struct message *answer;
};

struct link {
    struct link *next;
    struct hub *hub;
    uint64_t number; /* in epoll's data: a stale event finds no link */
    char pod_id[ID_SIZE];
    pid_t pid;
    int pidfd, socket;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended; /* state became LINK_DEAD */
    int references;
    enum link_state { LINK_UP, LINK_ENDING, LINK_DEAD } state;
    uint32_t last_serial;
    struct call *calls;
};

struct hub {
    struct hub_options options;
    int program, epoll, stop;
    pthread_t thread;
    pthread_mutex_t lock; /* guards links, last_number */
    struct link *links;
    uint64_t last_number;
    struct message received; /* the thread's */
};

/* Takes pidfd and socket; from now on the hub watches them. */
struct link *hub_add(struct hub *hub, const char *pod_id, pid_t pid, int pidfd, int socket);
/* Forget it: no callback comes any more (one may be running). */
void hub_remove(struct link *link);
void link_unref(struct link *link);
