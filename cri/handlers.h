/* The handlers of the rpcs, by the file that holds them. Each answers the rpc whose name it ends in; what that must do says proto/api.proto or
 * admin.proto.
 */
#pragma once

#include "cri/rpc.h"

/* status.c */
rpc_handler status_version, status_status, status_runtime_config, status_update_runtime_config;

/* pods.c */
rpc_handler pods_run, pods_stop, pods_remove, pods_status, pods_list, pods_update_resources;

/* containers.c */
rpc_handler containers_create, containers_start, containers_stop, containers_remove, containers_update_resources, containers_reopen_log;

/* container_status.c */
rpc_handler containers_status, containers_list;

/* events.c */
rpc_handler events_get;

/* exec.c */
rpc_handler exec_sync;

/* streaming.c */
rpc_handler streaming_exec, streaming_attach, streaming_port_forward;

/* stats.c */
rpc_handler stats_container, stats_list_containers, stats_pod, stats_list_pods;

/* metrics.c */
rpc_handler metrics_descriptors, metrics_list;

/* store.c */
rpc_handler store_check_images, store_collect_garbage;

/* admin.c */
rpc_handler admin_tag_image, admin_explain_pull, admin_import_images, admin_export_images;

/* images.c */
struct strv;
/* PullImage's work, without its answer; the caller frees the id. `account`: images_pull_explained's, or NULL. */
char *images_rpc_pull_for(struct call *call, const void *pull_image_request, struct strv *account, struct error *err);
rpc_handler images_rpc_list, images_rpc_status, images_rpc_pull, images_rpc_remove, images_rpc_fs_info;
