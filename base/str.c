#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static void *
alive(void *memory)
{
    if (!memory) {
        (void)fputs("level=fatal msg=\"out of memory\"\n", stderr);
        abort();
    }
    return memory;
}

void *
mem_alloc(size_t size)
{
    return alive(malloc(size ? size : 1));
}

void *
mem_zalloc(size_t count, size_t size)
{
    return alive(calloc(count ? count : 1, size ? size : 1));
}

void *
mem_realloc(void *memory, size_t count, size_t size)
{
    return alive(reallocarray(memory, count ? count : 1, size ? size : 1));
}

void *
mem_dup(const void *memory, size_t size)
{
    void *copy = mem_alloc(size);
    if (size)
        memcpy(copy, memory, size);
    return copy;
}

char *
str_dup(const char *s)
{
    return s ? alive(strdup(s)) : NULL;
}

char *
str_ndup(const char *s, size_t length)
{
    return alive(strndup(s, length));
}

__attribute__((format(printf, 1, 0))) static char *
format_new(const char *format, va_list args)
{
    char *s = NULL;
    if (vasprintf(&s, format, args) < 0)
        s = NULL;
    return alive(s);
}

char *
str_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *s = format_new(format, args);
    va_end(args);
    return s;
}

bool
str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool
str_empty(const char *s)
{
    return !s || !*s;
}

bool
str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
str_ends(const char *s, const char *suffix)
{
    size_t length = strlen(s), tail = strlen(suffix);
    return length >= tail && memcmp(s + length - tail, suffix, tail) == 0;
}

/* How many bytes the character takes that begins here; 0 when it is malformed. */
static size_t
utf8_length(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char least, most; /* first byte */
        unsigned char second_least, second_most;
        size_t length;
    } forms[] = {
        {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (s[0] < forms[i].least || s[0] > forms[i].most)
            continue;
        size_t length = forms[i].length;
        if (length > left || (length > 1 && (s[1] < forms[i].second_least || s[1] > forms[i].second_most)))
            return 0;
        for (size_t at = 2; at < length; at++)
            if ((s[at] & 0xc0) != 0x80)
                return 0;
        return length;
    }
    return 0;
}

bool
str_utf8_valid(const char *s, size_t length)
{
    for (size_t at = 0, step; at < length; at += step) {
        step = utf8_length((const unsigned char *)s + at, length - at);
        if (step == 0)
            return false;
    }
    return true;
}

void
str_set(char **field, const char *value)
{
    free(*field);
    *field = str_dup(value);
}

void
str_wipe_free(char *s)
{
    if (!s)
        return;
    explicit_bzero(s, strlen(s));
    free(s);
}

int
str_to_u64(const char *s, uint64_t max, const char *what, uint64_t *out, struct error *err)
{
    uint64_t value = 0;
    const char *at = s;
    for (; at && *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10U, &value) || __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return error_set(err, ERR_INVALID, "%s: \"%s\" is too large", what, s);
    if (!at || at == s || *at)
        return error_set(err, ERR_INVALID, "%s: \"%s\" is not a whole number", what, s ? s : "");
    if (value > max)
        return error_set(err, ERR_INVALID, "%s: %s is more than %llu", what, s, (unsigned long long)max);
    *out = value;
    return 0;
}

int
str_to_i64(const char *s, const char *what, int64_t *out, struct error *err)
{
    bool negative = s && *s == '-';
    uint64_t magnitude;
    TRY(str_to_u64(negative ? s + 1 : s, negative ? (uint64_t)INT64_MAX + 1 : INT64_MAX, what, &magnitude, err));
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return 0;
}

void
strv_take(struct strv *list, char *s)
{
    list->items = mem_realloc(list->items, list->count + 2, sizeof *list->items);
    list->items[list->count++] = s;
    list->items[list->count] = NULL;
}

void
strv_add(struct strv *list, const char *s)
{
    strv_take(list, str_dup(s));
}

void
strv_addf(struct strv *list, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    strv_take(list, format_new(format, args));
    va_end(args);
}

void
strv_copy(struct strv *to, const struct strv *from)
{
    for (size_t i = 0; i < from->count; i++)
        strv_add(to, from->items[i]);
}

bool
strv_has(const struct strv *list, const char *s)
{
    for (size_t i = 0; i < list->count; i++)
        if (str_eq(list->items[i], s))
            return true;
    return false;
}

bool
strv_share(const struct strv *a, const struct strv *b)
{
    for (size_t i = 0; i < a->count; i++)
        if (strv_has(b, a->items[i]))
            return true;
    return false;
}

void
strv_split(struct strv *list, const char *s, char separator, bool skip_empty)
{
    for (;;) {
        const char *end = strchrnul(s, separator);
        if (end > s || !skip_empty)
            strv_take(list, str_ndup(s, (size_t)(end - s)));
        if (!*end)
            return;
        s = end + 1;
    }
}

static int
compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void
strv_sort(struct strv *list)
{
    if (list->count)
        qsort(list->items, list->count, sizeof *list->items, compare_strings);
}

void
strv_free(struct strv *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct strv){0};
}

void
strmap_set(struct strmap *map, const char *key, const char *value)
{
    for (size_t i = 0; i < map->count; i++)
        if (str_eq(map->entries[i].key, key)) {
            free(map->entries[i].value);
            map->entries[i].value = str_dup(value);
            return;
        }
    map->entries = mem_realloc(map->entries, map->count + 1, sizeof *map->entries);
    map->entries[map->count++] = (struct strmap_entry){str_dup(key), str_dup(value)};
}

const char *
strmap_get(const struct strmap *map, const char *key)
{
    for (size_t i = 0; i < map->count; i++)
        if (str_eq(map->entries[i].key, key))
            return map->entries[i].value;
    return NULL;
}

void
strmap_copy(struct strmap *to, const struct strmap *from)
{
    for (size_t i = 0; i < from->count; i++)
        strmap_set(to, from->entries[i].key, from->entries[i].value);
}

void
strmap_free(struct strmap *map)
{
    for (size_t i = 0; i < map->count; i++) {
        free(map->entries[i].key);
        free(map->entries[i].value);
    }
    free(map->entries);
    *map = (struct strmap){0};
}

static bool
buf_reserve(struct buf *b, size_t more)
{
    if (more > b->limit || b->length > b->limit - more)
        return false;
    size_t needed = b->length + more + 1;
    if (needed <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity < needed)
        capacity *= 2;
    b->data = mem_realloc(b->data, capacity, 1);
    b->capacity = capacity;
    return true;
}

bool
buf_add(struct buf *b, const void *data, size_t length)
{
    if (!buf_reserve(b, length))
        return false;
    if (length)
        memcpy(b->data + b->length, data, length);
    b->length += length;
    b->data[b->length] = '\0';
    return true;
}

bool
buf_adds(struct buf *b, const char *s)
{
    return buf_add(b, s, strlen(s));
}

bool
buf_addf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cleanup_free char *s = format_new(format, args);
    va_end(args);
    return buf_adds(b, s);
}

void
buf_consume(struct buf *b, size_t length)
{
    memmove(b->data, b->data + length, b->length - length);
    b->length -= length;
    b->data[b->length] = '\0';
}

void
buf_free(struct buf *b)
{
    free(b->data);
    b->data = NULL;
    b->length = b->capacity = 0;
}
