/* What pods and containers use, on this very machine, whatever its cgroups look like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime_world.h"

static struct world world;

static int
set_up(void **state)
{
    (void)state;
    if (world_make(&world))
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
run_pod_in(const char *name, const char *parent, char pod[ID_SIZE])
{
    struct error err;
    struct pod_config *config = world_pod(&world, name);
    if (parent)
        config->cgroup_parent = str_printf("%s/%s", world.cgroup, parent);
    if (pod_run(world.rt, config, pod, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

/* A pod with a container that computes, in a cgroup of its own or in one that it shares. */
static void
run_busy(const char *name, const char *parent, char pod[ID_SIZE], char id[ID_SIZE])
{
    run_pod_in(name, parent, pod);
    world_run_container(&world, pod, "busy", "sleep 1000 & while :; do :; done", id);
    usleep(700000);
}

static void
expect_busy(const struct usage *usage)
{
    int64_t cpu_ns = usage->figures[FIGURE_CPU_NS];
    assert_true(cpu_ns > 50 * NS_PER_MS && cpu_ns < 60 * NS_PER_SECOND);
    assert_true(usage->figures[FIGURE_CPU_USER_NS] >= 0 && usage->figures[FIGURE_CPU_SYSTEM_NS] >= 0);
    assert_true(usage->nano_cores > 10000000 && usage->nano_cores < INT64_C(2000000000));
    assert_true(usage->figures[FIGURE_MEMORY] > 0);
    assert_true(usage->figures[FIGURE_MEMORY_WORKING_SET] >= 0 && usage->figures[FIGURE_MEMORY_WORKING_SET] <= usage->figures[FIGURE_MEMORY]);
    assert_true(usage->figures[FIGURE_PAGE_FAULTS] > 0);
    assert_int_equal(usage->figures[FIGURE_OOM_KILLS], 0);
}

static void
a_container_that_computes(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE];
    struct container_stats stats;
    struct usage_details details;
    if (!world.rt)
        skip();
    run_busy("computes", NULL, pod, id);
    assert_int_equal(container_stats(world.rt, id, &stats, NULL), 0);
    expect_busy(&stats.usage);
    assert_true(stats.pid > 0 && stats.started_ns > 0);
    assert_true(stats.usage.figures[FIGURE_CPU_SHARES] > 0);
    assert_true(usage_open_files_limit(stats.pid) > 0);
    container_details(world.rt, &stats, &details);
    assert_int_equal(details.processes, 2);
    assert_true(details.files >= 6);
    usage_details_free(&details);
    container_stats_free(&stats);
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
}

static void
a_pod_with_and_without_a_cgroup_of_its_own(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE], neighbour[ID_SIZE];
    struct pod_stats stats;
    if (!world.rt)
        skip();
    run_pod_in("neighbour", "shared", neighbour);
    for (int own = 0; own < 2; own++) {
        run_busy(own ? "own" : "busy", own ? NULL : "shared", pod, id);
        assert_int_equal(pod_stats(world.rt, pod, &stats, NULL), 0);
        assert_int_equal(stats.has_cgroup, own);
        expect_busy(&stats.usage);
        assert_int_equal(stats.processes, 2);
        assert_int_equal(stats.container_count, 1);
        assert_string_equal(stats.containers[0].id, id);
        assert_int_equal(stats.interface_count, 1);
        assert_string_equal(stats.interfaces[0].name, "eth0");
        pod_stats_free(&stats);
        assert_int_equal(pod_stop(world.rt, pod, NULL, NULL), 0);
        assert_int_equal(pod_stats(world.rt, pod, &stats, NULL), 0);
        assert_int_equal(stats.container_count, 0);
        assert_int_equal(stats.interface_count, 0);
        pod_stats_free(&stats);
        assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    }
    assert_int_equal(pod_remove(world.rt, neighbour, NULL, NULL), 0);
}

static void
who_asks_twice_at_once_gets_the_same_rate(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE];
    struct container_stats first, second;
    if (!world.rt)
        skip();
    run_busy("twice", NULL, pod, id);
    assert_int_equal(container_stats(world.rt, id, &first, NULL), 0);
    assert_int_equal(container_stats(world.rt, id, &second, NULL), 0);
    assert_int_equal(first.usage.nano_cores, second.usage.nano_cores);
    container_stats_free(&first);
    container_stats_free(&second);
    assert_int_equal(container_stop(world.rt, id, 0, NULL, NULL), 0);
    assert_int_equal(container_stats(world.rt, id, &first, NULL), 0);
    assert_int_equal(first.pid, 0);
    container_stats_free(&first);
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
}

static void
a_disk_has_a_size(void **state)
{
    (void)state;
    struct disk_stats disk;
    if (!world.rt)
        skip();
    runtime_disk(world.rt, &disk);
    assert_true(disk.bytes > 0);
    assert_true(disk.inodes >= disk.inodes_free);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_that_computes),
        cmocka_unit_test(a_pod_with_and_without_a_cgroup_of_its_own),
        cmocka_unit_test(who_asks_twice_at_once_gets_the_same_rate),
        cmocka_unit_test(a_disk_has_a_size),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
