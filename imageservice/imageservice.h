/* The image service: which images are here, and getting more of them.
 *
 * An image is immutable once found; its names (tags, digests) move. The index is kept in memory and answered from there: lookups and lists never wait
 * for a pull or a disk. Fetching and unpacking happen in crisp-pull (imageservice/pull/), a sandboxed process that serves all pulls of the moment and
 * ends when idle; its crash costs the pulls under way a second try, and nothing else.
 *
 * On disk, below `root`:
 *   images/index.json           the names and images, replaced as a whole
 *   images/blobs/sha256/HEX     manifests and configurations; layer blobs only with keep_layer_blobs
 *   images/partial/             half blobs, for the next pull to go on with
 *   layers/SHORT/               one unpacked layer each; SHORT is a short name (overlayfs takes one page of options for up to 300 of them)
 * A layer is found by its chain id (OCI image spec, "Layer ChainID") and shared by every image that has it.
 *
 * Any thread may call everything here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/str.h"

struct images; /* the service */

/* What the operator configured; copied by images_open. */
struct images_options {
    const char *root;           /* /var/lib/crisp */
    const char *state;          /* /run/crisp: crisp-pull's socket */
    const char *pull_program;   /* path of crisp-pull */
    struct strv certs_dirs;     /* where hosts.toml files are looked for, in this order: /etc/crisp/certs.d, /etc/containerd/certs.d, … */
    struct strv pinned;         /* references that garbage collection shall leave (Image.pinned) */
    int64_t parallel_downloads; /* blobs at once, of all pulls */
    int64_t parallel_downloads_per_pull;
    int64_t stall_seconds, least_bytes_per_second; /* a transfer that brings less in that time is broken off and resumed, or tried elsewhere */
    bool keep_layer_blobs;
};

/* What an image's configuration says about running it (OCI image spec, "Image Configuration", `config`). */
struct image_config {
    struct strv env;
    struct strv entrypoint;
    struct strv cmd;
    char *user;        /* "uid", "name", "uid:gid", …; "" when none */
    char *working_dir; /* "" when none */
    char *stop_signal; /* "SIGTERM", "15"; "" when none */
    struct strmap labels;
    struct strv volumes;
    char *os, *architecture, *variant;
    bool is_artifact; /* there is nothing to run: the manifest stands where the configuration would */
};

/* An image as it was when it was asked for. Read-only, reference-counted, owned by whoever got it; image_release gives it back. */
struct image {
    char *id;                 /* "sha256:<64 hex>": digest of the configuration; of an artifact, of its manifest */
    struct strv repo_tags;    /* "registry/repository:tag", normalized */
    struct strv repo_digests; /* "registry/repository@sha256:…" */
    uint64_t size_bytes;      /* what its layers take on disk */
    bool pinned;
    struct strmap annotations; /* of the manifest */
    struct image_config config;
    char *config_json;  /* the configuration blob, for verbose status */
    struct strv layers; /* short directory names below root/layers, the lowest layer first */
};

/* As runtime.v1.AuthConfig; NULL or "" where not given. Never logged, never part of an error; borrowed for the call. */
struct image_auth {
    const char *username, *password, *auth, *server_address, *identity_token, *registry_token;
};

/* Open the store: make what is missing, load the index (a torn or damaged record is set aside, logged and skipped, never fatal), delete what was
 * being unpacked when the last crispd died. */
int images_open(const struct images_options *options, struct images **out, struct error *err);
/* Ends crisp-pull if it runs; pulls under way fail with ERR_CANCELLED. */
void images_close(struct images *images);

/* Pull `reference` (normalized as Docker does: docker.io, library/, latest) for this machine's platform. Returns the image id, which the caller
 * frees. Pulls of the same image at the same time are one. Returns only after the image was found again under every name it will be asked for and its
 * layers were opened, all of it durable. A caller whose patience ends stops waiting; a pull nobody waits for stops. Errors: ERR_INVALID
 * (reference), ERR_NOT_FOUND (no such repository or tag), ERR_AUTH, ERR_DENIED, ERR_EXHAUSTED (429, disk full), ERR_UNAVAILABLE (registry down),
 * ERR_INTERNAL (digest or size mismatch; crisp-pull died twice), each naming registry, repository, step and the registry's own words. [CRI PullImage]
 */
char *images_pull(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel, struct error *err);

/* Find an image by tag, digest, tag with digest, id ("sha256:…" or bare hex) or unique id prefix. NULL with ERR_NOT_FOUND, ERR_INVALID (malformed,
 * ambiguous prefix). The caller releases it. */
const struct image *images_find(struct images *images, const char *reference, struct error *err);
void image_release(const struct image *image);

/* All images (or those `reference` finds, when not NULL or ""): an array of *count images, each and the array for images_list_free. */
const struct image **images_list(struct images *images, const char *reference, size_t *count);
void images_list_free(const struct image **list, size_t count);

/* Forget an image (all its names when named by id or by its last name, else that name only) and delete the layers nobody else needs and no container
 * holds. What is not there is no error. [CRI RemoveImage] */
int images_remove(struct images *images, const char *reference, struct error *err);

/* A container keeps what it runs on, whatever happens to the image's names: hold its layers under the container's id, until images_unhold. Holds are
 * not on disk: after a restart cri/ holds again for every container it finds, then calls images_collect. Holding twice under one id is one hold. */
int images_hold(struct images *images, const struct strv *layers, const char *holder, struct error *err);
/* Layers that nobody needs then are deleted, soon, beside the caller. */
void images_unhold(struct images *images, const char *holder);
/* Delete layers and blobs that no image and no holder needs. */
void images_collect(struct images *images);

/* Where layers are: root/layers, owned by the service. */
const char *images_layers_dir(const struct images *images);

/* What images take: bytes and inodes, from memory (sizes are computed once, at commit). */
void images_usage(struct images *images, uint64_t *bytes, uint64_t *inodes);

/* "busybox" → "docker.io/library/busybox:latest"; "a@sha256:…" keeps its digest without a tag. Caller frees. ERR_INVALID in words that name the
 * reference. The rules are those of Docker's reference grammar (distribution/reference). */
char *reference_normalize(const char *reference, struct error *err);
