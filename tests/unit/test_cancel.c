#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cancel.h"
#include "base/clock.h"

static struct error err;

static int64_t
since_ms(int64_t start_ns)
{
    return (clock_monotonic_ns() - start_ns) / NS_PER_MS;
}

static void
endless_patience_never_ends(void **state)
{
    (void)state;
    assert_false(cancel_is_set(NULL));
    assert_int_equal(cancel_check(NULL, "waiting", &err), 0);
    int64_t start = clock_monotonic_ns();
    assert_int_equal(cancel_wait(NULL, -1, 20 * NS_PER_MS, "waiting", &err), 0);
    assert_in_range(since_ms(start), 20, 2000);
    assert_int_equal(cancel_wait(NULL, -1, -5, "waiting", &err), 0);
}

static void
a_caller_that_left_is_told_with_the_stage(void **state)
{
    struct cancel cancel;
    (void)state;
    assert_int_equal(cancel_open(&cancel, INT64_MAX, &err), 0);
    assert_int_equal(cancel_check(&cancel, "adding the network", &err), 0);
    cancel_now(&cancel);
    cancel_now(&cancel);
    assert_true(cancel_is_set(&cancel));
    assert_int_equal(cancel_wait(&cancel, -1, INT64_MAX, "adding the network", &err), -1);
    assert_int_equal(err.kind, ERR_CANCELLED);
    assert_non_null(strstr(err.message, "adding the network"));
    cancel_close(&cancel);
    cancel_close(&cancel);
}

static void
a_deadline_ends_the_wait(void **state)
{
    struct cancel cancel;
    (void)state;
    int64_t start = clock_monotonic_ns();
    assert_int_equal(cancel_open(&cancel, start + 30 * NS_PER_MS, &err), 0);
    assert_int_equal(cancel_wait(&cancel, -1, 5 * NS_PER_MS, "waiting", &err), 0); /* the timeout comes first */
    assert_int_equal(cancel_wait(&cancel, -1, INT64_MAX, "waiting", &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    assert_in_range(since_ms(start), 30, 2000);
    assert_int_equal(cancel_check(&cancel, "waiting", &err), -1);
    cancel_close(&cancel);
}

static void *
write_later(void *arg)
{
    usleep(30000);
    (void)eventfd_write(*(int *)arg, 1);
    return NULL;
}

static void
what_is_waited_for_wakes_at_once(void **state)
{
    struct cancel cancel;
    pthread_t thread;
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(cancel_open(&cancel, INT64_MAX, &err), 0);
    int64_t start = clock_monotonic_ns();
    assert_int_equal(pthread_create(&thread, NULL, write_later, &fd), 0);
    assert_int_equal(cancel_wait(&cancel, fd, 10 * NS_PER_SECOND, "waiting", &err), 1);
    assert_in_range(since_ms(start), 20, 5000);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)close(fd);
    cancel_close(&cancel);
}

static void *
cancel_later(void *arg)
{
    usleep(30000);
    cancel_now(arg);
    return NULL;
}

static void
several_threads_may_wait_with_one_patience(void **state)
{
    struct cancel cancel;
    pthread_t thread;
    (void)state;
    assert_int_equal(cancel_open(&cancel, INT64_MAX, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &cancel), 0);
    for (int i = 0; i < 3; i++) /* once cancelled it stays so */
        assert_int_equal(cancel_wait(&cancel, -1, 10 * NS_PER_SECOND, "waiting", &err), -1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    cancel_close(&cancel);
}

static void
times_are_written_as_rfc_3339_says(void **state)
{
    char text[CLOCK_RFC3339_SIZE];
    (void)state;
    clock_format_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000000000Z");
    clock_format_rfc3339(INT64_C(1767312245678901234), text);
    assert_string_equal(text, "2026-01-02T00:04:05.678901234Z");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_patience_never_ends),
        cmocka_unit_test(a_caller_that_left_is_told_with_the_stage),
        cmocka_unit_test(a_deadline_ends_the_wait),
        cmocka_unit_test(what_is_waited_for_wakes_at_once),
        cmocka_unit_test(several_threads_may_wait_with_one_patience),
        cmocka_unit_test(times_are_written_as_rfc_3339_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
