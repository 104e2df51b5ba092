/* Manifests: what a registry answers for a tag or digest. Either an index (Docker: manifest list), which names one manifest per platform, or a
 * manifest, which names the configuration and the layers (OCI image spec "Image Index", "Image Manifest"; Docker's schema 2 has the same members). */
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
    char *digest; /* valid */
    int64_t size; /* ≥ 0 */
};

struct platform {
    char *os, *architecture, *variant; /* "" where not given */
};

struct manifest {
    bool is_index;
    struct descriptor config;   /* not of an index */
    struct descriptor *layers;  /* an index: the manifests */
    struct platform *platforms; /* an index: of each */
    size_t count;
    struct strmap annotations;
};

/* Parse; the content itself says what it is, `content_type` helps where it doesn't. ERR_INVALID in words; ERR_UNSUPPORTED for Docker's schema 1 and
 * for layers and configurations of types that are no image. Freed by manifest_free. */
int manifest_parse(const char *text, size_t length, const char *content_type, struct manifest *out, struct error *err);
/* Appends the digests of the layers. */
void manifest_layer_digests(const struct manifest *manifest, struct strv *out);
void manifest_free(struct manifest *manifest);
#define cleanup_manifest cleanup(manifest_free)

/* One member of a list or object of descriptors: `what` names it in errors. ERR_INVALID. Freed by descriptor_free. */
int descriptor_parse(const json_t *object, const char *what, struct descriptor *out, struct error *err);
void descriptor_free(struct descriptor *descriptor);
#define cleanup_descriptor cleanup(descriptor_free)

/* The platform this machine runs, in the words of images: "linux", "amd64", … Freed by platform_free. */
void platform_of_machine(struct platform *out);
void platform_free(struct platform *platform);
#define cleanup_platform cleanup(platform_free)

/* The index's manifest for `wanted`: the best variant that it can run. ERR_NOT_FOUND naming what the index has. */
const struct descriptor *manifest_choose(const struct manifest *index, const struct platform *wanted, struct error *err);
