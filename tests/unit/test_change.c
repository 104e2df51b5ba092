/* What the runtime tells of its changes: each, in order, with how things were right after. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "runtime_world.h"

enum { TOLD_MAX = 1024 };

static struct world world;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *told[TOLD_MAX];
static size_t told_count;

static void
remember(void *arg, struct change *change)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    assert_true(told_count < TOLD_MAX);
    told[told_count++] = change;
    pthread_mutex_unlock(&lock);
}

static void
forget(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < told_count; i++)
        change_free(told[i]);
    told_count = 0;
    pthread_mutex_unlock(&lock);
}

/* "created started …" of one id. */
static const char *
kinds_of(const char *id)
{
    static char text[256];
    static const char *const names[] = {"created", "started", "stopped", "deleted"};
    text[0] = '\0';
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < told_count; i++)
        if (strcmp(told[i]->id, id) == 0)
            (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? " " : "", names[told[i]->kind]);
    pthread_mutex_unlock(&lock);
    return text;
}

static const struct change *
change_of(const char *id, enum change_kind kind)
{
    for (size_t i = 0; i < told_count; i++)
        if (told[i]->kind == kind && strcmp(told[i]->id, id) == 0)
            return told[i];
    fail_msg("no such change was told: %d of %s", (int)kind, id);
    return NULL;
}

static const struct container_status *
status_in(const struct change *change, const char *id)
{
    for (size_t i = 0; i < change->after.container_count; i++)
        if (strcmp(change->after.containers[i].id, id) == 0)
            return &change->after.containers[i];
    return NULL;
}

static int
set_up(void **state)
{
    (void)state;
    if (!world_make(&world))
        return 0;
    world.options.changed = remember;
    world_open(&world);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    int result = world_end(&world);
    forget();
    return result;
}

static void
a_pod_and_its_container_tell_their_lives(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE];
    if (!world.rt)
        skip();
    world_run_pod(&world, "life", pod);
    world_run_container(&world, pod, "main", "exit 7", id);
    assert_int_equal(world_exit_code(&world, id), 7);
    assert_int_equal(container_remove(world.rt, id, NULL, NULL), 0);
    assert_int_equal(pod_stop(world.rt, pod, NULL, NULL), 0);
    assert_int_equal(pod_stop(world.rt, pod, NULL, NULL), 0);
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    assert_string_equal(kinds_of(pod), "created started stopped deleted");
    assert_string_equal(kinds_of(id), "created started stopped deleted");

    assert_int_equal(change_of(pod, CHANGE_STARTED)->after.pod.state, POD_READY);
    assert_int_equal(change_of(pod, CHANGE_STOPPED)->after.pod.state, POD_NOTREADY);
    assert_string_equal(change_of(pod, CHANGE_DELETED)->after.pod.config->key.name, "life");
    assert_int_equal(status_in(change_of(id, CHANGE_CREATED), id)->state, CONTAINER_CREATED);
    assert_int_equal(status_in(change_of(id, CHANGE_STARTED), id)->state, CONTAINER_RUNNING);
    const struct container_status *stopped = status_in(change_of(id, CHANGE_STOPPED), id);
    assert_int_equal(stopped->state, CONTAINER_EXITED);
    assert_int_equal(stopped->exit_code, 7);
    assert_true(stopped->started_ns > 0 && stopped->finished_ns >= stopped->started_ns);
    assert_null(status_in(change_of(id, CHANGE_DELETED), id));
    for (size_t i = 1; i < told_count; i++)
        assert_true(told[i]->after.time_ns > told[i - 1]->after.time_ns);
}

/* Its end may be reported before its start is answered. */
static void
who_ends_at_once_was_started_before_he_stopped(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE], name[16];
    if (!world.rt)
        skip();
    forget();
    world_run_pod(&world, "brief", pod);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "c%d", i);
        world_run_container(&world, pod, name, "exit 3", id);
        assert_int_equal(world_exit_code(&world, id), 3);
        assert_string_equal(kinds_of(id), "created started stopped");
        assert_true(status_in(change_of(id, CHANGE_STOPPED), id)->started_ns > 0);
    }
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
}

static void
who_cannot_start_stops_with_the_reason(void **state)
{
    (void)state;
    char pod[ID_SIZE], id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    forget();
    world_run_pod(&world, "fails", pod);
    struct container_config *config = world_container(pod, "main", "");
    strv_free(&config->args);
    strv_add(&config->args, "/no/such/program");
    assert_int_equal(container_create(world.rt, config, id, NULL, &err), 0);
    assert_int_equal(container_start(world.rt, id, NULL, &err), -1);
    assert_string_equal(kinds_of(id), "created stopped");
    assert_string_equal(status_in(change_of(id, CHANGE_STOPPED), id)->reason, "StartError");
    assert_int_equal(pod_remove(world.rt, pod, NULL, NULL), 0);
    assert_string_equal(kinds_of(id), "created stopped deleted");
}

static void
a_snapshot_has_the_pod_and_its_own_containers(void **state)
{
    (void)state;
    char one[ID_SIZE], other[ID_SIZE], id[ID_SIZE], foreign[ID_SIZE];
    struct pod_snapshot snapshot;
    if (!world.rt)
        skip();
    forget();
    world_run_pod(&world, "one", one);
    world_run_pod(&world, "other", other);
    world_run_container(&world, one, "main", "sleep 1000", id);
    world_run_container(&world, other, "main", "sleep 1000", foreign);
    assert_int_equal(pod_snapshot(world.rt, one, &snapshot, NULL), 0);
    assert_string_equal(snapshot.pod.id, one);
    assert_int_equal(snapshot.container_count, 1);
    assert_string_equal(snapshot.containers[0].id, id);
    assert_true(snapshot.time_ns > change_of(foreign, CHANGE_STARTED)->after.time_ns);
    pod_snapshot_free(&snapshot);
    assert_int_equal(pod_remove(world.rt, one, NULL, NULL), 0);
    assert_int_equal(pod_remove(world.rt, other, NULL, NULL), 0);
    assert_string_equal(kinds_of(id), "created started stopped deleted");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_and_its_container_tell_their_lives),
        cmocka_unit_test(who_ends_at_once_was_started_before_he_stopped),
        cmocka_unit_test(who_cannot_start_stops_with_the_reason),
        cmocka_unit_test(a_snapshot_has_the_pod_and_its_own_containers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
