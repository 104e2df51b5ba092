/* A CNI network configuration list, as its file has it or a pod's record, checked and in one form: {"cniVersion", "name", "plugins": […]}; a file
 * with a single plugin is a list of one. [CNI spec 1.1, section 1]
 *
 * Immutable once made, shared by counting; any thread may read. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

enum { CNI_0_3_0 = 300, CNI_0_3_1 = 301, CNI_0_4_0 = 400, CNI_1_0_0 = 10000, CNI_1_1_0 = 10100 };

struct cni_config {
    int users;  /* counted with atomics */
    char *file; /* where it was read; "" for one from a record */
    json_t *list;
    const char *name;    /* in list */
    const char *version; /* in list: the newest of cniVersion and cniVersions that we know */
    int version_number;  /* CNI_… */
    bool disable_check, disable_gc;
};

/* "0.4.0" → CNI_0_4_0; 0 for what is not supported. */
int cni_version_number(const char *version);

/* ERR_INVALID with what is wrong; ERR_UNSUPPORTED for cniVersion 0.1, 0.2 or unknown. */
struct cni_config *cni_config_from_json(const json_t *json, const char *file, struct error *err);
/* The lexically first file of *.conf, *.conflist, *.json that is valid; each invalid one before it is told in `skipped`. ERR_NOT_FOUND with the
 * reason ("no CNI configuration in /etc/cni/net.d"). */
struct cni_config *cni_config_load(const char *dir, struct strv *skipped, struct error *err);

struct cni_config *cni_config_ref(struct cni_config *config);
void cni_config_unref(struct cni_config *config);

size_t cni_config_plugin_count(const struct cni_config *config);
const json_t *cni_config_plugin(const struct cni_config *config, size_t i);
const char *cni_config_plugin_type(const struct cni_config *config, size_t i);
