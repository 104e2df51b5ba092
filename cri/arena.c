#include "cri/arena.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { CHUNK_LEAST = 4096, CHUNK_MOST = 1 << 20, ALIGNMENT = _Alignof(max_align_t) };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    _Alignas(max_align_t) char bytes[];
};

static struct arena_chunk *
chunk_new(struct arena *arena, size_t size)
{
    size_t wanted = arena->chunks ? arena->chunks->size * 2 : CHUNK_LEAST;
    if (wanted > CHUNK_MOST)
        wanted = CHUNK_MOST;
    if (wanted < size)
        wanted = size;
    struct arena_chunk *chunk = mem_alloc(sizeof *chunk + wanted);
    *chunk = (struct arena_chunk){.next = arena->chunks, .size = wanted};
    return arena->chunks = chunk;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
    size_t padded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < padded)
        chunk = chunk_new(arena, padded);
    void *memory = chunk->bytes + chunk->used;
    chunk->used += padded;
    arena->taken_bytes += padded;
    return memset(memory, 0, padded);
}

char *
arena_strdup(struct arena *arena, const char *s)
{
    return s ? strcpy(arena_alloc(arena, strlen(s) + 1), s) : NULL;
}

char *
arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    size_t size = length < 0 ? 1 : (size_t)length + 1;
    char *s = arena_alloc(arena, size);
    (void)vsnprintf(s, size, format, again);
    va_end(again);
    va_end(args);
    return s;
}

void
arena_free(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (arena->secret)
            explicit_bzero(chunk->bytes, chunk->used);
        free(chunk);
    }
    *arena = (struct arena){0};
}

static void *
limited_alloc(void *data, size_t size)
{
    struct arena_allocator *allocator = data;
    size_t left = allocator->limit_bytes - allocator->arena->taken_bytes;
    if (allocator->arena->taken_bytes >= allocator->limit_bytes || size > left) {
        allocator->exhausted = true;
        return NULL;
    }
    return arena_alloc(allocator->arena, size);
}

static void
no_free(void *data, void *memory)
{
    (void)data;
    (void)memory;
}

void
arena_allocator_init(struct arena_allocator *allocator, struct arena *arena, size_t limit_bytes)
{
    *allocator = (struct arena_allocator){.arena = arena, .limit_bytes = limit_bytes};
    allocator->base = (ProtobufCAllocator){.alloc = limited_alloc, .free = no_free, .allocator_data = allocator};
}
