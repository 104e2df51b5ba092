/* All pods and containers at one moment, and how the user names one of them: by its id, the unique beginning of its id, or its name. */
#pragma once

#include <stdbool.h>

#include "api.pb-c.h"
#include "ctl/client.h"

struct listing {
    Runtime__V1__ListPodSandboxResponse *pods;
    Runtime__V1__ListContainersResponse *containers;
};

/* What a name stands for; points into the listing. */
struct target {
    const Runtime__V1__PodSandbox *pod;      /* the container's pod, or the pod named; NULL if the container's is gone */
    const Runtime__V1__Container *container; /* NULL: a pod was named */
};

int listing_get(struct client *client, struct listing *listing, struct error *err);
void listing_free(struct listing *listing);
#define cleanup_listing cleanup(listing_free)

const Runtime__V1__PodSandbox *listing_pod(const struct listing *listing, const char *id);

/* An id goes before a container's name, that before a pod's name, that before the beginning of an id. Fails with ERR_NOT_FOUND, or ERR_INVALID where
 * it fits more than one. */
int listing_find(const struct listing *listing, const char *name, struct target *target, struct error *err);
/* The same among containers only. */
int listing_find_container(const struct listing *listing, const char *name, struct target *target, struct error *err);

/* Whether `crispctl run` made it: then the container and its pod come and go together. */
bool listing_made_by_run(const Runtime__V1__PodSandbox *pod);
#define RUN_LABEL "io.crisp.run"
