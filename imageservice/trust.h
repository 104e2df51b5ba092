/* Trust: whose images this node takes, by the operator's rules ([trust.NAME] of the configuration).
 *
 * A rule is for a scope, "*" or the beginning of an image's full name up to the end of one of its parts ("registry.example", "registry.example/team",
 * "registry.example/team/app"), and for some namespaces of pods or for all. For an image the longest scope holds, and of two of one scope the one
 * that names the pod's namespace. Without a rule an image is accepted. Read-only once loaded; any thread may ask. */
#pragma once

#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "imageservice/digest.h"

enum {
    TRUST_KEYS_MAX = 16,        /* of one rule: they travel in one message, with a pull's credentials */
    TRUST_KEY_BYTES_MAX = 2048, /* of a key's file: RSA of 8192 bits takes 1,400 */
    TRUST_KEY_BITS_LEAST = 112, /* of security: RSA of 2048 bits (NIST SP 800-57) */
};

/* What the operator wrote; the first member is what config_tables asks for. */
struct trust_rule {
    char *name, *scope, *policy;
    struct strv namespaces, keys; /* "" in neither; keys are paths of PEM files */
};

enum trust_policy { TRUST_ACCEPT, TRUST_REJECT, TRUST_SIGNED };

/* A rule in force. */
struct trusted {
    char *words; /* for people: "trust.prod (signed, scope registry.example/team)" */
    char *scope;
    enum trust_policy policy;
    struct strv namespaces;
    struct strv keys;    /* PEM; at least one of a TRUST_SIGNED */
    struct strv key_ids; /* of each: trust_key's */
};

struct trust {
    struct trusted *rules;
    size_t count;
};

/* Check the rules and read their keys. ERR_INVALID naming rule and key, or the file's error. The caller frees `out` with trust_free in any case. */
int trust_load(const struct trust_rule rules[], size_t count, struct trust *out, struct error *err);
void trust_free(struct trust *trust);
#define cleanup_trust cleanup(trust_free)

/* The rule for "registry/repository" (reference_name) asked for by a pod of that namespace (NULL or "": by none). NULL: there is none. */
const struct trusted *trust_choose(const struct trust *trust, const char *repository, const char *pod_namespace);

/* The public key in a PEM text, and its id: the digest of its SubjectPublicKeyInfo. NULL with ERR_INVALID: none is there, or one of a kind or
 * strength that nobody should sign with. The caller frees it. */
EVP_PKEY *trust_key(const char *pem, char id[DIGEST_SIZE], struct error *err);
CLEANUP_DEFINE(trust_key_freep, EVP_PKEY *, EVP_PKEY_free)
