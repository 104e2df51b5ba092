/* Who the pull is for: a user's credentials, for which hosts they are, and what they are turned into for a registry that asks. */
#pragma once

#include "imageservice/digest.h"
#include "imageservice/imageservice.h"
#include "imageservice/pull/challenge.h"
#include "imageservice/pull/hosts.h"

struct credentials {
    char *username, *password, *identity_token, *registry_token, *server_address; /* NULL where not given */
};

/* `auth` is "user:password" in base64 where username is not given (Docker's config.json). ERR_INVALID without its content. */
int credentials_read(const struct image_auth *auth, struct credentials *out, struct error *err);
/* Overwrites the secrets. */
void credentials_free(struct credentials *credentials);
#define cleanup_credentials cleanup(credentials_free)

/* Were they given for this host? For the registry itself, unless server_address names another (patterns as in Docker's config.json allowed); for a
 * mirror only when server_address names it. */
bool credentials_are_for(const struct credentials *credentials, const char *registry, const struct host *host);

/* Who asks for a token, and what for. */
struct token_request {
    const struct credentials *credentials; /* NULL: anonymously */
    const struct challenge *challenge;
    const struct host *host;
    const char *repository;
};

/* The value of the Authorization header that answers the challenge; from the token server where it is Bearer: *seconds is how long that is good for
 * (0 for what is no such token). The caller wipes and frees. NULL: ERR_AUTH where credentials are wanted and there are none, the token server's
 * refusal, ERR_UNAVAILABLE. */
char *credentials_answer(const struct token_request *request, struct http *http, const struct http_scope *scope, int64_t *seconds, struct error *err);
/* The digest of all that a token for the request depends on. */
void credentials_token_key(const struct token_request *request, char out[DIGEST_SIZE]);

/* What a failed request means to the caller, with the server's own words: 401 → ERR_AUTH, 403 → ERR_DENIED, 404 → ERR_NOT_FOUND, 429 → ERR_EXHAUSTED,
 * 5xx → ERR_UNAVAILABLE, else ERR_INTERNAL. Always -1. */
int response_refused(const struct http_response *response, struct error *err);
