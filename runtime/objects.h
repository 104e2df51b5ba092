/* What the runtime keeps in memory: struct runtime, its pods and containers. For the files of runtime/ only; runtime.h is for everybody.
 *
 *   pod        MAKING ──▶ READY ──▶ NOTREADY ──▶ (removed)         a failed MAKING is undone and leaves nothing
 *   container  MAKING ──▶ CREATED ──▶ RUNNING ──▶ EXITED ──▶ (removed);  CREATED ──▶ EXITED where its pod ends before it was started
 *
 * One lock, `runtime.lock`, guards the tables and every field marked [lock]; it is never held while anything is waited for or while another module is
 * called that has locks of its own (hub, network). Fields without the mark are set before the object is in a table and do not change. What changes an
 * object for longer takes its turn (runtime/wait.h) first. Order of turns: a container's after its pod's.
 *
 * An object lives while it is referenced; tables hold one reference. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "runtime/cgroup.h"
#include "runtime/link.h"
#include "runtime/operation.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"

struct janitor;
struct meter;
struct seccomp_store;
struct systemd;

enum pod_phase { POD_PHASE_MAKING, POD_PHASE_READY, POD_PHASE_NOTREADY, POD_PHASE_REMOVED };

/* For nano cores. */
struct stats_sample {
    int64_t time_ns, cpu_ns, nano_cores;
};

struct pod {
    char id[ID_SIZE];
    struct pod_config *config; /* a reference of its own */
    char *key;                 /* of pods_by_key */
    char *cgroup_parent;       /* clean; containers' cgroups are made in it */
    uint64_t sequence;         /* order of making: a counter, as clocks jump */
    int64_t created_ns;

    int references;                       /* [lock] */
    enum pod_phase phase;                 /* [lock] */
    bool stopping;                        /* [lock] no new container, exec or start */
    struct operation *operation;          /* [lock] while MAKING */
    struct turn turn;                     /* [lock] */
    struct link *link;                    /* [lock] NULL: no monitor */
    int link_users;                       /* [lock] calls that use it now: it is freed when none is left */
    struct waiters link_waiters;          /* [lock] */
    struct process_identity monitor;      /* [lock] */
    bool meeting;                         /* [lock] recovered, its monitor is not met yet */
    bool attached;                        /* [lock] network_attach was begun and not undone */
    struct strv ips;                      /* [lock] */
    char *reason;                         /* [lock] */
    struct resources overhead, resources; /* [lock] as last told by pod_update */
    struct stats_sample last_sample;      /* [lock] */
    UT_hash_handle by_id, by_key;
};

enum container_phase { CONTAINER_PHASE_MAKING, CONTAINER_PHASE_CREATED, CONTAINER_PHASE_RUNNING, CONTAINER_PHASE_EXITED, CONTAINER_PHASE_REMOVED };

/* Who the container's init is; also who its execs are. */
struct credentials {
    int64_t uid, gid;
    struct strv groups; /* decimal */
    char *home;
    char *profile; /* of AppArmor, "" none */
    char *label;   /* of SELinux, "" none */
    char *filter;  /* name of its seccomp program (runtime/seccomp.h), "" none */
};

struct container {
    char id[ID_SIZE];
    struct container_config *config; /* a reference of its own */
    struct pod *pod;                 /* a reference of its own */
    char *key;
    char *cgroup;   /* "/kubepods/…/ID" */
    char *log_path; /* absolute, "" */
    uint64_t sequence;
    int64_t created_ns;
    struct credentials credentials;
    char *mount_label; /* of SELinux: what its files get while it is made; "" none */

    int references;              /* [lock] */
    enum container_phase phase;  /* [lock] moved by container_move only */
    bool starting;               /* [lock] its start is under way: an end that is reported meanwhile waits for it, so that it ran before it ended */
    struct operation *operation; /* [lock] while MAKING */
    struct turn turn;            /* [lock] */
    struct waiters waiters;      /* [lock] woken at every move and when stop_deadline_ns comes nearer */
    pid_t pid;                   /* [lock] 0: none */
    int64_t started_ns, finished_ns;                           /* [lock] wall clock */
    int exit_code;                                             /* [lock] */
    bool exited;                                               /* [lock] its exit was reported: also before its CREATED was recorded */
    char *reason, *message;                                    /* [lock] */
    struct resources resources;                                /* [lock] in force */
    int64_t stop_deadline_ns;                                  /* [lock] monotonic; the earliest end of grace asked for; INT64_MAX: nobody stops it */
    bool signalled;                                            /* [lock] the stop signal was sent */
    uint64_t execs;                                            /* [lock] counter for names of exec cgroups */
    struct stats_sample last_sample;                           /* [lock] */
    int64_t writable_bytes, writable_inodes, writable_time_ns; /* [lock] as last walked */
    UT_hash_handle by_id, by_key;
};

struct runtime {
    struct runtime_options options; /* strings owned */
    char *rootfs_dir;               /* state/rootfs: where every container mounts its root, in its own mount namespace */
    char *skeleton_dir;             /* root/skeleton: the lowest layer of every container, with the mount points that images lack */
    char *empty_dir;                /* root/empty: the lowest layer of every image that is mounted in a container */
    char *netns_dir;                /* state/netns */
    char *etc_dir;                  /* root/etc: a directory a pod with its files for /etc */
    char boot_id[37];
    int root_dir, pods_dir, containers_dir, trash_dir, monitors_dir;
    uint64_t bounding; /* capabilities that can be given at all */
    struct cgroups cgroups;
    char *monitor_cgroup;
    struct systemd *systemd; /* of cgroup driver systemd, else NULL */
    char *not_ready;         /* NULL, or why this node cannot run pods */
    char *no_userns;         /* NULL, or why pods cannot have user namespaces */
    struct hub *hub;
    struct network *network;
    struct janitor *janitor; /* swift jobs: flushes, cgroups */
    struct janitor *sweeper; /* slow ones: deleting trees */
    struct meter *meter;
    struct seccomp_store *seccomp;
    pthread_mutex_t parents_lock; /* held while parents of cgroups are made or removed; taken before `lock` */

    pthread_mutex_t lock;
    uint64_t sequence;                                      /* [lock] the last one given */
    int64_t last_stamp_ns;                                  /* [lock] time of the last change or snapshot */
    struct pod *pods_by_id, *pods_by_key;                   /* [lock] */
    struct container *containers_by_id, *containers_by_key; /* [lock] */
    struct strv set_aside;                                  /* [lock] records set aside: "pods/ID: why" */
    int threads;                                            /* [lock] detached threads at work */
    int meetings;                                           /* [lock] monitors not met yet */
    int undoings;                                           /* [lock] pods found unfinished and not undone yet */
    struct waiters waiters;                                 /* [lock] woken when one of the three falls */
    size_t fail_pod_step, fail_container_step;              /* for fault tests: the step (from 1) that fails; 0: none */
};

static inline void
unlockp(pthread_mutex_t **lock)
{
    if (*lock)
        (void)pthread_mutex_unlock(*lock);
}

static inline pthread_mutex_t *
locked(pthread_mutex_t *lock)
{
    (void)pthread_mutex_lock(lock);
    return lock;
}
/* Held to the end of the block. */
#define HOLD(mutex) cleanup(unlockp) __attribute__((unused)) pthread_mutex_t *hold_ = locked(mutex)

/* ---- looking up; with the lock held ---- */
/* By id or unique prefix, a new reference; MAKING ones are not found. NULL with ERR_NOT_FOUND or ERR_INVALID. */
struct pod *pod_find(struct runtime *rt, const char *id, struct error *err);
struct container *container_find(struct runtime *rt, const char *id, struct error *err);
/* The same, taking the lock by themselves. */
struct pod *pod_get(struct runtime *rt, const char *id, struct error *err);
struct container *container_get(struct runtime *rt, const char *id, struct error *err);
/* For what is done when it is gone: 1 with *out, 0 where there is none, -1 for what is no id of one. */
int container_get_if_there(struct runtime *rt, const char *id, struct container **out, struct error *err);
/* All containers of a pod, each with a reference: array of *count for containers_put. */
struct container **pod_containers(struct runtime *rt, const struct pod *pod, size_t *count);
void containers_put(struct runtime *rt, struct container **list, size_t count);

struct pod *pod_reference(struct pod *pod);                         /* with the lock held */
struct container *container_reference(struct container *container); /* with the lock held */
void pod_unref(struct pod *pod);                                    /* with the lock held */
void container_unref(struct container *container);                  /* with the lock held */
void pod_put(struct runtime *rt, struct pod *pod);                  /* takes the lock */
void container_put(struct runtime *rt, struct container *container);

/* Into and out of the tables, with the lock held; the table's reference is made and dropped. */
void pod_list_in(struct runtime *rt, struct pod *pod);
void pod_list_out(struct runtime *rt, struct pod *pod);
void container_list_in(struct runtime *rt, struct container *container);
void container_list_out(struct runtime *rt, struct container *container);

/* A pod's link for one call: NULL with ERR_UNAVAILABLE (no monitor) or ERR_PRECONDITION (it is being stopped). Takes the lock. */
struct link *pod_take_link(struct runtime *rt, struct pod *pod, struct error *err);
void pod_release_link(struct runtime *rt, struct pod *pod);

/* "pod web-0 (3f9c0a1b2c3d)", "container nginx (…)": puts the object in front of err's sentence. Always -1. */
int pod_error(const struct pod *pod, struct error *err);
int container_error(const struct container *container, struct error *err);

/* The only place where a container's phase changes, with the lock held: checks the move, wakes who waits, tells of the change. False where the table
 * does not have it (then nothing is changed: an exit was reported before, say). */
bool container_move(struct runtime *rt, struct container *container, enum container_phase to);

/* What callers see of it; with the lock held. */
void pod_fill_status(const struct runtime *rt, const struct pod *pod, struct pod_status *out);
void container_fill_status(const struct container *container, struct container_status *out);

/* What holds for pods of that handler: its own values where it has them. A name that is not configured (any more) is as the default one. */
struct runtime_handler runtime_handler_named(const struct runtime *rt, const char *name);

/* References to configurations (pod_config_new makes the first). Any thread. */
struct pod_config *pod_config_share(const struct pod_config *config);
struct container_config *container_config_share(const struct container_config *config);

/* Run `work(arg)` in a detached thread that runtime_close waits for. Where no thread can be made it runs here. */
void runtime_spawn(struct runtime *rt, void (*work)(void *arg), void *arg);
