#include "cri/convert.h"

#include <ctype.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "cri/check.h"
#include "cri/limits.h"

_Static_assert(sizeof(struct map_entry) == sizeof(Runtime__V1__PodSandboxConfig__LabelsEntry), "protoc-c's map entries");

void *
answer_new(struct call *call, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *message = call_alloc(call, type->sizeof_message);
    message->descriptor = type;
    return message;
}

void *
answer_list(struct call *call, size_t count)
{
    return call_alloc(call, count * sizeof(void *));
}

/* The first field of a response: NULL where that is no list. */
static void ***
items_of(ProtobufCMessage *response, size_t **count)
{
    const ProtobufCFieldDescriptor *field = response->descriptor->fields;
    if (field->label != PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    *count = (size_t *)(void *)((char *)response + field->quantifier_offset);
    return (void ***)(void *)((char *)response + field->offset);
}

int
answer_flush(struct call *call, void *response, struct error *err)
{
    size_t *count;
    if (!items_of(response, &count) || *count == 0)
        return 0;
    TRY(call->send(call, response, err));
    *count = call->list.bytes = 0;
    call->list.sent = true;
    return 0;
}

static void
make_room(struct call *call, void ***items, size_t count)
{
    enum { ROOM_AT_FIRST = 16 };
    if (count < call->list.room)
        return;
    call->list.room = call->list.room ? call->list.room * 2 : ROOM_AT_FIRST;
    void **larger = answer_list(call, call->list.room);
    if (count)
        memcpy(larger, *items, count * sizeof *larger);
    *items = larger;
}

int
answer_add(struct call *call, void *response, void *item, struct error *err)
{
    size_t *count = NULL;
    void ***items = items_of(response, &count);
    if (call->send) {
        size_t bytes = protobuf_c_message_get_packed_size(item);
        if (call->list.bytes + bytes > (call->list.sent ? STREAM_CHUNK_BYTES : STREAM_FIRST_BYTES))
            TRY(answer_flush(call, response, err));
        call->list.bytes += bytes;
    }
    make_room(call, items, *count);
    (*items)[(*count)++] = item;
    return 0;
}

int
map_read(struct strmap *out, const void *entries, size_t count, const char *what, struct error *err)
{
    const struct map_entry *const *list = entries;
    TRY(check_count(count, what, err));
    for (size_t i = 0; i < count; i++) {
        if (str_empty(list[i]->key))
            return error_set(err, ERR_INVALID, "%s: a key is empty", what);
        strmap_set(out, list[i]->key, list[i]->value);
    }
    return 0;
}

static struct map_entry *
entry_new(struct call *call, const ProtobufCMessageDescriptor *type, const char *key, const char *value)
{
    struct map_entry *entry = answer_new(call, type);
    entry->key = key;
    entry->value = value;
    return entry;
}

size_t
map_write(struct call *call, const struct strmap *map, const ProtobufCMessageDescriptor *type, void *entries)
{
    struct map_entry **list = answer_list(call, map->count);
    for (size_t i = 0; i < map->count; i++)
        list[i] = entry_new(call, type, map->entries[i].key, map->entries[i].value);
    memcpy(entries, &list, sizeof list);
    return map->count;
}

void
info_add(struct call *call, const ProtobufCMessageDescriptor *type, void *entries, size_t *count, const char *key, char *json)
{
    if (!json)
        return;
    call_defer(call, free, json);
    struct map_entry **before;
    memcpy(&before, entries, sizeof before);
    struct map_entry **list = answer_list(call, *count + 1);
    for (size_t i = 0; i < *count; i++)
        list[i] = before[i];
    list[(*count)++] = entry_new(call, type, key, json);
    memcpy(entries, &list, sizeof list);
}

int
list_read(struct strv *out, const char *const *items, size_t count, const char *what, struct error *err)
{
    TRY(check_count(count, what, err));
    for (size_t i = 0; i < count; i++)
        strv_add(out, items[i]);
    return 0;
}

/* ---- limits ---- */

static int
hugepages_read(struct resources *out, const Runtime__V1__LinuxContainerResources *in, struct error *err)
{
    TRY(check_count(in->n_hugepage_limits, "hugepage_limits", err));
    out->hugepages = mem_zalloc(in->n_hugepage_limits, sizeof *out->hugepages);
    for (size_t i = 0; i < in->n_hugepage_limits; i++) {
        TRY(check_line(in->hugepage_limits[i]->page_size, 0, "hugepage_limits: page_size", err));
        out->hugepages[i] = (struct hugepage_limit){str_dup(in->hugepage_limits[i]->page_size), in->hugepage_limits[i]->limit};
        out->hugepage_count = i + 1;
    }
    return 0;
}

static int
cpuset_read(char **out, const char *in, const char *what, struct error *err)
{
    /* The kernel lets "1,,3" pass; what is made of it for systemd had a 0 more. */
    for (const char *at = in; *at; at++) {
        bool between = at > in && isdigit((unsigned char)at[-1]) && isdigit((unsigned char)at[1]);
        if (!isdigit((unsigned char)*at) && !(between && (*at == ',' || *at == '-')))
            return error_set(err, ERR_INVALID, "%s: \"%.100s\" is no list of numbers such as 0-3,7", what, in);
    }
    str_set(out, in);
    return 0;
}

int
resources_read(struct resources *out, const Runtime__V1__LinuxContainerResources *in, struct error *err)
{
    if (!in)
        return 0;
    out->cpu_period = in->cpu_period;
    out->cpu_quota = in->cpu_quota;
    out->cpu_shares = in->cpu_shares;
    out->memory_limit_bytes = in->memory_limit_in_bytes;
    out->memory_swap_limit_bytes = in->memory_swap_limit_in_bytes;
    out->oom_score_adj = in->oom_score_adj;
    TRY(cpuset_read(&out->cpuset_cpus, in->cpuset_cpus, "cpuset_cpus", err));
    TRY(cpuset_read(&out->cpuset_mems, in->cpuset_mems, "cpuset_mems", err));
    TRY(hugepages_read(out, in, err));
    return map_read(&out->unified, in->unified, in->n_unified, "unified", err);
}

Runtime__V1__LinuxContainerResources *
resources_write(struct call *call, const struct resources *r)
{
    Runtime__V1__LinuxContainerResources *out = answer_new(call, &runtime__v1__linux_container_resources__descriptor);
    out->cpu_period = r->cpu_period;
    out->cpu_quota = r->cpu_quota;
    out->cpu_shares = r->cpu_shares;
    out->memory_limit_in_bytes = r->memory_limit_bytes;
    out->memory_swap_limit_in_bytes = r->memory_swap_limit_bytes;
    out->oom_score_adj = r->oom_score_adj;
    out->cpuset_cpus = r->cpuset_cpus;
    out->cpuset_mems = r->cpuset_mems;
    out->n_hugepage_limits = r->hugepage_count;
    out->hugepage_limits = answer_list(call, r->hugepage_count);
    for (size_t i = 0; i < r->hugepage_count; i++) {
        out->hugepage_limits[i] = answer_new(call, &runtime__v1__hugepage_limit__descriptor);
        out->hugepage_limits[i]->page_size = r->hugepages[i].page_size;
        out->hugepage_limits[i]->limit = r->hugepages[i].limit_bytes;
    }
    out->n_unified = map_write(call, &r->unified, &runtime__v1__linux_container_resources__unified_entry__descriptor, &out->unified);
    return out;
}

/* ---- signals ---- */

/* CRI writes SIGNAL_SIGRTMINPLUS3 where everybody else writes SIGRTMIN+3. */
char *
signal_name(Runtime__V1__Signal signal)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(&runtime__v1__signal__descriptor, (int)signal);
    if (!value || signal == RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT)
        return str_dup("");
    const char *name = value->name + strlen("SIGNAL_");
    const char *plus = strstr(name, "PLUS"), *minus = strstr(name, "MINUS");
    if (plus)
        return str_printf("%.*s+%s", (int)(plus - name), name, plus + strlen("PLUS"));
    if (minus)
        return str_printf("%.*s-%s", (int)(minus - name), name, minus + strlen("MINUS"));
    return str_dup(name);
}

/* "15" → "SIGTERM", "term" → "SIGTERM". */
static char *
spell_out(const char *name)
{
    uint64_t number;
    if (str_to_u64(name, 64, "signal", &number, NULL) == 0) {
        if (number == (uint64_t)SIGRTMAX)
            return str_dup("SIGRTMAX");
        if (number > (uint64_t)SIGRTMIN + 15)
            return str_printf("SIGRTMAX-%d", SIGRTMAX - (int)number);
        if (number > (uint64_t)SIGRTMIN)
            return str_printf("SIGRTMIN+%d", (int)number - SIGRTMIN);
        if (number == (uint64_t)SIGRTMIN)
            return str_dup("SIGRTMIN");
        return str_printf("SIG%s", sigabbrev_np((int)number) ? sigabbrev_np((int)number) : "");
    }
    return str_printf("%s%s", strncasecmp(name, "SIG", 3) == 0 ? "" : "SIG", name);
}

Runtime__V1__Signal
signal_number(const char *name)
{
    const ProtobufCEnumDescriptor *signals = &runtime__v1__signal__descriptor;
    cleanup_free char *wanted = spell_out(name);
    for (unsigned i = 0; i < signals->n_values; i++) {
        cleanup_free char *other = signal_name((Runtime__V1__Signal)signals->values[i].value);
        if (*other && strcasecmp(other, wanted) == 0)
            return (Runtime__V1__Signal)signals->values[i].value;
    }
    return RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
}
