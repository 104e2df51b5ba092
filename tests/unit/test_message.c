#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/message.h"

static struct message out, in; /* 64 KiB each */
static struct error err;
static int ends[2];

static int
setup(void **state)
{
    (void)state;
    err = (struct error){0};
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int
teardown(void **state)
{
    (void)state;
    (void)close(ends[0]);
    if (ends[1] >= 0)
        (void)close(ends[1]);
    return 0;
}

static void
fields_arrive_as_they_were_put(void **state)
{
    (void)state;
    message_begin(&out, 7, 42);
    message_put_string(&out, 1, "hello");
    message_put_string(&out, 2, NULL);
    message_put_string(&out, 3, "");
    message_put_u64(&out, 4, UINT64_MAX);
    message_put_i64(&out, 5, -5);
    message_put_string(&out, 6, "one");
    message_put_string(&out, 6, "two");
    message_put(&out, 8, "abc", 3);
    assert_int_equal(message_send(ends[0], &out, &err), 0);
    assert_int_equal(message_receive(ends[1], &in, &err), 1);
    assert_int_equal(in.type, 7);
    assert_int_equal(in.serial, 42);
    assert_string_equal(message_string(&in, 1), "hello");
    assert_string_equal(message_string(&in, 2), "");
    size_t cursor = 0, length = 0;
    assert_null(message_bytes(&in, 2, &length));
    assert_non_null(message_bytes(&in, 3, &length));
    assert_true(message_u64(&in, 4) == UINT64_MAX);
    assert_int_equal(message_i64(&in, 5), -5);
    assert_string_equal(message_next(&in, 6, &cursor, &length), "one");
    assert_string_equal(message_next(&in, 6, &cursor, &length), "two");
    assert_null(message_next(&in, 6, &cursor, &length));
    assert_memory_equal(message_bytes(&in, 8, &length), "abc", 3);
    assert_int_equal(length, 3);
}

static void
what_is_missing_or_of_another_shape_reads_as_nothing(void **state)
{
    (void)state;
    message_begin(&out, 1, 0);
    message_put(&out, 1, "no nul", 6); /* no string: it does not end */
    message_put(&out, 2, "xy", 2);     /* no number */
    message_put(&out, 3, "", 0);
    assert_int_equal(message_send(ends[0], &out, &err), 0);
    assert_int_equal(message_receive(ends[1], &in, &err), 1);
    assert_string_equal(message_string(&in, 1), "");
    assert_int_equal(message_u64(&in, 2), 0);
    assert_string_equal(message_string(&in, 3), "");
    assert_string_equal(message_string(&in, 99), "");
    assert_int_equal(message_u64(&in, 99), 0);
}

static void
too_much_is_not_sent(void **state)
{
    static char large[MESSAGE_MAX];
    (void)state;
    message_begin(&out, 1, 0);
    message_put(&out, 1, large, MESSAGE_MAX - 16); /* fills it to the last byte */
    assert_int_equal(message_send(ends[0], &out, &err), 0);
    assert_int_equal(message_receive(ends[1], &in, &err), 1);
    message_put(&out, 2, "", 0);
    assert_int_equal(message_send(ends[0], &out, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    message_begin(&out, 1, 0);
    message_put(&out, 1, large, SIZE_MAX);
    assert_int_equal(message_send(ends[0], &out, &err), -1);
}

static void
fds_travel_along_and_are_closed_when_nobody_takes_them(void **state)
{
    int pipes[2];
    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    message_begin(&out, 1, 0);
    message_put_fd(&out, pipes[0]);
    message_put_fd(&out, pipes[1]);
    assert_int_equal(message_send(ends[0], &out, &err), 0);
    assert_int_equal(message_receive(ends[1], &in, &err), 1);
    assert_int_equal(in.fd_count, 2);
    int taken = message_take_fd(&in, 0);
    int left = in.fds[1];
    assert_true(taken >= 0 && fcntl(taken, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(message_take_fd(&in, 0), -1);
    assert_int_equal(message_take_fd(&in, 9), -1);
    message_close_fds(&in);
    assert_int_equal(fcntl(left, F_GETFD), -1);
    assert_true(fcntl(taken, F_GETFD) >= 0);
    (void)close(taken);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

static void
nine_fds_are_too_many(void **state)
{
    (void)state;
    message_begin(&out, 1, 0);
    for (int i = 0; i < MESSAGE_FDS_MAX + 1; i++)
        message_put_fd(&out, 0);
    assert_int_equal(message_send(ends[0], &out, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
}

static void
malformed_datagrams_are_refused_whole(void **state)
{
    static const struct {
        size_t length;
        unsigned char bytes[24];
    } bad[] = {
        {1, {1}},
        {7, {1, 0, 1, 0, 0, 0, 0}},
        {12, {1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0}},                         /* half a field */
        {16, {1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0}},             /* longer than the datagram */
        {17, {1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9}},          /* its padding is missing */
        {16, {1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}}, /* a length that wraps */
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(send(ends[0], bad[i].bytes, bad[i].length, 0), bad[i].length);
        assert_int_equal(message_receive(ends[1], &in, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
}

static void
a_message_of_another_version_is_refused(void **state)
{
    static const unsigned char newer[] = {MESSAGE_VERSION + 1, 0, 1, 0, 0, 0, 0, 0};
    (void)state;
    assert_int_equal(send(ends[0], newer, sizeof newer, 0), sizeof newer);
    assert_int_equal(message_receive(ends[1], &in, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_string_equal(err.message, "receive message: it is of version 2, this crisp speaks 1");
}

static void
a_closed_peer_is_told_apart_from_silence(void **state)
{
    (void)state;
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(message_receive(ends[0], &in, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    assert_int_equal(err.errnum, EAGAIN);
    (void)close(ends[1]);
    ends[1] = -1;
    assert_int_equal(message_receive(ends[0], &in, &err), 0);
    message_begin(&out, 1, 0);
    assert_int_equal(message_send(ends[0], &out, &err), -1); /* and no SIGPIPE */
    assert_int_equal(err.kind, ERR_UNAVAILABLE);
}

static void
a_full_socket_is_told(void **state)
{
    (void)state;
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    message_begin(&out, 1, 0);
    int sent = 0;
    while (sent < 100000 && message_send(ends[0], &out, &err) == 0)
        sent++;
    assert_true(sent > 0 && sent < 100000);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(fields_arrive_as_they_were_put),
        TEST(what_is_missing_or_of_another_shape_reads_as_nothing),
        TEST(too_much_is_not_sent),
        TEST(fds_travel_along_and_are_closed_when_nobody_takes_them),
        TEST(nine_fds_are_too_many),
        TEST(malformed_datagrams_are_refused_whole),
        TEST(a_message_of_another_version_is_refused),
        TEST(a_closed_peer_is_told_apart_from_silence),
        TEST(a_full_socket_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
