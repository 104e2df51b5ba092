/* The calls on pods and containers that more than one command makes. */
#pragma once

#include "api.pb-c.h"
#include "ctl/client.h"
#include "ctl/listing.h"

enum { GRACE_SECONDS = 10 }; /* between the stop signal and SIGKILL, where the user names no other */

/* Its status is never NULL; the caller frees the answer. */
Runtime__V1__ContainerStatusResponse *container_status(struct client *client, const char *id, struct error *err);

int container_stop(struct client *client, const char *id, int64_t grace_seconds, struct error *err);
int container_remove(struct client *client, const char *id, struct error *err);

/* Stop also kills what still runs in it; remove also removes its containers. */
int pod_stop(struct client *client, const char *id, struct error *err);
int pod_remove(struct client *client, const char *id, struct error *err);

/* `crispctl run` keeps the logs of a pod in a directory of its own, by the pod's uid. The path is the caller's to free. */
char *run_log_directory(const char *uid);
/* What `crispctl run` made and nobody else would take away: the pod with its container (NULL: there is none), and its logs. */
int run_remove(struct client *client, const char *pod_id, const char *uid, struct error *err);
