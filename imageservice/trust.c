#include "imageservice/trust.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/file.h"
#include "imageservice/reference.h"

CLEANUP_DEFINE(bio_freep, BIO *, BIO_free_all)

static int
key_id(EVP_PKEY *key, char id[DIGEST_SIZE])
{
    unsigned char *der = NULL;
    int length = i2d_PUBKEY(key, &der);
    if (length > 0)
        digest_of(NULL, der, (size_t)length, id);
    OPENSSL_free(der);
    return length > 0 ? 0 : -1;
}

/* What cosign signs with (sigstore's algorithm registry). */
static bool
key_is_fit(const EVP_PKEY *key)
{
    int kind = EVP_PKEY_get_base_id(key);
    return (kind == EVP_PKEY_EC || kind == EVP_PKEY_RSA || kind == EVP_PKEY_ED25519) && EVP_PKEY_get_security_bits(key) >= TRUST_KEY_BITS_LEAST;
}

EVP_PKEY *
trust_key(const char *pem, char id[DIGEST_SIZE], struct error *err)
{
    cleanup(bio_freep) BIO *text = BIO_new_mem_buf(pem, -1);
    cleanup(trust_key_freep) EVP_PKEY *key = text ? PEM_read_bio_PUBKEY(text, NULL, NULL, NULL) : NULL;
    ERR_clear_error();
    if (!key || key_id(key, id) < 0)
        (void)error_set(err, ERR_INVALID, "there is no public key in it (PEM, \"BEGIN PUBLIC KEY\")");
    else if (!key_is_fit(key))
        (void)error_set(err, ERR_INVALID, "its key is neither of an elliptic curve nor RSA of 2048 bits or more nor ed25519");
    else
        return steal(key);
    return NULL;
}

/* What a scope says must be the beginning of a name as references have it: what is written otherwise would be a rule that never holds. */
static int
check_scope(const char *scope, struct error *err)
{
    cleanup_reference struct reference parsed = {0};
    if (str_eq(scope, "*") || str_eq(scope, "docker.io"))
        return 0;
    cleanup_free char *example = str_printf("%s/x", scope);
    if (strchr(scope, '@') || reference_parse(example, &parsed, NULL) < 0)
        return error_set(err, ERR_INVALID, "scope \"%.200s\" is neither \"*\" nor a registry nor a repository", scope);
    cleanup_free char *name = reference_name(&parsed);
    return str_eq(name, example)
               ? 0
               : error_set(err, ERR_INVALID, "scope \"%.200s\" lacks its registry: write \"%.*s\"", scope, (int)strlen(name) - 2, name);
}

static int
load_key(const char *path, struct trusted *out, struct error *err)
{
    char id[DIGEST_SIZE];
    cleanup_free char *pem = NULL;
    TRY(file_read(AT_FDCWD, path, TRUST_KEY_BYTES_MAX, &pem, NULL, err));
    cleanup(trust_key_freep) EVP_PKEY *key = trust_key(pem, id, err);
    if (!key)
        return error_prefix(err, "%s", path);
    strv_take(&out->keys, steal(pem));
    strv_add(&out->key_ids, id);
    return 0;
}

static int
load_keys(const struct strv *paths, struct trusted *out, struct error *err)
{
    bool wanted = out->policy == TRUST_SIGNED;
    if (wanted != (paths->count > 0))
        return error_set(err, ERR_INVALID, wanted ? "policy \"signed\" wants keys" : "keys are for policy \"signed\" only");
    if (paths->count > TRUST_KEYS_MAX)
        return error_set(err, ERR_INVALID, "it has %zu keys; the limit is %d", paths->count, TRUST_KEYS_MAX);
    for (size_t i = 0; i < paths->count; i++)
        TRY(load_key(paths->items[i], out, err));
    return 0;
}

static int
load_rule(const struct trust_rule *rule, struct trusted *out, struct error *err)
{
    out->words = str_printf("trust.%.100s (%s, scope %.300s)", rule->name, rule->policy, rule->scope);
    out->scope = str_dup(rule->scope);
    out->policy = str_eq(rule->policy, "accept") ? TRUST_ACCEPT : str_eq(rule->policy, "reject") ? TRUST_REJECT : TRUST_SIGNED;
    strv_copy(&out->namespaces, &rule->namespaces);
    TRY(check_scope(rule->scope, err));
    return load_keys(&rule->keys, out, err);
}

/* Neither would go before the other. */
static bool
collide(const struct trusted *a, const struct trusted *b)
{
    bool both_for_all = a->namespaces.count == 0 && b->namespaces.count == 0;
    return str_eq(a->scope, b->scope) && (both_for_all || strv_share(&a->namespaces, &b->namespaces));
}

int
trust_load(const struct trust_rule rules[], size_t count, struct trust *out, struct error *err)
{
    *out = (struct trust){.rules = mem_zalloc(count, sizeof *out->rules)};
    for (size_t i = 0; i < count; i++) {
        struct trusted *rule = &out->rules[out->count++]; /* freed as far as it is filled */
        if (load_rule(&rules[i], rule, err) < 0)
            return error_prefix(err, "trust.%s", rules[i].name);
        for (size_t other = 0; other < i; other++)
            if (collide(&out->rules[other], rule))
                return error_set(err, ERR_INVALID, "%s and %s are for the same images", out->rules[other].words, rule->words);
    }
    return 0;
}

void
trust_free(struct trust *trust)
{
    for (size_t i = 0; i < trust->count; i++) {
        struct trusted *rule = &trust->rules[i];
        free(rule->words);
        free(rule->scope);
        strv_free(&rule->namespaces);
        strv_free(&rule->keys);
        strv_free(&rule->key_ids);
    }
    free(trust->rules);
    *trust = (struct trust){0};
}

/* How closely the rule is made for it: 0 not at all, else the scope's length first, then whether the namespace is named. */
static size_t
closeness(const struct trusted *rule, const char *repository, const char *pod_namespace)
{
    size_t length = str_eq(rule->scope, "*") ? 0 : strlen(rule->scope);
    bool in_scope = length == 0 || (str_starts(repository, rule->scope) && (!repository[length] || repository[length] == '/'));
    bool named = !str_empty(pod_namespace) && strv_has(&rule->namespaces, pod_namespace);
    return in_scope && (named || rule->namespaces.count == 0) ? 2 * length + 1 + named : 0;
}

const struct trusted *
trust_choose(const struct trust *trust, const char *repository, const char *pod_namespace)
{
    const struct trusted *chosen = NULL;
    size_t best = 0;
    for (size_t i = 0; i < trust->count; i++) {
        size_t close = closeness(&trust->rules[i], repository, pod_namespace);
        if (close > best) {
            best = close;
            chosen = &trust->rules[i];
        }
    }
    return chosen;
}
