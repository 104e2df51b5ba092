#include "base/toml.h"

#include <fcntl.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { TOML_FILE_MAX = 1 << 20 };

struct toml_node *
toml_load(const char *path, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length = 0;
    TRY_OR_NULL(file_read(AT_FDCWD, path, TOML_FILE_MAX, &text, &length, err));
    return toml_parse(text, length, path, err);
}

static void
free_below(struct toml_node *node)
{
    for (size_t i = 0; i < node->count; i++)
        free_below(&node->children[i]);
    free(node->children);
    free(node->key);
    free(node->string);
}

void
toml_free(struct toml_node *root)
{
    if (!root)
        return;
    free_below(root);
    free(root);
}

const struct toml_node *
toml_get(const struct toml_node *table, const char *key)
{
    if (!table || table->type != TOML_TABLE)
        return NULL;
    for (size_t i = 0; i < table->count; i++)
        if (str_eq(table->children[i].key, key))
            return &table->children[i];
    return NULL;
}

const char *
toml_type_name(enum toml_type type)
{
    static const char *const names[] = {
        [TOML_TABLE] = "table",     [TOML_ARRAY] = "array", [TOML_STRING] = "string", [TOML_INTEGER] = "integer",
        [TOML_BOOLEAN] = "boolean", [TOML_FLOAT] = "float", [TOML_DATE] = "date",
    };
    return names[type];
}
