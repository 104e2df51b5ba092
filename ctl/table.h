/* A table for people: columns as wide as their widest cell, the first row the heads. Control characters that a name from outside may hold are shown
 * as '?', so that nothing can move the cursor of a terminal. */
#pragma once

#include <stdio.h>

#include "base/str.h"

/* Zero-initialized but for `columns` is empty. */
struct table {
    size_t columns;
    struct strv cells;
};

/* Add a row; its cells are copied, NULL shows as "-", and there must be as many as the table has columns. */
#define table_row(table, ...) table_add(table, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
void table_add(struct table *table, const char *const cells[], size_t count);
void table_print(const struct table *table, FILE *out);
void table_free(struct table *table);
#define cleanup_table cleanup(table_free)
