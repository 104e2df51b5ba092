/* What Exec, Attach and PortForward asked for, kept under a token until the client comes for it: once, within 60 s, at most 1000 at a time. The token
 * is all that authenticates the client. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum { TOKEN_SIZE = 9, PORTS_MAX = 64 };

enum errand_kind { ERRAND_EXEC, ERRAND_ATTACH, ERRAND_PORT_FORWARD };

struct errand {
    enum errand_kind kind;
    char *id;            /* of the container, or the pod */
    struct strv command; /* ERRAND_EXEC */
    bool tty, in, out, err;
    uint16_t ports[PORTS_MAX]; /* ERRAND_PORT_FORWARD, for clients that cannot name them */
    unsigned port_count;
};

void errand_free(struct errand *errand);

struct tokens;

struct tokens *tokens_new(void);
void tokens_free(struct tokens *tokens);
/* Takes the errand in every case. ERR_EXHAUSTED when too many are outstanding. */
int tokens_add(struct tokens *tokens, struct errand *errand, char token[TOKEN_SIZE], struct error *err);
/* The errand, now the caller's, and never anybody's again; NULL for a token that is unknown, used, too old, or for something else. */
struct errand *tokens_take(struct tokens *tokens, const char *token, enum errand_kind kind);
