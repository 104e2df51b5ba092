/* Signatures of images and the keys and rules of trust they are held against. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>

#include "base/file.h"
#include "imageservice/pull/signature.h"
#include "signing.h"

#define IMAGE "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define INDEX "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OTHER "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

static struct error err;

static void
add_signer(struct signers *signers, EVP_PKEY *key)
{
    cleanup_free char *pem = signing_public_pem(key);
    if (signers_add(signers, pem, &err) < 0)
        fail_msg("%s", err.message);
}

static void
refused(const char *id, const char *words)
{
    assert_null(id);
    assert_int_equal(err.kind, ERR_SIGNATURE);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" should say \"%s\"", err.message, words);
}

/* ---- Simple signing ---- */

static void
every_kind_of_key_that_cosign_has_is_good(void **state)
{
    static const char *const kinds[][2] = {{"P-256", "SHA256"}, {"P-384", "SHA256"}, {"P-384", "SHA384"}, {"P-521", "SHA512"},
                                           {"RSA", "SHA256"},   {"RSA", "SHA512"},   {"ED25519", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct signers signers = {0};
        cleanup(trust_key_freep) EVP_PKEY *key = signing_key(kinds[i][0]), *another = signing_key("P-256");
        add_signer(&signers, another);
        add_signer(&signers, key);
        strv_add(&signers.digests, INDEX);
        strv_add(&signers.digests, IMAGE);
        cleanup_free char *payload = signing_payload(COSIGN_TYPE, IMAGE);
        cleanup_free char *signature = signing_sign(key, kinds[i][1], payload, strlen(payload));
        const char *id = signature_of_payload(&signers, payload, strlen(payload), signature, &err);
        if (!id)
            fail_msg("%s with %s: %s", kinds[i][0], kinds[i][1], err.message);
        assert_ptr_equal(id, signers.ids[1]);
        assert_true(digest_valid(id));
        signers_free(&signers);
    }
}

static void
what_is_signed_must_be_this_image(void **state)
{
    static const struct {
        const char *type, *digest, *words;
    } payloads[] = {
        {COSIGN_TYPE, OTHER, "of another image, " OTHER},
        {COSIGN_TYPE, "", "of another image"},
        {"atomic container signature", IMAGE, "is no image, but \"atomic container signature\""},
        {"", IMAGE, "is no image"},
    };
    (void)state;
    struct signers signers = {0};
    cleanup(trust_key_freep) EVP_PKEY *key = signing_key("P-256"), *stranger = signing_key("P-256");
    add_signer(&signers, key);
    strv_add(&signers.digests, IMAGE);
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        cleanup_free char *payload = signing_payload(payloads[i].type, payloads[i].digest);
        cleanup_free char *signature = signing_sign(key, "SHA256", payload, strlen(payload));
        refused(signature_of_payload(&signers, payload, strlen(payload), signature, &err), payloads[i].words);
    }
    static const char *const nonsense[] = {"", "[]", "{", "{}", "{\"critical\":[]}", "{\"critical\":{\"type\":\"" COSIGN_TYPE "\",\"image\":7}}"};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        cleanup_free char *signature = signing_sign(key, "SHA256", nonsense[i], strlen(nonsense[i]));
        refused(signature_of_payload(&signers, nonsense[i], strlen(nonsense[i]), signature, &err), "");
    }
    cleanup_free char *payload = signing_payload(COSIGN_TYPE, IMAGE), *foreign = signing_sign(stranger, "SHA256", payload, strlen(payload));
    refused(signature_of_payload(&signers, payload, strlen(payload), foreign, &err), "none of the keys");
    refused(signature_of_payload(&signers, payload, strlen(payload), "", &err), "none of the keys");
    refused(signature_of_payload(&signers, payload, strlen(payload), "!", &err), "base64");
    cleanup_free char *good = signing_sign(key, "SHA256", payload, strlen(payload));
    assert_non_null(signature_of_payload(&signers, payload, strlen(payload), good, &err));
    payload[strlen(payload) - 2] ^= 1;
    refused(signature_of_payload(&signers, payload, strlen(payload), good, &err), "changed");
    signers_free(&signers);
}

/* ---- Bundles ---- */

static void
a_bundle_counts_as_a_signature_if_it_is_one(void **state)
{
    (void)state;
    struct signers signers = {0};
    cleanup(trust_key_freep) EVP_PKEY *key = signing_key("P-256"), *stranger = signing_key("P-256");
    add_signer(&signers, key);
    strv_add(&signers.digests, IMAGE);
    cleanup_free char *good = signing_bundle(key, COSIGN_PREDICATE, IMAGE);
    if (!signature_of_bundle(&signers, good, strlen(good), &err))
        fail_msg("%s", err.message);
    cleanup_free char *foreign = signing_bundle(stranger, COSIGN_PREDICATE, IMAGE), *other = signing_bundle(key, COSIGN_PREDICATE, OTHER);
    cleanup_free char *attestation = signing_bundle(key, "https://slsa.dev/provenance/v1", IMAGE);
    refused(signature_of_bundle(&signers, foreign, strlen(foreign), &err), "none of the keys");
    refused(signature_of_bundle(&signers, other, strlen(other), &err), "of another image");
    refused(signature_of_bundle(&signers, attestation, strlen(attestation), &err), "is no image, but \"https://slsa.dev/provenance/v1\"");
    char *payload = strstr(good, "\"payload\":\"") + strlen("\"payload\":\"");
    payload[40] = payload[40] == 'A' ? 'B' : 'A';
    refused(signature_of_bundle(&signers, good, strlen(good), &err), "changed");
    static const char *const nonsense[] = {
        "",
        "{}",
        "{\"dsseEnvelope\":7}",
        "{\"dsseEnvelope\":{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"e30=\"}}",
        "{\"messageSignature\":{\"signature\":\"\"}}",
    };
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
        refused(signature_of_bundle(&signers, nonsense[i], strlen(nonsense[i]), &err), "");
    signers_free(&signers);
}

/* ---- Rules ---- */

static char directory[64];

static int
set_up(void **state)
{
    (void)state;
    (void)strcpy(directory, "/var/tmp/crisp-test-trust.XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    return file_remove_tree(AT_FDCWD, directory, NULL);
}

/* Writes a file and gives its path. */
static char *
file_of(const char *name, const char *text)
{
    char *path = str_printf("%s/%s", directory, name);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err), 0);
    return path;
}

static char *
key_file(const char *name, const char *kind)
{
    cleanup(trust_key_freep) EVP_PKEY *key = signing_key(kind);
    cleanup_free char *pem = signing_public_pem(key);
    return file_of(name, pem);
}

#define LIST(...) ((struct strv){(char *[]){__VA_ARGS__, NULL}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)})

static void
the_longest_scope_holds_and_then_the_namespace(void **state)
{
    (void)state;
    const struct trust_rule rules[] = {
        {"all", "*", "reject", {0}, {0}},
        {"host", "registry.example:5000", "accept", {0}, {0}},
        {"team", "registry.example:5000/team", "reject", {0}, {0}},
        {"app", "registry.example:5000/team/app", "accept", {0}, {0}},
        {"dev", "registry.example:5000/team", "accept", LIST("dev", "test"), {0}},
        {"hub", "docker.io/library", "accept", {0}, {0}},
    };
    static const struct {
        const char *repository, *pod_namespace, *words;
    } wanted[] = {
        {"registry.example:5000/x", "", "trust.host (accept, scope registry.example:5000)"},
        {"registry.example:5000/team", "", "trust.team (reject, scope registry.example:5000/team)"},
        {"registry.example:5000/team/x", NULL, "trust.team (reject, scope registry.example:5000/team)"},
        {"registry.example:5000/team2/x", "", "trust.host (accept, scope registry.example:5000)"},
        {"registry.example:5000/team/app", "prod", "trust.app (accept, scope registry.example:5000/team/app)"},
        {"registry.example:5000/team/app/x", "", "trust.app (accept, scope registry.example:5000/team/app)"},
        {"registry.example:5000/team/apps", "", "trust.team (reject, scope registry.example:5000/team)"},
        {"registry.example:5000/team/apps", "test", "trust.dev (accept, scope registry.example:5000/team)"},
        {"registry.example:5000/team/apps", "prod", "trust.team (reject, scope registry.example:5000/team)"},
        {"registry.example:50001/x", "", "trust.all (reject, scope *)"},
        {"registry.example/x", "", "trust.all (reject, scope *)"},
        {"docker.io/library/busybox", "", "trust.hub (accept, scope docker.io/library)"},
    };
    cleanup_trust struct trust trust = {0};
    if (trust_load(rules, sizeof rules / sizeof *rules, &trust, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        assert_string_equal(trust_choose(&trust, wanted[i].repository, wanted[i].pod_namespace)->words, wanted[i].words);
    struct trust none = {0};
    assert_null(trust_choose(&none, "registry.example/x", "dev"));
}

static void
mistakes_in_rules_are_told(void **state)
{
    (void)state;
    cleanup_free char *good = key_file("good", "P-256"), *weak = key_file("weak", "RSA-1024"), *x25519 = key_file("kind", "X25519");
    cleanup_free char *text = file_of("text", "this is no key"), *large = str_printf("%5000s", "x"), *huge = file_of("huge", large);
    const struct {
        struct trust_rule rule;
        const char *words;
    } mistakes[] = {
        {{"a", "*", "signed", {0}, {0}}, "trust.a: policy \"signed\" wants keys"},
        {{"a", "*", "accept", {0}, LIST(good)}, "trust.a: keys are for policy \"signed\" only"},
        {{"a", "*", "signed", {0}, LIST(good, "/no/such/key")}, "/no/such/key"},
        {{"a", "*", "signed", {0}, LIST(text)}, "no public key"},
        {{"a", "*", "signed", {0}, LIST(huge)}, huge},
        {{"a", "*", "signed", {0}, LIST(weak)}, "RSA of 2048"},
        {{"a", "*", "signed", {0}, LIST(x25519)}, "elliptic curve"},
        {{"a", "busybox", "reject", {0}, {0}}, "scope \"busybox\" lacks its registry: write \"docker.io/busybox\""},
        {{"a", "registry.example/app:1", "reject", {0}, {0}}, "scope \"registry.example/app:1\" is neither"},
        {{"a", "registry.example/app@" IMAGE, "reject", {0}, {0}}, "is neither"},
        {{"a", "registry.example/", "reject", {0}, {0}}, "is neither"},
        {{"a", "*.example", "reject", {0}, {0}}, "is neither"},
        {{"a", "", "reject", {0}, {0}}, "is neither"},
        {{"a", "registry.example/same", "reject", {0}, {0}}, "are for the same images"},
        {{"a", "registry.example/same", "reject", LIST("x", "two"), {0}}, "are for the same images"},
    };
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const struct trust_rule rules[] = {
            {"b", "registry.example/same", "accept", {0}, {0}}, {"c", "registry.example/same", "accept", LIST("one", "two"), {0}}, mistakes[i].rule};
        cleanup_trust struct trust trust = {0};
        if (trust_load(rules, 3, &trust, &err) == 0)
            fail_msg("taken: %s", mistakes[i].words);
        if (!strstr(err.message, mistakes[i].words))
            fail_msg("\"%s\" should say \"%s\"", err.message, mistakes[i].words);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_key_that_cosign_has_is_good),
        cmocka_unit_test(what_is_signed_must_be_this_image),
        cmocka_unit_test(a_bundle_counts_as_a_signature_if_it_is_one),
        cmocka_unit_test(the_longest_scope_holds_and_then_the_namespace),
        cmocka_unit_test(mistakes_in_rules_are_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
