/* Signatures of images, as cosign makes them with a key pair. Two forms:
 *
 * - Simple signing (cosign's SIGNATURE_SPEC.md): a payload, {"critical": {"identity", "image": {"docker-manifest-digest"}, "type"}, "optional"}, and
 *   beside it a signature of its bytes.
 * - A sigstore bundle, JSON of which the DSSE envelope counts (secure-systems-lab/dsse): its payload is an in-toto statement of predicateType
 *   https://sigstore.dev/cosign/sign/v1 whose subject is the image. Attestations have the same form and other types: they are no signatures.
 *
 * What is signed is read only after the signature was found good. Neither the identity (docker-reference) is compared, as an image keeps its
 * signature when it is copied to another registry, nor are certificates and transparency logs read: the keys are what is trusted. */
#pragma once

#include <openssl/evp.h>

#include "base/error.h"
#include "base/str.h"
#include "imageservice/trust.h"

/* Whose signatures count, and of what. */
struct signers {
    EVP_PKEY *keys[TRUST_KEYS_MAX];
    char ids[TRUST_KEYS_MAX][DIGEST_SIZE];
    size_t count;
    struct strv digests; /* those of the image: one of them must be what is signed */
};

/* One more key, in PEM. ERR_INVALID. */
int signers_add(struct signers *signers, const char *pem, struct error *err);
void signers_free(struct signers *signers);

/* The id of the key that made it, which is the signers'; NULL with ERR_SIGNATURE saying what is wrong with it. `signature` is in base64. */
const char *signature_of_payload(const struct signers *signers, const char *payload, size_t length, const char *signature, struct error *err);
const char *signature_of_bundle(const struct signers *signers, const char *bundle, size_t length, struct error *err);
