#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "imageservice/digest.h"
#include "imageservice/image_config.h"
#include "imageservice/json.h"
#include "imageservice/manifest.h"

#define A      "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B      "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C      "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define CONFIG "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A "\",\"size\":1}"

#define ARTIFACT(layers) "{\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"" A "\",\"size\":2},\"layers\":[" layers "]}"
#define BLOB(type, more) "{\"mediaType\":\"" type "\",\"digest\":\"" B "\",\"size\":7" more "}"
#define TITLED(title)    ",\"annotations\":{\"org.opencontainers.image.title\":\"" title "\"}"
#define TAR              "application/vnd.oci.image.layer.v1.tar"

static int
parse(const char *text, struct manifest *out, struct error *err)
{
    return manifest_parse(text, strlen(text), "", out, err);
}

static void
a_manifest_names_config_and_layers(void **state)
{
    (void)state;
    struct error err;
    cleanup_manifest struct manifest m;
    assert_int_equal(parse("{\"schemaVersion\":2," CONFIG
                           ",\"layers\":[{\"mediaType\":\"application/vnd.docker.image.rootfs.diff.tar.gzip\",\"digest\":\"" B
                           "\",\"size\":7}],\"annotations\":{\"k\":\"v\"}}",
                           &m, &err),
                     0);
    assert_false(m.is_index);
    assert_string_equal(m.config.digest, A);
    assert_int_equal(m.count, 1);
    assert_int_equal(m.layers[0].size, 7);
    assert_string_equal(strmap_get(&m.annotations, "k"), "v");
}

static void
what_contradicts_itself_is_refused(void **state)
{
    static const struct {
        const char *text;
        enum error_kind kind;
    } cases[] = {
        {"", ERR_INVALID},
        {"[]", ERR_INVALID},
        {"{}", ERR_INVALID},
        {"{\"schemaVersion\":1,\"fsLayers\":[]}", ERR_UNSUPPORTED},
        {"{" CONFIG "}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":{}}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[],\"manifests\":[]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":1}]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[{\"digest\":\"" B "\",\"size\":-1}]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[{\"digest\":\"" B "\"}]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[{\"digest\":7,\"size\":1}]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[null]}", ERR_INVALID},
        {"{" CONFIG ",\"layers\":[{\"mediaType\":\"text/html\",\"digest\":\"" B "\",\"size\":1}]}", ERR_UNSUPPORTED},
        {"{\"config\":{\"digest\":\"" A "\",\"size\":1,\"urls\":[1]},\"layers\":[]}", ERR_INVALID},
        {ARTIFACT(BLOB("", TITLED("a/.wh.b"))), ERR_INVALID},
        {"{\"mediaType\":\"application/vnd.oci.image.index.v1+json\"}", ERR_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct manifest m;
        assert_int_equal(parse(cases[i].text, &m, &err), -1);
        assert_int_equal(err.kind, cases[i].kind);
    }
}

static void
json_that_would_fill_the_memory_is_refused(void **state)
{
    (void)state;
    struct error err;
    size_t length = JSON_TEXT_MAX;
    cleanup_free char *text = mem_alloc(length);
    memset(text, '[', length);
    assert_null(json_parse(text, length, "x", &err));
    for (size_t i = 0; i < length; i++)
        text[i] = "1,"[i % 2];
    text[0] = '[';
    assert_null(json_parse(text, length, "x", &err));
    assert_null(json_parse(text, length + 1, "x", &err));
}

#define MANIFEST(digest, ...)         "{\"digest\":\"" digest "\",\"size\":1" __VA_ARGS__ "}"
#define ON(os, architecture, variant) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" architecture "\",\"variant\":\"" variant "\"}"
#define INDEX                         ",\"mediaType\":\"application/vnd.oci.image.index.v1+json\""

/* What the index gives a machine, one after the other: the letters of the digests. */
static void
expect_choices(const char *manifests, const char *architecture, const char *variant, const char *expected)
{
    struct error err = {0};
    cleanup_manifest struct manifest m;
    cleanup_free char *text = str_printf("{\"manifests\":[%s]}", manifests);
    const struct platform machine = {(char *)"linux", (char *)(uintptr_t)architecture, (char *)(uintptr_t)variant, (char *)""};
    assert_int_equal(parse(text, &m, &err), 0);
    assert_true(m.is_index);
    const struct descriptor *d = manifest_choose(&m, &machine, &err);
    for (; *expected; expected++) {
        assert_non_null(d);
        assert_int_equal(d->digest[strlen("sha256:")], *expected);
        d = manifest_choose_after(&m, &machine, d);
    }
    assert_null(d);
}

static void
the_machine_gets_the_manifest_it_can_run(void **state)
{
    static const char arms[] =
        MANIFEST(A, ON("unknown", "unknown", "")) "," MANIFEST(B, ON("linux", "arm", "v6")) "," MANIFEST(C, ON("linux", "arm", "v7"));
    static const char eights[] =
        MANIFEST(A, ON("linux", "arm", "v7")) "," MANIFEST(B, ON("linux", "arm64", "v9")) "," MANIFEST(C, ON("linux", "arm64", "v8"));
    static const char levels[] =
        MANIFEST(A, ON("linux", "386", "")) "," MANIFEST(B, ON("linux", "amd64", "v99")) "," MANIFEST(C, ON("linux", "amd64", ""));
    static const char versions[] = MANIFEST(A, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\",\"os.version\":\"9\"}") "," MANIFEST(
        B, ON("windows", "amd64", "")) "," MANIFEST(C, ON("linux", "amd64", ""));
    (void)state;
    expect_choices(arms, "arm", "v7", "cb");
    expect_choices(arms, "arm", "v6", "b");
    expect_choices(arms, "arm", "v5", "");
    expect_choices(arms, "amd64", "", "");
    expect_choices(arms, "arm64", "v8", "cb");
    expect_choices(eights, "arm64", "v8", "ca");
    expect_choices(levels, "amd64", "", "ca");
    expect_choices(versions, "amd64", "", "ca");
}

static void
what_says_no_platform_comes_last(void **state)
{
    (void)state;
    expect_choices(MANIFEST(A), "amd64", "", "a");
    expect_choices(MANIFEST(A) "," MANIFEST(B, ON("unknown", "unknown", "")), "amd64", "", "a");
    expect_choices(MANIFEST(A) "," MANIFEST(B), "amd64", "", "");
    expect_choices(MANIFEST(A, INDEX) "," MANIFEST(B, INDEX) "," MANIFEST(C, ON("linux", "amd64", "")), "amd64", "", "cab");
    expect_choices(MANIFEST(A) "," MANIFEST(B, INDEX), "amd64", "", "ba");
}

static void
who_is_not_in_the_index_is_told_what_is(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_manifest struct manifest m;
    assert_int_equal(parse("{\"manifests\":[" MANIFEST(A, ON("linux", "arm", "v6")) "]}", &m, &err), 0);
    assert_null(manifest_choose(&m, &(struct platform){.os = (char *)"linux", .architecture = (char *)"s390x", .variant = (char *)""}, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "linux/s390x"));
    assert_non_null(strstr(err.message, "linux/armv6"));
}

/* ORAS calls a file a tar, and a directory too. */
static void
an_artifact_is_files_by_their_titles(void **state)
{
    static const char text[] = ARTIFACT(BLOB(TAR, TITLED("models/a.bin")) "," BLOB("application/x-unheard-of", "") "," BLOB(TAR, "") "," BLOB(
        TAR "+gzip", ",\"annotations\":{\"org.opencontainers.image.title\":\"folder\",\"io.deis.oras.content.unpack\":\"true\"}"));
    (void)state;
    struct error err = {0};
    cleanup_manifest struct manifest m;
    cleanup_strv struct strv ids = {0};
    assert_int_equal(parse(text, &m, &err), 0);
    assert_true(m.is_artifact);
    assert_string_equal(m.layers[0].title, "models/a.bin");
    assert_string_equal(m.layers[1].title, B);
    assert_null(m.layers[2].title);
    assert_null(m.layers[3].title);
    manifest_artifact_ids(&m, &ids);
    assert_string_not_equal(ids.items[0], ids.items[1]);
    assert_string_not_equal(ids.items[0], ids.items[2]);
    assert_string_equal(ids.items[2], ids.items[3]);
    struct image_config config = {0};
    assert_int_equal(image_config_parse(text, strlen(text), &config, NULL, &err), 0);
    assert_true(config.is_artifact);
    image_config_free(&config);
}

static void
a_layer_may_be_had_elsewhere(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_manifest struct manifest m;
    assert_int_equal(parse("{" CONFIG
                           ",\"layers\":[" BLOB("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ",\"urls\":[\"http://a/b\"]") "]}",
                           &m, &err),
                     0);
    struct descriptor copy = descriptor_copy(&m.layers[0]);
    assert_int_equal(copy.urls.count, 1);
    assert_string_equal(copy.urls.items[0], "http://a/b");
    descriptor_free(&copy);
}

static void
a_chain_id_covers_all_layers_below(void **state)
{
    (void)state;
    char one[DIGEST_SIZE], two[DIGEST_SIZE], expected[DIGEST_SIZE];
    digest_chain(NULL, A, one);
    assert_string_equal(one, A);
    digest_chain(one, B, two);
    digest_of(NULL, A " " B, strlen(A " " B), expected);
    assert_string_equal(two, expected);
    digest_of("sha512:", "abc", 3, expected);
    assert_true(digest_valid(expected) && str_starts(expected, "sha512:ddaf35a193617aba"));
    digest_of(NULL, "abc", 3, expected);
    assert_string_equal(expected, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void
a_configuration_tells_how_to_run(void **state)
{
    static const char text[] =
        "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=1\",\"B=2\"],\"Entrypoint\":[\"/e\"],\"Cmd\":null,"
        "\"User\":\"web:www\",\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGQUIT\",\"Labels\":{\"l\":\"1\"},\"Volumes\":{\"/data\":{}}},"
        "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"]}}";
    (void)state;
    struct error err = {0};
    struct image_config config = {0};
    cleanup_strv struct strv diff_ids = {0};
    assert_int_equal(image_config_parse(text, strlen(text), &config, &diff_ids, &err), 0);
    assert_int_equal(config.env.count, 2);
    assert_string_equal(config.entrypoint.items[0], "/e");
    assert_int_equal(config.cmd.count, 0);
    assert_string_equal(config.user, "web:www");
    assert_string_equal(config.stop_signal, "SIGQUIT");
    assert_string_equal(config.volumes.items[0], "/data");
    assert_string_equal(strmap_get(&config.labels, "l"), "1");
    assert_string_equal(diff_ids.items[0], A);
    image_config_free(&config);
}

static void
a_configuration_of_wrong_types_is_refused(void **state)
{
    static const char *const cases[] = {
        "{\"config\":7}",
        "{\"config\":{\"Env\":\"A=1\"}}",
        "{\"config\":{\"Cmd\":[1]}}",
        "{\"config\":{\"User\":0}}",
        "{\"config\":{\"Labels\":{\"a\":1}}}",
        "{\"config\":{\"Volumes\":[\"/a\"]}}",
        "{\"rootfs\":{\"diff_ids\":[\"x\"]}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct image_config config = {0};
        cleanup_strv struct strv diff_ids = {0};
        assert_int_equal(image_config_parse(cases[i], strlen(cases[i]), &config, &diff_ids, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        image_config_free(&config);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_names_config_and_layers),         cmocka_unit_test(what_contradicts_itself_is_refused),
        cmocka_unit_test(json_that_would_fill_the_memory_is_refused), cmocka_unit_test(the_machine_gets_the_manifest_it_can_run),
        cmocka_unit_test(what_says_no_platform_comes_last),           cmocka_unit_test(who_is_not_in_the_index_is_told_what_is),
        cmocka_unit_test(an_artifact_is_files_by_their_titles),       cmocka_unit_test(a_layer_may_be_had_elsewhere),
        cmocka_unit_test(a_chain_id_covers_all_layers_below),         cmocka_unit_test(a_configuration_tells_how_to_run),
        cmocka_unit_test(a_configuration_of_wrong_types_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
