#include "imageservice/pull/verify.h"

#include <string.h>

#include "imageservice/json.h"
#include "imageservice/pull/limits.h"

#define SIMPLE_SIGNING "application/vnd.dev.cosign.simplesigning.v1+json"
#define SIGNATURES     "application/vnd.dev.cosign.artifact.sig.v1+json"
#define BUNDLE         "application/vnd.dev.sigstore.bundle" /* and ".v0.3+json" or a later version */
#define SIGNATURE_KEY  "dev.cosignproject.cosign/signature"

struct search {
    struct registry *registry;
    const struct http_scope *scope;
    const struct signers *signers;
    const char *signed_by;
    unsigned tried;
    struct error bad;     /* what is wrong with the first that isn't good */
    struct error trouble; /* the first that kept us from looking */
};

static bool
is_over(const struct search *s)
{
    return s->signed_by || s->tried >= LIMIT_SIGNATURES || atomic_load(&s->scope->cancelled);
}

/* A signature that is missing where it should be, or is other than its digest says, is a bad one. */
static void
note_failure(struct search *s, const struct error *why)
{
    bool bad = why->kind == ERR_SIGNATURE || why->kind == ERR_NOT_FOUND || why->kind == ERR_INVALID || why->kind == ERR_INTERNAL;
    struct error *slot = bad ? &s->bad : &s->trouble;
    if (slot->kind == ERR_NONE)
        *slot = *why;
}

static int
try_layer(struct search *s, const json_t *layer, struct error *err)
{
    cleanup_descriptor struct descriptor descriptor = {0};
    cleanup_document struct document content = {0};
    const char *signature;
    TRY(descriptor_parse(layer, "the manifest of a signature", &descriptor, err));
    bool bundle = str_starts(descriptor.media_type, BUNDLE);
    if (!bundle && !str_eq(descriptor.media_type, SIMPLE_SIGNING))
        return 0;
    s->tried++;
    TRY(json_get_string(json_object_get(layer, "annotations"), SIGNATURE_KEY, &signature, err));
    TRY(registry_signature(s->registry, s->scope, &descriptor, &content, err));
    s->signed_by = bundle ? signature_of_bundle(s->signers, content.text, content.length, err)
                          : signature_of_payload(s->signers, content.text, content.length, signature, err);
    return s->signed_by ? 0 : -1;
}

static void
try_layers(struct search *s, const json_t *manifest)
{
    const json_t *layers = json_object_get(manifest, "layers");
    struct error why;
    for (size_t i = 0; i < json_array_size(layers) && !is_over(s); i++)
        if (try_layer(s, json_array_get(layers, i), &why) < 0)
            note_failure(s, &why);
}

/* What the list doesn't tell, or tells of the manifest's configuration in place of the manifest (go-containerregistry did), is in the manifest. */
static bool
may_be_signature(const char *artifact_type)
{
    return !*artifact_type || str_eq(artifact_type, "application/vnd.oci.empty.v1+json") || str_eq(artifact_type, SIGNATURES) ||
           str_starts(artifact_type, BUNDLE);
}

static int
try_referrer(struct search *s, const json_t *referrer, struct error *err)
{
    cleanup_descriptor struct descriptor descriptor = {0};
    cleanup_document struct document manifest = {0};
    const char *type;
    TRY(json_get_string(referrer, "artifactType", &type, err));
    if (!may_be_signature(type))
        return 0;
    s->tried++;
    TRY(descriptor_parse(referrer, "the list of referrers", &descriptor, err));
    TRY(registry_manifest(s->registry, s->scope, descriptor.digest, &manifest, err));
    cleanup_json json_t *root = TRY_PTR(json_parse(manifest.text, manifest.length, descriptor.digest, err));
    try_layers(s, root);
    return 0;
}

static void
try_referrers(struct search *s, const json_t *index)
{
    const json_t *referrers = json_object_get(index, "manifests");
    struct error why;
    for (size_t i = 0; i < json_array_size(referrers) && !is_over(s); i++)
        if (try_referrer(s, json_array_get(referrers, i), &why) < 0)
            note_failure(s, &why);
}

/* What is no JSON is no list: there are servers that answer anything to a path they don't know. */
static void
try_document(struct search *s, const struct document *document)
{
    cleanup_json json_t *root = json_parse(document->text, document->length, "", NULL);
    try_referrers(s, root);
    try_layers(s, root);
}

static void
look_at(struct search *s, const char *path)
{
    for (size_t host = 0; host < registry_host_count(s->registry) && !is_over(s); host++) {
        cleanup_document struct document document = {0};
        struct error why;
        int found = registry_find(s->registry, s->scope, path, &host, &document, &why);
        if (found > 0)
            try_document(s, &document);
        else if (found < 0)
            note_failure(s, &why);
    }
}

/* As a tag, with the length that the distribution spec gives it ("Referrers Tag Schema"). */
static void
look_for(struct search *s, const char *digest)
{
    char tag[DIGEST_SIZE];
    digest_as_name(digest, tag);
    tag[strlen("sha256-") + 64] = '\0';
    cleanup_free char *signatures = str_printf("manifests/%s.sig", tag), *referrers = str_printf("referrers/%s", digest),
                      *fallback = str_printf("manifests/%s", tag);
    look_at(s, signatures);
    look_at(s, referrers);
    look_at(s, fallback);
}

static int
say_what_failed(const struct search *s, struct error *err)
{
    if (atomic_load(&s->scope->cancelled))
        return error_set(err, ERR_CANCELLED, "the pull was cancelled");
    if (s->trouble.kind != ERR_NONE) {
        *err = s->trouble;
        return error_prefix(err, "look for signatures");
    }
    if (s->bad.kind == ERR_NONE)
        return error_set(err, ERR_SIGNATURE, "%s is not signed", s->signers->digests.items[0]);
    return error_set(err, ERR_SIGNATURE, "%s has no good signature%s: %s", s->signers->digests.items[0],
                     s->tried < LIMIT_SIGNATURES ? "" : " among those tried", s->bad.message);
}

const char *
verify_signed(struct registry *registry, const struct http_scope *scope, const struct signers *signers, struct error *err)
{
    struct search s = {.registry = registry, .scope = scope, .signers = signers};
    for (size_t i = 0; i < signers->digests.count; i++)
        look_for(&s, signers->digests.items[i]);
    if (!s.signed_by)
        (void)say_what_failed(&s, err);
    return s.signed_by;
}
