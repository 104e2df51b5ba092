#include "imageservice/json.h"

#include <string.h>

/* Every value but the first stands behind one of these. */
static size_t
value_count(const char *text, size_t length)
{
    size_t count = 1;
    for (size_t i = 0; i < length; i++)
        count += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return count;
}

json_t *
json_parse(const char *text, size_t length, const char *what, struct error *err)
{
    if (length > JSON_TEXT_MAX || value_count(text, length) > JSON_VALUES_MAX) {
        (void)error_set(err, ERR_INVALID, "%s: larger than %d MiB or more than %d values", what, JSON_TEXT_MAX >> 20, JSON_VALUES_MAX);
        return NULL;
    }
    json_error_t where;
    json_t *root = json_loadb(text, length, 0, &where);
    if (!root) {
        (void)error_set(err, ERR_INVALID, "%s: no valid JSON: %s", what, where.text);
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        (void)error_set(err, ERR_INVALID, "%s: no JSON object", what);
        return NULL;
    }
    return root;
}

static int
wrong_type(const char *key, const char *wanted, struct error *err)
{
    return error_set(err, ERR_INVALID, "%s is not %s", key, wanted);
}

int
json_get_string(const json_t *object, const char *key, const char **out, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    *out = json_is_string(value) ? json_string_value(value) : "";
    return !value || json_is_null(value) || json_is_string(value) ? 0 : wrong_type(key, "a string", err);
}

int
json_get_strings(const json_t *object, const char *key, struct strv *out, struct error *err)
{
    const json_t *list = json_object_get(object, key), *item;
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return wrong_type(key, "a list of strings", err);
    size_t i;
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return wrong_type(key, "a list of strings", err);
        strv_add(out, json_string_value(item));
    }
    return 0;
}

int
json_get_map(const json_t *object, const char *key, struct strmap *out, struct error *err)
{
    json_t *map = json_object_get(object, key), *value;
    if (!map || json_is_null(map))
        return 0;
    if (!json_is_object(map))
        return wrong_type(key, "an object of strings", err);
    const char *name;
    json_object_foreach(map, name, value)
    {
        if (!json_is_string(value))
            return wrong_type(key, "an object of strings", err);
        strmap_set(out, name, json_string_value(value));
    }
    return 0;
}
