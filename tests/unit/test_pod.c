/* A pod's life on this very machine: what it has, and that nothing is left of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime_world.h"

static struct world world;

static int
set_up(void **state)
{
    (void)state;
    if (!world_make(&world))
        return 0;
    world_open(&world);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    return world_end(&world);
}

static void
need_world(void)
{
    if (!world.rt) {
        print_message("skipped: it needs root\n");
        skip();
    }
}

static void
test_a_pod_runs_a_container_and_leaves_nothing(void **state)
{
    (void)state;
    need_world();
    char pod[ID_SIZE], container[ID_SIZE];
    world_run_pod(&world, "web-0", pod);
    struct pod_status status;
    assert_int_equal(pod_status(world.rt, pod, &status, NULL), 0);
    assert_int_equal(status.state, POD_READY);
    assert_int_equal(status.ips.count, 1);
    pod_status_free(&status);
    world_run_container(&world, pod, "main", "echo hello; sleep 1000", container);
    assert_string_equal(world_exec(&world, container, "hostname", NULL), "web-0\n");
    assert_int_equal(container_stop(world.rt, container, 0, NULL, NULL), 0);
    assert_int_equal(world_exit_code(&world, container), 137);
    assert_int_equal(container_remove(world.rt, container, NULL, NULL), 0);
    assert_int_equal(pod_stop(world.rt, pod, NULL, NULL), 0);
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    assert_string_equal(world_leftovers(&world), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pod_runs_a_container_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
