/* AppArmor. What needs it in charge runs under User Mode Linux (run-in-uml.sh -k security=apparmor) and skips itself elsewhere; the rest runs where
 * it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/apparmor.h"
#include "tests/unit/runtime_world.h"

static struct world world;
static char pod[ID_SIZE];
static struct error err;

static void
a_node_without_apparmor_says_so_where_a_profile_is_named(void **state)
{
    (void)state;
    char *name;
    if (apparmor_enabled())
        skip();
    assert_int_equal(apparmor_prepare("localhost/web", &name, &err), -1);
    assert_int_equal(err.kind, ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "web"));
    static const char *const fine[] = {"", "unconfined", "runtime/default"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        assert_int_equal(apparmor_prepare(fine[i], &name, &err), 0);
        assert_string_equal(name, "");
        free(name);
    }
    assert_int_equal(apparmor_prepare("web", &name, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

static void
launch(const char *profile, bool privileged, char id[ID_SIZE])
{
    struct container_config *config = world_container(pod, "main", "cat /proc/self/attr/apparmor/current; exec sleep 1000");
    config->apparmor = str_dup(profile);
    config->privileged = privileged;
    if (container_create(world.rt, config, id, NULL, &err) < 0 || container_start(world.rt, id, NULL, &err) < 0)
        fail_msg("%s: %s", profile, err.message);
}

static void
expect(const char *id, const char *script, const char *output)
{
    int code;
    assert_string_equal(world_exec(&world, id, script, &code), output);
}

static void
containers_and_their_execs_are_confined(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!apparmor_enabled() || !world.rt)
        skip();
    static const char *const asked[] = {"runtime/default", ""};
    for (size_t i = 0; i < 2; i++) {
        launch(asked[i], false, id);
        expect(id, "cat /proc/self/attr/apparmor/current /proc/1/attr/apparmor/current", "crisp-default (enforce)\ncrisp-default (enforce)\n");
        expect(id, "touch /file /dev/shm/file && echo x >/dev/null && echo well", "well\n");
        expect(id, "echo h 2>/dev/null >/proc/sysrq-trigger || echo refused", "refused\n");
        expect(id, "echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo refused", "refused\n");
        expect(id, "sleep 5 & kill $! && echo killed", "killed\n");
        assert_int_equal(container_remove(world.rt, id, NULL, &err), 0);
    }
    launch("unconfined", false, id);
    expect(id, "cat /proc/self/attr/apparmor/current", "unconfined\n");
    assert_int_equal(container_remove(world.rt, id, NULL, &err), 0);
    launch("localhost/" APPARMOR_OWN_PROFILE, true, id);
    expect(id, "cat /proc/self/attr/apparmor/current", "unconfined\n");
    assert_int_equal(container_remove(world.rt, id, NULL, &err), 0);
}

static void
a_profile_of_the_node(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!apparmor_enabled() || !world.rt)
        skip();
    FILE *parser = popen("/usr/sbin/apparmor_parser --skip-cache --replace", "w");
    assert_non_null(parser);
    assert_true(fputs("profile crisp-test-no-tmp flags=(attach_disconnected) { file, capability, network, signal, deny /tmp-not/** w, }\n", parser) >
                0);
    assert_int_equal(pclose(parser), 0);
    launch("localhost/crisp-test-no-tmp", false, id);
    expect(id, "mkdir /tmp-not; echo x 2>/dev/null >/tmp-not/x || echo refused; echo x >/fine && cat /fine /proc/1/attr/apparmor/current",
           "refused\nx\ncrisp-test-no-tmp (enforce)\n");
    assert_int_equal(container_remove(world.rt, id, NULL, &err), 0);
    struct container_config *config = world_container(pod, "absent", "true");
    config->apparmor = str_dup("localhost/crisp-test-absent");
    assert_int_equal(container_create(world.rt, config, id, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_non_null(strstr(err.message, "crisp-test-absent: it is not loaded"));
}

static int
set_up(void **state)
{
    (void)state;
    if (!apparmor_enabled() || !world_make(&world))
        return 0;
    world_open(&world);
    struct pod_config *config = world_pod(&world, "apparmor");
    config->privileged = true;
    if (pod_run(world.rt, config, pod, NULL, &err) < 0)
        fail_msg("%s", err.message);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    if (!world.rt)
        return 0;
    (void)pod_remove(world.rt, pod, NULL, NULL);
    world_close(&world);
    world_unmake(&world);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_without_apparmor_says_so_where_a_profile_is_named),
        cmocka_unit_test(containers_and_their_execs_are_confined),
        cmocka_unit_test(a_profile_of_the_node),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
