/* Configuration: a table says which keys exist, of which type, where they go; files are read against it. A key that no line of the table names, or a
 * value of the wrong type or out of range, is an error with file and line. The same table makes crispd --print-config and docs/configure.md's list.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/str.h"

enum config_type {
    CONFIG_STRING,  /* char *, owned by the configuration */
    CONFIG_PATH,    /* char *, must be absolute; may be empty where the default is */
    CONFIG_STRINGS, /* struct strv; a later file replaces the whole list */
    CONFIG_INTEGER, /* int64_t within least…most */
    CONFIG_BOOLEAN, /* bool */
    CONFIG_TABLES,  /* struct config_tables: [NAME.X] for as many X as there are, each a struct of its own whose first member is `char *name`: X */
};

struct config_key {
    const char *table; /* "" for the top level, "network", "a.b" for [a.b] */
    const char *name;
    enum config_type type;
    size_t offset;                /* in the target struct */
    const char *fallback;         /* the default, as text; a list's separated by spaces; NULL: empty */
    int64_t least, most;          /* CONFIG_INTEGER */
    const char *one_of;           /* CONFIG_STRING: allowed values separated by spaces, or NULL */
    const char *help;             /* one sentence for people */
    const struct config_keys *of; /* CONFIG_TABLES: the keys of each, all with `table` as in "runtimes.NAME" */
};

struct config_keys {
    const struct config_key *list;
    size_t count, size; /* of the keys; of the struct */
};

struct config_tables {
    void *items;
    size_t count;
};

/* Fill `target` with the defaults. */
void config_defaults(const struct config_key keys[], size_t count, void *target);
/* Read one file over what is there. */
int config_read_file(const struct config_key keys[], size_t count, void *target, const char *path, struct error *err);
/* Read `path` (absent is an error only if must_exist), then `path`'s directory's config.d/ *.toml in the order of their names. */
int config_read(const struct config_key keys[], size_t count, void *target, const char *path, bool must_exist, struct error *err);
/* Print the configuration in force as TOML, each key with its help. */
void config_print(const struct config_key keys[], size_t count, const void *target, FILE *out);
/* The keys with type, default and help as tables of Markdown, one for each [table]. */
void config_document(const struct config_key keys[], size_t count, FILE *out);
void config_free(const struct config_key keys[], size_t count, void *target);
