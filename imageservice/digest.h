/* Digests: "sha256:<64 hex>" or "sha512:<128 hex>" (OCI image spec, "Digests"; the two registered algorithms). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum { DIGEST_SIZE = 7 + 128 + 1 };

bool digest_valid(const char *text);

/* "sha256-HEX": a file's name. */
void digest_as_name(const char *digest, char out[DIGEST_SIZE]);
/* "sha256/HEX": where a blob stands in a directory of blobs (OCI image layout). */
void digest_as_path(const char *digest, char out[DIGEST_SIZE]);
/* "blobs/sha256/HEX"; the caller frees. */
char *blob_path(const char *digest);

/* Adds bytes up; the algorithm is that of `like`. */
struct digest;

/* `like` is a valid digest, or NULL for sha256. Out of memory ends the process. The caller frees. */
struct digest *digest_new(const char *like);
void digest_add(struct digest *digest, const void *data, size_t length);
/* The text of all that was added; nothing may be added after. */
void digest_finish(struct digest *digest, char out[DIGEST_SIZE]);
void digest_free(struct digest *digest);
CLEANUP_DEFINE(digest_freep, struct digest *, digest_free)

/* The digest of these bytes, by the algorithm of `like`. */
void digest_of(const char *like, const void *data, size_t length, char out[DIGEST_SIZE]);

/* The chain id of a layer with `diff_id` upon the chain `parent` (NULL or "" for the lowest): OCI image spec, "Layer ChainID". */
void digest_chain(const char *parent, const char *diff_id, char out[DIGEST_SIZE]);
