#include "ctl/json.h"

#include <inttypes.h>
#include <string.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "base/str.h"

json_t *
json_of_text(const char *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd";
    json_t *json = length > 0 ? json_stringn(text, length) : json_string("");
    if (json)
        return json;
    cleanup_buf struct buf clean = BUF(length * (sizeof replacement - 1));
    for (size_t i = 0; i < length; i++)
        (void)((unsigned char)text[i] < 0x80 ? buf_add(&clean, &text[i], 1) : buf_adds(&clean, replacement));
    return json_stringn(clean.data, clean.length);
}

static json_t *
of_string(const char *s)
{
    return json_of_text(s ? s : "", s ? strlen(s) : 0);
}

static json_t *
of_bytes(const ProtobufCBinaryData *bytes)
{
    cleanup_free char *text = base64_encode(bytes->data, bytes->len);
    return json_string(text);
}

static json_t *
of_i64(int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    return json_string(text);
}

static json_t *
of_u64(uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static json_t *
of_enum(const ProtobufCEnumDescriptor *type, int value)
{
    const ProtobufCEnumValue *named = protobuf_c_enum_descriptor_get_value(type, value);
    return named ? json_string(named->name) : json_integer(value);
}

/* One value of the field's type, at `value`. */
static json_t *
of_value(const ProtobufCFieldDescriptor *field, const void *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return of_string(*(const char *const *)value);
    case PROTOBUF_C_TYPE_BYTES:
        return of_bytes(value);
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *)value ? json_of_message(*(const ProtobufCMessage *const *)value) : json_null();
    case PROTOBUF_C_TYPE_ENUM:
        return of_enum(field->descriptor, *(const int *)value);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)value);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)value);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)value);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return of_i64(*(const int64_t *)value);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return of_u64(*(const uint64_t *)value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)value);
    default:
        return json_integer(*(const int32_t *)value);
    }
}

static size_t
value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

/* protobuf-c knows no maps: they are repeated messages of a generated type …Entry with key and value. */
static bool
is_map(const ProtobufCFieldDescriptor *field)
{
    const ProtobufCMessageDescriptor *type = field->type == PROTOBUF_C_TYPE_MESSAGE ? field->descriptor : NULL;
    return type && type->n_fields == 2 && str_ends(type->short_name, "Entry") && str_eq(type->fields[0].name, "key") &&
           type->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static json_t *
of_map(const ProtobufCMessage *const *entries, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        const ProtobufCFieldDescriptor *fields = entries[i]->descriptor->fields;
        const char *base = (const char *)entries[i];
        const char *key = *(const char *const *)(const void *)(base + fields[0].offset);
        json_object_set_new(object, key, of_value(&fields[1], base + fields[1].offset));
    }
    return object;
}

static json_t *
of_repeated(const ProtobufCFieldDescriptor *field, const void *items, size_t count)
{
    if (is_map(field))
        return of_map(items, count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, of_value(field, (const char *)items + i * value_size(field->type)));
    return array;
}

/* pod_sandbox_id → podSandboxId, in place. */
static void
to_camel_case(char *name)
{
    char *out = name;
    for (const char *in = name; *in; in++) {
        bool raise = *in == '_' && in[1];
        in += raise;
        *out++ = (char)(raise && *in >= 'a' && *in <= 'z' ? *in - 'a' + 'A' : *in);
    }
    *out = '\0';
}

json_t *
json_of_message(const ProtobufCMessage *message)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *base = (const char *)message;
        cleanup_free char *name = str_dup(field->name);
        to_camel_case(name);
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
            json_object_set_new(object, name, of_repeated(field, *(void *const *)(const void *)(base + field->offset), count));
        } else {
            json_object_set_new(object, name, of_value(field, base + field->offset));
        }
    }
    return object;
}

void
json_print(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(value);
}
