/* Manifests: what a registry answers for a tag or digest. Either an index (Docker: manifest list), which names one manifest per platform, or a
 * manifest, which names the configuration and the layers (OCI image spec "Image Index", "Image Manifest"; Docker's schema 2 has the same members).
 *
 * A manifest whose configuration is none of an image is that of an artifact (a model, a chart, …): it can be mounted, not run. Each of its blobs is a
 * file, named by the blob's annotation org.opencontainers.image.title, whatever its type says (ORAS gives files the type of a tar), or by its digest;
 * an archive only where ORAS's annotation io.deis.oras.content.unpack says so, or where the type is a layer's and there is no title. An artifact has
 * no configuration of its own here: its manifest stands for it, so that the manifest's digest is its id. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

enum {
    MANIFEST_LAYERS_MAX = 400, /* what overlayfs mounts (short names in one page of options) and one message holds */
    MANIFEST_DEPTH_MAX = 4,
};

/* The Accept header for all that we read. */
extern const char manifest_accept[];

struct descriptor {
    char *media_type;
    char *digest;     /* valid */
    int64_t size;     /* ≥ 0 */
    char *title;      /* of an artifact's blob: the path of the file that it is; NULL: it is an archive */
    struct strv urls; /* where else it can be had */
};

struct platform {
    char *os, *architecture, *variant, *os_version; /* "" where not given */
};

struct manifest {
    bool is_index, is_artifact;
    struct descriptor config;   /* not of an index */
    struct descriptor *layers;  /* an index: the manifests */
    struct platform *platforms; /* an index: of each */
    size_t count;
    struct strmap annotations;
};

/* Parse; the content itself says what it is, `content_type` helps where it doesn't. ERR_INVALID in words; ERR_UNSUPPORTED for Docker's schema 1 and
 * for layers of types that nobody knows. Freed by manifest_free. */
int manifest_parse(const char *text, size_t length, const char *content_type, struct manifest *out, struct error *err);
/* Appends the digests of the layers. */
void manifest_layer_digests(const struct manifest *manifest, struct strv *out);
/* Appends for each layer of an artifact what stands for the diff id that it hasn't: it says what is made of which blob. */
void manifest_artifact_ids(const struct manifest *manifest, struct strv *out);
void manifest_free(struct manifest *manifest);
#define cleanup_manifest cleanup(manifest_free)

/* One member of a list or object of descriptors: `what` names it in errors. ERR_INVALID. Freed by descriptor_free. */
int descriptor_parse(const json_t *object, const char *what, struct descriptor *out, struct error *err);
struct descriptor descriptor_copy(const struct descriptor *descriptor); /* freed likewise */
void descriptor_free(struct descriptor *descriptor);
#define cleanup_descriptor cleanup(descriptor_free)

/* The platform this machine runs, in the words of images: "linux", "amd64", … Freed by platform_free. */
void platform_of_machine(struct platform *out);
void platform_free(struct platform *platform);
#define cleanup_platform cleanup(platform_free)

/* The index's manifest for `wanted`: the best variant that it can run, rather one that asks for no version of the system (os.version: kernels are
 * compatible). Then an index without a platform, which may have one in it; then the only manifest that doesn't say its platform. ERR_NOT_FOUND naming
 * what the index has. */
const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *wanted, struct error *err);
/* The next best after that; NULL when there is none. */
const struct descriptor *manifest_choose_after(const struct manifest *index, const struct platform *wanted, const struct descriptor *chosen);
/* Does the index leave open what this one runs on? */
bool manifest_is_without_platform(const struct manifest *index, const struct descriptor *chosen);
