/* What a request may not ask for, found before anything is done. Each is ERR_INVALID in one sentence naming field, value and cause. */
#pragma once

#include "base/error.h"
#include "runtime/runtime.h"

int validate_pod(const struct pod_config *config, struct error *err);
int validate_container(const struct container_config *config, const struct pod_config *pod, struct error *err);
int validate_resources(const struct resources *resources, struct error *err);

/* Lexically: "/a//b/../c/" → "/a/c"; `..` stops at the root. A relative path is taken from /. Caller frees. */
char *path_clean(const char *path);
/* Whether a clean path is the directory or below it. */
bool path_is_in(const char *path, const char *directory);
/* "SIGTERM", "TERM", "15", "RTMIN+3" → number; "" → SIGTERM. */
int signal_parse(const char *name, int *out, struct error *err);
