/* The operations of CNI over a configuration list: what each plugin gets in its environment and on its stdin, in which order, and what its answer
 * means. [CNI spec 1.1, sections 2 to 5] No state; any thread. */
#pragma once

#include "base/cancel.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/network/cni_config.h"

#define CNI_INTERFACE "eth0"

/* An attachment, and how plugins are run. Borrowed. */
struct cni_call {
    const struct cni_config *config;
    const struct strv *plugin_dirs;
    int64_t timeout_ns;          /* for each plugin */
    const struct cancel *cancel; /* may be NULL */
    const char *container_id;    /* these four: not for STATUS and GC */
    const char *netns;           /* "": it is gone */
    const char *args;            /* CNI_ARGS */
    const json_t *capabilities;  /* {"portMappings": […], …}: each goes to the plugins that declare it; may be NULL */
    const json_t *previous;      /* ADD's final result for DEL and CHECK; may be NULL for DEL */
};

/* Each plugin in order, with its predecessor's result; the last result is the attachment's. ERR_UNAVAILABLE where the plugin says to try again. */
int cni_add(const struct cni_call *call, json_t **result, struct error *err);
/* In reverse order, ended by the first failure [section 3, "Deleting an attachment"]. */
int cni_del(const struct cni_call *call, struct error *err);
/* From 0.4.0 on, unless disableCheck: else 0 at once. */
int cni_check(const struct cni_call *call, struct error *err);
/* From 1.1.0 on: else 0 at once. */
int cni_status(const struct cni_call *call, struct error *err);
/* From 1.1.0 on, unless disableGC; `pod_ids` are those whose attachments stay. Never at the same time as ADD and DEL. All plugins are
 * run; the first error is told. */
int cni_gc(const struct cni_call *call, const struct strv *pod_ids, struct error *err);
/* Every plugin's program is there. ERR_NOT_FOUND naming the first that is not. */
int cni_find_plugins(const struct cni_config *config, const struct strv *plugin_dirs, struct error *err);
