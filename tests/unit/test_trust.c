/* Rules of trust with a real crisp-pull, against registries that have this signature or that. Needs root (the sandbox, trusted.*). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "count_in.h"
#include "fake_registry.h"
#include "imageservice/digest.h"
#include "imageservice/imageservice.h"
#include "signing.h"

#define OTHER    "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX    "application/vnd.oci.image.index.v1+json"
#define PAYLOAD  "application/vnd.dev.cosign.simplesigning.v1+json"
#define SIG      "application/vnd.dev.cosign.artifact.sig.v1+json"
#define BUNDLE   "application/vnd.dev.sigstore.bundle.v0.3+json"

static char root[64];
static struct images *images;
static struct fake_registry *registry, *mirror;
static struct strv certs_dirs;
static EVP_PKEY *ours, *second, *stranger;
static struct fake_layer *layer;
static bool without_ours; /* the rule's keys are those to come */

static void
write_file(const char *name, const char *text)
{
    struct error err;
    cleanup_free char *path = str_printf("%s/%s", root, name);
    if (file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err) < 0)
        fail_msg("%s", err.message);
}

static void
open_images(size_t rules)
{
    struct error err = {0};
    char host[32], team[64], space[64], rejected[64], first_key[96], second_key[96];
    (void)snprintf(host, sizeof host, "127.0.0.1:%u", fake_registry_port(registry));
    (void)snprintf(team, sizeof team, "%s/team", host);
    (void)snprintf(space, sizeof space, "%s/team/free", host);
    (void)snprintf(rejected, sizeof rejected, "%s/rejected", host);
    (void)snprintf(first_key, sizeof first_key, "%s/ours.pub", root);
    (void)snprintf(second_key, sizeof second_key, "%s/second.pub", root);
    char *keys[] = {first_key, second_key, NULL}, *namespaces[] = {(char[]){"dev"}, NULL};
    struct trust_rule list[] = {
        {(char[]){"team"}, team, (char[]){"signed"}, {0}, {keys + without_ours, 2 - without_ours}},
        {(char[]){"free"}, space, (char[]){"accept"}, {0}, {0}},
        {(char[]){"none"}, rejected, (char[]){"reject"}, {0}, {0}},
        {(char[]){"dev"}, team, (char[]){"accept"}, {namespaces, 1}, {0}},
    };
    struct images_options options = {
        .root = root,
        .state = root,
        .pull_program = CRISP_PULL,
        .certs_dirs = certs_dirs,
        .parallel_downloads = 4,
        .parallel_downloads_per_pull = 2,
        .stall_seconds = 2,
        .least_bytes_per_second = 1000,
        .trust = list,
        .trust_count = rules,
    };
    assert_true(rules <= sizeof list / sizeof *list);
    if (images_open(&options, &images, &err) < 0)
        fail_msg("%s", err.message);
}

static int
set_up(void **state)
{
    (void)state;
    log_open(LOG_ERROR_);
    (void)strcpy(root, "/var/tmp/crisp-trust.XXXXXX");
    assert_non_null(mkdtemp(root));
    ours = signing_key("P-256");
    second = signing_key("ED25519");
    stranger = signing_key("P-256");
    cleanup_free char *ours_pem = signing_public_pem(ours), *second_pem = signing_public_pem(second);
    write_file("ours.pub", ours_pem);
    write_file("second.pub", second_pem);
    strv_addf(&certs_dirs, "%s/certs.d", root);
    assert_int_equal(file_mkdirs(certs_dirs.items[0], 0755, NULL), 0); /* crisp-pull sees what is there when it starts */
    registry = fake_registry_start();
    mirror = fake_registry_start();
    layer = fake_layer_make((const struct fake_file[]){{"bin/", NULL, 0}, {"bin/sh", "#!", 0}, {NULL, NULL, 0}});
    open_images(4);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    images_close(images);
    fake_registry_stop(registry);
    fake_registry_stop(mirror);
    fake_layer_free(layer);
    strv_free(&certs_dirs);
    EVP_PKEY_free(ours);
    EVP_PKEY_free(second);
    EVP_PKEY_free(stranger);
    return file_remove_tree(AT_FDCWD, root, NULL);
}

static int
after_each(void **state)
{
    (void)state;
    size_t count;
    struct error err = {0};
    const struct image **list = images_list(images, NULL, &count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(images_remove(images, list[i]->id, &err), 0);
    images_list_free(list, count);
    fake_registry_hook(registry, NULL, NULL);
    fake_registry_hook(mirror, NULL, NULL);
    cleanup_free char *hosts = str_printf("%s/certs.d/127.0.0.1_%u_", root, fake_registry_port(registry));
    return file_remove_tree(AT_FDCWD, hosts, NULL);
}

/* ---- What a registry has ---- */

/* An image under repository:latest; the same in every repository but for its user. */
static char *
put_image(struct fake_registry *where, const char *repository, char digest[80])
{
    return fake_registry_put(where, repository, "latest", (const struct fake_layer *const[]){layer}, 1, repository, digest);
}

static void
put_blob(struct fake_registry *where, const char *repository, const char *text, char digest[DIGEST_SIZE])
{
    digest_of(NULL, text, strlen(text), digest);
    cleanup_free char *path = str_printf("blobs/%s", digest);
    fake_registry_put_text(where, repository, path, "application/octet-stream", text);
}

/* One more layer of the manifest of signatures that is being made. */
static void
add_layer(struct buf *layers, struct fake_registry *where, const char *repository, const char *type, const char *text, const char *signature)
{
    char digest[DIGEST_SIZE];
    put_blob(where, repository, text, digest);
    (void)buf_addf(layers, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu,\"annotations\":{\"" SIGNATURE_KEY "\":\"%s\"}}",
                   layers->length ? "," : "", type, digest, strlen(text), signature);
}

static void
add_payload(struct buf *layers, struct fake_registry *where, const char *repository, EVP_PKEY *key, const char *of)
{
    cleanup_free char *payload = signing_payload(COSIGN_TYPE, of);
    cleanup_free char *signature = signing_sign(key, key == second ? NULL : "SHA256", payload, strlen(payload));
    add_layer(layers, where, repository, PAYLOAD, payload, signature);
}

static char *
signatures_manifest(const struct buf *layers, const char *artifact_type)
{
    return str_printf("{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"artifactType\":\"%s\",\"config\":{\"mediaType\":\"application/"
                      "vnd.oci.empty.v1+json\",\"digest\":\"" OTHER "\",\"size\":2},\"layers\":[%s]}",
                      artifact_type, layers->data);
}

/* "sha256-HEX" with what follows */
static char *
tag_of(const char *digest, const char *suffix)
{
    char name[DIGEST_SIZE];
    digest_as_name(digest, name);
    return str_printf("%s%s", name, suffix);
}

static void
put_tag(struct fake_registry *where, const char *repository, const char *digest, const struct buf *layers)
{
    cleanup_free char *tag = tag_of(digest, ".sig"), *manifest = signatures_manifest(layers, SIG);
    fake_registry_put_manifest(where, repository, tag, MANIFEST, manifest);
}

static void
sign(struct fake_registry *where, const char *repository, const char *digest, EVP_PKEY *key)
{
    cleanup_buf struct buf layers = BUF(1 << 16);
    add_payload(&layers, where, repository, key, digest);
    put_tag(where, repository, digest, &layers);
}

/* A referrer, listed by the API ("referrers/DIGEST") or under the fallback's tag. */
static void
put_referrer(const char *repository, const char *digest, const char *artifact_type, const char *listed_as, const struct buf *layers, bool api)
{
    char referrer[DIGEST_SIZE];
    cleanup_free char *manifest = signatures_manifest(layers, artifact_type);
    digest_of(NULL, manifest, strlen(manifest), referrer);
    fake_registry_put_manifest(registry, repository, referrer, MANIFEST, manifest);
    cleanup_free char *index =
        str_printf("{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"manifests\":[{\"mediaType\":\"" MANIFEST "\",\"digest\":\"" OTHER
                   "\",\"size\":5,\"artifactType\":\"application/spdx+json\"},{\"mediaType\":\"" MANIFEST
                   "\",\"digest\":\"%s\",\"size\":%zu,\"artifactType\":\"%s\"}]}",
                   referrer, strlen(manifest), listed_as);
    cleanup_free char *tag = tag_of(digest, ""), *path = api ? str_printf("referrers/%s", digest) : str_printf("manifests/%s", tag);
    fake_registry_put_text(registry, repository, path, INDEX, index);
}

static void
put_bundle(const char *repository, const char *digest, EVP_PKEY *key, const char *predicate, bool api)
{
    cleanup_buf struct buf layers = BUF(1 << 16);
    cleanup_free char *bundle = signing_bundle(key, predicate, digest);
    add_layer(&layers, registry, repository, BUNDLE, bundle, "");
    put_referrer(repository, digest, BUNDLE, api ? BUNDLE : "application/vnd.oci.empty.v1+json", &layers, api);
}

/* ---- Pulling ---- */

static char *
pull(const char *repository, const char *pod_namespace, struct error *err)
{
    struct image_auth who = {.pod_namespace = pod_namespace};
    cleanup_free char *reference = str_printf("127.0.0.1:%u/%s", fake_registry_port(registry), repository);
    return images_pull(images, reference, &who, NULL, err);
}

static void
must_pull(const char *repository)
{
    struct error err = {0};
    cleanup_free char *id = pull(repository, "", &err);
    if (!id)
        fail_msg("%s: %s", repository, err.message);
}

/* Nothing of it is here, and no layer was so much as asked for. */
static void
must_refuse(const char *repository, enum error_kind kind, const char *words)
{
    struct error err = {0};
    cleanup_free char *id = pull(repository, "", &err), *blob = str_printf("/v2/%s/blobs/%s", repository, layer->digest);
    if (id)
        fail_msg("%s was pulled", repository);
    if (err.kind != kind || !strstr(err.message, words))
        fail_msg("%d \"%s\" should say \"%s\"", err.kind, err.message, words);
    assert_int_equal(fake_registry_count(registry, blob), 0);
    assert_int_equal(count_in(root, "layers"), 0);
    assert_int_equal(count_in(root, "images/blobs/sha256"), 0);
}

static void
an_image_that_one_of_the_keys_has_signed_is_taken(void **state)
{
    (void)state;
    char digest[80];
    free(put_image(registry, "team/one", digest));
    sign(registry, "team/one", digest, ours);
    must_pull("team/one");
    free(put_image(registry, "team/two", digest));
    sign(registry, "team/two", digest, second);
    must_pull("team/two");
    cleanup_buf struct buf layers = BUF(1 << 16);
    free(put_image(registry, "team/many", digest));
    add_payload(&layers, registry, "team/many", stranger, digest);
    add_payload(&layers, registry, "team/many", ours, OTHER);
    add_layer(&layers, registry, "team/many", "application/x-what", "?", "");
    add_layer(&layers, registry, "team/many", PAYLOAD, "no payload", "no signature");
    add_payload(&layers, registry, "team/many", ours, digest);
    put_tag(registry, "team/many", digest, &layers);
    must_pull("team/many");
    cleanup_free char *by_digest = str_printf("team/many@%s", digest);
    must_pull(by_digest);
}

static void
any_other_is_refused_before_a_layer_is_asked_for(void **state)
{
    (void)state;
    char digest[80];
    free(put_image(registry, "team/unsigned", digest));
    must_refuse("team/unsigned", ERR_SIGNATURE, "trust.team (signed, scope 127.0.0.1:");
    must_refuse("team/unsigned", ERR_SIGNATURE, "is not signed");
    free(put_image(registry, "team/foreign", digest));
    sign(registry, "team/foreign", digest, stranger);
    must_refuse("team/foreign", ERR_SIGNATURE, "none of the keys");
    cleanup_buf struct buf other = BUF(1 << 16), tampered = BUF(1 << 16), gone = BUF(1 << 16);
    free(put_image(registry, "team/other", digest));
    add_payload(&other, registry, "team/other", ours, OTHER);
    put_tag(registry, "team/other", digest, &other);
    must_refuse("team/other", ERR_SIGNATURE, "of another image");
    free(put_image(registry, "team/tampered", digest));
    cleanup_free char *of_other = signing_payload(COSIGN_TYPE, OTHER), *of_this = signing_payload(COSIGN_TYPE, digest);
    cleanup_free char *signature = signing_sign(ours, "SHA256", of_other, strlen(of_other));
    add_layer(&tampered, registry, "team/tampered", PAYLOAD, of_this, signature);
    put_tag(registry, "team/tampered", digest, &tampered);
    must_refuse("team/tampered", ERR_SIGNATURE, "was changed");
    free(put_image(registry, "team/gone", digest));
    add_payload(&gone, registry, "elsewhere", ours, digest);
    put_tag(registry, "team/gone", digest, &gone);
    must_refuse("team/gone", ERR_SIGNATURE, "404");
}

static void
the_longest_scope_and_the_namespace_decide(void **state)
{
    (void)state;
    struct error err = {0};
    char digest[80];
    free(put_image(registry, "team/freedom", digest));
    must_refuse("team/freedom", ERR_SIGNATURE, "is not signed");
    free(put_image(registry, "team/free/app", digest));
    must_pull("team/free/app");
    cleanup_free char *dev = pull("team/freedom", "dev", &err);
    assert_non_null(dev);
    free(put_image(registry, "team2", digest));
    must_pull("team2");
    fake_registry_hook(registry, NULL, NULL);
    free(put_image(registry, "rejected/app", digest));
    sign(registry, "rejected/app", digest, ours);
    assert_null(pull("rejected/app", "dev", &err));
    assert_int_equal(err.kind, ERR_SIGNATURE);
    assert_non_null(strstr(err.message, "trust.none (reject, scope 127.0.0.1:"));
    assert_int_equal(fake_registry_count(registry, NULL), 0);
}

static void
referrers_are_looked_at_too(void **state)
{
    (void)state;
    char digest[80];
    for (int api = 0; api < 2; api++) {
        cleanup_free char *bundled = str_printf("team/bundle%d", api), *simple = str_printf("team/simple%d", api),
                          *attested = str_printf("team/att%d", api);
        free(put_image(registry, bundled, digest));
        put_bundle(bundled, digest, ours, COSIGN_PREDICATE, api);
        must_pull(bundled);
        cleanup_buf struct buf layers = BUF(1 << 16);
        free(put_image(registry, simple, digest));
        add_payload(&layers, registry, simple, ours, digest);
        put_referrer(simple, digest, SIG, api ? SIG : "", &layers, api);
        must_pull(simple);
        assert_int_equal(after_each(NULL), 0);
        free(put_image(registry, attested, digest));
        put_bundle(attested, digest, ours, "https://slsa.dev/provenance/v1", api);
        must_refuse(attested, ERR_SIGNATURE, "slsa.dev");
    }
}

/* The index is what people sign; cosign --recursive signs what is in it, too. */
static void
a_signature_of_the_index_or_of_the_manifest_will_do(void **state)
{
    (void)state;
    static const char *const names[] = {"team/index", "team/inside", "team/neither"};
    for (size_t i = 0; i < 3; i++) {
        char digest[80], index_digest[DIGEST_SIZE];
        free(put_image(registry, names[i], digest));
        cleanup_free char *index = str_printf("{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"annotations\":{\"for\":\"%s\"},\"manifests\":[{"
                                              "\"mediaType\":\"" MANIFEST "\",\"digest\":\"%s\",\"size\":374}]}",
                                              names[i], digest);
        digest_of(NULL, index, strlen(index), index_digest);
        cleanup_free char *reference = str_printf("%s:all", names[i]);
        fake_registry_put_manifest(registry, names[i], "all", INDEX, index);
        if (i < 2) {
            sign(registry, names[i], i == 0 ? index_digest : digest, ours);
            must_pull(reference);
        } else {
            assert_int_equal(after_each(NULL), 0);
            must_refuse(reference, ERR_SIGNATURE, index_digest);
        }
    }
}

/* ---- Registries that don't say ---- */

static void
fail_signatures(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (strstr(request->path, ".sig") || strstr(request->path, "/referrers/"))
        *reply = (struct fake_reply){.status = 500, .body = "out of order", .length = 12, .declared = -1, .cut_at = -1};
}

static void
know_no_referrers(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    if (strstr(request->path, "/referrers/"))
        *reply = (struct fake_reply){.status = *(int *)arg, .body = "<html>", .length = 6, .declared = -1, .cut_at = -1};
}

static void
a_registry_out_of_order_is_no_unsigned_image(void **state)
{
    (void)state;
    char digest[80];
    free(put_image(registry, "team/500", digest));
    fake_registry_hook(registry, fail_signatures, NULL);
    must_refuse("team/500", ERR_UNAVAILABLE, "look for signatures");
    must_refuse("team/500", ERR_UNAVAILABLE, "500");
    /* … while one that never heard of referrers has an unsigned one. */
    for (int i = 0; i < 4; i++) {
        int status = (const int[]){200, 400, 404, 405}[i];
        fake_registry_hook(registry, know_no_referrers, &status);
        must_refuse("team/500", ERR_SIGNATURE, "is not signed");
        fake_registry_hook(registry, NULL, NULL);
    }
}

static void
write_mirrors(unsigned first, unsigned server)
{
    cleanup_free char *dir = str_printf("%s/certs.d/127.0.0.1_%u_", root, fake_registry_port(registry));
    assert_int_equal(file_mkdirs(dir, 0755, NULL), 0);
    cleanup_free char *name = str_printf("certs.d/127.0.0.1_%u_/hosts.toml", fake_registry_port(registry));
    cleanup_free char *text = str_printf("server = \"http://127.0.0.1:%u\"\n[host.\"http://127.0.0.1:%u\"]\n", server, first);
    write_file(name, text);
}

static void
a_mirror_without_a_good_signature_is_no_reason(void **state)
{
    (void)state;
    char digest[80];
    unsigned ports[] = {fake_registry_port(mirror), fake_registry_port(registry)};
    write_mirrors(ports[0], ports[1]);
    free(put_image(mirror, "team/mirrored", digest));
    must_refuse("team/mirrored", ERR_SIGNATURE, "is not signed");
    sign(mirror, "team/mirrored", digest, stranger);
    must_refuse("team/mirrored", ERR_SIGNATURE, "none of the keys");
    sign(registry, "team/mirrored", digest, ours);
    must_pull("team/mirrored");
    assert_int_equal(after_each(NULL), 0);
    /* Nobody knows what a registry that is down would say, but a mirror's good signature is one. */
    write_mirrors(ports[0], 1);
    must_refuse("team/mirrored", ERR_UNAVAILABLE, "look for signatures");
    free(put_image(mirror, "team/bundled", digest));
    cleanup_buf struct buf layers = BUF(1 << 16);
    add_payload(&layers, mirror, "team/bundled", ours, digest);
    put_tag(mirror, "team/bundled", digest, &layers);
    must_pull("team/bundled");
}

/* ---- No way around ---- */

static void
what_is_here_is_checked_again_when_it_is_pulled(void **state)
{
    (void)state;
    char digest[80];
    images_close(images);
    open_images(0);
    free(put_image(registry, "team/old", digest));
    must_pull("team/old");
    images_close(images);
    open_images(4);
    struct error err = {0};
    assert_null(pull("team/old", "", &err));
    assert_int_equal(err.kind, ERR_SIGNATURE);
    sign(registry, "team/old", digest, ours);
    fake_registry_hook(registry, NULL, NULL);
    must_pull("team/old");
    assert_int_equal(fake_registry_count(registry, layer->digest), 0); /* what was here is what was signed */
}

static void
open_again(size_t rules, bool later_keys)
{
    images_close(images);
    without_ours = later_keys;
    open_images(rules);
}

static bool
may_run(const char *reference, const char *asked_as, const char *pod_namespace)
{
    struct error err = {0};
    cleanup_free char *full = strchr(reference, ':') ? str_dup(reference) : str_printf("127.0.0.1:%u/%s", fake_registry_port(registry), reference);
    cleanup_free char *asked = asked_as ? str_printf("127.0.0.1:%u/%s", fake_registry_port(registry), asked_as) : NULL;
    const struct image *image = images_find_trusted(images, full, asked, pod_namespace, &err);
    if (!image && err.kind != ERR_SIGNATURE)
        fail_msg("%s: %s", full, err.message);
    image_release(image);
    return image;
}

/* The kubelet pulls nothing for a pod that is content with what is here. */
static void
what_is_here_runs_only_if_it_was_checked(void **state)
{
    (void)state;
    char digest[80];
    struct error err = {0};
    open_again(0, false);
    cleanup_free char *id = put_image(registry, "team/here", digest);
    must_pull("team/here");
    assert_true(may_run("team/here", NULL, ""));
    open_again(4, false);
    assert_false(may_run("team/here", NULL, ""));
    assert_false(may_run(id, NULL, NULL));
    assert_false(may_run(id, "team/here", "prod"));
    assert_true(may_run(id, "team/here", "dev"));
    assert_true(may_run(id, NULL, "dev"));
    cleanup_free char *free_id = put_image(registry, "team/free/app", digest);
    must_pull("team/free/app");
    assert_true(may_run(free_id, NULL, "prod"));
    assert_true(may_run("team/free/app", NULL, "prod"));
    free(put_image(registry, "team/here", digest));
    sign(registry, "team/here", digest, ours);
    must_pull("team/here");
    assert_true(may_run("team/here", NULL, "prod"));
    assert_true(may_run(id, NULL, NULL));
    open_again(4, false);
    assert_true(may_run(id, "team/here", "prod"));
    /* The key is taken away; then the other key has signed, too. */
    open_again(4, true);
    assert_false(may_run(id, "team/here", "prod"));
    sign(registry, "team/here", digest, second);
    must_pull("team/here");
    assert_true(may_run(id, "team/here", "prod"));
    open_again(4, false);
    assert_int_equal(count_in(root, "images/vouched"), 1);
    assert_int_equal(images_remove(images, id, &err), 0);
    assert_int_equal(count_in(root, "images/vouched"), 0);
}

static void
go_slowly(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (strstr(request->path, "/manifests/latest"))
        reply->slow_ms = 300;
}

static void *
pull_for_dev(void *arg)
{
    struct error err = {0};
    (void)arg;
    return pull("team/both", "dev", &err);
}

static void
a_pull_under_another_rule_is_not_joined(void **state)
{
    (void)state;
    char digest[80];
    pthread_t thread;
    void *id;
    struct error err = {0};
    free(put_image(registry, "team/both", digest));
    fake_registry_hook(registry, go_slowly, NULL);
    assert_int_equal(pthread_create(&thread, NULL, pull_for_dev, NULL), 0);
    assert_null(pull("team/both", "", &err));
    assert_int_equal(pthread_join(thread, &id), 0);
    assert_int_equal(err.kind, ERR_SIGNATURE);
    assert_non_null(id);
    free(id);
}

/* ---- Strangers ---- */

static void
more_signatures_than_anyone_makes_are_not_all_tried(void **state)
{
    (void)state;
    char digest[80];
    cleanup_buf struct buf layers = BUF(1 << 20);
    free(put_image(registry, "team/flood", digest));
    for (int i = 0; i < 200; i++)
        add_layer(&layers, registry, "team/flood", PAYLOAD, "{}", "AAAA");
    add_payload(&layers, registry, "team/flood", ours, digest);
    put_tag(registry, "team/flood", digest, &layers);
    must_refuse("team/flood", ERR_SIGNATURE, "among those tried");
    assert_true(fake_registry_count(registry, "/blobs/") <= 64);
    cleanup_buf struct buf huge = BUF(1 << 16);
    free(put_image(registry, "team/huge", digest));
    (void)buf_adds(&huge, "{\"mediaType\":\"" PAYLOAD "\",\"digest\":\"" OTHER "\",\"size\":9000000}");
    put_tag(registry, "team/huge", digest, &huge);
    must_refuse("team/huge", ERR_SIGNATURE, "larger than 1 MiB");
}

int
main(void)
{
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        return 0;
    }
#define STORY(name) cmocka_unit_test_teardown(name, after_each)
    const struct CMUnitTest tests[] = {
        STORY(an_image_that_one_of_the_keys_has_signed_is_taken),
        STORY(any_other_is_refused_before_a_layer_is_asked_for),
        STORY(the_longest_scope_and_the_namespace_decide),
        STORY(referrers_are_looked_at_too),
        STORY(a_signature_of_the_index_or_of_the_manifest_will_do),
        STORY(a_registry_out_of_order_is_no_unsigned_image),
        STORY(a_mirror_without_a_good_signature_is_no_reason),
        STORY(what_is_here_is_checked_again_when_it_is_pulled),
        STORY(what_is_here_runs_only_if_it_was_checked),
        STORY(a_pull_under_another_rule_is_not_joined),
        STORY(more_signatures_than_anyone_makes_are_not_all_tried),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
