#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/error.h"

static void
a_sentence_and_its_kind(void **state)
{
    struct error err = {0};
    (void)state;
    assert_int_equal(error_set(&err, ERR_INVALID, "pod %s: %d", "web", 7), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_int_equal(err.errnum, 0);
    assert_string_equal(err.message, "pod web: 7");
}

static void
an_errno_tells_the_kind(void **state)
{
    static const struct {
        int errnum;
        enum error_kind kind;
    } known[] = {
        {ENOENT, ERR_NOT_FOUND}, {EEXIST, ERR_EXISTS},      {EPERM, ERR_DENIED},       {ENOSPC, ERR_EXHAUSTED},
        {EINVAL, ERR_INVALID},   {ETIMEDOUT, ERR_DEADLINE}, {ENOSYS, ERR_UNSUPPORTED}, {EIO, ERR_INTERNAL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct error err = {0};
        assert_int_equal(error_errno(&err, known[i].errnum, "open %s", "/x"), -1);
        assert_int_equal(err.kind, known[i].kind);
        assert_int_equal(err.errnum, known[i].errnum);
    }
    struct error err = {0};
    (void)error_errno(&err, ENOENT, "open %s", "/x");
    assert_string_equal(err.message, "open /x: No such file or directory");
    (void)error_errno(&err, 4095, "open");
    assert_string_equal(err.message, "open: unknown error");
}

static void
who_knows_more_puts_it_in_front(void **state)
{
    struct error err = {0};
    (void)state;
    (void)error_errno(&err, EBUSY, "memory.max");
    assert_int_equal(error_prefix(&err, "cgroup %s", "/pod1"), -1);
    assert_int_equal(error_prefix(&err, "pod web"), -1);
    assert_string_equal(err.message, "pod web: cgroup /pod1: memory.max: Device or resource busy");
    assert_int_equal(err.errnum, EBUSY);
    assert_int_equal(error_as(&err, ERR_PRECONDITION), -1);
    assert_int_equal(err.kind, ERR_PRECONDITION);
    assert_int_equal(err.errnum, EBUSY);
}

static void
long_sentences_are_cut_never_overrun(void **state)
{
    char text[4 * ERROR_MESSAGE_MAX];
    struct error err = {0};
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)error_set(&err, ERR_INTERNAL, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    (void)error_errno(&err, ENOENT, "%s", text);
    assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
    for (size_t length = ERROR_MESSAGE_MAX - 10; length < ERROR_MESSAGE_MAX + 10; length++) {
        (void)error_set(&err, ERR_INTERNAL, "cause");
        (void)error_prefix(&err, "%.*s", (int)length, text);
        assert_true(strlen(err.message) < ERROR_MESSAGE_MAX);
    }
}

static void
new_words_may_quote_the_old_ones(void **state)
{
    struct error err = {0};
    (void)state;
    (void)error_set(&err, ERR_NOT_FOUND, "no such image");
    (void)error_set(&err, ERR_INVALID, "create: %s", err.message);
    assert_string_equal(err.message, "create: no such image");
}

static void
nobody_has_to_listen(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERR_INVALID, "x"), -1);
    assert_int_equal(error_errno(NULL, EIO, "x"), -1);
    assert_int_equal(error_prefix(NULL, "x"), -1);
    assert_int_equal(error_as(NULL, ERR_INVALID), -1);
}

static int
third_step(int *reached, int fail, struct error *err)
{
    *reached = 3;
    return fail ? error_set(err, ERR_INTERNAL, "step 3") : 42;
}

static int
steps(int *reached, int fail, struct error *err)
{
    int answer = TRY(third_step(reached, fail, err));
    *reached = 4;
    return answer;
}

static void
try_passes_errors_on_and_values_through(void **state)
{
    struct error err = {0};
    int reached = 0;
    (void)state;
    assert_int_equal(steps(&reached, 0, &err), 42);
    assert_int_equal(reached, 4);
    assert_int_equal(steps(&reached, 1, &err), -1);
    assert_int_equal(reached, 3);
}

static void
what_is_stolen_is_not_closed(void **state)
{
    int kept;
    (void)state;
    {
        cleanup_close int fd = dup(0);
        assert_true(fd >= 0);
        kept = steal(fd);
        assert_int_equal(fd, -1);
    }
    assert_int_equal(close(kept), 0);
    char *text = strdup("x");
    cleanup_free char *other = steal(text);
    assert_null(text);
    assert_string_equal(other, "x");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sentence_and_its_kind),
        cmocka_unit_test(an_errno_tells_the_kind),
        cmocka_unit_test(who_knows_more_puts_it_in_front),
        cmocka_unit_test(long_sentences_are_cut_never_overrun),
        cmocka_unit_test(new_words_may_quote_the_old_ones),
        cmocka_unit_test(nobody_has_to_listen),
        cmocka_unit_test(try_passes_errors_on_and_values_through),
        cmocka_unit_test(what_is_stolen_is_not_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
