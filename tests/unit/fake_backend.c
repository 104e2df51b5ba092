/* A runtime and an image service that hold nothing and wait where they are told to: for tests of the server itself. See fake_backend.h. */
#include "fake_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "imageservice/imageservice.h"
#include "runtime/runtime.h"

static int
nothing_there(const char *id, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "\"%s\" is not there", id);
}

struct network *
runtime_network(struct runtime *rt)
{
    (void)rt;
    return NULL;
}

void
runtime_ready(struct runtime *rt, char reason[256])
{
    (void)rt;
    reason[0] = '\0';
}

bool
runtime_has_userns(const struct runtime *rt)
{
    (void)rt;
    return false;
}

char *
runtime_info_json(struct runtime *rt)
{
    (void)rt;
    return str_dup("{}");
}

int
network_pod_cidr(struct network *network, const char *cidrs, struct error *err)
{
    (void)network;
    (void)cidrs;
    (void)err;
    return 0;
}

bool
network_bridge_name_valid(const char *name)
{
    (void)name;
    return true;
}

int
network_pools_check(const struct strv *pools, struct error *err)
{
    (void)pools;
    (void)err;
    return 0;
}

bool
network_ready(struct network *network, char reason[256])
{
    (void)network;
    strcpy(reason, "no network in this test");
    return false;
}

char *
network_info_json(struct network *network)
{
    (void)network;
    return str_dup("{}");
}

int
runtime_open(const struct runtime_options *options, struct runtime **out, struct error *err)
{
    (void)options;
    (void)err;
    *out = NULL;
    return 0;
}

void
runtime_close(struct runtime *rt)
{
    (void)rt;
}

int
pod_run(struct runtime *rt, struct pod_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    (void)rt;
    (void)cancel;
    (void)err;
    pod_config_free(config);
    id_make(id);
    return 0;
}

int
pod_stop(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    (void)rt;
    (void)id;
    (void)cancel;
    (void)err;
    return 0;
}

int
pod_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    return pod_stop(rt, id, cancel, err);
}

int
pod_status(struct runtime *rt, const char *id, struct pod_status *out, struct error *err)
{
    (void)rt;
    (void)out;
    return nothing_there(id, err);
}

int
pod_snapshot(struct runtime *rt, const char *id, struct pod_snapshot *out, struct error *err)
{
    (void)rt;
    (void)out;
    return nothing_there(id, err);
}

void
pod_snapshot_free(struct pod_snapshot *snapshot)
{
    pod_config_free((struct pod_config *)(uintptr_t)snapshot->pod.config);
}

void
change_free(struct change *change)
{
    pod_snapshot_free(&change->after);
    free(change);
}

struct pod_status *
pod_list(struct runtime *rt, size_t *count)
{
    (void)rt;
    struct pod_status *list = mem_zalloc(fake_pods, sizeof *list);
    char *large = mem_zalloc(1, fake_pod_bytes + 1);
    memset(large, 'x', fake_pod_bytes);
    for (size_t i = 0; i < fake_pods; i++) {
        struct pod_config *config = mem_zalloc(1, sizeof *config);
        (void)snprintf(list[i].id, sizeof list[i].id, "pod%zu", i);
        strmap_set(&config->annotations, "large", large);
        list[i].config = config;
    }
    free(large);
    *count = fake_pods;
    return list;
}

void
pod_status_free(struct pod_status *status)
{
    (void)status;
}

void
pod_list_free(struct pod_status *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pod_config_free((struct pod_config *)(uintptr_t)list[i].config);
    free(list);
}

int
pod_update(struct runtime *rt, const char *id, const struct resources *overhead, const struct resources *resources, struct error *err)
{
    (void)rt;
    (void)overhead;
    (void)resources;
    return nothing_there(id, err);
}

char *
pod_info_json(struct runtime *rt, const char *id, struct error *err)
{
    (void)rt;
    (void)nothing_there(id, err);
    return NULL;
}

struct pod_config *
pod_config_new(void)
{
    return mem_zalloc(1, sizeof(struct pod_config));
}

void
pod_config_free(struct pod_config *config)
{
    free(config->key.name);
    free(config->key.uid);
    free(config->key.namespace);
    free(config->hostname);
    free(config->log_directory);
    free(config->cgroup_parent);
    free(config->runtime_handler);
    free(config->ports);
    strmap_free(&config->labels);
    strmap_free(&config->annotations);
    free(config->request);
    free(config);
}

int
container_create(struct runtime *rt, struct container_config *config, char id[ID_SIZE], const struct cancel *cancel, struct error *err)
{
    (void)rt;
    (void)config;
    (void)id;
    (void)cancel;
    return error_set(err, ERR_UNSUPPORTED, "not in this test");
}

int
container_start(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    (void)rt;
    (void)cancel;
    return nothing_there(id, err);
}

/* Waits out the grace: a container that ignores its stop signal. */
int
container_stop(struct runtime *rt, const char *id, int64_t grace_ns, const struct cancel *cancel, struct error *err)
{
    (void)rt;
    (void)id;
    return cancel_wait(cancel, -1, grace_ns, "waiting for the container to exit", err);
}

int
container_remove(struct runtime *rt, const char *id, const struct cancel *cancel, struct error *err)
{
    return pod_stop(rt, id, cancel, err);
}

int
container_status(struct runtime *rt, const char *id, struct container_status *out, struct error *err)
{
    (void)rt;
    (void)out;
    return nothing_there(id, err);
}

struct container_status *
container_list(struct runtime *rt, size_t *count)
{
    (void)rt;
    *count = 0;
    return NULL;
}

void
container_status_free(struct container_status *status)
{
    (void)status;
}

void
container_list_free(struct container_status *list, size_t count)
{
    (void)list;
    (void)count;
}

char *
container_info_json(struct runtime *rt, const char *id, struct error *err)
{
    return pod_info_json(rt, id, err);
}

int
container_update(struct runtime *rt, const char *id, const struct resources *resources, struct error *err)
{
    (void)rt;
    (void)resources;
    return nothing_there(id, err);
}

int
container_reopen_log(struct runtime *rt, const char *id, struct error *err)
{
    (void)rt;
    return nothing_there(id, err);
}

struct container_config *
container_config_new(void)
{
    return mem_zalloc(1, sizeof(struct container_config));
}

void
container_config_free(struct container_config *config)
{
    free(config);
}

void
resources_free(struct resources *resources)
{
    free(resources->cpuset_cpus);
    free(resources->cpuset_mems);
    free(resources->hugepages);
    strmap_free(&resources->unified);
}

int
container_exec_stream(struct runtime *rt, const char *id, const struct strv *command, bool tty, struct stream_fds *fds, const struct cancel *cancel,
                      int *status, struct error *err)
{
    (void)rt;
    (void)command;
    (void)tty;
    (void)fds;
    (void)cancel;
    (void)status;
    return nothing_there(id, err);
}

int
container_attach(struct runtime *rt, const char *id, struct stream_fds *fds, struct error *err)
{
    (void)rt;
    (void)fds;
    return nothing_there(id, err);
}

int
pod_open_netns(struct runtime *rt, const char *id, struct error *err)
{
    (void)rt;
    return nothing_there(id, err);
}

int
container_exec(struct runtime *rt, const char *id, const struct strv *command, int64_t timeout_ns, const struct cancel *cancel,
               struct exec_result *result, struct error *err)
{
    (void)rt;
    (void)id;
    (void)command;
    (void)timeout_ns;
    (void)cancel;
    (void)err;
    *result = (struct exec_result){.exit_code = 0, .out = mem_zalloc(1, fake_exec_output_bytes), .out_length = fake_exec_output_bytes};
    return 0;
}

void
exec_result_free(struct exec_result *result)
{
    free(result->out);
    free(result->err);
}

int
container_stats(struct runtime *rt, const char *id, struct container_stats *out, struct error *err)
{
    (void)rt;
    (void)out;
    return nothing_there(id, err);
}

void
container_running(struct runtime *rt, struct strv *ids)
{
    (void)rt;
    (void)ids;
}

void
container_stats_free(struct container_stats *stats)
{
    (void)stats;
}

int
pod_stats(struct runtime *rt, const char *id, struct pod_stats *out, struct error *err)
{
    (void)rt;
    (void)out;
    return nothing_there(id, err);
}

void
pod_stats_free(struct pod_stats *stats)
{
    (void)stats;
}

void
pod_ready(struct runtime *rt, struct strv *ids)
{
    (void)rt;
    (void)ids;
}

void
container_details(struct runtime *rt, const struct container_stats *of, struct usage_details *out)
{
    (void)rt;
    (void)of;
    (void)out;
}

void
usage_details_free(struct usage_details *details)
{
    (void)details;
}

int64_t
usage_open_files_limit(pid_t pid)
{
    (void)pid;
    return UNKNOWN;
}

void
runtime_disk(struct runtime *rt, struct disk_stats *out)
{
    (void)rt;
    (void)out;
}

void
runtime_writable_usage(struct runtime *rt, uint64_t *bytes, uint64_t *inodes)
{
    (void)rt;
    *bytes = *inodes = 0;
}

int
images_open(const struct images_options *options, struct images **out, struct error *err)
{
    (void)options;
    (void)err;
    *out = NULL;
    return 0;
}

void
images_close(struct images *images)
{
    (void)images;
}

char *
images_pull_explained(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel, struct strv *account,
                      struct error *err)
{
    (void)account;
    (void)images;
    (void)auth;
    (void)cancel;
    (void)error_set(err, ERR_UNAVAILABLE, "%s: connection refused", reference);
    return NULL;
}

const struct image *
images_find(struct images *images, const char *reference, struct error *err)
{
    (void)images;
    (void)nothing_there(reference, err);
    return NULL;
}

char *
images_id(struct images *images, const char *reference, struct error *err)
{
    (void)images;
    (void)nothing_there(reference, err);
    return NULL;
}

void
image_release(const struct image *image)
{
    (void)image;
}

const struct image **
images_list(struct images *images, const char *reference, size_t *count)
{
    (void)images;
    (void)reference;
    *count = 0;
    return NULL;
}

void
images_list_free(const struct image **list, size_t count)
{
    (void)list;
    (void)count;
}

int
images_remove(struct images *images, const char *reference, struct error *err)
{
    (void)images;
    return nothing_there(reference, err);
}

char *
images_tag(struct images *images, const char *reference, const char *name, struct error *err)
{
    (void)images;
    (void)name;
    (void)error_set(err, ERR_NOT_FOUND, "image %s is not here", reference);
    return NULL;
}

int
images_import(struct images *images, const struct images_import *import, const struct cancel *cancel, struct strv *ids, struct error *err)
{
    (void)images;
    (void)import;
    (void)cancel;
    (void)ids;
    return error_set(err, ERR_NOT_FOUND, "there is no image");
}

int
images_check(struct images *images, const char *reference, bool mend, const struct cancel *cancel, images_found *found, void *arg,
             struct images_checked *checked, struct error *err)
{
    (void)images;
    (void)mend;
    (void)cancel;
    (void)found;
    (void)arg;
    (void)checked;
    return nothing_there(reference, err);
}

void
images_gc(struct images *images, bool dry_run, images_garbage_found *found, void *arg)
{
    (void)images;
    (void)dry_run;
    (void)found;
    (void)arg;
}

struct images_garbage
images_garbage(struct images *images)
{
    (void)images;
    return (struct images_garbage){0};
}

int
images_export(struct images *images, const struct strv *references, int archive, const struct cancel *cancel, struct strv *notes, struct error *err)
{
    (void)images;
    (void)references;
    (void)archive;
    (void)cancel;
    (void)notes;
    return error_set(err, ERR_NOT_FOUND, "there is no image");
}

int
images_hold(struct images *images, const struct strv *layers, const char *holder, struct error *err)
{
    (void)images;
    (void)layers;
    (void)holder;
    (void)err;
    return 0;
}

void
images_unhold(struct images *images, const char *holder)
{
    (void)images;
    (void)holder;
}

void
images_collect(struct images *images)
{
    (void)images;
}

const char *
images_layers_dir(const struct images *images)
{
    (void)images;
    return "/nowhere";
}

void
images_usage(struct images *images, uint64_t *bytes, uint64_t *inodes)
{
    (void)images;
    *bytes = *inodes = 0;
}
