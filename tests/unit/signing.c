#include "signing.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/str.h"

static void *
made(void *what)
{
    if (!what)
        abort();
    return what;
}

EVP_PKEY *
signing_key(const char *kind)
{
    if (str_starts(kind, "P-"))
        return made(EVP_EC_gen(kind));
    if (str_starts(kind, "RSA"))
        return made(EVP_RSA_gen(str_eq(kind, "RSA") ? 2048 : 1024));
    return made(EVP_PKEY_Q_keygen(NULL, NULL, kind));
}

char *
signing_public_pem(EVP_PKEY *key)
{
    char *text;
    BIO *out = made(BIO_new(BIO_s_mem()));
    (void)PEM_write_bio_PUBKEY(out, key);
    long length = BIO_get_mem_data(out, &text);
    char *pem = str_ndup(text, (size_t)length);
    BIO_free_all(out);
    return pem;
}

char *
signing_sign(EVP_PKEY *key, const char *hash, const char *text, size_t length)
{
    unsigned char signature[1024];
    size_t size = sizeof signature;
    EVP_MD_CTX *context = made(EVP_MD_CTX_new());
    if (EVP_DigestSignInit_ex(context, NULL, hash, NULL, NULL, key, NULL) != 1 ||
        EVP_DigestSign(context, signature, &size, (const unsigned char *)text, length) != 1)
        abort();
    EVP_MD_CTX_free(context);
    return base64_encode(signature, size);
}

char *
signing_payload(const char *type, const char *digest)
{
    return str_printf("{\"critical\":{\"identity\":{\"docker-reference\":\"elsewhere.example/app\"},\"image\":{\"docker-manifest-digest\":\"%s\"},"
                      "\"type\":\"%s\"},\"optional\":null}",
                      digest, type);
}

char *
signing_bundle(EVP_PKEY *key, const char *predicate_type, const char *digest)
{
    static const char type[] = "application/vnd.in-toto+json";
    cleanup_free char *statement = str_printf("{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"digest\":{\"sha256\":\"%s\"}}],"
                                              "\"predicateType\":\"%s\",\"predicate\":{}}",
                                              digest + strlen("sha256:"), predicate_type);
    cleanup_free char *encoded = str_printf("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(statement), statement);
    cleanup_free char *signature = signing_sign(key, "SHA256", encoded, strlen(encoded)), *payload = base64_encode(statement, strlen(statement));
    return str_printf("{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{\"hint\":\"x\"}},"
                      "\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"%s\",\"signatures\":[{\"sig\":\"%s\"}]}}",
                      payload, type, signature);
}
