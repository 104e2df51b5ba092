#include "imageservice/pull/signature.h"

#include <openssl/err.h>
#include <string.h>

#include "base/base64.h"
#include "imageservice/json.h"
#include "imageservice/pull/limits.h"

int
signers_add(struct signers *signers, const char *pem, struct error *err)
{
    if (signers->count == TRUST_KEYS_MAX)
        return error_set(err, ERR_INVALID, "more than %d keys", TRUST_KEYS_MAX);
    signers->keys[signers->count] = TRY_PTR(trust_key(pem, signers->ids[signers->count], err));
    signers->count++;
    return 0;
}

void
signers_free(struct signers *signers)
{
    for (size_t i = 0; i < signers->count; i++)
        EVP_PKEY_free(signers->keys[i]);
    strv_free(&signers->digests);
    signers->count = 0;
}

static bool
verifies(EVP_PKEY *key, const EVP_MD *hash, const char *text, size_t length, const char *signature, size_t signature_length)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestVerifyInit(context, NULL, hash, NULL, key) == 1 &&
                EVP_DigestVerify(context, (const unsigned char *)signature, signature_length, (const unsigned char *)text, length) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good;
}

/* cosign signs with SHA-256 whatever the key; by sigstore's algorithm registry the longer curves have the longer hashes. Ed25519 hashes itself. */
static bool
made_by(EVP_PKEY *key, const char *text, size_t length, const char *signature, size_t signature_length)
{
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
        return verifies(key, NULL, text, length, signature, signature_length);
    return verifies(key, EVP_sha256(), text, length, signature, signature_length) ||
           verifies(key, EVP_sha384(), text, length, signature, signature_length) ||
           verifies(key, EVP_sha512(), text, length, signature, signature_length);
}

static const char *
maker(const struct signers *signers, const char *text, size_t length, const char *signature, struct error *err)
{
    cleanup_free char *bytes = NULL;
    size_t bytes_length;
    if (base64_decode(signature, &bytes, &bytes_length, err) < 0) {
        (void)error_set(err, ERR_SIGNATURE, "it is no base64");
        return NULL;
    }
    for (size_t i = 0; i < signers->count; i++)
        if (made_by(signers->keys[i], text, length, bytes, bytes_length))
            return signers->ids[i];
    (void)error_set(err, ERR_SIGNATURE, "none of the keys has made it, or what it signs was changed");
    return NULL;
}

static json_t *
parse(const char *text, size_t length, const char *what, struct error *err)
{
    json_t *root = json_parse(text, length, what, err);
    if (!root)
        (void)error_as(err, ERR_SIGNATURE);
    return root;
}

/* A string below objects within objects; "" where there is none. */
static const char *
text_at(const json_t *object, const char *first, const char *second, const char *third)
{
    const json_t *value = json_object_get(object, first);
    value = second ? json_object_get(value, second) : value;
    value = third ? json_object_get(value, third) : value;
    return json_is_string(value) ? json_string_value(value) : "";
}

static int
check_payload(const struct signers *signers, const char *payload, size_t length, struct error *err)
{
    cleanup_json json_t *root = TRY_PTR(parse(payload, length, "what is signed", err));
    const char *type = text_at(root, "critical", "type", NULL), *digest = text_at(root, "critical", "image", "docker-manifest-digest");
    if (!str_eq(type, "cosign container image signature"))
        return error_set(err, ERR_SIGNATURE, "what is signed is no image, but \"%.100s\"", type);
    return strv_has(&signers->digests, digest) ? 0 : error_set(err, ERR_SIGNATURE, "it is of another image, %.140s", digest);
}

const char *
signature_of_payload(const struct signers *signers, const char *payload, size_t length, const char *signature, struct error *err)
{
    const char *id = TRY_PTR_OR_NULL(maker(signers, payload, length, signature, err));
    TRY_OR_NULL(check_payload(signers, payload, length, err));
    return id;
}

/* in-toto's digests are {"sha256": "HEX"}. */
static bool
is_of_one(const struct signers *signers, const json_t *subject)
{
    for (size_t i = 0; i < signers->digests.count; i++) {
        const char *digest = signers->digests.items[i], *colon = strchr(digest, ':');
        cleanup_free char *algorithm = str_ndup(digest, (size_t)(colon - digest));
        if (str_eq(text_at(subject, "digest", algorithm, NULL), colon + 1))
            return true;
    }
    return false;
}

static int
check_statement(const struct signers *signers, const char *text, size_t length, struct error *err)
{
    cleanup_json json_t *root = TRY_PTR(parse(text, length, "what is signed", err));
    const char *type = text_at(root, "predicateType", NULL, NULL);
    if (!str_starts(text_at(root, "_type", NULL, NULL), "https://in-toto.io/Statement/v"))
        return error_set(err, ERR_SIGNATURE, "what is signed is no in-toto statement");
    if (!str_eq(type, "https://sigstore.dev/cosign/sign/v1"))
        return error_set(err, ERR_SIGNATURE, "what is signed is no image, but \"%.100s\"", type);
    size_t i;
    const json_t *subject;
    json_array_foreach(json_object_get(root, "subject"), i, subject)
    {
        if (is_of_one(signers, subject))
            return 0;
    }
    return error_set(err, ERR_SIGNATURE, "it is of another image");
}

/* DSSE v1, "Pre-Authentication Encoding": what is signed for a payload and its type. */
static char *
encode(const char *type, const char *payload, size_t length, size_t *out_length)
{
    cleanup_free char *head = str_printf("DSSEv1 %zu %s %zu ", strlen(type), type, length);
    size_t head_length = strlen(head);
    char *out = mem_alloc(head_length + length + 1);
    memcpy(out, head, head_length);
    memcpy(out + head_length, payload, length);
    *out_length = head_length + length;
    return out;
}

static const char *
maker_of_envelope(const struct signers *signers, const json_t *envelope, const char *payload, size_t length, struct error *err)
{
    size_t signed_length;
    cleanup_free char *text = encode(text_at(envelope, "payloadType", NULL, NULL), payload, length, &signed_length);
    const json_t *list = json_object_get(envelope, "signatures");
    const char *id = NULL;
    (void)error_set(err, ERR_SIGNATURE, "its envelope has no signature");
    for (size_t i = 0; i < json_array_size(list) && i < LIMIT_ENVELOPE_SIGNATURES && !id; i++)
        id = maker(signers, text, signed_length, text_at(json_array_get(list, i), "sig", NULL, NULL), err);
    return id;
}

const char *
signature_of_bundle(const struct signers *signers, const char *bundle, size_t length, struct error *err)
{
    cleanup_json json_t *root = TRY_PTR_OR_NULL(parse(bundle, length, "it", err));
    const json_t *envelope = json_object_get(root, "dsseEnvelope");
    cleanup_free char *payload = NULL;
    size_t payload_length;
    if (!str_eq(text_at(envelope, "payloadType", NULL, NULL), "application/vnd.in-toto+json") ||
        base64_decode(text_at(envelope, "payload", NULL, NULL), &payload, &payload_length, err) < 0) {
        (void)error_set(err, ERR_SIGNATURE, "it has no DSSE envelope with an in-toto statement");
        return NULL;
    }
    const char *id = TRY_PTR_OR_NULL(maker_of_envelope(signers, envelope, payload, payload_length, err));
    TRY_OR_NULL(check_statement(signers, payload, payload_length, err));
    return id;
}
