/* The making of a pod as a table of steps, each with its undo; and what a pod's end takes back. */
#pragma once

#include "runtime/objects.h"

/* Carry out all steps for a pod in phase MAKING, naming each as the operation's stage. When step n fails n-1 … 0 are undone: nothing is left. In the
 * end the pod is READY and recorded. */
int pod_make(struct runtime *rt, struct pod *pod, struct error *err);
/* How many steps there are: runtime.fail_pod_step (1 … this) makes that step fail after it was done, for fault tests. */
size_t pod_step_count(void);

/* "state/netns/ID"; caller frees. "" with the host's network. */
char *pod_netns_path(const struct runtime *rt, const struct pod *pod);
/* Unmount and remove the pod's netns bind; what is gone is fine. */
void pod_netns_release(const struct runtime *rt, const char *pod_id);
/* Give the network back (CNI DEL); nothing attached is fine. */
int pod_network_detach(struct runtime *rt, struct pod *pod, struct error *err);
/* What a monitor that is gone leaves: its own cgroup and, where it was killed, its socket. */
void pod_monitor_clear(struct runtime *rt, const char *pod_id);
/* Kill whatever is in the monitor's own cgroup: for a monitor whose pid is not known (its pod was never finished) or that does not answer. */
void pod_monitor_kill(struct runtime *rt, const char *pod_id);
/* A request's cgroup_parent, else that of the handler, as a path of the cgroup file system. ERR_INVALID. Caller frees. */
char *pod_cgroup_parent(const struct runtime *rt, const char *asked, const char *handler, struct error *err);
/* The cgroup its containers are made in: the request's cgroup_parent, else one of the pod's own below its handler's. ERR_INVALID. Caller frees. */
char *pod_cgroup_path(const struct runtime *rt, const struct pod_config *config, const char *id, struct error *err);
/* Set what the pod as a whole may use, where the cgroup is its own. */
int pod_cgroup_limit(struct runtime *rt, const struct pod *pod, const struct resources *overhead, const struct resources *resources,
                     struct error *err);
/* That of a container in it. Caller frees. */
char *pod_container_cgroup(const struct runtime *rt, const struct pod *pod, const char *container_id);
/* Whether a listed pod has, or will have, its containers in `parent` or below. */
bool pod_cgroup_parent_in_use(struct runtime *rt, const char *parent);
/* Parents of its containers' cgroups, where crisp made them and no other pod has its containers there. */
void pod_cgroup_parent_release(struct runtime *rt, const char *parent);
int pod_cgroup_parent_claim(struct runtime *rt, const char *parent, struct error *err);
