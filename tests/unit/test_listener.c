/* crispd's socket: who may connect, and that no two crispd share it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cri/listener.h"
#include "cri/service_manager.h"

static char directory[64], path[100];
static struct error err;

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/var/tmp/crisp-test-listener.XXXXXX");
    if (!mkdtemp(directory) || chmod(directory, 0755) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s/crisp.sock", directory);
    err = (struct error){0};
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    return file_remove_tree(AT_FDCWD, directory, &err);
}

static int
connect_to(const char *where)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", where);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void
root_is_heard_and_the_socket_goes_with_its_listener(void **state)
{
    struct listener listener;
    struct stat st;
    (void)state;
    assert_int_equal(listener_open(&listener, path, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(listener_accept(&listener, &err), -1);
    assert_int_equal(err.errnum, EAGAIN);
    cleanup_close int client = connect_to(path);
    cleanup_close int served = listener_accept(&listener, &err);
    assert_true(served >= 0);
    assert_true(fcntl(served, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(served, F_GETFD) & FD_CLOEXEC);
    listener_close(&listener);
    assert_int_equal(stat(path, &st), -1);
}

static void
a_stale_socket_is_replaced_a_living_one_is_not(void **state)
{
    struct listener first, second;
    (void)state;
    assert_int_equal(listener_open(&first, path, &err), 0);
    assert_int_equal(listener_open(&second, path, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    assert_non_null(strstr(err.message, "already"));
    (void)close(first.fd); /* killed: nobody listens, the path stays */
    assert_int_equal(connect_to(path), -1);
    assert_int_equal(listener_open(&second, path, &err), 0);
    listener_close(&second);
    free(first.path);
}

static void
something_else_at_the_path_is_left_alone(void **state)
{
    struct listener listener;
    (void)state;
    assert_int_equal(file_replace(AT_FDCWD, path, "data", 4, 0644, false, &err), 0);
    assert_int_equal(listener_open(&listener, path, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    assert_int_equal(access(path, F_OK), 0);
}

static void
a_stranger_is_refused_even_if_the_mode_lets_him_in(void **state)
{
    struct listener listener;
    (void)state;
    if (geteuid() != 0)
        skip(); /* becoming somebody else needs root */
    assert_int_equal(listener_open(&listener, path, &err), 0);
    assert_int_equal(chmod(path, 0666), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setgid(65534) < 0 || setuid(65534) < 0)
            _exit(10);
        int fd = connect_to(path);
        char byte;
        _exit(fd < 0 ? 11 : read(fd, &byte, 1) == 0 ? 0 : 12); /* closed without a word */
    }
    struct error none = {0};
    for (int i = 0; i < 500; i++) {
        assert_int_equal(listener_accept(&listener, &none), -1);
        assert_int_equal(none.errnum, EAGAIN);
        int status;
        if (waitpid(child, &status, WNOHANG) == child) {
            assert_int_equal(status, 0);
            child = 0;
            break;
        }
        (void)usleep(10000);
    }
    assert_int_equal(child, 0);
    listener_close(&listener);
}

static void
a_second_crispd_is_told_who_holds_the_lock(void **state)
{
    char lock[100], words[32];
    (void)state;
    (void)snprintf(lock, sizeof lock, "%s/lock", directory);
    (void)snprintf(words, sizeof words, "process %d", (int)getpid());
    int held = listener_lock(lock, &err);
    assert_true(held >= 0);
    assert_int_equal(listener_lock(lock, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
    assert_non_null(strstr(err.message, words));
    (void)close(held);
    held = listener_lock(lock, &err);
    assert_true(held >= 0);
    (void)close(held);
}

static void
the_service_manager_is_told_and_may_pass_the_socket(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct listener listener;
    char said[32] = "", own[16];
    (void)state;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", directory);
    cleanup_close int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&address, sizeof address), 0);
    service_notify("READY=1"); /* nobody listens yet */
    (void)setenv("NOTIFY_SOCKET", address.sun_path, 1);
    service_notify("READY=1");
    (void)unsetenv("NOTIFY_SOCKET");
    assert_int_equal(recv(manager, said, sizeof said, MSG_DONTWAIT), 7);
    assert_string_equal(said, "READY=1");

    assert_int_equal(listener_open(&listener, path, &err), 0);
    int kept = dup(3);
    assert_int_equal(dup2(listener.fd, 3), 3);
    (void)snprintf(own, sizeof own, "%d", (int)getpid());
    (void)setenv("LISTEN_PID", own, 1);
    (void)setenv("LISTEN_FDS", "1", 1);
    struct error none = {0};
    assert_int_equal(service_passed_socket(&none), 3);
    assert_true(fcntl(3, F_GETFD) & FD_CLOEXEC);
    assert_null(getenv("LISTEN_FDS"));
    assert_int_equal(service_passed_socket(&none), -1);
    assert_int_equal(none.kind, ERR_NONE);
    (void)setenv("LISTEN_PID", own, 1);
    (void)setenv("LISTEN_FDS", "2", 1);
    assert_int_equal(service_passed_socket(&none), -1);
    assert_int_equal(none.kind, ERR_INVALID);
    (void)(kept >= 0 ? dup2(kept, 3) : close(3));
    if (kept >= 0)
        (void)close(kept);
    listener_close(&listener);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(root_is_heard_and_the_socket_goes_with_its_listener),
        TEST(a_stale_socket_is_replaced_a_living_one_is_not),
        TEST(something_else_at_the_path_is_left_alone),
        TEST(a_stranger_is_refused_even_if_the_mode_lets_him_in),
        TEST(a_second_crispd_is_told_who_holds_the_lock),
        TEST(the_service_manager_is_told_and_may_pass_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
