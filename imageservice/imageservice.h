/* The image service: which images are here, and getting more of them.
 *
 * An image is immutable once found; its names (tags, digests) move. The index is kept in memory and answered from there: lookups and lists never wait
 * for a pull or a disk. Fetching and unpacking happen in crisp-pull (imageservice/pull/), a sandboxed process that serves all pulls of the moment and
 * ends when idle; its crash costs the pulls under way a second try, and nothing else.
 *
 * On disk, below `root`:
 *   images/index.json           the names and images, replaced as a whole; index.json.copy for the day it can't be read
 *   images/blobs/sha256/HEX     (or sha512) manifests and configurations; layer blobs only with keep_layer_blobs
 *   images/vouched/             what speaks for an image: who signed it (vouch.c)
 *   images/imported             which archives of a directory were imported
 *   images/partial/             half blobs, for the next pull to go on with
 *   images/incoming/            where crisp-pull unpacks, a directory for each one that was started; gone with it
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
#include "imageservice/trust.h"

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
    const struct trust_rule *trust; /* whose images are taken */
    size_t trust_count;
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
    char *config_json;     /* the configuration blob, for verbose status */
    struct strv layers;    /* short directory names below root/layers, the lowest layer first */
    uint64_t *layer_bytes; /* what each takes on disk */
};

/* Who asks: as runtime.v1.AuthConfig, and the namespace of the pod; NULL or "" where not given. What is secret of it is never logged, never part of
 * an error; borrowed for the call. */
struct image_auth {
    const char *username, *password, *auth, *server_address, *identity_token, *registry_token;
    const char *pod_namespace; /* whose rules of trust hold */
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
 * ERR_INTERNAL (digest or size mismatch; crisp-pull died twice), ERR_SIGNATURE (a rule of trust refuses it), each naming registry, repository, step
 * and the registry's own words. [CRI PullImage]
 */
char *images_pull(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel, struct error *err);

/* The same, and `account` (empty) tells of every request: which host, why, trusted by whose word, as whom, what it answered; never a secret. Also on
 * failure. Such a pull is shared with nobody. */
char *images_pull_explained(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel,
                            struct strv *account, struct error *err);

/* What to import: a file, pipe or socket, borrowed for the call, that has what docker save writes, or an OCI image layout as a tar; plain, gzip or
 * zstd. */
struct images_import {
    int archive;
    const char *name; /* instead of the archive's names, for an archive of one image; NULL or "": those */
    bool digests;     /* name images by digest as well, in archives that know no digests: that of the manifest made for them */
};

/* Import the images of an archive that this machine runs: all of them, or none and an error. Verified, unpacked and recorded as pulled ones are;
 * their ids are added to `ids`; should the disk fail while they are recorded, those before stay, and are in `ids`. One without a name is there under
 * its id. A caller whose patience ends stops the import. ERR_INVALID for an archive that is damaged or none, ERR_NOT_FOUND for one without an image
 * for this machine, ERR_EXHAUSTED, ERR_INTERNAL (digest mismatch; crisp-pull died).
 */
int images_import(struct images *images, const struct images_import *import, const struct cancel *cancel, struct strv *ids, struct error *err);

/* Import the archives in a directory, in the order of their names, beside the caller: each once, and again when it has changed. One that is bad is
 * logged and skipped, and tried again at the next start. Their images are not pinned. To be stopped before images_close; what is under way then ends.
 */
struct importer;
struct importer *importer_start(struct images *images, const char *path, struct error *err);
void importer_stop(struct importer *importer);

/* Write the images that the references find into `archive` (a file, pipe or socket; borrowed): an OCI image layout as a tar, with a manifest.json for
 * docker beside. An image named by a tag has that name in it, else all its tags. Layers whose blobs are not kept are made anew, with new digests:
 * `notes` (empty) then gets a sentence for each such image. What was written before a failure stays. ERR_NOT_FOUND, ERR_INVALID (references),
 * ERR_PRECONDITION (an artifact; nothing is written), ERR_INTERNAL (a blob is damaged), or the errno of writing. */
int images_export(struct images *images, const struct strv *references, int archive, const struct cancel *cancel, struct strv *notes,
                  struct error *err);

/* Find an image by tag, digest, tag with digest, id ("sha256:…" or bare hex) or unique id prefix. NULL with ERR_NOT_FOUND, ERR_INVALID (malformed,
 * ambiguous prefix). The caller releases it. */
const struct image *images_find(struct images *images, const char *reference, struct error *err);
/* The same for a pod that wants to run or mount it: unless a rule of trust refuses it. `asked_as` is what the pod calls it ("" or NULL: `reference`).
 * No registry is asked: what counts is whether a good signature was found when it was pulled, or that it was imported. ERR_SIGNATURE. */
const struct image *images_find_trusted(struct images *images, const char *reference, const char *asked_as, const char *pod_namespace,
                                        struct error *err);
void image_release(const struct image *image);
/* Its id, also of an image that is damaged, which is neither found nor listed until it is pulled again. The caller frees. */
char *images_id(struct images *images, const char *reference, struct error *err);

/* All images (or those `reference` finds, when not NULL or ""): an array of *count images, each and the array for images_list_free. */
const struct image **images_list(struct images *images, const char *reference, size_t *count);
void images_list_free(const struct image **list, size_t count);

/* Forget an image (all its names when named by id or by its last name, else that name only) and delete the layers nobody else needs and no container
 * holds. What is not there is no error. [CRI RemoveImage] */
int images_remove(struct images *images, const char *reference, struct error *err);

/* Give the image that `reference` finds one more name, taken from whoever has it; durable. `name` is normalized; the caller frees what it then is.
 * ERR_NOT_FOUND (reference), ERR_INVALID (either; a name with a digest, as that can't be chosen). */
char *images_tag(struct images *images, const char *reference, const char *name, struct error *err);

/* A container keeps what it runs on, whatever happens to the image's names: hold its layers under the container's id, until images_unhold. Holds are
 * not on disk: after a restart cri/ holds again for every container it finds, then calls images_collect. Holding twice under one id is one hold. */
int images_hold(struct images *images, const struct strv *layers, const char *holder, struct error *err);
/* Layers that nobody needs then are deleted, soon, beside the caller. */
void images_unhold(struct images *images, const char *holder);
/* Delete layers and blobs that no image and no holder needs. */
void images_collect(struct images *images);

/* Where layers are: root/layers, owned by the service. */
const char *images_layers_dir(const struct images *images);

/* What images take: bytes and inodes. Of layers from memory (sizes are computed once, at commit); of blobs and half downloads as they lie there, so
 * that this may wait for the disk. */
void images_usage(struct images *images, uint64_t *bytes, uint64_t *inodes);

/* ---- Looking after the store ---- */

/* Something that is not as it was when it was pulled; the strings are borrowed for the call. */
struct images_finding {
    const char *image;  /* a name of the image that it was found in */
    const char *object; /* "layer sha256:…", "manifest sha256:…" */
    const char *words;  /* what is wrong with it, and what keeps it so */
    bool mended;
};
typedef void images_found(void *arg, const struct images_finding *finding);

struct images_checked {
    uint64_t objects, bytes;
};

/* Read an image, or all with NULL or "": manifests, configurations and kept packed layers are compared with their digests, unpacked layers with what
 * was taken when they were unpacked. What is damaged is marked, so that its images are neither found nor listed; with `mend` it is pulled again,
 * without credentials and layer by layer, beside the old one, which containers keep that run on it. Reads at idle priority; takes as long as it
 * takes. `found` is called at the end, also of a check that fails (with the caller's patience, or for want of fds). */
int images_check(struct images *images, const char *reference, bool mend, const struct cancel *cancel, images_found *found, void *arg,
                 struct images_checked *checked, struct error *err);

/* Delete layers, blobs and half downloads that no image, container or pull needs, or, with dry_run, only tell of them. What is told of without is
 * gone. Not before images_collect was called. */
typedef void images_garbage_found(void *arg, const char *kind, const char *name, uint64_t bytes);
void images_gc(struct images *images, bool dry_run, images_garbage_found *found, void *arg);

/* How much of that there is, from memory: looked at after each collection and every ten minutes. */
struct images_garbage {
    uint64_t items, bytes;
};
struct images_garbage images_garbage(struct images *images);

/* "busybox" → "docker.io/library/busybox:latest"; "a@sha256:…" keeps its digest without a tag. Caller frees. ERR_INVALID in words that name the
 * reference. The rules are those of Docker's reference grammar (distribution/reference). */
char *reference_normalize(const char *reference, struct error *err);
