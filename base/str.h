/* Strings: allocation that cannot fail (out of memory ends the process; crispd's successor finds the pods again), lists of
 * strings, and a buffer with a limit from its birth. Not for the monitor's steady state, which allocates nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"

/* Like malloc, calloc, realloc, strdup, strndup, asprintf; the caller frees. str_dup(NULL) is NULL. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t count, size_t size);
void *mem_realloc(void *memory, size_t count, size_t size);
void *mem_dup(const void *memory, size_t size);
char *str_dup(const char *s);
char *str_ndup(const char *s, size_t length);
char *str_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_empty(const char *s);             /* NULL or "" */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool str_utf8_valid(const char *s, size_t length);
/* Replace a field by a copy of `value`, which may be NULL, and free what was there. */
void str_set(char **field, const char *value);
/* Overwrite a secret before it is freed; `s` may be NULL. */
void str_wipe_free(char *s);

/* Numbers from outside are parsed here and nowhere else: the whole string, decimal, no sign unless signed, no overflow; ERR_INVALID naming `what`
 * otherwise. */
int str_to_u64(const char *s, uint64_t max, const char *what, uint64_t *out, struct error *err);
int str_to_i64(const char *s, const char *what, int64_t *out, struct error *err);

/* A list of strings: items[count] is always NULL, so that it serves as argv. Zero-initialized is empty. Owns its strings. */
struct strv {
    char **items;
    size_t count;
};

void strv_add(struct strv *list, const char *s); /* copies */
void strv_take(struct strv *list, char *s);      /* takes ownership */
void strv_addf(struct strv *list, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strv_copy(struct strv *to, const struct strv *from); /* appends copies */
bool strv_has(const struct strv *list, const char *s);
bool strv_share(const struct strv *a, const struct strv *b); /* is a string of one in the other? */
/* Split at each `separator`; empty pieces are kept unless skip_empty. */
void strv_split(struct strv *list, const char *s, char separator, bool skip_empty);
void strv_sort(struct strv *list); /* byte by byte */
void strv_free(struct strv *list); /* leaves it empty and usable */
#define cleanup_strv cleanup(strv_free)

/* An ordered map of strings (labels, annotations). Setting an existing key replaces its value. */
struct strmap {
    struct strmap_entry {
        char *key;
        char *value;
    } * entries;
    size_t count;
};

void strmap_set(struct strmap *map, const char *key, const char *value);
const char *strmap_get(const struct strmap *map, const char *key); /* NULL when absent; owned by the map */
void strmap_copy(struct strmap *to, const struct strmap *from);
void strmap_free(struct strmap *map);
#define cleanup_strmap cleanup(strmap_free)

/* A growing byte buffer that refuses to grow beyond `limit` bytes. data is always NUL-terminated once something was added. */
struct buf {
    char *data;
    size_t length;
    size_t capacity;
    size_t limit;
};

#define BUF(limit_bytes) ((struct buf){.limit = (limit_bytes)})
/* Append; false and unchanged when it would exceed the limit. */
bool buf_add(struct buf *b, const void *data, size_t length);
bool buf_adds(struct buf *b, const char *s);
bool buf_addf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t length); /* drop the first bytes */
void buf_free(struct buf *b);
#define cleanup_buf cleanup(buf_free)
