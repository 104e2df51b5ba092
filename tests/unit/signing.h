/* Keys and signatures as cosign's, made in the test. What is returned is the caller's to free. */
#pragma once

#include <openssl/evp.h>
#include <stddef.h>

/* "P-256", "P-384", "RSA" (of 2048 bits), "RSA-1024", "ED25519" */
EVP_PKEY *signing_key(const char *kind);
char *signing_public_pem(EVP_PKEY *key);
/* In base64; `hash` is SHA256 …, NULL for ED25519. */
char *signing_sign(EVP_PKEY *key, const char *hash, const char *text, size_t length);
/* A payload of simple signing that says `type` of the image `digest`. */
char *signing_payload(const char *type, const char *digest);
/* A bundle of an in-toto statement of that type about the image ("sha256:HEX"), signed by `key` with SHA256. */
char *signing_bundle(EVP_PKEY *key, const char *predicate_type, const char *digest);

#define COSIGN_TYPE      "cosign container image signature"
#define COSIGN_PREDICATE "https://sigstore.dev/cosign/sign/v1"
#define SIGNATURE_KEY    "dev.cosignproject.cosign/signature"
