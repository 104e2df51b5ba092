/* What a stranger's bytes may cost, with the reason. crisp-pull's memory stays below 64 MiB whatever the image,
 * but for LIMIT_ZSTD_LARGE_WINDOW_LOG. */
#pragma once

enum {
    LIMIT_MANIFEST_BYTES = 4 << 20,    /* manifests and configurations; what registries take (distribution spec) */
    LIMIT_SIGNATURE_BYTES = 1 << 20,   /* a payload has 300, a bundle with certificate and log entries 10,000 */
    LIMIT_SIGNATURES = 64,             /* tried for one pull: an image signed anew each day for two months */
    LIMIT_ENVELOPE_SIGNATURES = 8,     /* in one DSSE envelope; cosign makes one */
    LIMIT_ERROR_BODY_BYTES = 16 << 10, /* of a registry's error answer */
    LIMIT_TOKEN_BYTES = 64 << 10,      /* a token server's answer */
    LIMIT_PARTIAL_BYTES = 8 << 20,     /* of a smaller blob nothing is kept when its pull breaks off */
    LIMIT_TOKENS = 64,                 /* kept for pulls to come */
    LIMIT_TOKEN_SECONDS = 60,          /* that a token is good for whose server doesn't say (distribution spec) */
    LIMIT_TOKEN_SECONDS_MAX = 86400,   /* … whatever its server says */
    LIMIT_ENTRIES = 8 << 20,           /* of one layer: more inodes than an image has use for */
    LIMIT_DEPTH = 512,                 /* directories in one path */
    LIMIT_ZSTD_WINDOW_LOG = 23,        /* 8 MiB: RFC 8878 asks decoders for that much; times the layers unpacked at once */
    LIMIT_ZSTD_LARGE_WINDOW_LOG = 27,  /* 128 MiB: what the zstd program takes, and older builders' better levels ask for; one stream at a time */
    LIMIT_UNPACKED_AT_ONCE = 3,        /* layers: two cores, and one waiting for the disk */
    LIMIT_DOWNLOADS = 16,              /* blobs at once: each has a ring for packed bytes */
    LIMIT_REDIRECTS = 5,
    LIMIT_UNWATCHED_BYTES = 16 << 20,   /* unpacked between two looks at the disk's free space */
    LIMIT_ENTRY_BYTES = 4096,           /* that an entry counts there beside its contents */
    LIMIT_ATTEMPTS = 5,                 /* of one request at one host without a byte of progress */
    LIMIT_WAIT_SECONDS = 20,            /* longest Retry-After that is waited for */
    LIMIT_BUNDLE_ENTRIES = 64 << 10,    /* files in an archive of images: 100 images of 400 layers, and their manifests */
    LIMIT_BUNDLE_NAMES_BYTES = 8 << 20, /* of all their names, which are kept in memory */
    LIMIT_BUNDLE_IMAGES = 400,
    LIMIT_BUNDLE_IMAGE_NAMES_BYTES = 16 << 10, /* of one image: beside its layers in one message */
    LIMIT_BUNDLE_DOCUMENT_BYTES = 16 << 20,    /* of all their manifests, and of all their configurations, kept until the last image is whole */
    LIMIT_URLS = 4,                            /* of a layer that the registry hasn't */
    RING_PACKED_BYTES = 512 << 10,
    RING_PLAIN_BYTES = 1 << 20,
};

#define LIMIT_LAYER_BYTES (INT64_C(1) << 40) /* unpacked; the disk's fullness usually comes first */
