#include "cri/select.h"

#include "base/str.h"
#include "cri/convert.h"

bool
select_id(const char *wanted, const char *id)
{
    return str_starts(id, wanted);
}

bool
select_labels(const void *selector, size_t count, const struct strmap *labels)
{
    const struct map_entry *const *wanted = selector;
    for (size_t i = 0; i < count; i++) {
        const char *value = strmap_get(labels, wanted[i]->key);
        if (!value || !str_eq(value, wanted[i]->value))
            return false;
    }
    return true;
}

bool
select_pod(const Runtime__V1__PodSandboxFilter *filter, const struct pod_status *pod)
{
    if (!filter)
        return true;
    bool ready = pod->state == POD_READY;
    bool wants_ready = filter->state && filter->state->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
    return select_id(filter->id, pod->id) && (!filter->state || ready == wants_ready) &&
           select_labels(filter->label_selector, filter->n_label_selector, &pod->config->labels);
}

bool
select_container(const Runtime__V1__ContainerFilter *filter, const struct container_status *container)
{
    if (!filter)
        return true;
    return select_id(filter->id, container->id) && select_id(filter->pod_sandbox_id, container->config->pod_id) &&
           (!filter->state || (int)filter->state->state == (int)container->state) &&
           select_labels(filter->label_selector, filter->n_label_selector, &container->config->labels);
}

bool
select_pod_stats(const Runtime__V1__PodSandboxStatsFilter *filter, const struct pod_stats *stats)
{
    return !filter || (select_id(filter->id, stats->id) && select_labels(filter->label_selector, filter->n_label_selector, &stats->config->labels));
}

bool
select_container_stats(const Runtime__V1__ContainerStatsFilter *filter, const struct container_stats *stats)
{
    if (!filter)
        return true;
    return select_id(filter->id, stats->id) && select_id(filter->pod_sandbox_id, stats->config->pod_id) &&
           select_labels(filter->label_selector, filter->n_label_selector, &stats->config->labels);
}
