#include "runtime/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/cleanup.h"
#include "base/str.h"

struct conversion {
    yaml_document_t *document;
    size_t nodes;
    int depth;
    struct error *err;
};

static json_t *convert(struct conversion *c, int node);

static bool
is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(text, *words))
            return true;
    return false;
}

/* 12, -3, 0x1f, 0o660 and, as YAML 1.1 has it, 0660. */
static json_t *
number_of(const char *text)
{
    bool octal = text[0] == '0' && text[1] == 'o';
    char *end;
    errno = 0;
    long long value = octal ? strtoll(text + 2, &end, 8) : strtoll(text, &end, 0);
    bool whole = *end == '\0' && errno == 0 && end != text && strchr("-0123456789", text[0]);
    return whole ? json_integer(value) : NULL;
}

/* A plain scalar is what it looks like, a quoted one is text. */
static json_t *
scalar(struct conversion *c, const yaml_node_t *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL}, *const yes[] = {"true", "True", "TRUE", NULL},
                             *const no[] = {"false", "False", "FALSE", NULL};
    const char *text = (const char *)node->data.scalar.value;
    json_t *json = NULL;
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (is_one_of(text, nulls))
            return json_null();
        if (is_one_of(text, yes) || is_one_of(text, no))
            return json_boolean(is_one_of(text, yes));
        json = number_of(text);
    }
    if (!json)
        json = json_stringn(text, node->data.scalar.length);
    if (!json)
        error_set(c->err, ERR_INVALID, "line %zu: it is not UTF-8", node->start_mark.line + 1);
    return json;
}

static json_t *
sequence(struct conversion *c, const yaml_node_t *node)
{
    json_t *array = json_array();
    for (const yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
        if (json_array_append_new(array, convert(c, *item)) < 0) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *
mapping(struct conversion *c, const yaml_node_t *node)
{
    json_t *object = json_object();
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(c->document, pair->key);
        bool named = key && key->type == YAML_SCALAR_NODE;
        if (!named)
            error_set(c->err, ERR_INVALID, "line %zu: a key is no text", node->start_mark.line + 1);
        json_t *value = named ? convert(c, pair->value) : NULL;
        if (!value || json_object_set_new(object, (const char *)key->data.scalar.value, value) < 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *
convert(struct conversion *c, int index)
{
    const yaml_node_t *node = yaml_document_get_node(c->document, index);
    json_t *json = NULL;
    if (!node || ++c->nodes > YAML_NODES_MAX || c->depth == YAML_DEPTH_MAX) {
        error_set(c->err, ERR_EXHAUSTED, "it has more than %d nodes or is deeper than %d", YAML_NODES_MAX, YAML_DEPTH_MAX);
        return NULL;
    }
    c->depth++;
    if (node->type == YAML_SCALAR_NODE)
        json = scalar(c, node);
    else if (node->type == YAML_SEQUENCE_NODE)
        json = sequence(c, node);
    else if (node->type == YAML_MAPPING_NODE)
        json = mapping(c, node);
    c->depth--;
    return json;
}

json_t *
yaml_to_json(const char *text, size_t length, struct error *err)
{
    yaml_parser_t parser;
    yaml_document_t document;
    json_t *json = NULL;
    if (err)
        *err = (struct error){0};
    if (!yaml_parser_initialize(&parser)) {
        error_set(err, ERR_EXHAUSTED, "no memory for the YAML parser");
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    if (!yaml_parser_load(&parser, &document)) {
        error_set(err, ERR_INVALID, "line %zu: %s", parser.problem_mark.line + 1, parser.problem ? parser.problem : "it is no YAML");
    } else {
        struct conversion c = {.document = &document, .err = err};
        if (yaml_document_get_root_node(&document))
            json = convert(&c, 1);
        else
            error_set(err, ERR_INVALID, "it is empty");
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    if (!json && err && err->kind == ERR_NONE)
        error_set(err, ERR_INVALID, "a key or text in it is not UTF-8");
    return json;
}
