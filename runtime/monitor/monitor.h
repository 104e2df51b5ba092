/* crisp-monitor: the process that owns a pod's namespaces and its containers' stdio, logs and exit codes; it outlives crispd.
 *
 * One thread runs one epoll loop (main.c) over sources (source.h): the connection to crispd (connection.c), the channel to each process that is
 * being launched (task.c), the containers' output (stdio.c), the death of children (reap.c), and what the two writers have finished (writer.h). All
 * of its memory is one mapping, made at the start and touched as it is used: nothing is allocated later, but for the backlog of a nonblocking
 * container (backlog.h). It has no log: what a person should know goes to crispd as a warning. */
#pragma once

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/id.h"
#include "base/message.h"
#include "runtime/exit_record.h"
#include "runtime/monitor/attach.h"
#include "runtime/monitor/source.h"
#include "runtime/monitor/stdio.h"
#include "runtime/monitor/writer.h"

/* Beyond these a request is refused with EAGAIN. A pod has few containers; dead ones stay until they are deleted. */
enum { CONTAINERS_MAX = 256, EXECS_MAX = 256, ATTACHMENTS_MAX = 64 };

/* How long an exit waits to be told until all output is in the log; how long a delete waits for a log that hangs; how long END waits for what it
 * killed. */
#define SETTLE_NS (INT64_C(250) * 1000 * 1000)
#define DELETE_NS (INT64_C(1000) * 1000 * 1000)
#define END_NS    (INT64_C(3000) * 1000 * 1000)
/* When an exit record is flushed to the disk: a container that is deleted at once, or a pod that ends at once, need not wait for the disk. */
#define SYNC_NS (INT64_C(500) * 1000 * 1000)

/* A process the monitor cloned, from its clone to its reaping. */
struct task {
    pid_t pid; /* 0: none */
    int pidfd;
    int cgroup;            /* unified, for killing; -1: none */
    struct source channel; /* to the process until it has executed its program; -1 afterwards */
    int failed_op;         /* what it reported; -1 */
    int failed_errno;
};

enum container_state {
    CONTAINER_NONE,     /* the slot is free */
    CONTAINER_CREATING, /* cloned, carrying out its spec */
    CONTAINER_CREATED,  /* waits for START */
    CONTAINER_STARTING, /* told to execute its program */
    CONTAINER_RUNNING,  /* has */
    CONTAINER_SETTLING, /* has ended; its last output goes to the log, then the exit record is written */
    CONTAINER_EXITED,   /* told */
    CONTAINER_DELETED,  /* unknown to crispd; the slot waits for jobs under way */
    CONTAINER_STATES,
};

struct container {
    struct task task;
    enum container_state state;
    char id[ID_SIZE];
    bool own_pid_ns; /* the kernel kills the rest when its init ends */
    bool deleting;
    struct asker creating, starting, deleting_for, reopening;
    int64_t started_ns;  /* wall clock */
    int64_t deadline_ns; /* monotonic; SETTLING: tell it; deleting: forget it; 0: none */
    int64_t sync_ns;     /* monotonic; 0: none */
    struct exit_report exit;
    bool exit_untold; /* the socket was full */
    int oom_file;
    int hold; /* the pipe of its cgroup's holder; -1 */
    uint64_t oom_before;
    struct job record_job, sync_job;
    int records_dir; /* the monitor's containers_dir, for the writers */
    int record_errno;
    struct stdio stdio;
};

struct exec {
    struct task task;
    struct asker asker;
    int console; /* to crispd, until the terminal's master has been sent; -1 */
};

struct monitor {
    char pod_id[ID_SIZE];
    int epoll;
    int null;
    int home_pid_ns; /* the monitor's own, to come back to */
    int pod_pid_ns;  /* shared pid namespace; -1 */
    pid_t pod_init;  /* its init; 0 */
    int shm;         /* the pod's shm: launch_pod_shm's; -1 */
    int userns;      /* the pod's user namespace; -1 */
    int state_dir;
    int containers_dir;
    bool has_pod; /* POD was carried out */
    bool ending;
    bool terminated; /* SIGTERM: end with the last container */
    int64_t end_deadline_ns;
    struct asker end_for;
    struct source signals, listener, connection;
    uint32_t connection_number;
    struct writer records, logs;
    struct block_pool blocks;
    struct message request, answer;
    size_t containers_used, execs_used, attachments_used; /* slots ever used: where loops end */
    struct exec execs[EXECS_MAX];
    struct container containers[CONTAINERS_MAX];
    struct attachment attachments[ATTACHMENTS_MAX];
};

/* main.c */
/* END has been asked and nothing is left to wait for, or its patience is over: does not return then. */
void monitor_maybe_end(struct monitor *m);

/* reap.c: SIGCHLD and SIGTERM. */
int reap_open(struct monitor *m);

/* connection.c */
void connection_open(struct monitor *m, int fd);
int connection_listen(struct monitor *m); /* 0 or an errno */
void answer_begin(struct monitor *m, struct asker asker);
void answer_send(struct monitor *m, struct asker *asker); /* and forget the asker */
void answer_ok(struct monitor *m, struct asker *asker);
/* A step that failed, for its reason (the errno's words follow it); "" where an operation failed, whose words are crispd's. */
void answer_error(struct monitor *m, struct asker *asker, int errnum, int failed_op, const char *step);
/* A request that makes no sense now: a whole sentence. */
void answer_refusal(struct monitor *m, struct asker *asker, int errnum, const char *sentence);
/* An event; false when the socket is full. Begin it by message_begin(&m->answer, type, 0). */
bool event_send(struct monitor *m);
void warn(struct monitor *m, const char *id, const char *words, int errnum);

/* request.c */
void request_handle(struct monitor *m, struct message *request);

/* container.c */
struct container *container_find(struct monitor *m, const char *id);
void container_create(struct monitor *m, struct message *request, struct asker asker);
void container_start(struct monitor *m, struct container *c, struct asker asker);
void container_kill(struct container *c);
void container_delete(struct monitor *m, struct container *c, struct asker asker);
void container_reaped(struct monitor *m, struct container *c, pid_t pid, int status);
/* Read what those that are being created report: one of them may have been replaced by a process that is not known yet. */
void containers_hear(struct monitor *m);
/* Something it may wait for has happened, or time has passed: tell its exit, free its slot. */
void container_advance(struct monitor *m, struct container *c);
void container_tell_exit(struct monitor *m, struct container *c);
void container_log_opened(struct monitor *m, struct container *c, int errnum);

/* exec.c */
void exec_start(struct monitor *m, struct message *request, struct asker asker);
void exec_kill(struct monitor *m, uint32_t serial);
void exec_kill_all(struct monitor *m);
void exec_reaped(struct monitor *m, struct exec *e, int status);

/* task.c */
struct task_plan {
    int spec;
    int stdio[3];
    int pid_ns;      /* enter this one: a namespace's fd or a pidfd; -1: stay */
    bool new_pid_ns; /* a new one */
    bool enters;     /* by the spec's SPEC_ENTER, not by the clone */
    int init_pidfd;  /* of the container an exec enters; -1 */
    int gate;        /* what SPEC_GATE waits for; -1 */
};
/* Clone a process that carries out plan->spec; 0 or an errno. The task's cgroup must be set. */
int task_clone(struct monitor *m, struct task *task, const struct task_plan *plan, void (*ready)(struct monitor *m, struct source *channel));
/* Clone the init of a shared pid namespace; 0 or an errno. */
int task_clone_pod_init(struct monitor *m);
/* Clone a process that holds a cgroup until `pipe` ends, and give its pid; 0 or an errno. */
int task_clone_holder(int pipe, pid_t *pid);
void task_kill(const struct task *task);
/* What is open of a reaped task. */
void task_close(struct monitor *m, struct task *task);
