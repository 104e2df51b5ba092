/* A reference: what a person calls an image, "[registry/]repository[:tag][@digest]".
 *
 * The grammar and the short forms ("busybox", "user/app") are Docker's (distribution/reference): no registry means docker.io, no slash there means
 * library/, neither tag nor digest means latest. With tag and digest the digest decides and the tag is dropped, as containerd's CRI does. */
#pragma once

#include "base/error.h"

struct reference {
    char *registry;   /* "docker.io", "127.0.0.1:5000", "[::1]:5000" */
    char *repository; /* "library/busybox" */
    char *tag;        /* NULL when a digest says which */
    char *digest;     /* "sha256:…", or NULL */
};

/* Fills `out`, which reference_free empties. ERR_INVALID naming the reference. */
int reference_parse(const char *text, struct reference *out, struct error *err);
void reference_free(struct reference *reference);
#define cleanup_reference cleanup(reference_free)

/* "registry/repository:tag" or "registry/repository@digest"; the caller frees. */
char *reference_text(const struct reference *reference);
/* "registry/repository"; the caller frees. */
char *reference_name(const struct reference *reference);
