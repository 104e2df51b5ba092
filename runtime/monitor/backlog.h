/* What a nonblocking container has written while its log could not take it: pieces in their order, in a ring of so many bytes. Only the loop uses it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct backlog {
    char *bytes; /* NULL: there is none, the container waits for its log */
    size_t size, from, used;
};

struct backlog_piece {
    int64_t read_ns; /* wall clock */
    uint64_t lost;   /* bytes of the stream that were lost in front of it */
    uint32_t length;
    bool is_err;
};

/* Map it; 0 or an errno. Size 0: none. Its memory is touched as it is used, and given back when it is empty. */
int backlog_open(struct backlog *backlog, size_t size);
void backlog_close(struct backlog *backlog);
/* False where there is no room for all of it. */
bool backlog_put(struct backlog *backlog, const struct backlog_piece *piece, const char *data);
/* What comes next; false: nothing. */
bool backlog_peek(const struct backlog *backlog, struct backlog_piece *piece);
/* Take it out: piece->length bytes into data. */
void backlog_take(struct backlog *backlog, struct backlog_piece *piece, char *data);
