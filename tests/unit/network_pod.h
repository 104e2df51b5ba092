/* A pod as the tests of networks have it: an id, a directory for its record, a namespace. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "netns_world.h"
#include "runtime/network/network.h"

struct test_pod {
    char id[ID_SIZE];
    char netns[64];
    char dir[160];
    int record_dir;
    struct network_request request;
    struct network_result result;
};

/* `digit` names the directory; `netns` is a namespace of the world, or NULL. */
static inline void
test_pod_make(struct test_pod *pod, char digit, const char *netns)
{
    *pod = (struct test_pod){0};
    id_make(pod->id);
    if (netns)
        (void)snprintf(pod->netns, sizeof pod->netns, "/run/netns/%s", netns);
    (void)snprintf(pod->dir, sizeof pod->dir, "%s/pod-%c", world_dir(), digit);
    (void)mkdir(pod->dir, 0700);
    pod->record_dir = open(pod->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pod->request = (struct network_request){
        .pod_id = pod->id,
        .pod_name = "web-0",
        .pod_namespace = "shop",
        .pod_uid = "uid-7",
        .netns_path = pod->netns,
        .record_dir = pod->record_dir,
        .mac = "",
        .ip = "",
    };
}

static inline void
test_pod_end(struct test_pod *pod)
{
    network_result_free(&pod->result);
    (void)close(pod->record_dir);
}
