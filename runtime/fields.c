#include "runtime/fields.h"

#include <string.h>

enum { ELEMENTS_MAX = 65536 }; /* of an array in a record: far above what a 16 MiB request can hold in mounts or ports */

static void *
member(const struct field *field, const void *object)
{
    return (char *)(uintptr_t)object + field->offset;
}

static size_t *
count_of(const struct field *field, const void *object)
{
    return (size_t *)(void *)((char *)(uintptr_t)object + field->count_offset);
}

static void *
element(const struct field *field, const void *object, size_t i)
{
    char *first = *(char **)member(field, object);
    return first + i * field->of->size;
}

static json_t *
strv_to_json(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        if (json_array_append_new(array, json_string(list->items[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *
strmap_to_json(const struct strmap *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->count; i++)
        if (json_object_set_new(object, map->entries[i].key, json_string(map->entries[i].value)) < 0) {
            json_decref(object);
            return NULL;
        }
    return object;
}

static json_t *
array_to_json(const struct field *field, const void *object, struct error *err)
{
    json_t *array = json_array();
    for (size_t i = 0; i < *count_of(field, object); i++)
        if (json_array_append_new(array, fields_to_json(field->of, element(field, object, i), err)) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *
field_to_json(const struct field *field, const void *object, struct error *err)
{
    const void *at = member(field, object);
    switch (field->type) {
    case FIELD_STRING: {
        const char *string = *(char *const *)at;
        return json_string(string ? string : "");
    }
    case FIELD_STRV:
        return strv_to_json(at);
    case FIELD_STRMAP:
        return strmap_to_json(at);
    case FIELD_I64:
        return json_integer(*(const int64_t *)at);
    case FIELD_U64:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case FIELD_U32:
        return json_integer(*(const uint32_t *)at);
    case FIELD_U16:
        return json_integer(*(const uint16_t *)at);
    case FIELD_INT:
        return json_integer(*(const int *)at);
    case FIELD_BOOL:
        return json_boolean(*(const bool *)at);
    case FIELD_STRUCT:
        return fields_to_json(field->of, at, err);
    case FIELD_ARRAY:
        return array_to_json(field, object, err);
    }
    return NULL;
}

json_t *
fields_to_json(const struct fields *fields, const void *object, struct error *err)
{
    json_t *json = json_object();
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        if (json_object_set_new(json, field->name, field_to_json(field, object, err)) < 0) {
            json_decref(json);
            error_set(err, ERR_INVALID, "%s: it is not UTF-8", field->name);
            return NULL;
        }
    }
    return json;
}

static bool
strv_from_json(struct strv *list, const json_t *json)
{
    size_t i;
    json_t *item;
    json_array_foreach(json, i, item)
    {
        if (!json_is_string(item))
            return false;
        strv_add(list, json_string_value(item));
    }
    return json_is_array(json);
}

static bool
strmap_from_json(struct strmap *map, const json_t *json)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (!json_is_string(value))
            return false;
        strmap_set(map, key, json_string_value(value));
    }
    return json_is_object(json);
}

static bool
array_from_json(const struct field *field, void *object, const json_t *json, struct error *err)
{
    if (!json_is_array(json) || json_array_size(json) > ELEMENTS_MAX)
        return false;
    size_t count = json_array_size(json);
    *(void **)member(field, object) = mem_zalloc(count ? count : 1, field->of->size);
    for (size_t i = 0; i < count; i++) {
        *count_of(field, object) = i + 1;
        if (fields_from_json(field->of, element(field, object, i), json_array_get(json, i), err) < 0)
            return false;
    }
    return true;
}

static bool
integer_from_json(const struct field *field, void *at, const json_t *json)
{
    json_int_t value = json_integer_value(json);
    if (!json_is_integer(json))
        return false;
    switch (field->type) {
    case FIELD_I64:
        *(int64_t *)at = value;
        return true;
    case FIELD_U64:
        *(uint64_t *)at = (uint64_t)value;
        return true;
    case FIELD_U32:
        *(uint32_t *)at = (uint32_t)value;
        return value >= 0 && value <= UINT32_MAX;
    case FIELD_U16:
        *(uint16_t *)at = (uint16_t)value;
        return value >= 0 && value <= UINT16_MAX;
    default:
        *(int *)at = (int)value;
        return value >= INT32_MIN && value <= INT32_MAX && (!field->most || (value >= 0 && value <= field->most));
    }
}

static bool
string_from_json(char **at, const json_t *json)
{
    *at = str_dup(json_string_value(json));
    return json_is_string(json);
}

static bool
field_from_json(const struct field *field, void *object, const json_t *json, struct error *err)
{
    void *at = member(field, object);
    switch (field->type) {
    case FIELD_STRING:
        return string_from_json(at, json);
    case FIELD_STRV:
        return strv_from_json(at, json);
    case FIELD_STRMAP:
        return strmap_from_json(at, json);
    case FIELD_BOOL:
        *(bool *)at = json_is_true(json);
        return json_is_boolean(json);
    case FIELD_STRUCT:
        return fields_from_json(field->of, at, json, err) == 0;
    case FIELD_ARRAY:
        return array_from_json(field, object, json, err);
    default:
        return integer_from_json(field, at, json);
    }
}

int
fields_from_json(const struct fields *fields, void *object, const json_t *json, struct error *err)
{
    if (!json_is_object(json))
        return error_set(err, ERR_INVALID, "it is no JSON object");
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        const json_t *value = json_object_get(json, field->name);
        if (value && !field_from_json(field, object, value, err)) {
            fields_free(fields, object);
            return error_set(err, ERR_INVALID, "%s: it has the wrong type or value", field->name);
        }
    }
    fields_fill(fields, object);
    return 0;
}

void
fields_fill(const struct fields *fields, void *object)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        char **string = member(field, object);
        if (field->type == FIELD_STRING && !*string)
            *string = str_dup("");
        if (field->type == FIELD_STRUCT)
            fields_fill(field->of, string);
        for (size_t e = 0; field->type == FIELD_ARRAY && e < *count_of(field, object); e++)
            fields_fill(field->of, element(field, object, e));
    }
}

static void
array_copy(const struct field *field, void *to, const void *from)
{
    size_t count = *count_of(field, from);
    *(void **)member(field, to) = mem_zalloc(count ? count : 1, field->of->size);
    *count_of(field, to) = count;
    for (size_t i = 0; i < count; i++)
        fields_copy(field->of, element(field, to, i), element(field, from, i));
}

static size_t
plain_size(enum field_type type)
{
    switch (type) {
    case FIELD_I64:
    case FIELD_U64:
        return sizeof(int64_t);
    case FIELD_U32:
        return sizeof(uint32_t);
    case FIELD_U16:
        return sizeof(uint16_t);
    case FIELD_INT:
        return sizeof(int);
    case FIELD_BOOL:
        return sizeof(bool);
    default:
        return 0;
    }
}

void
fields_copy(const struct fields *fields, void *to, const void *from)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        void *target = member(field, to);
        const void *source = member(field, from);
        switch (field->type) {
        case FIELD_STRING:
            *(char **)target = str_dup(*(char *const *)source);
            break;
        case FIELD_STRV:
            strv_copy(target, source);
            break;
        case FIELD_STRMAP:
            strmap_copy(target, source);
            break;
        case FIELD_STRUCT:
            fields_copy(field->of, target, source);
            break;
        case FIELD_ARRAY:
            array_copy(field, to, from);
            break;
        default:
            memcpy(target, source, plain_size(field->type));
        }
    }
}

static void
array_free(const struct field *field, void *object)
{
    for (size_t i = 0; i < *count_of(field, object); i++)
        fields_free(field->of, element(field, object, i));
    free(*(void **)member(field, object));
}

void
fields_free(const struct fields *fields, void *object)
{
    for (size_t i = 0; i < fields->count; i++) {
        const struct field *field = &fields->list[i];
        void *at = member(field, object);
        switch (field->type) {
        case FIELD_STRING:
            free(*(char **)at);
            break;
        case FIELD_STRV:
            strv_free(at);
            break;
        case FIELD_STRMAP:
            strmap_free(at);
            break;
        case FIELD_STRUCT:
            fields_free(field->of, at);
            break;
        case FIELD_ARRAY:
            array_free(field, object);
            break;
        default:
            break;
        }
    }
    memset(object, 0, fields->size);
}
