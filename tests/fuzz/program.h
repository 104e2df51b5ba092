/* A fuzzer's input read as a program: numbers, and paths that are put together from a few words that matter. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct program {
    const uint8_t *data;
    size_t size;
};

/* What paths are made of. */
struct vocabulary {
    const char *absolute, *up; /* what some begin with: a place outside, and the way up to one */
    const char *const *words;
    size_t count;
};

/* 0 at the end. */
static inline uint8_t
next(struct program *p)
{
    if (!p->size)
        return 0;
    p->size--;
    return *p->data++;
}

static inline void
make_path(struct program *p, const struct vocabulary *v, char *out, size_t size)
{
    size_t at = 0;
    unsigned count = next(p);
    *out = '\0';
    if (count & 0x40)
        at += (size_t)snprintf(out, size, "%s", count & 0x20 ? v->absolute : v->up);
    for (unsigned i = 0; i < count % 6; i++)
        at += (size_t)snprintf(out + at, size - at, "/%s", v->words[next(p) % v->count]);
    if ((count & 0x80) && *out)
        memmove(out, out + 1, strlen(out));
}
