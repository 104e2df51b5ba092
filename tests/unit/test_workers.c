#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cri/workers.h"

enum { JOBS = 200 };

static atomic_int running, done, most;
static pthread_barrier_t gate;

static void
run_briefly(struct job *job)
{
    (void)job;
    int now = atomic_fetch_add(&running, 1) + 1;
    for (int seen = most; now > seen && !atomic_compare_exchange_weak(&most, &seen, now);)
        ;
    (void)usleep(1000);
    (void)atomic_fetch_sub(&running, 1);
    (void)atomic_fetch_add(&done, 1);
}

static void
wait_at_the_gate(struct job *job)
{
    (void)job;
    (void)pthread_barrier_wait(&gate);
    (void)atomic_fetch_add(&done, 1);
}

static bool
stop(struct workers *workers, int64_t ms)
{
    return workers_stop(workers, clock_monotonic_ns() + ms * NS_PER_MS);
}

static void
every_job_runs_once(void **state)
{
    struct job jobs[JOBS];
    (void)state;
    running = done = most = 0;
    struct workers *workers = workers_new(JOBS);
    for (int i = 0; i < JOBS; i++) {
        jobs[i].run = run_briefly;
        assert_true(workers_run(workers, &jobs[i]));
        if (i % 20 == 0)
            (void)usleep(3000);
    }
    assert_true(stop(workers, 10000));
    assert_int_equal(done, JOBS);
}

/* None waits for another to end: a blocked call never delays the next. */
static void
jobs_that_need_each_other_run_at_once(void **state)
{
    struct job jobs[64];
    (void)state;
    done = 0;
    assert_int_equal(pthread_barrier_init(&gate, NULL, 64), 0);
    struct workers *workers = workers_new(64);
    for (int i = 0; i < 64; i++) {
        jobs[i].run = wait_at_the_gate;
        assert_true(workers_run(workers, &jobs[i]));
    }
    assert_true(stop(workers, 10000));
    assert_int_equal(done, 64);
    (void)pthread_barrier_destroy(&gate);
}

static void
beyond_the_bound_a_job_is_refused(void **state)
{
    struct job jobs[3], refused = {.run = run_briefly};
    (void)state;
    done = 0;
    assert_int_equal(pthread_barrier_init(&gate, NULL, 4), 0);
    struct workers *workers = workers_new(3);
    for (int i = 0; i < 3; i++) {
        jobs[i].run = wait_at_the_gate;
        assert_true(workers_run(workers, &jobs[i]));
    }
    assert_false(workers_run(workers, &refused));
    assert_false(stop(workers, 50)); /* they still wait, and are not torn away */
    (void)pthread_barrier_wait(&gate);
    assert_true(stop(workers, 10000));
    assert_int_equal(done, 3);
    (void)pthread_barrier_destroy(&gate);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once),
        cmocka_unit_test(jobs_that_need_each_other_run_at_once),
        cmocka_unit_test(beyond_the_bound_a_job_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
