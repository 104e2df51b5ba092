/* What bundle.c (where things lie in the archive) and bundle_images.c (what they mean) share. */
#pragma once

#include <stdatomic.h>

#include "imageservice/pull/bundle.h"

/* A file of the archive, or a link to one. */
struct bundle_entry {
    char *name; /* cleaned: no leading "./" */
    char *link; /* the name it stands for, cleaned; NULL */
    int64_t offset, size;
};

/* docker-archive names files, not digests: which file a digest of ours stands for. */
struct bundle_alias {
    char digest[DIGEST_SIZE];
    const struct bundle_entry *entry;
};

struct bundle {
    atomic_uint refs;
    int file;
    struct bundle_entry *entries;
    size_t count, names_bytes;
    struct bundle_alias *aliases;
    size_t alias_count;
};

/* The last entry of that name (as tar has it), through a link; NULL when there is none. */
const struct bundle_entry *bundle_find(const struct bundle *bundle, const char *name);
const struct bundle_entry *bundle_find_blob(const struct bundle *bundle, const char *digest);
/* A small file: of LIMIT_MANIFEST_BYTES at most, else ERR_INVALID. The caller frees. */
int bundle_read(const struct bundle *bundle, const struct bundle_entry *entry, char **text, size_t *length, struct error *err);
/* The digest of all of it. */
int bundle_digest(const struct bundle *bundle, const struct bundle_entry *entry, const struct http_scope *scope, char out[DIGEST_SIZE],
                  struct error *err);
void bundle_add_alias(struct bundle *bundle, const char *digest, const struct bundle_entry *entry);
