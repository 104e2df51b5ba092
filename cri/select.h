/* Which pods and containers a request means: by id or its beginning, and by the filters of lists, where all that is set must match. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api.pb-c.h"
#include "runtime/runtime.h"

bool select_id(const char *wanted, const char *id); /* "" wants all */
/* `selector`: a map field; the labels must hold all of it. */
bool select_labels(const void *selector, size_t count, const struct strmap *labels);

/* NULL filters match everything. */
bool select_pod(const Runtime__V1__PodSandboxFilter *filter, const struct pod_status *pod);
bool select_container(const Runtime__V1__ContainerFilter *filter, const struct container_status *container);
bool select_pod_stats(const Runtime__V1__PodSandboxStatsFilter *filter, const struct pod_stats *stats);
bool select_container_stats(const Runtime__V1__ContainerStatsFilter *filter, const struct container_stats *stats);
