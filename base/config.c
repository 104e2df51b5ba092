#include "base/config.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/toml.h"

CLEANUP_DEFINE(toml_freep, struct toml_node *, toml_free)

static void *
field_of(const struct config_key *key, void *target)
{
    return (char *)target + key->offset;
}

void
config_defaults(const struct config_key keys[], size_t count, void *target)
{
    for (const struct config_key *key = keys; key < keys + count; key++) {
        void *field = field_of(key, target);
        switch (key->type) {
        case CONFIG_STRING:
        case CONFIG_PATH:
            str_set(field, key->fallback ? key->fallback : "");
            break;
        case CONFIG_STRINGS:
            strv_free(field);
            if (key->fallback)
                strv_split(field, key->fallback, ' ', true);
            break;
        case CONFIG_INTEGER:
            (void)str_to_i64(key->fallback, key->name, field, NULL);
            break;
        case CONFIG_BOOLEAN:
            *(bool *)field = str_eq(key->fallback, "true");
            break;
        case CONFIG_TABLES:
            break;
        }
    }
}

static int
wrong(const struct toml_node *node, const char *file, struct error *err, const char *what)
{
    const char *type = toml_type_name(node->type);
    return error_set(err, ERR_INVALID, "%s:%d: %s: %s, found %s %s", file, node->line, node->key, what, strchr("ai", *type) ? "an" : "a", type);
}

static bool
allowed(const struct config_key *key, const char *value)
{
    if (!key->one_of)
        return true;
    cleanup_strv struct strv values = {0};
    strv_split(&values, key->one_of, ' ', true);
    return strv_has(&values, value);
}

static int
read_string(const struct config_key *key, const struct toml_node *node, void *field, const char *file, struct error *err)
{
    if (node->type != TOML_STRING)
        return wrong(node, file, err, "wants a string");
    bool may_be_empty = str_empty(key->fallback);
    if (key->type == CONFIG_PATH && node->string[0] != '/' && !(may_be_empty && str_empty(node->string)))
        return error_set(err, ERR_INVALID, "%s:%d: %s: \"%s\" is not an absolute path", file, node->line, node->key, node->string);
    if (!allowed(key, node->string))
        return error_set(err, ERR_INVALID, "%s:%d: %s: \"%s\" is none of: %s", file, node->line, node->key, node->string, key->one_of);
    str_set(field, node->string);
    return 0;
}

static int
read_strings(const struct toml_node *node, struct strv *field, const char *file, struct error *err)
{
    if (node->type != TOML_ARRAY)
        return wrong(node, file, err, "wants an array of strings");
    cleanup_strv struct strv list = {0};
    for (size_t i = 0; i < node->count; i++) {
        if (node->children[i].type != TOML_STRING)
            return wrong(node, file, err, "wants strings only");
        strv_add(&list, node->children[i].string);
    }
    strv_free(field);
    *field = list;
    list = (struct strv){0};
    return 0;
}

static void *
item_of(const struct config_key *key, const struct config_tables *tables, size_t i)
{
    return (char *)tables->items + i * key->of->size;
}

/* The struct of that name, a new one where no file before had it. */
static void *
item_named(const struct config_key *key, struct config_tables *tables, const char *name)
{
    for (size_t i = 0; i < tables->count; i++)
        if (str_eq(*(char **)item_of(key, tables, i), name))
            return item_of(key, tables, i);
    tables->items = mem_realloc(tables->items, tables->count + 1, key->of->size);
    void *item = item_of(key, tables, tables->count++);
    memset(item, 0, key->of->size);
    *(char **)item = str_dup(name);
    config_defaults(key->of->list, key->of->count, item);
    return item;
}

static int read_table(const struct config_key keys[], size_t count, const struct toml_node *table, const char *name, void *target, const char *file,
                      struct error *err);

static int
read_tables(const struct config_key *key, const struct toml_node *node, struct config_tables *tables, const char *file, struct error *err)
{
    if (node->type != TOML_TABLE)
        return wrong(node, file, err, "wants tables");
    for (size_t i = 0; i < node->count; i++) {
        const struct toml_node *child = &node->children[i];
        if (child->type != TOML_TABLE)
            return wrong(child, file, err, "wants a table");
        TRY(read_table(key->of->list, key->of->count, child, key->of->list->table, item_named(key, tables, child->key), file, err));
    }
    return 0;
}

static int
read_key(const struct config_key *key, const struct toml_node *node, void *target, const char *file, struct error *err)
{
    void *field = field_of(key, target);
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
        return read_string(key, node, field, file, err);
    case CONFIG_STRINGS:
        return read_strings(node, field, file, err);
    case CONFIG_INTEGER:
        if (node->type != TOML_INTEGER)
            return wrong(node, file, err, "wants an integer");
        if (node->integer < key->least || node->integer > key->most)
            return error_set(err, ERR_INVALID, "%s:%d: %s: %lld is not within %lld and %lld", file, node->line, node->key, (long long)node->integer,
                             (long long)key->least, (long long)key->most);
        *(int64_t *)field = node->integer;
        return 0;
    case CONFIG_BOOLEAN:
        if (node->type != TOML_BOOLEAN)
            return wrong(node, file, err, "wants true or false");
        *(bool *)field = node->integer;
        return 0;
    case CONFIG_TABLES:
        return read_tables(key, node, field, file, err);
    }
    return 0;
}

static bool
names_table(const struct config_key keys[], size_t count, const char *table)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(keys[i].table, table) || (str_starts(keys[i].table, table) && keys[i].table[strlen(table)] == '.'))
            return true;
    return false;
}

static int
read_table(const struct config_key keys[], size_t count, const struct toml_node *table, const char *name, void *target, const char *file,
           struct error *err)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct toml_node *node = &table->children[i];
        const struct config_key *found = NULL;
        for (const struct config_key *key = keys; key < keys + count && !found; key++)
            if (str_eq(key->table, name) && str_eq(key->name, node->key))
                found = key;
        cleanup_free char *below = *name ? str_printf("%s.%s", name, node->key) : str_dup(node->key);
        if (found)
            TRY(read_key(found, node, target, file, err));
        else if (node->type == TOML_TABLE && names_table(keys, count, below))
            TRY(read_table(keys, count, node, below, target, file, err));
        else
            return error_set(err, ERR_INVALID, "%s:%d: unknown key \"%s\"", file, node->line, below);
    }
    return 0;
}

int
config_read_file(const struct config_key keys[], size_t count, void *target, const char *path, struct error *err)
{
    cleanup(toml_freep) struct toml_node *root = TRY_PTR(toml_load(path, err));
    return read_table(keys, count, root, "", target, path, err);
}

static int
is_toml(const struct dirent *entry)
{
    return str_ends(entry->d_name, ".toml") && entry->d_name[0] != '.';
}

static int
read_drop_ins(const struct config_key keys[], size_t count, void *target, const char *dir, struct error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_toml, alphasort);
    if (n < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "read %s", dir);
    int result = 0;
    for (int i = 0; i < n; i++) {
        cleanup_free char *path = str_printf("%s/%s", dir, entries[i]->d_name);
        if (result == 0)
            result = config_read_file(keys, count, target, path, err);
        free(entries[i]);
    }
    free(entries);
    return result;
}

int
config_read(const struct config_key keys[], size_t count, void *target, const char *path, bool must_exist, struct error *err)
{
    struct stat st;
    if (stat(path, &st) == 0)
        TRY(config_read_file(keys, count, target, path, err));
    else if (must_exist || errno != ENOENT)
        return error_errno(err, errno, "configuration %s", path);
    const char *slash = strrchr(path, '/');
    cleanup_free char *dir = str_printf("%.*s/config.d", slash ? (int)(slash - path) : 1, slash ? path : ".");
    return read_drop_ins(keys, count, target, dir, err);
}

static void
print_quoted(const char *s, FILE *out)
{
    (void)fputc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            (void)fputc('\\', out);
        (void)fputc(*s, out);
    }
    (void)fputc('"', out);
}

static void
print_value(const struct config_key *key, const void *field, FILE *out)
{
    switch (key->type) {
    case CONFIG_STRING:
    case CONFIG_PATH:
        print_quoted(*(char *const *)field, out);
        break;
    case CONFIG_STRINGS: {
        const struct strv *list = field;
        (void)fputc('[', out);
        for (size_t i = 0; i < list->count; i++) {
            (void)fputs(i ? ", " : "", out);
            print_quoted(list->items[i], out);
        }
        (void)fputc(']', out);
        break;
    }
    case CONFIG_INTEGER:
        (void)fprintf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case CONFIG_BOOLEAN:
        (void)fputs(*(const bool *)field ? "true" : "false", out);
        break;
    case CONFIG_TABLES:
        break;
    }
}

/* Each item's own table, after its help. */
static void
print_tables(const struct config_key *key, const struct config_tables *tables, FILE *out)
{
    for (size_t i = 0; i < tables->count; i++) {
        const void *item = item_of(key, tables, i);
        (void)fprintf(out, "\n# %s\n[%s.", key->help, key->name);
        print_quoted(*(char *const *)item, out);
        (void)fputs("]\n", out);
        for (const struct config_key *of = key->of->list; of < key->of->list + key->of->count; of++) {
            (void)fprintf(out, "# %s\n%s = ", of->help, of->name);
            print_value(of, (const char *)item + of->offset, out);
            (void)fputc('\n', out);
        }
    }
}

void
config_print(const struct config_key keys[], size_t count, const void *target, FILE *out)
{
    const char *table = "";
    for (const struct config_key *key = keys; key < keys + count; key++) {
        if (key->type == CONFIG_TABLES) {
            print_tables(key, (const void *)((const char *)target + key->offset), out);
            continue;
        }
        if (!str_eq(table, key->table))
            (void)fprintf(out, "\n[%s]\n", table = key->table);
        (void)fprintf(out, "# %s\n%s = ", key->help, key->name);
        print_value(key, (const char *)target + key->offset, out);
        (void)fputc('\n', out);
    }
}

static void
document_type(const struct config_key *key, FILE *out)
{
    static const char *const names[] = {
        [CONFIG_STRING] = "string",   [CONFIG_PATH] = "absolute path", [CONFIG_STRINGS] = "list of strings",
        [CONFIG_INTEGER] = "integer", [CONFIG_BOOLEAN] = "boolean",    [CONFIG_TABLES] = "tables",
    };
    if (key->one_of) {
        cleanup_strv struct strv values = {0};
        strv_split(&values, key->one_of, ' ', true);
        for (size_t i = 0; i < values.count; i++)
            (void)fprintf(out, "%s`\"%s\"`", i ? " or " : "", values.items[i]);
    } else if (key->type == CONFIG_INTEGER)
        (void)fprintf(out, "integer, %lld to %lld", (long long)key->least, (long long)key->most);
    else
        (void)fputs(names[key->type], out);
}

void
config_document(const struct config_key keys[], size_t count, FILE *out)
{
    const char *table = NULL;
    for (const struct config_key *key = keys; key < keys + count; key++) {
        if (key->type == CONFIG_TABLES) {
            config_document(key->of->list, key->of->count, out);
            (void)fprintf(out, "\n%s\n", key->help);
            continue;
        }
        if (!str_eq(table, key->table)) {
            table = key->table;
            if (*table)
                (void)fprintf(out, "\n### [%s]\n", table);
            else
                (void)fputs("\n### Top level\n", out);
            (void)fputs("\n| key | type | default | meaning |\n|---|---|---|---|\n", out);
        }
        struct {
            union {
                char *string;
                struct strv list;
                int64_t integer;
                bool boolean;
            } value;
        } holder = {0};
        struct config_key alone = *key;
        alone.offset = 0;
        config_defaults(&alone, 1, &holder);
        (void)fprintf(out, "| `%s` | ", key->name);
        document_type(key, out);
        (void)fputs(" | `", out);
        print_value(key, &holder, out);
        (void)fprintf(out, "` | %s |\n", key->help);
        config_free(&alone, 1, &holder);
    }
}

static void
free_tables(const struct config_key *key, struct config_tables *tables)
{
    for (size_t i = 0; i < tables->count; i++) {
        void *item = item_of(key, tables, i);
        free(*(char **)item);
        config_free(key->of->list, key->of->count, item);
    }
    free(tables->items);
    *tables = (struct config_tables){0};
}

void
config_free(const struct config_key keys[], size_t count, void *target)
{
    for (const struct config_key *key = keys; key < keys + count; key++) {
        void *field = field_of(key, target);
        if (key->type == CONFIG_STRINGS)
            strv_free(field);
        else if (key->type == CONFIG_STRING || key->type == CONFIG_PATH)
            str_set(field, NULL);
        else if (key->type == CONFIG_TABLES)
            free_tables(key, field);
    }
}
