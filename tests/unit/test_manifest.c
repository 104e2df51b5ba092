#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "imageservice/digest.h"
#include "imageservice/image_config.h"
#include "imageservice/json.h"
#include "imageservice/manifest.h"

#define A      "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B      "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C      "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define CONFIG "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A "\",\"size\":1}"

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
        {"{\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"digest\":\"" A "\",\"size\":1},\"layers\":[]}", ERR_UNSUPPORTED},
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

static void
the_machine_gets_the_manifest_it_can_run(void **state)
{
    static const char text[] = "{\"manifests\":["
                               "{\"digest\":\"" A "\",\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
                               "{\"digest\":\"" B "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"}},"
                               "{\"digest\":\"" C "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}}]}";
    static const struct {
        struct platform machine;
        const char *digest;
    } cases[] = {
        {{(char *)"linux", (char *)"arm", (char *)"v7"}, C},
        {{(char *)"linux", (char *)"arm", (char *)"v6"}, B},
        {{(char *)"linux", (char *)"arm", (char *)"v5"}, NULL},
        {{(char *)"linux", (char *)"amd64", (char *)""}, NULL},
    };
    (void)state;
    struct error err = {0};
    cleanup_manifest struct manifest m;
    assert_int_equal(parse(text, &m, &err), 0);
    assert_true(m.is_index);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct descriptor *d = manifest_choose(&m, &cases[i].machine, &err);
        if (cases[i].digest)
            assert_string_equal(d->digest, cases[i].digest);
        else
            assert_null(d);
    }
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "linux/armv6"));
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
        cmocka_unit_test(a_chain_id_covers_all_layers_below),         cmocka_unit_test(a_configuration_tells_how_to_run),
        cmocka_unit_test(a_configuration_of_wrong_types_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
