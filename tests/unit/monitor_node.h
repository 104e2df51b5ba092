/* For tests of the monitor: a node made by hand (a temporary directory, a cgroup, a hub), pods ("boxes") and containers ("crates") with specs made by
 * hand, on a real root file system (Debian's static busybox on overlayfs). Needs root; without it each test skips. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/link.h"
#include "runtime/spec.h"

enum { EXITS_MAX = 64, BOXES_MAX = 256 };

struct node {
    char dir[64], cgroup[128]; /* temporary directory; unified cgroup */
    int state_dir, containers_dir, monitors_cgroup;
    struct hub *hub;
    pthread_mutex_t lock; /* guards exits, exit_count, lost */
    struct seen {
        char id[ID_SIZE];
        struct exit_report report;
    } exits[EXITS_MAX];
    int exit_count, lost;
    struct process_identity monitors[BOXES_MAX]; /* killed at the end where a test has failed */
    unsigned monitor_count;
};
extern struct node node;

struct box {
    struct link *link;
    struct process_identity identity;
    char id[ID_SIZE];
};

struct crate {
    char id[ID_SIZE];
    const char *command[6];
    bool tty, stdin_open, shared_pid, host_pid;
    const char *bind_source, *bind_target;
    uint64_t bind_flags, bind_propagation; /* 0: read-only, private */
    const char *log;                       /* NULL: "log" in the container's directory */
    bool memory_limited;                   /* to 16 MB; memory_cgroup must have said yes */
    const char *environment;               /* one more variable */
    int64_t log_rate;
    size_t log_buffer; /* nonblocking */
    uid_t uid;
    int (*meanwhile)(void *arg); /* link_create's; the spec waits for it first of all */
    void *arg;
    int cgroup;
    struct spec_builder *spec;
};

#define NEEDS_ROOT()        \
    do {                    \
        if (geteuid() != 0) \
            skip();         \
    } while (0)

int node_up(void **state);
int node_down(void **state);
void open_hub(void);
void must(int result, const struct error *err);
void pause_ms(long ms);
/* Is there a memory controller for crates? */
bool memory_cgroup(void);
/* A path in the node's directory; one of eight static buffers. */
char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct spec_builder *pod_spec(void);
int spawn_with(struct box *box, struct spec_builder *b, bool shared_pid, int *failed_op, struct error *err);
struct box pod_up(void);
void pod_down(struct box *box);

int crate_create(struct box *box, struct crate *c, int *failed_op, struct error *err);
void crate_start(struct box *box, struct crate *c);
/* Everything of it is gone, the cgroup too. */
void crate_gone(struct crate *c);
void crate_delete(struct box *box, struct crate *c);
/* An exec, with stdout and stderr into `output` (may be NULL). */
int run_in(struct box *box, const struct crate *c, const char *const *command, const struct cancel *cancel, int *status, struct buf *output,
           struct error *err);

bool exit_seen(const char *id, struct exit_report *report);
struct exit_report wait_exit(const char *id);
/* The log's records, without their times; checks that each is well-formed. Caller frees. */
char *log_records(const char *path);
char *log_of(const struct crate *c);
void wait_log(const struct crate *c, const char *expected);
