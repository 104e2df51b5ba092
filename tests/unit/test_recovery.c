/* crispd and monitors are killed; what follows finds everything as it is. Each "crispd" is a child of this test that opens the runtime on the same
 * directories. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "runtime_world.h"

enum { PODS = 20 };

static struct world world;
static bool have_world;

static int
set_up(void **state)
{
    (void)state;
    have_world = world_make(&world);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    if (have_world)
        world_unmake(&world);
    return 0;
}

/* In a crispd a failed check ends it with its words; the test that started it fails. */
#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                     \
        }                                                                                 \
    } while (0)

static struct error failure;
#define WELL(expression)                                                                                \
    do {                                                                                                \
        if ((expression) < 0) {                                                                         \
            (void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expression, failure.message); \
            _exit(1);                                                                                   \
        }                                                                                               \
    } while (0)

static void
open_runtime(void)
{
    WELL(runtime_open(&world.options, &world.rt, &failure));
    struct cancel patience = {.fd = -1, .deadline_ns = clock_monotonic_ns() + 20 * NS_PER_SECOND};
    runtime_recovered(world.rt, &patience);
}

static pid_t
start_crispd(void (*life)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    open_runtime();
    life();
    runtime_close(world.rt);
    _exit(0);
}

static void
crispd(void (*life)(void))
{
    int status;
    if (!have_world)
        skip();
    pid_t pid = start_crispd(life);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void
wait_a_little(void)
{
    (void)usleep(20000);
}

/* ---- what crispds do ---- */

static void
run_pod(const char *name, const char *script)
{
    char pod[ID_SIZE], container[ID_SIZE];
    WELL(pod_run(world.rt, world_pod(&world, name), pod, NULL, &failure));
    WELL(container_create(world.rt, world_container(pod, "main", script), container, NULL, &failure));
    WELL(container_start(world.rt, container, NULL, &failure));
}

static void
run_pods_and_be_killed(void)
{
    for (int i = 0; i < PODS; i++) {
        cleanup_free char *name = str_printf("pod-%d", i);
        run_pod(name, i == 0 ? "sleep 0.5; exit 42" : "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.01; done");
    }
    (void)kill(getpid(), SIGKILL);
}

static size_t
count_pods(enum pod_state state)
{
    size_t count, n = 0;
    struct pod_status *list = pod_list(world.rt, &count);
    for (size_t i = 0; i < count; i++)
        n += list[i].state == state;
    pod_list_free(list, count);
    return n;
}

static size_t
count_containers(enum container_state state)
{
    size_t count, n = 0;
    struct container_status *list = container_list(world.rt, &count);
    for (size_t i = 0; i < count; i++)
        n += list[i].state == state;
    container_list_free(list, count);
    return n;
}

static void
remove_all(void)
{
    size_t count;
    struct pod_status *list = pod_list(world.rt, &count);
    for (size_t i = 0; i < count; i++)
        WELL(pod_remove(world.rt, list[i].id, NULL, &failure));
    pod_list_free(list, count);
}

static void
check_lines(const char *path)
{
    cleanup_free char *text = NULL;
    WELL(file_read(AT_FDCWD, path, 16 << 20, &text, NULL, &failure));
    long next = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line; next++) {
        const char *said = strstr(line, " stdout F line ");
        CHECK(said && strtol(said + 15, NULL, 10) == next);
    }
    CHECK(next > 0);
}

static void
find_all_alive(void)
{
    CHECK(count_pods(POD_READY) == PODS);
    CHECK(count_containers(CONTAINER_RUNNING) == PODS - 1);
    CHECK(count_containers(CONTAINER_EXITED) == 1);
    size_t count;
    struct container_status *list = container_list(world.rt, &count);
    for (size_t i = 0; i < count; i++) {
        struct exec_result result;
        struct strv command = {0};
        CHECK(i == 0 || list[i].created_ns < list[i - 1].created_ns);
        if (list[i].state == CONTAINER_EXITED) {
            CHECK(list[i].exit_code == 42 && list[i].finished_ns > list[i].started_ns + NS_PER_SECOND / 3);
            continue;
        }
        strv_add(&command, "hostname");
        WELL(container_exec(world.rt, list[i].id, &command, 0, NULL, &result, &failure));
        CHECK(result.exit_code == 0 && str_starts(result.out, "pod-"));
        exec_result_free(&result);
        strv_free(&command);
        check_lines(list[i].log_path);
        WELL(container_reopen_log(world.rt, list[i].id, &failure));
        WELL(container_stop(world.rt, list[i].id, 0, NULL, &failure));
    }
    container_list_free(list, count);
    struct pod_config *again = world_pod(&world, "pod-3");
    char id[ID_SIZE];
    WELL(pod_run(world.rt, again, id, NULL, &failure));
    CHECK(count_pods(POD_READY) == PODS);
    remove_all();
}

static void
test_a_new_crispd_finds_twenty_pods_as_they_are(void **state)
{
    (void)state;
    int status;
    if (!have_world)
        skip();
    pid_t first = start_crispd(run_pods_and_be_killed);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_true(WIFSIGNALED(status));
    (void)usleep(700000);
    crispd(find_all_alive);
    assert_string_equal(world_leftovers(&world), "");
}

/* Each story begins with nothing, however the one before it ended. */
static int
begin_story(void **state)
{
    (void)state;
    if (have_world)
        crispd(remove_all);
    return 0;
}

/* ---- monitors ---- */

static pid_t
monitor_pid(void)
{
    size_t count;
    struct pod_status *list = pod_list(world.rt, &count);
    CHECK(count == 1);
    pid_t pid = list[0].monitor_pid;
    pod_list_free(list, count);
    return pid;
}

static void
expect_lost(const char *reason, const char *container_reason)
{
    size_t count;
    struct pod_status *pods = pod_list(world.rt, &count);
    CHECK(count == 1 && pods[0].state == POD_NOTREADY && str_eq(pods[0].reason, reason));
    pod_list_free(pods, count);
    struct container_status *list = container_list(world.rt, &count);
    CHECK(count == 1 && list[0].state == CONTAINER_EXITED && list[0].exit_code == 137 && str_eq(list[0].reason, container_reason));
    container_list_free(list, count);
}

static void
lose_a_monitor(void)
{
    run_pod("lonely", "sleep 1000");
    (void)kill(monitor_pid(), SIGKILL);
    for (int tries = 0; tries < 50 && count_pods(POD_NOTREADY) == 0; tries++)
        wait_a_little();
    expect_lost("MonitorLost", "MonitorLost");
    remove_all();
}

static void
test_a_monitor_that_is_killed_is_seen_within_a_second(void **state)
{
    (void)state;
    crispd(lose_a_monitor);
    assert_string_equal(world_leftovers(&world), "");
}

static void
run_one(void)
{
    run_pod("lonely", "sleep 1000");
}

static void
kill_recorded_monitor(void)
{
    (void)kill(monitor_pid(), SIGKILL);
    (void)kill(getpid(), SIGKILL);
}

static void
find_lost(void)
{
    expect_lost("MonitorLost", "MonitorLost");
    remove_all();
}

static void
test_both_are_killed(void **state)
{
    (void)state;
    int status;
    crispd(run_one);
    pid_t second = start_crispd(kill_recorded_monitor);
    assert_int_equal(waitpid(second, &status, 0), second);
    crispd(find_lost);
    assert_string_equal(world_leftovers(&world), "");
}

/* A frozen monitor is given up, its containers are killed, and nothing else waits for it. */
static void
freeze_monitor(void)
{
    run_one();
    (void)kill(monitor_pid(), SIGSTOP);
}

static void
test_a_monitor_that_does_not_answer(void **state)
{
    (void)state;
    crispd(freeze_monitor);
    int64_t began = clock_monotonic_ns();
    crispd(find_lost);
    assert_true(clock_monotonic_ns() - began < 20 * NS_PER_SECOND);
    assert_string_equal(world_leftovers(&world), "");
}

/* ---- records ---- */

static void
edit_records(const char *kind, const char *sed)
{
    cleanup_free char *command = str_printf("sed -i '%s' %s/%s/*/record", sed, world.root, kind);
    assert_int_equal(system(command), 0);
}

/* The monitor and all of its containers at once, by the cgroups they are in; then crispd before it could see that. */
static void
power_off(void)
{
    size_t count;
    run_one();
    struct pod_status *list = pod_list(world.rt, &count);
    (void)kill(list[0].monitor_pid, SIGKILL);
    (void)kill(getpid(), SIGKILL);
}

static void
find_rebooted(void)
{
    expect_lost("NodeRebooted", "NodeRebooted");
    size_t count;
    struct pod_status *pods = pod_list(world.rt, &count);
    CHECK(count == 1);
    pod_list_free(pods, count);
    remove_all();
}

static void
test_after_a_reboot(void **state)
{
    (void)state;
    if (!have_world)
        skip();
    int status;
    pid_t first = start_crispd(power_off);
    assert_int_equal(waitpid(first, &status, 0), first);
    edit_records("pods", "s/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"00000000-0000-0000-0000-000000000000\"/g");
    crispd(find_rebooted);
    assert_string_equal(world_leftovers(&world), "");
}

static void
run_three(void)
{
    run_pod("a", "sleep 1000");
    run_pod("b", "sleep 1000");
    run_pod("c", "sleep 1000");
}

static void
find_two_of_three(void)
{
    CHECK(count_pods(POD_READY) == 2);
    cleanup_free char *info = runtime_info_json(world.rt);
    CHECK(strstr(info, "pods/") != NULL);
    remove_all();
}

static void
test_a_damaged_record_is_set_aside(void **state)
{
    (void)state;
    if (!have_world)
        skip();
    crispd(run_three);
    cleanup_free char *damage = str_printf("echo '{\"version\":1,\"phase\":\"what\"}' >> $(ls -d %s/pods/*/record | head -1)", world.root);
    assert_int_equal(system(damage), 0);
    crispd(find_two_of_three);
    cleanup_free char *clean = str_printf("rm -r %s/set-aside/*", world.root);
    assert_int_equal(system(clean), 0);
    assert_string_equal(world_leftovers(&world), "");
}

static void
find_one(void)
{
    CHECK(count_pods(POD_READY) == 1);
    remove_all();
}

static void
test_a_torn_state_is_as_if_it_was_not_written(void **state)
{
    (void)state;
    if (!have_world)
        skip();
    crispd(run_one);
    cleanup_free char *tear =
        str_printf("for f in %s/pods/*/record %s/containers/*/record; do printf '\\n{\"version\":1,\"pha' >> $f; done", world.root, world.root);
    assert_int_equal(system(tear), 0);
    crispd(find_one);
    assert_string_equal(world_leftovers(&world), "");
}

static void
test_two_records_of_one_name(void **state)
{
    (void)state;
    if (!have_world)
        skip();
    crispd(run_three);
    edit_records("pods", "s/uid-[abc]/uid-a/g; s/\"name\":\"[abc]\"/\"name\":\"a\"/g");
    crispd(find_one);
    cleanup_free char *clean = str_printf("rm -r %s/set-aside/*", world.root);
    assert_int_equal(system(clean), 0);
    assert_string_equal(world_leftovers(&world), "");
}

/* ---- at any instruction ---- */

static void
live_busily(void)
{
    for (int i = 0; i < 1000; i++) {
        char pod[ID_SIZE], container[ID_SIZE];
        cleanup_free char *name = str_printf("busy-%d-%d", (int)getpid(), i);
        WELL(pod_run(world.rt, world_pod(&world, name), pod, NULL, &failure));
        WELL(container_create(world.rt, world_container(pod, "main", "sleep 1000"), container, NULL, &failure));
        WELL(container_start(world.rt, container, NULL, &failure));
        if (i % 2 == 0)
            WELL(pod_remove(world.rt, pod, NULL, &failure));
    }
}

static void
test_a_crispd_that_is_killed_at_any_instruction(void **state)
{
    (void)state;
    int status;
    if (!have_world)
        skip();
    srandom(7);
    for (int round = 0; round < 15; round++) {
        pid_t pid = start_crispd(live_busily);
        (void)usleep(30000 + (useconds_t)(random() % 60000));
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        if (round % 3 == 2) {
            crispd(remove_all);
            assert_string_equal(world_leftovers(&world), "");
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_new_crispd_finds_twenty_pods_as_they_are, begin_story),
        cmocka_unit_test_setup(test_a_monitor_that_is_killed_is_seen_within_a_second, begin_story),
        cmocka_unit_test_setup(test_both_are_killed, begin_story),
        cmocka_unit_test_setup(test_a_monitor_that_does_not_answer, begin_story),
        cmocka_unit_test_setup(test_after_a_reboot, begin_story),
        cmocka_unit_test_setup(test_a_damaged_record_is_set_aside, begin_story),
        cmocka_unit_test_setup(test_a_torn_state_is_as_if_it_was_not_written, begin_story),
        cmocka_unit_test_setup(test_two_records_of_one_name, begin_story),
        cmocka_unit_test_setup(test_a_crispd_that_is_killed_at_any_instruction, begin_story),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
