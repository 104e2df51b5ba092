/* What token servers gave, kept until it expires, for all pulls of this process: images of one repository ask for one token.
 *
 * A key is the digest of all that a token depends on, so that nobody gets one by another's credentials. Any thread. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"

struct tokens;

struct tokens *tokens_new(void);
/* Overwrites them. */
void tokens_free(struct tokens *tokens);

/* A copy of the value, which the caller wipes and frees; NULL when there is none, or it is `refused` (may be NULL), which is dropped then. */
char *tokens_find(struct tokens *tokens, const char *key, const char *refused);
/* Good for so many seconds from now, LIMIT_TOKEN_SECONDS_MAX at most. The oldest gives way where there are too many. */
void tokens_keep(struct tokens *tokens, const char *key, const char *value, int64_t seconds);
