/* An arena: the memory of one call. What is taken from it is given back all at once, when the call is over. Not for several threads at a time. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct arena {
    struct arena_chunk *chunks;
    size_t taken_bytes;
    bool secret; /* holds credentials: wiped before it is freed */
};

/* Zeroed, aligned for any type; never NULL. It lives as long as the arena. */
void *arena_alloc(struct arena *arena, size_t size);
char *arena_strdup(struct arena *arena, const char *s); /* NULL is NULL */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *arena);

/* protobuf-c's allocator over an arena: it has no more once `limit_bytes` are taken, and then says so in `exhausted`. Freeing does nothing. */
struct arena_allocator {
    ProtobufCAllocator base;
    struct arena *arena;
    size_t limit_bytes;
    bool exhausted;
};
void arena_allocator_init(struct arena_allocator *allocator, struct arena *arena, size_t limit_bytes);
