#include "cri/wire.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cri/limits.h"

/* protobuf.dev, "Encoding": a field is a varint of number<<3 | wire type, then the value. */
enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct cursor {
    const uint8_t *at, *end;
};

static bool
take_varint(struct cursor *c, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && c->at < c->end; shift += 7) {
        uint8_t byte = *c->at++;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool
take_bytes(struct cursor *c, uint64_t length, struct cursor *out)
{
    if (length > (uint64_t)(c->end - c->at))
        return false;
    *out = (struct cursor){c->at, c->at + length};
    c->at += length;
    return true;
}

static bool
take_value(struct cursor *c, enum wire_type type, struct cursor *bytes)
{
    uint64_t number;
    *bytes = (struct cursor){0};
    switch (type) {
    case WIRE_VARINT:
        return take_varint(c, &number);
    case WIRE_64:
        return take_bytes(c, 8, bytes);
    case WIRE_32:
        return take_bytes(c, 4, bytes);
    case WIRE_BYTES:
        return take_varint(c, &number) && take_bytes(c, number, bytes);
    }
    return false;
}

static int check(const ProtobufCMessageDescriptor *type, struct cursor c, int depth, struct error *err);

static int
check_field(const ProtobufCFieldDescriptor *field, struct cursor value, int depth, struct error *err)
{
    size_t length = (size_t)(value.end - value.at);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check(field->descriptor, value, depth + 1, err) < 0 ? error_prefix(err, "%s", field->name) : 0;
    if (field->type != PROTOBUF_C_TYPE_STRING || length == 0)
        return 0;
    if (memchr(value.at, 0, length))
        return error_set(err, ERR_INVALID, "%s: it holds a NUL byte", field->name);
    if (!str_utf8_valid((const char *)value.at, length))
        return error_set(err, ERR_INVALID, "%s: it is not UTF-8", field->name);
    return 0;
}

static int
check(const ProtobufCMessageDescriptor *type, struct cursor c, int depth, struct error *err)
{
    if (depth > WIRE_DEPTH_MAX)
        return error_set(err, ERR_INVALID, "malformed message: nested more than %d deep", WIRE_DEPTH_MAX);
    while (c.at < c.end) {
        uint64_t key;
        struct cursor value;
        if (!take_varint(&c, &key) || !take_value(&c, (enum wire_type)(key & 7), &value))
            return error_set(err, ERR_INVALID, "malformed message of type %s", type->short_name);
        const ProtobufCFieldDescriptor *field = key >> 3 <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(type, (unsigned)(key >> 3)) : NULL;
        if (field && (key & 7) == WIRE_BYTES && check_field(field, value, depth, err) < 0)
            return -1;
    }
    return 0;
}

int
wire_check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t length, struct error *err)
{
    const uint8_t *at = bytes;
    return check(type, (struct cursor){at, at ? at + length : at}, 0, err);
}

/* protobuf-c keeps a map as a list of messages and forgets that it was one; protoc names them so, with these two fields. */
static bool
is_map(const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    return field->label == PROTOBUF_C_LABEL_REPEATED && field->type == PROTOBUF_C_TYPE_MESSAGE && entry->n_fields == 2 &&
           str_ends(entry->short_name, "Entry") && str_eq(entry->fields[0].name, "key") && entry->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

struct map_entry {
    ProtobufCMessage *message;
    const char *key;
    size_t position;
};

static int
compare_entries(const void *a, const void *b)
{
    const struct map_entry *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->position > y->position) - (x->position < y->position);
}

static size_t
sort_map(ProtobufCMessage **entries, size_t count, unsigned key_offset)
{
    struct map_entry *sorted = mem_zalloc(count, sizeof *sorted);
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct map_entry){entries[i], *(const char *const *)((const char *)entries[i] + key_offset), i};
    qsort(sorted, count, sizeof *sorted, compare_entries);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || !str_eq(sorted[i].key, sorted[i + 1].key))
            entries[kept++] = sorted[i].message;
    free(sorted);
    return kept;
}

static void
sort_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    char *value = (char *)message + field->offset;
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        ProtobufCMessage *below = *(ProtobufCMessage **)(void *)value;
        if (below)
            wire_sort_maps(below);
        return;
    }
    ProtobufCMessage **items = *(ProtobufCMessage ***)(void *)value;
    size_t *count = (size_t *)(void *)((char *)message + field->quantifier_offset);
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    if (is_map(field) && *count > 1)
        *count = sort_map(items, *count, entry->fields[0].offset);
    for (size_t i = 0; i < *count; i++)
        wire_sort_maps(items[i]);
}

void
wire_sort_maps(ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            sort_field(message, &type->fields[i]);
}
