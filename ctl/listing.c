#include "ctl/listing.h"

#include "base/str.h"

enum rank { RANK_ID, RANK_CONTAINER_NAME, RANK_POD_NAME, RANK_PREFIX, RANKS };

int
listing_get(struct client *client, struct listing *listing, struct error *err)
{
    const Runtime__V1__ListPodSandboxRequest pods = RUNTIME__V1__LIST_POD_SANDBOX_REQUEST__INIT;
    const Runtime__V1__ListContainersRequest containers = RUNTIME__V1__LIST_CONTAINERS_REQUEST__INIT;
    listing->pods = TRY_PTR(client_call(client, "ListPodSandbox", &pods.base, CALL_SECONDS, err));
    listing->containers = TRY_PTR(client_call(client, "ListContainers", &containers.base, CALL_SECONDS, err));
    return 0;
}

void
listing_free(struct listing *listing)
{
    message_freep(&listing->pods);
    message_freep(&listing->containers);
    *listing = (struct listing){0};
}

const Runtime__V1__PodSandbox *
listing_pod(const struct listing *listing, const char *id)
{
    for (size_t i = 0; i < listing->pods->n_items; i++) {
        if (str_eq(listing->pods->items[i]->id, id))
            return listing->pods->items[i];
    }
    return NULL;
}

static bool
container_fits(const Runtime__V1__Container *container, const char *name, enum rank rank)
{
    switch (rank) {
    case RANK_ID:
        return str_eq(container->id, name);
    case RANK_CONTAINER_NAME:
        return container->metadata && str_eq(container->metadata->name, name);
    case RANK_PREFIX:
        return str_starts(container->id, name);
    default:
        return false;
    }
}

static bool
pod_fits(const Runtime__V1__PodSandbox *pod, const char *name, enum rank rank)
{
    switch (rank) {
    case RANK_ID:
        return str_eq(pod->id, name);
    case RANK_POD_NAME:
        return pod->metadata && str_eq(pod->metadata->name, name);
    case RANK_PREFIX:
        return str_starts(pod->id, name);
    default:
        return false;
    }
}

/* How many fit in this rank; the last of them is left in target. */
static size_t
count_fitting(const struct listing *listing, const char *name, enum rank rank, bool pods_too, struct target *target)
{
    size_t count = 0;
    for (size_t i = 0; i < listing->containers->n_containers; i++) {
        const Runtime__V1__Container *container = listing->containers->containers[i];
        if (container_fits(container, name, rank)) {
            *target = (struct target){listing_pod(listing, container->pod_sandbox_id), container};
            count++;
        }
    }
    for (size_t i = 0; pods_too && i < listing->pods->n_items; i++) {
        if (pod_fits(listing->pods->items[i], name, rank)) {
            *target = (struct target){listing->pods->items[i], NULL};
            count++;
        }
    }
    return count;
}

static int
find(const struct listing *listing, const char *name, bool pods_too, struct target *target, struct error *err)
{
    for (enum rank rank = RANK_ID; !str_empty(name) && rank < RANKS; rank++) {
        size_t count = count_fitting(listing, name, rank, pods_too, target);
        if (count > 1)
            return error_set(err, ERR_INVALID, "“%s” fits %zu of them, use an id", name, count);
        if (count == 1)
            return 0;
    }
    return error_set(err, ERR_NOT_FOUND, "there is no container %s“%s”", pods_too ? "or pod " : "", name);
}

int
listing_find(const struct listing *listing, const char *name, struct target *target, struct error *err)
{
    return find(listing, name, true, target, err);
}

int
listing_find_container(const struct listing *listing, const char *name, struct target *target, struct error *err)
{
    return find(listing, name, false, target, err);
}

bool
listing_made_by_run(const Runtime__V1__PodSandbox *pod)
{
    for (size_t i = 0; pod && i < pod->n_labels; i++) {
        if (str_eq(pod->labels[i]->key, RUN_LABEL))
            return true;
    }
    return false;
}
