/* crispd's configuration: one struct, filled from defaults, the configuration file and its drop-ins by one table (docs/configure.md is made from it).
 * Set before threads start, then only read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/error.h"
#include "base/str.h"

#define CONFIGURATION_FILE "/etc/crisp/config.toml"

struct configuration {
    char *root, *state, *socket, *log_level;
    char *monitor_program, *pull_program;
    struct {
        char *mode;
        char *cni_config_dir;
        struct strv cni_plugin_dirs;
        int64_t cni_timeout_seconds;
        char *bridge;
        struct strv pools;
        int64_t mtu;
        bool unprivileged_ports, unprivileged_ping;
    } network;
    struct {
        int64_t calls, nofile_soft, nofile_hard, pids, log_bytes_per_second;
    } limits;
    struct {
        char *mode;
        int64_t buffer_bytes;
    } log;
    struct {
        char *seccomp_unset;
        struct strv masked_paths, readonly_paths, cdi_dirs;
    } security;
    struct {
        char *address, *tls_cert, *tls_key;
        int64_t port, idle_timeout_seconds, sessions;
    } streaming;
    struct {
        char *driver, *pods, *monitors;
    } cgroup;
    struct {
        struct strv certs_dirs, pinned;
        char *import_dir;
        int64_t parallel_downloads, parallel_downloads_per_pull, stall_seconds, least_bytes_per_second;
        bool keep_layer_blobs;
    } images;
    struct config_tables runtimes; /* of struct runtime_handler */
};

extern const struct config_key configuration_keys[];
extern const size_t configuration_key_count;

/* Whether this node has a runtime handler of that name; "": the default one. ERR_INVALID saying which there are. */
int configuration_check_handler(const struct configuration *configuration, const char *name, struct error *err);

/* Defaults, then `path` (NULL: CONFIGURATION_FILE, which may be absent) and its config.d; paths of the helper programs that are not given are found
 * beside crispd's own executable, else in libexec. The caller frees `out`, also after an error. */
int configuration_load(struct configuration *out, const char *path, struct error *err);
void configuration_free(struct configuration *configuration);
