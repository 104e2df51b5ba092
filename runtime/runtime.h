/* The runtime: pods and containers on this node, as crispd knows them.
 *
 *   pod:        (absent) ──pod_run──▶ READY ──pod_stop──▶ NOTREADY ──pod_remove──▶ (absent)
 *                                       └──its monitor dies, or the machine reboots──▶ NOTREADY
 *   container:  (absent) ──container_create──▶ CREATED ──container_start──▶ RUNNING ──it ends──▶ EXITED ──container_remove──▶ (absent)
 *
 * All state is in memory and on disk (records.h); status and lists are answered from memory and never wait for a pod. A mutex guards the tables
 * and is never held while anything is waited for; what changes one pod or container takes turns on that object only. Knows neither gRPC nor CRI's
 * messages nor images: cri/ translates into the structs below.
 *
 * pod_run and container_create go on to their end in a thread of their own when the caller leaves; a retry with the same key and the same `request`
 * joins the running call or gets the finished one's id; another request gets ERR_EXISTS. A caller whose deadline passes gets ERR_DEADLINE with the
 * stage the call is in and since when.
 *
 * Ids given by callers may be unique prefixes. Errors: ERR_NOT_FOUND (unknown id), ERR_INVALID (ambiguous prefix, bad input), ERR_PRECONDITION (wrong
 * state), and what the step that failed says. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/id.h"
#include "base/str.h"
#include "runtime/network/network.h"
#include "runtime/usage.h"

struct runtime;
struct change;

/* A way to run pods that a pod can name (RuntimeClass). */
struct runtime_handler {
    char *name;
    char *cgroup_parent, *seccomp_unset;  /* "" : the options' own */
    int64_t pids_limit;                   /* -1: the options' own */
    bool privileged_without_host_devices; /* a privileged container has the usual devices and those it asks for */
};

/* ---- what the operator configured; copied by runtime_open ---- */
struct runtime_options {
    const char *root;                         /* /var/lib/crisp */
    const char *state;                        /* /run/crisp */
    const char *monitor_program;              /* path of crisp-monitor */
    const char *layers_dir;                   /* where image layers are (lowerdirs are names relative to it) */
    bool systemd_cgroups;                     /* cgroup driver systemd: parents are slices */
    const char *cgroup_parent;                /* for pods whose request names none; "": "/crisp", a slice "crisp.slice" */
    const char *monitor_cgroup;               /* parent of the monitors' cgroups: "/crisp-monitors" */
    int64_t nofile_soft, nofile_hard;         /* rlimit of containers, clamped to what is allowed */
    int64_t log_bytes_per_second;             /* 0: no limit */
    size_t log_buffer_bytes;                  /* 0: a container waits for its log; else what it may run ahead before output is lost */
    int64_t pids_limit;                       /* of a container; 0: none */
    const char *seccomp_unset;                /* profile of containers whose request names none: "unconfined", "runtime/default", "localhost/PATH" */
    struct strv cdi_dirs;                     /* where CDI files are; the last holds */
    struct strv masked_paths, readonly_paths; /* of containers whose request names neither [Kubernetes: procMount Default] */
    bool unprivileged_ports, unprivileged_ping; /* ports from 0 and ping allowed to all in pods with a network of their own */
    const struct runtime_handler *handlers;     /* besides the default one, which these options are; borrowed */
    size_t handler_count;
    struct network_options network;
    void *arg;
    /* Layers a container runs on are held as long as it exists (imageservice), under its id. */
    int (*hold_layers)(void *arg, const struct strv *layers, const char *container_id, struct error *err);
    void (*release_layers)(void *arg, const char *container_id);
    /* Pods and containers came, started, stopped, went: each change, in order; NULL: nobody wants to know. Takes `change` (change_free). Called with
     * the runtime's lock held: it neither waits nor calls the runtime. */
    void *changed_arg;
    void (*changed)(void *arg, struct change *change);
};

/* ---- pods ---- */
enum namespace_mode { NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE, NAMESPACE_TARGET };

/* `length` ids from container_id inside are those from host_id outside. */
struct id_mapping {
    uint32_t host_id, container_id, length;
};

struct id_maps {
    struct id_mapping *uids, *gids;
    size_t uid_count, gid_count; /* 0: none */
};

struct pod_key {
    char *name, *uid, *namespace;
    uint32_t attempt;
};

enum { CPUSET_TEXT_MAX = 4095 /* bytes: the kernel takes a page at once */ };

/* cgroup limits: 0 or empty means "not given". */
struct resources {
    int64_t cpu_period, cpu_quota, cpu_shares;
    int64_t memory_limit_bytes, memory_swap_limit_bytes;
    int64_t oom_score_adj;
    char *cpuset_cpus, *cpuset_mems;
    struct hugepage_limit {
        char *page_size;
        uint64_t limit_bytes;
    } * hugepages;
    size_t hugepage_count;
    struct strmap unified;
};

/* Parts of an SELinux label; "" where not given. */
struct selinux_options {
    char *user, *role, *type, *level;
};

/* A pod's configuration: immutable after pod_run took it; shared by reference. */
struct pod_config {
    struct pod_key key;
    char *hostname;
    char *log_directory; /* absolute, or "" */
    struct strv dns_servers, dns_searches, dns_options;
    struct network_port *ports; /* host_ip owned */
    size_t port_count;
    struct strmap labels, annotations;
    char *runtime_handler;                /* "" : the default one */
    char *cgroup_parent;                  /* "" : the pod has a cgroup of its own below its handler's */
    struct resources overhead, resources; /* what the pod as a whole may use: what it costs itself, the sum of its containers */
    struct strmap sysctls;
    enum namespace_mode network, pid, ipc;
    struct id_maps userns;             /* none: the node's user namespace */
    char *mac, *ip;                    /* asked for; "": any */
    int64_t ingress_bits, egress_bits; /* bits a second the network shall let through; 0: no limit */
    bool privileged;
    struct selinux_options selinux;
    char *selinux_level; /* of its containers whose request names none: chosen by pod_run, unless `selinux` has it */
    void *request;       /* the request, in a canonical form that equals another's exactly when they ask the same */
    size_t request_length;
};

enum pod_state { POD_READY, POD_NOTREADY };

/* A pod as it was when it was asked for. `config` is shared, read-only, valid until pod_status_free. */
struct pod_status {
    char id[ID_SIZE];
    const struct pod_config *config;
    enum pod_state state;
    int64_t created_ns;
    struct strv ips;
    char *netns_path;  /* "" with the host's network */
    pid_t monitor_pid; /* 0 when there is none */
    char *reason;      /* why it is NOTREADY where that was not asked for ("MonitorLost"), else "" */
};

/* ---- containers ---- */
enum mount_propagation { PROPAGATION_PRIVATE, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_BIDIRECTIONAL };

struct mount_request {
    char *container_path;
    char *host_path;          /* made, with its parents, where it is missing */
    char *image;              /* in its place an image, as the user named it; "" none */
    struct strv image_layers; /* of that image, as container_config.layers */
    char *image_sub_path;     /* what of it is mounted, relative; "": all */
    bool readonly, recursive_read_only;
    bool nosuid, nodev, noexec;
    bool selinux_relabel;
    enum mount_propagation propagation;
    struct id_maps maps; /* of the files' owners: outside, as they are on the disk, and inside; none: as they are */
};

/* Add an option of a bind mount: "noexec", "nosuid", "nodev", "ro" …; ERR_UNSUPPORTED where it is none that crisp knows, or NULL. */
int mount_option(struct mount_request *mount, const char *option, struct error *err);

struct device_request {
    char *container_path, *host_path, *permissions;
    char *type; /* "" : what host_path is, and the rest means nothing; "b", "c": as follows */
    int64_t major, minor, mode, uid, gid;
};

enum { NO_ID = -1 };

/* A container's configuration, image and request already merged; immutable after container_create took it. */
struct container_config {
    char *pod_id;
    char *name;
    uint32_t attempt;
    char *image_id;      /* "sha256:…" */
    char *image_name;    /* as the user asked for it */
    struct strv layers;  /* names below layers_dir, the lowest first */
    struct strv args;    /* never empty */
    struct strv env;     /* "K=V"; HOSTNAME, HOME, PATH, TERM are set by the runtime where missing */
    char *working_dir;   /* "" : / */
    struct strv volumes; /* directories the image promises (OCI image spec, "Volumes"): made in the writable layer where missing */
    struct strmap labels, annotations, image_annotations; /* the last of the ImageSpec */
    char *log_path;                                       /* relative to the pod's log_directory; "" : no log */
    bool stdin_open, stdin_once, tty;
    char *user;           /* "uid", "name", "uid:gid", "name:group"; "" : root. Names are looked up in the layers' /etc/passwd and /etc/group */
    int64_t run_as_group; /* NO_ID: from the user */
    struct strv supplemental_groups; /* decimal */
    bool strict_groups;              /* those only, not the image's as well [CRI SupplementalGroupsPolicy] */
    bool privileged, readonly_rootfs, no_new_privs;
    struct selinux_options selinux; /* none given: the pod's */
    char *apparmor;                 /* "unconfined", "runtime/default", "localhost/NAME"; "" : the default where AppArmor is in charge */
    char *seccomp;                  /* "unconfined", "runtime/default", "localhost/PATH"; "" : runtime_options.seccomp_unset */
    struct strv add_capabilities, drop_capabilities, add_ambient_capabilities; /* "CAP_NET_ADMIN", "NET_ADMIN", "ALL" */
    struct strv masked_paths, readonly_paths;
    enum namespace_mode pid;
    char *target_id; /* NAMESPACE_TARGET: whose pid namespace */
    struct mount_request *mounts;
    size_t mount_count;
    struct strv cdi_devices; /* "VENDOR/CLASS=NAME"; what they mean is added to this configuration */
    struct device_request *devices;
    size_t device_count;
    char *stop_signal; /* "SIGTERM", "15"; "" : SIGTERM */
    struct resources resources;
    void *request;
    size_t request_length;
};

enum container_state { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED, CONTAINER_UNKNOWN };

struct container_status {
    char id[ID_SIZE];
    const struct container_config *config; /* shared, read-only */
    enum container_state state;
    int64_t created_ns, started_ns, finished_ns; /* 0: not yet */
    int exit_code;
    char *reason;               /* "Completed", "Error", "OOMKilled", "MonitorLost", "StartError", … ; "" while it lives */
    char *message;              /* for people; "" when there is nothing to say */
    pid_t pid;                  /* 0 unless created or running */
    char *log_path;             /* absolute; "" */
    struct resources resources; /* in force: as requested, then as updated */
    int64_t uid, gid;           /* the effective user of its init */
    struct strv groups;         /* and its supplemental groups, decimal */
};

/* A pod with its containers, all read at one moment. */
struct pod_snapshot {
    int64_t time_ns; /* wall clock, but later than that of any snapshot or change before */
    struct pod_status pod;
    struct container_status *containers; /* newest first: with EventedPLEG a kubelet takes the first of a name for the last that was started */
    size_t container_count;
};

enum change_kind { CHANGE_CREATED, CHANGE_STARTED, CHANGE_STOPPED, CHANGE_DELETED };

/* What happened to a container, or to a pod: a pod is created and started at once. A container is STOPPED only after it was STARTED, unless it never
 * ran. */
struct change {
    enum change_kind kind;
    char id[ID_SIZE];
    struct pod_snapshot after; /* of what was deleted the pod is still there, the container is not */
};
void change_free(struct change *change);

/* ---- life of the runtime ---- */

/* Open the state: make directories, take in every record (a torn, damaged or duplicate one is set aside and logged: recovery is never fatal), meet
 * the monitors in parallel, each with a deadline. Returns as soon as the records are read; monitors not met yet are met in the background, their pods
 * are listed as recorded meanwhile. */
int runtime_open(const struct runtime_options *options, struct runtime **out, struct error *err);
/* Drop everything in memory; pods and monitors go on. Calls under way must have ended or been cancelled. */
void runtime_close(struct runtime *rt);
/* Wait until every monitor recorded was met or given up. */
void runtime_recovered(struct runtime *rt, const struct cancel *cancel);
struct network *runtime_network(struct runtime *rt);
/* "" or what stops this node from running pods (overlayfs missing, …), for Status' RuntimeReady. */
void runtime_ready(struct runtime *rt, char reason[256]);
/* Whether pods may have user namespaces here, with their root file systems idmapped. */
bool runtime_has_userns(const struct runtime *rt);
/* What this kernel and host offer, and the state of recovery (records set aside), as JSON for verbose Status; caller frees. */
char *runtime_info_json(struct runtime *rt);

/* ---- pods; the runtime takes ownership of `config` in every case ---- */
int pod_run(struct runtime *rt, struct pod_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err);
/* Stops its containers (SIGKILL), gives network and namespaces back. Unknown or stopped: OK. [CRI StopPodSandbox] */
int pod_stop(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err);
/* Removes it with its containers, stopping what runs. Unknown: OK. [CRI RemovePodSandbox] */
int pod_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err);
int pod_status(struct runtime *rt, const char *id, struct pod_status *out, struct error *err);
int pod_snapshot(struct runtime *rt, const char *id, struct pod_snapshot *out, struct error *err);
void pod_snapshot_free(struct pod_snapshot *snapshot);
/* All pods, newest first; for pod_list_free. */
struct pod_status *pod_list(struct runtime *rt, size_t *count);
void pod_status_free(struct pod_status *status);
void pod_list_free(struct pod_status *list, size_t count);
/* What the pod as a whole may use, overhead apart, is now this: recorded and shown in pod_info_json, and set where the pod's cgroup is crisp's; that
 * of a cgroup_parent is set by who made it [CRI UpdatePodSandboxResources]. NULL: as before. ERR_PRECONDITION unless it is ready. */
int pod_update(struct runtime *rt, const char *id, const struct resources *overhead, const struct resources *resources, struct error *err);
/* Verbose info, as JSON: pid, netns path, configuration, monitor, cgroups; caller frees. */
char *pod_info_json(struct runtime *rt, const char *id, struct error *err);
struct pod_config *pod_config_new(void);
void pod_config_free(struct pod_config *config); /* only for one that pod_run did not take */

/* ---- containers ---- */
int container_create(struct runtime *rt, struct container_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err);
int container_start(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err);
/* The stop signal, then after `grace_ns` SIGKILL to the whole container; returns when it is gone. Several callers: the earliest end of grace counts.
 * Unknown or exited: OK. */
int container_stop(struct runtime *rt, const char *id, int64_t grace_ns, const struct cancel *cancel, struct error *err);
/* Removes it, killing it first where it runs. Unknown: OK. */
int container_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err);
int container_status(struct runtime *rt, const char *id, struct container_status *out, struct error *err);
struct container_status *container_list(struct runtime *rt, size_t *count); /* newest first */
void container_status_free(struct container_status *status);
void container_list_free(struct container_status *list, size_t count);
char *container_info_json(struct runtime *rt, const char *id, struct error *err);
int container_update(struct runtime *rt, const char *id, const struct resources *resources, struct error *err);
int container_reopen_log(struct runtime *rt, const char *id, struct error *err);
struct container_config *container_config_new(void);
void container_config_free(struct container_config *config);
void resources_copy(struct resources *to, const struct resources *from);
void resources_free(struct resources *resources);

enum {
    EXEC_OUTPUT_MAX = 8 << 20
}; /* stdout and stderr together, so that the answer stays below gRPC's 16 MiB; what is beyond is read and discarded */

struct exec_result {
    int exit_code;
    char *out, *err; /* bytes; not NUL-terminated text */
    size_t out_length, err_length;
};
/* Run a command in a running container. When timeout_ns (0: none) or the patience ends, its whole tree is killed: ERR_DEADLINE. After its end
 * a child that still holds stdout is waited for no longer than a short, fixed drain. [CRI ExecSync] */
int container_exec(struct runtime *rt, const char *id, const struct strv *command, int64_t timeout_ns, const struct cancel *cancel,
                   struct exec_result *result, struct error *err);
void exec_result_free(struct exec_result *result);

/* A client's streams on their way to a process: pipes' ends for its stdin, stdout and stderr; -1: not wanted. */
struct stream_fds {
    int stdio[3];
    int console; /* one end of a SOCK_SEQPACKET pair: where there is a terminal, its master comes on it with one byte (SCM_RIGHTS); -1 */
};

/* Run a command in a running container, with a terminal where `tty` (then stdio is not used), to its end: 0 with *status. `fds` are closed as soon as
 * the process has them, and in every other case, so that each stream ends when the process ends it. When the patience ends, the command's whole tree
 * is killed. [CRI Exec] */
int container_exec_stream(struct runtime *rt, const char *id, const struct strv *command, bool tty, struct stream_fds *fds,
                          const struct cancel *cancel, int *status, struct error *err);
/* Take part in the stdio of a running container; with a terminal, stdout has all output and the master is for its size only. Returns 0 when its
 * output has ended or the other ends are closed; a client that reads too slowly is detached with ERR_DEADLINE. `fds` as above. [CRI Attach] */
int container_attach(struct runtime *rt, const char *id, struct stream_fds *fds, struct error *err);
/* The network namespace of a ready pod (the node's own where the pod uses that); caller closes, soon: it lives as long as it is held. [CRI
 * PortForward] */
int pod_open_netns(struct runtime *rt, const char *id, struct error *err);

/* From the cgroups. The writable layer's figures are measured by a slow walk in the background, never in the caller's time. */
struct container_stats {
    char id[ID_SIZE];
    const struct container_config *config; /* shared, read-only */
    char *cgroup;
    pid_t pid;          /* 0: it does not run */
    int64_t started_ns; /* 0: not yet */
    struct usage usage;
    int64_t writable_bytes, writable_inodes, writable_time_ns;
};
int container_stats(struct runtime *rt, const char *id, struct container_stats *out, struct error *err);
void container_stats_free(struct container_stats *stats);
/* Ids of the containers that run, added to `ids`: those that may use anything. */
void container_running(struct runtime *rt, struct strv *ids);
/* What goes beyond: process by process, device by device. All nothing or UNKNOWN when it does not run. */
void container_details(struct runtime *rt, const struct container_stats *of, struct usage_details *out);

/* What a pod uses with all its containers: its own cgroup's figures, else, where it shares that with other pods, the sum of those of its containers.
 */
struct pod_stats {
    char id[ID_SIZE];
    const struct pod_config *config; /* shared, read-only */
    char *cgroup;                    /* its containers' parent */
    bool has_cgroup;                 /* which is its alone */
    struct usage usage;
    int64_t processes;
    struct interface_usage *interfaces; /* of a network namespace of its own */
    size_t interface_count;
    struct container_stats *containers; /* those that run */
    size_t container_count;
};
int pod_stats(struct runtime *rt, const char *id, struct pod_stats *out, struct error *err);
void pod_stats_free(struct pod_stats *stats);
/* Ids of the pods that are ready, added to `ids`. */
void pod_ready(struct runtime *rt, struct strv *ids);

/* The file system that writable layers are on. */
struct disk_stats {
    char device[DEVICE_NAME_SIZE];
    int64_t bytes, inodes, inodes_free;
};
void runtime_disk(struct runtime *rt, struct disk_stats *out);
/* What the containers' writable layers take, for ImageFsInfo's container_filesystems. */
void runtime_writable_usage(struct runtime *rt, uint64_t *bytes, uint64_t *inodes);
