/* What crisp-pull locks itself into before it reads a byte of anybody's: a mount namespace that shows only what pulling needs, the few capabilities
 * that unpacking needs, no_new_privs, and a list of system calls. */
#pragma once

#include "base/error.h"
#include "base/str.h"

/* Below the new root. */
#define SANDBOX_INCOMING "/store/incoming" /* read and write; no devices, no setuid, no exec */
#define SANDBOX_PARTIAL  "/store/partial"  /* likewise */
#define SANDBOX_LAYERS   "/store/layers"   /* read only */
#define SANDBOX_BLOBS    "/store/blobs"    /* read only */

struct sandbox {
    const char *incoming, *partial, *layers, *blobs; /* on the host */
    const struct strv *certs_dirs;                   /* seen, read-only, at their own paths */
    const struct strv *certificates;                 /* files and directories that are named in there; likewise */
};

/* While the process has one thread. Afterwards all paths but the above are gone. */
int sandbox_enter(const struct sandbox *sandbox, struct error *err);
