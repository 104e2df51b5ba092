/* TOML (toml.io, v1.0), read by toml++ and handed over as a plain tree whose tables list their keys in the order of the source lines (hosts.toml's
 * hosts are tried in that order, as containerd documents). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum toml_type { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_INTEGER, TOML_BOOLEAN, TOML_FLOAT, TOML_DATE };

struct toml_node {
    enum toml_type type;
    int line;                   /* where it stands in the file, from 1 */
    char *key;                  /* NULL in arrays and at the root */
    char *string;               /* TOML_STRING */
    int64_t integer;            /* TOML_INTEGER; TOML_BOOLEAN as 0 or 1 */
    double number;              /* TOML_FLOAT */
    struct toml_node *children; /* TOML_TABLE, TOML_ARRAY */
    size_t count;
};

/* Parse a file's text. ERR_INVALID with "NAME:LINE: …" in the words of the parser. The caller frees with toml_free. */
struct toml_node *toml_parse(const char *text, size_t length, const char *name, struct error *err);
/* Read and parse a file of at most 1 MiB. */
struct toml_node *toml_load(const char *path, struct error *err);
void toml_free(struct toml_node *root);

/* A table's child by key; NULL when absent or `table` is NULL or no table. */
const struct toml_node *toml_get(const struct toml_node *table, const char *key);
/* "table", "string", … for messages. */
const char *toml_type_name(enum toml_type type);
