/* What crispd and crisp-pull say to each other, over one SOCK_SEQPACKET socket (base/message.h). The serial of every message is that of the pull it
 * is about.
 *
 *   crispd                                  crisp-pull
 *   PULL_START ─────────────────────────────▶ resolves the reference to a manifest, looks for its signature, reads the configuration
 *        ◀──────────────────────── PULL_LAYERS  which of these chain ids are there?
 *   PULL_HAVE ──────────────────────────────▶ fetches and unpacks the missing ones below images/incoming/SESSION, flushes them
 *        ◀────────────────────────── PULL_DONE  or PULL_FAILED, which is the last of this pull
 *   PULL_COMMITTED ─────────────────────────▶ forgets the pull, whether recording the image succeeded or not, and gives its layers to no later one;
 *                                             what crispd did not take away is deleted
 *
 *   PULL_CANCEL at any time ────────────────▶ ends it; PULL_FAILED follows, unless PULL_DONE was on its way
 *
 * PULL_IMPORT begins the same for each image of an archive: all are unpacked first, then there is a PULL_DONE and a PULL_COMMITTED for each of them.
 *
 * PULL_EXPORT has no such talk: PULL_EXPORTED or PULL_FAILED ends it. Its request is JSON: {"images": [{"manifest": DIGEST, "names": [NAME…],
 * "layers": [directory below layers/…]}…]}.
 *
 * crispd ends crisp-pull by closing the socket. Both are of one build: crispd starts the crisp-pull it was installed with. */
#pragma once

enum pull_message {
    PULL_START = 1,
    PULL_LAYERS = 2,
    PULL_HAVE = 3,
    PULL_DONE = 4, /* fds: the manifest, the configuration */
    PULL_FAILED = 5,
    PULL_COMMITTED = 6,
    PULL_CANCEL = 7,
    PULL_IMPORT = 8, /* instead of PULL_START; fd: the archive */
    PULL_EXPORT = 9, /* instead of PULL_START; fds: where to write, the request */
    PULL_EXPORTED = 10,
    PULL_ACCOUNT = 11, /* before PULL_DONE or PULL_FAILED of a PULL_START with PULL_EXPLAIN: what it did */
};

enum pull_field {
    PULL_REFERENCE = 1, /* normalized. PULL_IMPORT: the only name of the only image, if there is one. PULL_DONE of an import: repeated, its names */
    PULL_USERNAME = 2,
    PULL_PASSWORD = 3,
    PULL_AUTH = 4,
    PULL_SERVER_ADDRESS = 5,
    PULL_IDENTITY_TOKEN = 6,
    PULL_REGISTRY_TOKEN = 7,
    PULL_CHAIN = 8,        /* repeated: chain ids, the lowest layer first */
    PULL_NAME = 9,         /* repeated, for each chain id: PULL_HAVE: its directory below layers/, "" when it is missing */
    PULL_INCOMING = 10,    /* repeated, for each chain id: its directory below the session's, "" when it was there */
    PULL_BYTES = 11,       /* repeated, for each chain id */
    PULL_INODES = 12,      /* repeated, for each chain id */
    PULL_REPO_DIGEST = 13, /* of what the reference names: the index's, where there is one. PULL_START: repeated, what it named when it was pulled */
    PULL_MANIFEST_DIGEST = 14, /* PULL_START: of what is here for these */
    PULL_CONFIG_DIGEST = 15,
    PULL_ERROR_KIND = 16,
    PULL_ERROR_ERRNO = 17,
    PULL_ERROR_MESSAGE = 18,
    PULL_BLOB = 19,      /* repeated, for each chain id, with keep_layer_blobs: "kept" where the blob is whole below images/partial, else "" */
    PULL_DIGESTS = 20,   /* PULL_IMPORT: 1: name images by digest as well where the archive knows no digests */
    PULL_MORE = 21,      /* PULL_DONE: 1: another image of the archive follows */
    PULL_NOTE = 22,      /* PULL_EXPORTED, PULL_ACCOUNT: repeated: what the caller should know */
    PULL_EXPLAIN = 23,   /* PULL_START: 1: send a PULL_ACCOUNT */
    PULL_RULE = 24,      /* PULL_START: the rule of trust that wants a signature, in words */
    PULL_KEY = 25,       /* PULL_START: repeated: the keys of which one must have signed, in PEM */
    PULL_SIGNED_BY = 26, /* PULL_DONE: the id of the one that has */
    PULL_TREE = 27,      /* repeated, for each chain id: the digest of the unpacked tree, "" when it was there */
};

enum { PULL_SOCKET_FD = 3 }; /* where crisp-pull finds its end */
