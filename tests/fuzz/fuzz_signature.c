/* Payloads, statements and bundles. What is read only after its signature was found good is signed here, so that it is read; what has no such
 * signature must never be taken. */
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "base/base64.h"
#include "imageservice/pull/signature.h"

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define TYPE   "application/vnd.in-toto+json"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *key;
static struct signers signers;

static void
set_up(void)
{
    key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    (void)strcpy(signers.ids[0], DIGEST);
    signers.keys[0] = key;
    signers.count = 1;
    strv_add(&signers.digests, DIGEST);
}

static char *
sign(const void *text, size_t length)
{
    unsigned char signature[64];
    size_t size = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 || EVP_DigestSign(context, signature, &size, text, length) != 1)
        abort();
    EVP_MD_CTX_free(context);
    return base64_encode(signature, size);
}

static void
try_statement(const char *statement, size_t length)
{
    struct error err;
    cleanup_buf struct buf encoded = BUF(1 << 20);
    (void)buf_addf(&encoded, "DSSEv1 %zu %s %zu ", strlen(TYPE), TYPE, length);
    if (!buf_add(&encoded, statement, length))
        return;
    cleanup_free char *payload = base64_encode(statement, length), *signature = sign(encoded.data, encoded.length);
    cleanup_free char *bundle =
        str_printf("{\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"" TYPE "\",\"signatures\":[{\"sig\":\"%s\"}]}}", payload, signature);
    (void)signature_of_bundle(&signers, bundle, strlen(bundle), &err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    if (!key)
        set_up();
    const char *text = (const char *)data;
    cleanup_free char *signature = sign(data, size), *unsigned_one = str_ndup(text, size);
    (void)signature_of_payload(&signers, text, size, signature, &err);
    try_statement(text, size);
    if (signature_of_bundle(&signers, text, size, &err) || signature_of_payload(&signers, text, size, unsigned_one, &err))
        abort();
    return 0;
}
