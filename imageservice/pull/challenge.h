/* WWW-Authenticate: what a registry wants to see (RFC 9110 §11.6.1; distribution spec, "token authentication"). */
#pragma once

#include "base/str.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
    enum challenge_scheme scheme;
    char *realm, *service, *scope; /* NULL where not given */
};

/* The best challenge of all the headers' values: Bearer before Basic; CHALLENGE_NONE when there is none that we know. Malformed parts are skipped. */
void challenge_choose(const struct strv *headers, struct challenge *out);
void challenge_free(struct challenge *challenge);
#define cleanup_challenge cleanup(challenge_free)
