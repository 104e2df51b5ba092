/* CDI: files as vendors write them, and what they make of a container's configuration. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cdi.h"
#include "runtime/yaml.h"

struct world {
    char directory[64];
    struct strv directories; /* the node's, then what changes */
    struct container_config *config;
    struct error err;
};

static int
setup(void **state)
{
    struct world *w = mem_zalloc(1, sizeof *w);
    (void)snprintf(w->directory, sizeof w->directory, "/var/tmp/test-cdi.XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    strv_addf(&w->directories, "%s/etc", w->directory);
    strv_addf(&w->directories, "%s/run", w->directory);
    strv_add(&w->directories, "/no/such/directory");
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(mkdir(w->directories.items[i], 0700), 0);
    w->config = container_config_new();
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;
    container_config_free(w->config);
    assert_int_equal(file_remove_tree(AT_FDCWD, w->directory, NULL), 0);
    strv_free(&w->directories);
    free(w);
    return 0;
}

static void
put(struct world *w, const char *name, const char *text)
{
    cleanup_free char *path = str_printf("%s/%s", w->directory, name);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600, false, NULL), 0);
}

static int
apply(struct world *w, const char *device)
{
    strv_add(&w->config->cdi_devices, device);
    return cdi_apply(&w->directories, w->config, &w->err);
}

static void
refused(struct world *w, const char *device, enum error_kind kind, const char *words)
{
    container_config_free(w->config);
    w->config = container_config_new();
    if (apply(w, device) == 0)
        fail_msg("%s is accepted, not refused with %s", device, words);
    if (w->err.kind != kind || !strstr(w->err.message, words) || !strstr(w->err.message, device))
        fail_msg("%s", w->err.message);
}

static void
a_device_in_json(void **state)
{
    struct world *w = *state;
    put(w, "etc/gpu.json",
        "{\"cdiVersion\": \"0.6.0\", \"kind\": \"vendor.example/gpu\","
        " \"containerEdits\": {\"env\": [\"ALL=yes\"]},"
        " \"devices\": [{\"name\": \"0\", \"containerEdits\": {\"env\": [\"GPU=0\", \"PATH=/gpu\"],"
        "   \"deviceNodes\": [{\"path\": \"/dev/gpu0\", \"hostPath\": \"/dev/null\", \"permissions\": \"rw\"},"
        "                   {\"path\": \"/dev/gpu-control\", \"type\": \"c\", \"major\": 195, \"minor\": 255, \"fileMode\": 432, \"uid\": 1, "
        "\"gid\": 44}],"
        "   \"mounts\": [{\"hostPath\": \"/etc/passwd\", \"containerPath\": \"/gpu/passwd\", \"options\": [\"ro\", \"nosuid\", \"nodev\", "
        "\"bind\"]}],"
        "   \"additionalGids\": [0, 44]}},"
        "  {\"name\": \"1\", \"containerEdits\": {\"env\": [\"GPU=1\"]}}]}");
    strv_add(&w->config->env, "PATH=/bin");
    strv_add(&w->config->cdi_devices, "vendor.example/gpu=0");
    assert_int_equal(apply(w, "vendor.example/gpu=1"), 0);

    const struct strv *env = &w->config->env;
    assert_int_equal(env->count, 3);
    assert_string_equal(env->items[0], "PATH=/gpu");
    assert_string_equal(env->items[1], "ALL=yes");
    assert_string_equal(env->items[2], "GPU=1");

    assert_int_equal(w->config->device_count, 2);
    const struct device_request *null = &w->config->devices[0], *control = &w->config->devices[1];
    assert_string_equal(null->container_path, "/dev/gpu0");
    assert_string_equal(null->type, "c");
    assert_string_equal(null->permissions, "rw");
    assert_int_equal(null->major, 1);
    assert_int_equal(null->minor, 3);
    assert_int_equal(null->mode, 0666);
    assert_int_equal(control->major, 195);
    assert_int_equal(control->minor, 255);
    assert_int_equal(control->mode, 0660);
    assert_int_equal(control->uid, 1);
    assert_int_equal(control->gid, 44);

    assert_int_equal(w->config->mount_count, 1);
    const struct mount_request *mount = &w->config->mounts[0];
    assert_string_equal(mount->container_path, "/gpu/passwd");
    assert_true(mount->readonly && mount->nosuid && mount->nodev && !mount->noexec);
    assert_int_equal(w->config->supplemental_groups.count, 1);
    assert_string_equal(w->config->supplemental_groups.items[0], "44");
}

static void
a_device_in_yaml(void **state)
{
    struct world *w = *state;
    put(w, "etc/net.yaml",
        "---\n"
        "cdiVersion: \"0.5.0\"\n"
        "kind: vendor.example/net\n"
        "devices:\n"
        "- name: \"007\"   # text, not a number\n"
        "  containerEdits:\n"
        "    env: [NET=on]\n"
        "    deviceNodes:\n"
        "    - {path: /dev/net0, type: c, major: 10, minor: 0x10, fileMode: 0640}\n");
    assert_int_equal(apply(w, "vendor.example/net=007"), 0);
    assert_string_equal(w->config->env.items[0], "NET=on");
    assert_int_equal(w->config->devices[0].minor, 16);
    assert_int_equal(w->config->devices[0].mode, 0640);
}

static void
the_later_directory_holds(void **state)
{
    struct world *w = *state;
    static const char form[] =
        "{\"cdiVersion\": \"0.6.0\", \"kind\": \"a.b/c\", \"devices\": [{\"name\": \"d\", \"containerEdits\": {\"env\": [\"FROM=%s\"]}}]}";
    cleanup_free char *etc = str_printf(form, "etc"), *run = str_printf(form, "run");
    put(w, "etc/a.json", etc);
    put(w, "run/a.json", run);
    put(w, "run/broken.json", "{");
    put(w, "run/notes.txt", "not ours");
    assert_int_equal(apply(w, "a.b/c=d"), 0);
    assert_string_equal(w->config->env.items[0], "FROM=run");
    put(w, "run/b.yaml", run); /* JSON is YAML */
    refused(w, "a.b/c=d", ERR_INVALID, "both ");
}

static void
what_cannot_be_is_refused_by_name(void **state)
{
    struct world *w = *state;
    refused(w, "a.b/c=d", ERR_INVALID, "no file of this node has it");
    refused(w, "a.b/c", ERR_INVALID, "VENDOR/CLASS=NAME");
    refused(w, "=", ERR_INVALID, "VENDOR/CLASS=NAME");
    put(w, "etc/broken.json", "{\"kind\": ");
    refused(w, "a.b/c=d", ERR_INVALID, "broken.json: line 1");
    static const struct {
        const char *edits, *words;
        enum error_kind kind;
    } cases[] = {
        {"\"hooks\": [{\"hookName\": \"createContainer\", \"path\": \"/usr/bin/hook\"}]", "hook createContainer /usr/bin/hook", ERR_UNSUPPORTED},
        {"\"intelRdt\": {\"closID\": \"x\"}", "intelRdt", ERR_UNSUPPORTED},
        {"\"env\": [\"NO\"]", "NAME=VALUE", ERR_INVALID},
        {"\"env\": [5]", "NAME=VALUE", ERR_INVALID},
        {"\"deviceNodes\": [{\"path\": \"dev/x\"}]", "not absolute", ERR_INVALID},
        {"\"deviceNodes\": [{\"path\": \"/dev/no-such-device\"}]", "no such device", ERR_INVALID},
        {"\"deviceNodes\": [{\"path\": \"/dev/null\", \"major\": -1}]", "major", ERR_INVALID},
        {"\"deviceNodes\": [{\"path\": \"/dev/null\", \"type\": \"p\"}]", "type \"p\"", ERR_UNSUPPORTED},
        {"\"mounts\": [{\"hostPath\": \"/proc/not-there\", \"containerPath\": \"/x\"}]", "/proc/not-there", ERR_INVALID},
        {"\"mounts\": [{\"hostPath\": \"/etc\", \"containerPath\": \"/x\", \"options\": [\"size=5\"]}]", "size=5", ERR_UNSUPPORTED},
        {"\"mounts\": [{\"hostPath\": \"/etc\", \"containerPath\": \"/x\", \"options\": [5]}]", "option", ERR_UNSUPPORTED},
        {"\"mounts\": [{\"hostPath\": \"tmpfs\", \"containerPath\": \"/x\", \"type\": \"tmpfs\"}]", "tmpfs", ERR_UNSUPPORTED},
        {"\"additionalGids\": [\"x\"]", "additionalGids", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_free char *text = str_printf("{\"kind\": \"a.b/c\", \"devices\": [{\"name\": \"d\", \"containerEdits\": {%s}}]}", cases[i].edits);
        put(w, "etc/broken.json", text);
        refused(w, "a.b/c=d", cases[i].kind, cases[i].words);
    }
}

static void
yaml_cannot_grow_without_bounds(void **state)
{
    (void)state;
    struct error err;
    static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
                               "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert_null(yaml_to_json(bomb, strlen(bomb), &err));
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    static const char itself[] = "&a [*a]\n";
    assert_null(yaml_to_json(itself, strlen(itself), &err));
    assert_null(yaml_to_json("", 0, &err));
    assert_null(yaml_to_json("a: [", 4, &err));
    assert_int_equal(err.kind, ERR_INVALID);
    static const char odd_key[] = "? [1]\n: 2\n";
    assert_null(yaml_to_json(odd_key, strlen(odd_key), &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_in_json),
        TEST(a_device_in_yaml),
        TEST(the_later_directory_holds),
        TEST(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(yaml_cannot_grow_without_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
