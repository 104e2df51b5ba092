/* What is recorded comes back, and what is damaged is told. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/cleanup.h"
#include "runtime/configs.h"
#include "runtime/sysctl.h"
#include "runtime/validate.h"

static struct container_config *
rich_container(void)
{
    struct container_config *config = container_config_new();
    config->pod_id = str_dup("p");
    config->name = str_dup("n\xc3\xa4me");
    config->attempt = 4294967295U;
    strv_add(&config->args, "sh");
    strv_add(&config->args, "");
    strmap_set(&config->labels, "a/b", "c\"d\n");
    config->mounts = mem_zalloc(2, sizeof *config->mounts);
    config->mount_count = 2;
    config->mounts[1] = (struct mount_request){.host_path = str_dup("/x"), .readonly = true, .propagation = PROPAGATION_BIDIRECTIONAL};
    config->resources.hugepages = mem_zalloc(1, sizeof *config->resources.hugepages);
    config->resources.hugepage_count = 1;
    config->resources.hugepages[0] = (struct hugepage_limit){str_dup("2MB"), 1U << 30};
    config->resources.oom_score_adj = -998;
    return config;
}

static void
test_a_configuration_survives_its_record(void **state)
{
    (void)state;
    struct error err;
    struct container_config *config = rich_container(), *back = container_config_new();
    json_t *json = fields_to_json(&container_config_fields, config, &err);
    assert_non_null(json);
    cleanup_free char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    json = json_loads(text, 0, NULL);
    assert_int_equal(fields_from_json(&container_config_fields, back, json, &err), 0);
    json_decref(json);
    assert_string_equal(back->name, config->name);
    assert_int_equal(back->attempt, config->attempt);
    assert_int_equal(back->args.count, 2);
    assert_string_equal(strmap_get(&back->labels, "a/b"), "c\"d\n");
    assert_int_equal(back->mounts[1].propagation, PROPAGATION_BIDIRECTIONAL);
    assert_string_equal(back->mounts[0].container_path, "");
    assert_int_equal(back->resources.hugepages[0].limit_bytes, 1U << 30);
    assert_int_equal(back->run_as_group, NO_ID);
    assert_string_equal(back->working_dir, "");
    container_config_free(config);
    container_config_free(back);
}

static void
refuse(const char *text)
{
    struct error err = {0};
    struct container_config *config = container_config_new();
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    assert_int_equal(fields_from_json(&container_config_fields, config, json, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    json_decref(json);
    container_config_free(config);
}

static void
test_a_record_of_the_wrong_shape_is_refused(void **state)
{
    (void)state;
    refuse("[]");
    refuse("{\"name\":5}");
    refuse("{\"attempt\":-1}");
    refuse("{\"attempt\":4294967296}");
    refuse("{\"pid\":77}");
    refuse("{\"args\":[\"a\",7]}");
    refuse("{\"labels\":{\"a\":[]}}");
    refuse("{\"mounts\":[{\"readonly\":\"yes\"}]}");
    refuse("{\"mounts\":[{\"host_path\":\"/x\"},7]}");
    refuse("{\"resources\":{\"hugepages\":5}}");
    struct error err;
    struct container_config *config = container_config_new();
    config->name = str_dup("\xff\xfe");
    assert_null(fields_to_json(&container_config_fields, config, &err));
    assert_int_equal(err.kind, ERR_INVALID);
    container_config_free(config);
}

static void
test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } pairs[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}}; /* RFC 4648, section 10 */
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *back;
        size_t length;
        cleanup_free char *text = base64_encode(pairs[i].bytes, strlen(pairs[i].bytes));
        assert_string_equal(text, pairs[i].text);
        assert_int_equal(base64_decode(text, &back, &length, NULL), 0);
        assert_int_equal(length, strlen(pairs[i].bytes));
        assert_memory_equal(back, pairs[i].bytes, length);
        free(back);
    }
    static const char *const bad[] = {"Z", "Zg=", "Zg==Zg==", "Zm9!", "=AAA", "Zg=a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *back;
        size_t length;
        assert_int_equal(base64_decode(bad[i], &back, &length, NULL), -1);
    }
}

static bool
sysctl_allowed(const char *name, enum namespace_mode network, enum namespace_mode ipc)
{
    struct pod_config *config = pod_config_new();
    config->network = network;
    config->ipc = ipc;
    strmap_set(&config->sysctls, name, "1");
    bool allowed = sysctl_check(config, NULL) == 0;
    pod_config_free(config);
    return allowed;
}

static void
test_sysctls_belong_to_namespaces(void **state)
{
    (void)state;
    assert_true(sysctl_allowed("net.ipv4.tcp_syncookies", NAMESPACE_POD, NAMESPACE_POD));
    assert_true(sysctl_allowed("net/ipv4/tcp_syncookies", NAMESPACE_POD, NAMESPACE_NODE));
    assert_false(sysctl_allowed("net.ipv4.tcp_syncookies", NAMESPACE_NODE, NAMESPACE_POD));
    assert_true(sysctl_allowed("kernel.shm_rmid_forced", NAMESPACE_NODE, NAMESPACE_POD));
    assert_false(sysctl_allowed("kernel.shm_rmid_forced", NAMESPACE_POD, NAMESPACE_NODE));
    assert_true(sysctl_allowed("fs.mqueue.msg_max", NAMESPACE_POD, NAMESPACE_POD));
    assert_false(sysctl_allowed("kernel.panic", NAMESPACE_POD, NAMESPACE_POD));
    assert_false(sysctl_allowed("kernel.shmmaxx", NAMESPACE_POD, NAMESPACE_POD));
    assert_false(sysctl_allowed("net/../kernel/panic", NAMESPACE_POD, NAMESPACE_POD));
    assert_false(sysctl_allowed("vm.swappiness", NAMESPACE_POD, NAMESPACE_POD));
}

static void
test_signals_and_paths(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"", 15}, {"SIGTERM", 15}, {"term", 15}, {"9", 9}, {"SIGRTMIN+3", 37}, {"SIGQUIT", 3}, {"SIGRTMAX-1", 63}};
    int number;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        assert_int_equal(signal_parse(signals[i].name, &number, NULL), 0);
        assert_int_equal(number, signals[i].number);
    }
    static const char *const wrong[] = {"SIGX", "0", "65", "-1", "9x", "SIGRTMIN+40", "SIGRTMIN3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(signal_parse(wrong[i], &number, NULL), -1);
    static const char *const paths[][2] = {{"/a//b/../c/", "/a/c"},       {"a", "/a"}, {"../../x", "/x"}, {"/", "/"}, {".", "/"},
                                           {"/proc/./self", "/proc/self"}};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        cleanup_free char *clean = path_clean(paths[i][0]);
        assert_string_equal(clean, paths[i][1]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_configuration_survives_its_record),
        cmocka_unit_test(test_a_record_of_the_wrong_shape_is_refused),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_sysctls_belong_to_namespaces),
        cmocka_unit_test(test_signals_and_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
