#include "ctl/table.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

enum { GAP = 2 };

void
table_add(struct table *table, const char *const cells[], size_t count)
{
    assert(count == table->columns);
    for (size_t i = 0; i < count; i++) {
        char *cell = str_dup(str_empty(cells[i]) ? "-" : cells[i]);
        for (char *c = cell; *c; c++) {
            if (iscntrl((unsigned char)*c))
                *c = '?';
        }
        strv_take(&table->cells, cell);
    }
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t
width(const char *s)
{
    size_t characters = 0;
    for (; *s; s++)
        characters += ((unsigned char)*s & 0xc0) != 0x80;
    return characters;
}

static size_t
column_width(const struct table *table, size_t column)
{
    size_t widest = 0;
    for (size_t i = column; i < table->cells.count; i += table->columns) {
        size_t w = width(table->cells.items[i]);
        widest = w > widest ? w : widest;
    }
    return widest;
}

void
table_print(const struct table *table, FILE *out)
{
    for (size_t i = 0; i < table->cells.count; i++) {
        const char *cell = table->cells.items[i];
        size_t column = i % table->columns;
        if (column == table->columns - 1)
            fprintf(out, "%s\n", cell);
        else
            fprintf(out, "%s%*s", cell, (int)(column_width(table, column) - width(cell) + GAP), "");
    }
}

void
table_free(struct table *table)
{
    strv_free(&table->cells);
}
