/* The bytes of a launch spec: what spec_finish writes and launch.c reads. Offsets count from the start of the block; 0 is "none".
 *
 *   struct spec │ struct spec_op × op_count │ strings and lists, each aligned to 8
 *
 * The list of SPEC_EXEC is `argv… 0 envp… 0` as uint64_t offsets of strings; the process that carries it out has a private mapping and turns them
 * into pointers in place. Writer and reader are built together but may be of different versions of crisp: SPEC_VERSION changes with the layout, and
 * an operation's number never changes its meaning (new ones are added before SPEC_OP_COUNT). */
#pragma once

#include "runtime/spec.h"

enum { SPEC_MAGIC = 0x63737063, SPEC_TEXTS = 4, SPEC_NUMBERS = 4 };

struct spec_op {
    uint32_t type;
    uint32_t text[SPEC_TEXTS];
    uint32_t list;
    uint32_t list_bytes;
    uint32_t reserved;
    uint64_t number[SPEC_NUMBERS];
};

struct spec {
    uint32_t magic;
    uint32_t version;
    uint32_t size;
    uint32_t op_count;
    struct spec_op ops[];
};

/* What each operation must have, and its name in dumps; one line an operation. */
struct spec_form {
    const char *name;
    unsigned texts; /* how many are required, from the first */
    enum spec_list { LIST_NONE, LIST_GROUPS, LIST_FILTER, LIST_EXEC } list;
};
extern const struct spec_form spec_forms[SPEC_OP_COUNT];

/* The string of an operation; NULL where there is none. */
static inline const char *
spec_text(const struct spec *spec, const struct spec_op *op, unsigned i)
{
    return op->text[i] ? (const char *)spec + op->text[i] : NULL;
}

static inline const void *
spec_list(const struct spec *spec, const struct spec_op *op)
{
    return op->list ? (const char *)spec + op->list : NULL;
}
