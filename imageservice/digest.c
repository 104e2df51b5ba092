#include "imageservice/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

struct digest {
    EVP_MD_CTX *context;
    const char *algorithm;
};

bool
digest_valid(const char *text)
{
    size_t hex = str_starts(text, "sha256:") ? 64 : str_starts(text, "sha512:") ? 128 : 0;
    return hex && strspn(text + 7, "0123456789abcdef") == hex && text[7 + hex] == '\0';
}

void
digest_as_name(const char *digest, char out[DIGEST_SIZE])
{
    (void)snprintf(out, DIGEST_SIZE, "%s", digest);
    out[strcspn(out, ":")] = '-';
}

void
digest_as_path(const char *digest, char out[DIGEST_SIZE])
{
    (void)snprintf(out, DIGEST_SIZE, "%s", digest);
    out[strcspn(out, ":")] = '/';
}

char *
blob_path(const char *digest)
{
    char path[DIGEST_SIZE];
    digest_as_path(digest, path);
    return str_printf("blobs/%s", path);
}

struct digest *
digest_new(const char *like)
{
    bool wide = like && str_starts(like, "sha512:");
    struct digest *digest = mem_zalloc(1, sizeof *digest);
    digest->algorithm = wide ? "sha512" : "sha256";
    digest->context = EVP_MD_CTX_new();
    if (!digest->context || EVP_DigestInit_ex(digest->context, wide ? EVP_sha512() : EVP_sha256(), NULL) != 1)
        abort(); /* only for want of memory */
    return digest;
}

void
digest_add(struct digest *digest, const void *data, size_t length)
{
    (void)EVP_DigestUpdate(digest->context, data, length);
}

void
digest_finish(struct digest *digest, char out[DIGEST_SIZE])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    (void)EVP_DigestFinal_ex(digest->context, sum, &length);
    int at = snprintf(out, DIGEST_SIZE, "%s:", digest->algorithm);
    for (unsigned i = 0; i < length; i++)
        at += snprintf(out + at, DIGEST_SIZE - (size_t)at, "%02x", sum[i]);
}

void
digest_free(struct digest *digest)
{
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

void
digest_of(const char *like, const void *data, size_t length, char out[DIGEST_SIZE])
{
    cleanup(digest_freep) struct digest *digest = digest_new(like);
    digest_add(digest, data, length);
    digest_finish(digest, out);
}

void
digest_chain(const char *parent, const char *diff_id, char out[DIGEST_SIZE])
{
    char text[2 * DIGEST_SIZE + 1];
    if (str_empty(parent))
        (void)snprintf(out, DIGEST_SIZE, "%s", diff_id);
    else
        digest_of(NULL, text, (size_t)snprintf(text, sizeof text, "%s %s", parent, diff_id), out);
}
