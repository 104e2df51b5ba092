/* The files of a pod that its containers see in /etc: hosts, hostname, resolv.conf. Written once, bound read-write into each container. They are in
 * the state directory, since after a reboot no container is left to see them. */
#pragma once

#include "base/error.h"
#include "runtime/runtime.h"

/* Make `etc_dir`/`id`; `hostname` is what the pod is called; `ips` its addresses (empty with the host's network). On failure nothing is left. */
int etc_files_make(const char *etc_dir, const char *id, const struct pod_config *config, const char *hostname, const struct strv *ips,
                   struct error *err);
void etc_files_remove(const char *etc_dir, const char *id);
