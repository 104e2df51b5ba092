/* What cannot be had is said in one sentence that names object, step and cause, with the right code, and leaves nothing behind. */
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
#include "base/clock.h"
#include "base/file.h"
#include "runtime/container_steps.h"
#include "runtime/objects.h"
#include "runtime/pod_steps.h"
#include "runtime_world.h"

static struct world world;
static char pod[ID_SIZE];

static int
set_up(void **state)
{
    (void)state;
    if (!world_make(&world))
        return 0;
    world_open(&world);
    world_run_pod(&world, "web-0", pod);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    if (world.rt)
        (void)pod_remove(world.rt, pod, NULL, NULL);
    return world_end(&world);
}

static struct container_config *
container(void)
{
    if (!world.rt)
        skip();
    return world_container(pod, "main", "sleep 1000");
}

static size_t
count_containers(void)
{
    size_t count;
    struct container_status *list = container_list(world.rt, &count);
    container_list_free(list, count);
    return count;
}

static void
expect_error(const struct error *err, enum error_kind kind, const char *words)
{
    if (err->kind != kind || !strstr(err->message, words))
        fail_msg("%s: %s\nbut %s was to be in it, of kind %s", error_kind_name(err->kind), err->message, words, error_kind_name(kind));
}

static void
refuse_create(struct container_config *config, enum error_kind kind, const char *words)
{
    char id[ID_SIZE];
    struct error err;
    size_t before = count_containers();
    assert_int_equal(container_create(world.rt, config, id, NULL, &err), -1);
    expect_error(&err, kind, words);
    assert_int_equal(count_containers(), before);
}

static void
refuse_start(struct container_config *config, enum error_kind kind, const char *words)
{
    char id[ID_SIZE];
    struct error err;
    if (container_create(world.rt, config, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(container_start(world.rt, id, NULL, &err), -1);
    expect_error(&err, kind, words);
    struct container_status status;
    assert_int_equal(container_status(world.rt, id, &status, NULL), 0);
    assert_int_equal(status.state, CONTAINER_EXITED);
    assert_string_equal(status.reason, "StartError");
    assert_int_equal(status.exit_code, 128);
    container_status_free(&status);
    assert_int_equal(container_remove(world.rt, id, NULL, NULL), 0);
}

static void
set_command(struct container_config *config, const char *command)
{
    strv_free(&config->args);
    strv_add(&config->args, command);
}

static void
set_mount(struct container_config *config, const char *host, const char *path)
{
    config->mounts = mem_zalloc(1, sizeof *config->mounts);
    config->mount_count = 1;
    config->mounts[0] = (struct mount_request){.container_path = str_dup(path), .host_path = str_dup(host)};
}

static void
test_a_command_that_cannot_run(void **state)
{
    (void)state;
    struct container_config *config = container();
    set_command(config, "/no/such/program");
    refuse_start(config, ERR_INVALID, "/no/such/program");
    config = container();
    set_command(config, "nowhere-on-the-path");
    refuse_start(config, ERR_INVALID, "nowhere-on-the-path");
    config = container();
    set_command(config, "/etc/passwd");
    refuse_start(config, ERR_INVALID, "/etc/passwd: Permission denied");
    cleanup_free char *foreign =
        str_printf("printf '\\177ELF\\002\\001\\001' > %s/1/bin/foreign; chmod 755 %s/1/bin/foreign", world.layers, world.layers);
    assert_int_equal(system(foreign), 0);
    config = container();
    set_command(config, "foreign");
    refuse_start(config, ERR_INVALID, "Exec format error");
}

static void
test_users_that_are_not_there(void **state)
{
    (void)state;
    struct container_config *config = container();
    config->user = str_dup("nobody-knows");
    refuse_create(config, ERR_INVALID, "user nobody-knows: the image's /etc/passwd has no such name");
    config = container();
    config->user = str_dup("0:nobody-knows");
    refuse_create(config, ERR_INVALID, "group nobody-knows");
    config = container();
    config->user = str_dup("99999999999");
    refuse_create(config, ERR_INVALID, "99999999999");
}

static void
test_mounts_that_cannot_be(void **state)
{
    (void)state;
    struct container_config *config = container();
    set_mount(config, "/etc", "/proc");
    refuse_create(config, ERR_INVALID, "/proc");
    config = container();
    set_mount(config, "/etc", "/proc/sys/../../proc/self");
    refuse_create(config, ERR_INVALID, "/proc");
    config = container();
    set_mount(config, "", "/data");
    refuse_create(config, ERR_INVALID, "/data");
    config = container();
    set_mount(config, "/etc/passwd/below", "/data");
    refuse_create(config, ERR_INVALID, "/etc/passwd/below");
    config = container();
    set_mount(config, "/etc", "/");
    refuse_create(config, ERR_INVALID, "root");
}

static void
test_paths_stay_in_the_container(void **state)
{
    (void)state;
    if (!world.rt)
        skip();
    char id[ID_SIZE];
    cleanup_free char *outside = str_printf("%s/outside", world.dir), *data = str_printf("%s/data", world.dir);
    cleanup_free char *make =
        str_printf("mkdir -p %s %s; ln -s %s %s/1/escape; ln -s /proc %s/1/to-proc", outside, data, outside, world.layers, world.layers);
    assert_int_equal(system(make), 0);
    struct container_config *config = container();
    set_mount(config, data, "/escape/below");
    struct error err;
    if (container_create(world.rt, config, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
    cleanup_free char *below = str_printf("%s/below", outside);
    assert_int_equal(access(below, F_OK), -1);
    assert_int_equal(container_remove(world.rt, id, NULL, NULL), 0);
    config = container();
    config->working_dir = str_dup("/../../../..");
    if (container_create(world.rt, config, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(container_remove(world.rt, id, NULL, NULL), 0);
    config = container();
    config->attempt = 3;
    config->working_dir = str_dup("/proc/self/fd/7");
    int made = container_create(world.rt, config, id, NULL, &err);
    if (made == 0)
        assert_int_equal(container_remove(world.rt, id, NULL, NULL), 0);
    /* /to-proc is the image's own symlink: a mount there may not cover /proc. */
    config = container();
    set_mount(config, data, "/to-proc");
    refuse_create(config, ERR_INVALID, "/to-proc");
}

static void
test_numbers_and_names_that_make_no_sense(void **state)
{
    (void)state;
    struct container_config *config = container();
    config->resources.memory_limit_bytes = -5;
    refuse_create(config, ERR_INVALID, "memory_limit_in_bytes -5");
    config = container();
    config->resources.cpu_quota = 5;
    refuse_create(config, ERR_INVALID, "cgroup limit cpu.");
    if (cgroups_of(&world.rt->cgroups, "cpuset")) {
        config = container();
        config->resources.cpuset_cpus = str_dup("900-905");
        refuse_create(config, ERR_INVALID, "cpuset.cpus=900-905");
    }
    config = container();
    config->resources.oom_score_adj = 5000;
    refuse_create(config, ERR_INVALID, "oom_score_adj");
    config = container();
    strv_add(&config->add_capabilities, "CAP_FLY");
    refuse_create(config, ERR_INVALID, "CAP_FLY");
    config = container();
    config->stop_signal = str_dup("SIGWHATEVER");
    refuse_create(config, ERR_INVALID, "SIGWHATEVER");
    config = container();
    free(config->log_path);
    config->log_path = str_dup("../../outside.log");
    refuse_create(config, ERR_INVALID, "outside the pod's log directory");
    config = container();
    config->devices = mem_zalloc(1, sizeof *config->devices);
    config->device_count = 1;
    config->devices[0] =
        (struct device_request){.container_path = str_dup("/dev/x"), .host_path = str_dup("/dev/not-there"), .permissions = str_dup("rw")};
    refuse_create(config, ERR_INVALID, "/dev/not-there");
    config = container();
    free(config->layers.items[0]);
    config->layers.items[0] = str_dup("not-there");
    refuse_create(config, ERR_NOT_FOUND, "not-there");
}

static void
test_ids_that_name_nothing_or_too_much(void **state)
{
    (void)state;
    struct error err;
    struct container_status status;
    struct pod_status pod_state;
    char a[ID_SIZE], b[ID_SIZE];
    if (!world.rt)
        skip();
    assert_int_equal(container_status(world.rt, "../../etc", &status, &err), -1);
    expect_error(&err, ERR_NOT_FOUND, "no such container");
    assert_int_equal(container_start(world.rt, "feed", NULL, &err), -1);
    expect_error(&err, ERR_NOT_FOUND, "feed");
    assert_int_equal(pod_status(world.rt, "", &pod_state, &err), -1);
    expect_error(&err, ERR_NOT_FOUND, "no such pod");
    assert_int_equal(pod_stop(world.rt, "0/1", NULL, NULL) | pod_remove(world.rt, "feed", NULL, NULL) |
                         container_stop(world.rt, "feed", 0, NULL, NULL) | container_remove(world.rt, "a/b", NULL, NULL),
                     0);
    /* Until two of them begin with the same character. */
    char made[17][ID_SIZE];
    size_t count = 0;
    for (bool twice = false; !twice && count < 17; count++) {
        cleanup_free char *name = str_printf("c%zu", count);
        assert_int_equal(container_create(world.rt, world_container(pod, name, "true"), made[count], NULL, &err), 0);
        for (size_t i = 0; i < count; i++)
            if (made[i][0] == made[count][0]) {
                twice = true;
                memcpy(a, made[i], ID_SIZE);
                memcpy(b, made[count], ID_SIZE);
            }
    }
    a[1] = '\0';
    assert_int_equal(container_status(world.rt, a, &status, &err), -1);
    expect_error(&err, ERR_INVALID, "more than one");
    assert_int_equal(container_stop(world.rt, a, 0, NULL, &err), -1);
    b[20] = '\0';
    assert_int_equal(container_status(world.rt, b, &status, NULL), 0);
    container_status_free(&status);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(container_remove(world.rt, made[i], NULL, NULL), 0);
}

static void
test_a_pod_that_is_not_ready(void **state)
{
    (void)state;
    char stopped[ID_SIZE], id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    world_run_pod(&world, "stopped", stopped);
    assert_int_equal(pod_stop(world.rt, stopped, NULL, NULL), 0);
    assert_int_equal(pod_stop(world.rt, stopped, NULL, NULL), 0);
    assert_int_equal(container_create(world.rt, world_container(stopped, "main", "true"), id, NULL, &err), -1);
    expect_error(&err, ERR_PRECONDITION, "not ready");
    assert_int_equal(pod_remove(world.rt, stopped, NULL, NULL), 0);
}

static void
test_a_retry_gets_the_same_and_another_request_does_not(void **state)
{
    (void)state;
    char first[ID_SIZE], second[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    world_run_pod(&world, "twice", first);
    world_run_pod(&world, "twice", second);
    assert_string_equal(first, second);
    struct pod_config *other = world_pod(&world, "twice");
    free(other->request);
    other->request = str_dup("other");
    other->request_length = 5;
    assert_int_equal(pod_run(world.rt, other, second, NULL, &err), -1);
    expect_error(&err, ERR_EXISTS, "another configuration");
    assert_int_equal(pod_remove(world.rt, first, NULL, NULL), 0);
}

static void
test_a_step_that_fails_leaves_nothing(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    assert_string_equal(world_leftovers(&world), "");
    for (size_t step = 1; step <= pod_step_count(); step++) {
        world.rt->fail_pod_step = step;
        assert_int_equal(pod_run(world.rt, world_pod(&world, "web-0"), id, NULL, &err), -1);
        expect_error(&err, ERR_INTERNAL, "pod web-0 (");
        assert_string_equal(world_leftovers(&world), "");
    }
    world.rt->fail_pod_step = 0;
    world_run_pod(&world, "web-0", pod);
    for (size_t step = 1; step <= container_step_count(); step++) {
        world.rt->fail_container_step = step;
        refuse_create(container(), ERR_INTERNAL, "container main (");
    }
    world.rt->fail_container_step = 0;
    assert_int_equal(container_create(world.rt, container(), id, NULL, NULL), 0);
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    assert_string_equal(world_leftovers(&world), "");
    world_run_pod(&world, "web-0", pod);
}

static void
test_a_pod_whose_options_do_not_fit(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    struct pod_config *config = world_pod(&world, "parent");
    config->cgroup_parent = str_dup("/a/../b");
    assert_int_equal(pod_run(world.rt, config, id, NULL, &err), -1);
    expect_error(&err, ERR_INVALID, "cgroup_parent");
    config = world_pod(&world, "host");
    free(config->hostname);
    config->hostname = str_dup("a-name-that-is-much-longer-than-the-sixty-four-bytes-that-a-kernel-takes");
    assert_int_equal(pod_run(world.rt, config, id, NULL, &err), -1);
    expect_error(&err, ERR_INVALID, "hostname");
    config = world_pod(&world, "");
    assert_int_equal(pod_run(world.rt, config, id, NULL, &err), -1);
    expect_error(&err, ERR_INVALID, "metadata.name");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_that_cannot_run),
        cmocka_unit_test(test_users_that_are_not_there),
        cmocka_unit_test(test_mounts_that_cannot_be),
        cmocka_unit_test(test_paths_stay_in_the_container),
        cmocka_unit_test(test_numbers_and_names_that_make_no_sense),
        cmocka_unit_test(test_ids_that_name_nothing_or_too_much),
        cmocka_unit_test(test_a_pod_that_is_not_ready),
        cmocka_unit_test(test_a_retry_gets_the_same_and_another_request_does_not),
        cmocka_unit_test(test_a_step_that_fails_leaves_nothing),
        cmocka_unit_test(test_a_pod_whose_options_do_not_fit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
