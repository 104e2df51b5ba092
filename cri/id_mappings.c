#include "cri/id_mappings.h"

#include "base/str.h"
#include "cri/check.h"
#include "cri/convert.h"

int
id_mappings_read(struct id_mapping **out, size_t *out_count, Runtime__V1__IDMapping *const *in, size_t count, const char *what, struct error *err)
{
    TRY(check_count(count, what, err));
    *out = mem_zalloc(count, sizeof **out);
    for (size_t i = 0; i < count; i++)
        (*out)[i] = (struct id_mapping){.host_id = in[i]->host_id, .container_id = in[i]->container_id, .length = in[i]->length};
    *out_count = count;
    return 0;
}

size_t
id_mappings_write(struct call *call, const struct id_mapping *in, size_t count, Runtime__V1__IDMapping ***list)
{
    *list = answer_list(call, count);
    for (size_t i = 0; i < count; i++) {
        (*list)[i] = answer_new(call, &runtime__v1__idmapping__descriptor);
        (*list)[i]->host_id = in[i].host_id;
        (*list)[i]->container_id = in[i].container_id;
        (*list)[i]->length = in[i].length;
    }
    return count;
}
