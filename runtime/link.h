/* The link to monitors: crispd's side of the conversation with every crisp-monitor (runtime/monitor/), one per pod.
 *
 *   none ──link_spawn / link_adopt──▶ up ──link_end──▶ none
 *                                     └──the monitor dies──▶ lost (hub_options.lost is called once)
 *
 * One thread of crispd (the hub's) watches all sockets and pidfds, hands answers to the callers that wait for them, and calls the callbacks below;
 * the callbacks must not block. The functions block until the monitor answered, the patience is over (`cancel`, where they take one), or the monitor
 * is lost (ERR_UNAVAILABLE). A monitor that does not answer within the hub's answer_timeout_ns (5 s by default) is an error that says so; killing its
 * containers by cgroup is the caller's. link_create and link_start wait without a limit: what a spec mounts may take as long as it takes.
 *
 * The protocol is runtime/protocol.h; it is versioned, since a new crispd talks to monitors that an older one started. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/id.h"
#include "runtime/exit_record.h"
#include "runtime/process.h"

struct hub;  /* all links */
struct link; /* one */

#define HUB_ANSWER_TIMEOUT_NS (INT64_C(5) * 1000 * 1000 * 1000)

struct hub_options {
    const char *monitor_program;
    int64_t answer_timeout_ns; /* 0: HUB_ANSWER_TIMEOUT_NS */
    void *arg;
    void (*exited)(void *arg, const char *pod_id, const char *container_id, const struct exit_report *report);
    void (*lost)(void *arg, const char *pod_id); /* the monitor is dead: the caller kills its containers by cgroup */
};

int hub_open(const struct hub_options *options, struct hub **out, struct error *err);
/* All links are dropped and freed, the monitors live on. No call may be under way. */
void hub_close(struct hub *hub);

struct link_spawn {
    const char *pod_id;
    int state_dir;      /* fd of the directory in which the monitor listens at "POD_ID.sock", for the next crispd */
    int containers_dir; /* fd of root/containers: exit records go to ID/exit */
    int cgroup;         /* fd of the (unified) cgroup it starts in; -1: none */
    int pod_spec;       /* memfd: the pod's spec, carried out by the monitor itself; borrowed */
    bool shared_pid;    /* the pod shares a pid namespace: the monitor clones an init for it, which reaps */
    /* Unless NULL, called with `arg` while the monitor carries out the spec. */
    void (*meanwhile)(void *arg);
    void *arg;
};

/* Start a monitor and have it carry out the pod's spec. On failure no process is left, `failed_op` is the operation's number (for spec_explain) or
 * -1. */
int link_spawn(struct hub *hub, const struct link_spawn *spawn, struct link **out, struct process_identity *identity, int *failed_op,
               struct error *err);

/* What a monitor says of its containers when a new crispd comes. */
struct link_container {
    char id[ID_SIZE];
    enum { LINK_CREATED, LINK_RUNNING, LINK_EXITED } state;
    pid_t pid;
    int64_t started_ns;
    struct exit_report exit;
};

/* Meet a monitor that an earlier crispd started: connect to POD_ID.sock, compare its identity, ask for its containers (array for free()). Bounded by
 * `cancel`. */
int link_adopt(struct hub *hub, const char *pod_id, int state_dir, const struct process_identity *identity, const struct cancel *cancel,
               struct link **out, struct link_container **containers, size_t *count, struct error *err);

/* Clone a process that does nothing but be: `pipe` is the read end of one whose write end, once closed everywhere, ends it. For a cgroup that its
 * keeper removes when it is empty. Borrowed. */
int link_hold(struct link *link, int pipe, pid_t *pid, struct error *err);

struct link_create {
    const char *container_id;
    int spec;          /* memfd, borrowed */
    int cgroup;        /* fd of the container's cgroup in the unified hierarchy: cloned into it, killed by it; -1: none */
    int target_pid_ns; /* fd of a pid namespace to be in; -1: a new one, or the pod's where shared_pid; see host_pid */
    int hold;          /* write end of a holder's pipe: kept until the init's end is read from its cgroup; -1: none. Borrowed */
    bool host_pid, new_pid_ns;
    bool enters; /* the spec has SPEC_ENTER */
    const char
        *oom_file; /* memory.events (v2) or memory.oom_control (v1), absolute; its line "oom_kill N" is read before the clone and after the exit */
    const char *log_path;         /* absolute; "": no log. The monitor opens it 0640 and writes the CRI format */
    size_t log_directory_length;  /* of log_path: the pod's log directory, which no symlink leads out of */
    int64_t log_bytes_per_second; /* a container that writes more is slowed down, nothing is dropped; 0: no limit */
    size_t log_buffer_bytes; /* what it may write ahead of a log that is slow or stuck; what is beyond is lost, and the log says so. 0: it waits */
    bool tty, stdin_open, stdin_once;
    /* Unless NULL, called with `arg` once the monitor has the request: makes what the spec's SPEC_GATE waits for. -1: the container is not created,
     * and the error is about that operation. */
    int (*meanwhile)(void *arg);
    void *arg;
};

/* Clone the container's init and carry out its spec up to SPEC_WAIT. On failure nothing is left and failed_op says which operation (errno in err). */
int link_create(struct link *link, const struct link_create *create, pid_t *pid, int *failed_op, struct error *err);
/* Let it exec. *started_ns is the wall clock then. A failing exec is an error with its errno (ENOENT …) and an exit report follows. */
int link_start(struct link *link, const char *container_id, int64_t *started_ns, int *failed_op, struct error *err);
/* Send a signal to the container's init. A container that has exited is no error. */
int link_signal(struct link *link, const char *container_id, int signal, struct error *err);
/* Kill all of it: cgroup.kill where the monitor has it, else its init by pidfd. */
int link_kill(struct link *link, const char *container_id, struct error *err);
/* Forget an exited (or kill and forget a created) container; its fds are closed, its log is flushed. */
int link_delete(struct link *link, const char *container_id, struct error *err);
/* Switch to a new log file at log_path, between two records. Returns when it is open and the old one's last record is written. */
int link_reopen_log(struct link *link, const char *container_id, struct error *err);

struct link_exec {
    const char *container_id;
    int spec;      /* memfd, borrowed; begins with SPEC_SETNS of the container's mount and cgroup namespaces */
    int cgroup;    /* of its own, for killing; cloned into it; -1: none */
    int stdio[3];  /* -1: /dev/null */
    int console;   /* of a spec with SPEC_CONSOLE: a socket on which the terminal's master comes (runtime/fd_pass.h); -1 */
    bool take_fds; /* stdio and console are closed as soon as the monitor has them, and become -1 here; else they are borrowed */
    /* Unless NULL, called with `arg` in the thread that waits for the end, which it may use until `ended` is readable or `cancel` ends. */
    void (*meanwhile)(void *arg, int ended);
    void *arg;
};
/* Run a process in a container and wait for its end: 0 with *status as exit_report.status. When `cancel` ends first, the exec's whole tree is killed
 * and -1 with ERR_DEADLINE or ERR_CANCELLED is returned once it is gone. failed_op as above where it could not be launched. */
int link_exec(struct link *link, struct link_exec *exec, const struct cancel *cancel, int *status, int *failed_op, struct error *err);

struct link_attach {
    const char *container_id;
    int stdio[3]; /* pipes: the read end for its stdin, the write ends for its output; -1: not wanted. Closed once the monitor has them, or if it does
                     not get them */
    int console;  /* as link_exec's */
};
/* Take part in a running container's stdio until its output has ended or the other ends of all pipes are closed (0), or the client was too slow and
 * is detached. An older monitor may not know the request: ERR_UNSUPPORTED. */
int link_attach(struct link *link, struct link_attach *attach, struct error *err);

/* Not ended, and its monitor not found dead; hub_options.lost is called after this has become false, where nobody ended it. */
bool link_is_up(struct link *link);

/* The pod is stopped: the monitor kills what is left, flushes logs and records, and ends; returns when it is gone (bounded; then it is killed). Frees
 * the link. */
int link_end(struct link *link, struct error *err);
/* Drop a link whose monitor is lost. */
void link_free(struct link *link);
