/* Sessions of the streaming server with a runtime that is none: what its clients hear, and that nothing is left of a session whichever side ends it,
 * and however. Clients speak WebSocket's channels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/streaming/server.h"
#include "runtime/runtime.h"

enum { PATIENCE_S = 20 };

/* ---- the runtime ---- */

static atomic_int running, cancelled;

static void
close_fds(struct stream_fds *fds)
{
    for (int i = 0; i < 3; i++)
        cleanup_closep(&fds->stdio[i]);
    cleanup_closep(&fds->console);
}

static int
echo(const struct stream_fds *fds)
{
    char data[4096];
    for (ssize_t n; (n = read(fds->stdio[0], data, sizeof data)) > 0;)
        assert_int_equal(write(fds->stdio[1], data, (size_t)n), n);
    return 3;
}

/* Writes as long as somebody reads, and until it is killed. */
static int
babble(const struct stream_fds *fds, const struct cancel *cancel, struct error *err)
{
    static const char words[1000] = "babble";
    (void)fcntl(fds->stdio[1], F_SETFL, O_NONBLOCK);
    while (write(fds->stdio[1], words, sizeof words) > 0 || errno == EAGAIN)
        TRY(cancel_wait(cancel, -1, NS_PER_MS, "the command", err));
    return cancel_wait(cancel, -1, INT64_MAX, "the command", err);
}

int
container_exec_stream(struct runtime *rt, const char *id, const struct strv *command, bool tty, struct stream_fds *fds, const struct cancel *cancel,
                      int *status, struct error *err)
{
    const char *what = command->items[0];
    int result = 0;
    (void)rt;
    (void)id;
    (void)tty;
    running++;
    if (strcmp(what, "echo") == 0)
        *status = echo(fds);
    else if (strcmp(what, "babble") == 0)
        result = babble(fds, cancel, err);
    else if (strcmp(what, "wait") == 0)
        result = cancel_wait(cancel, -1, INT64_MAX, "the command", err);
    else
        result = error_set(err, ERR_NOT_FOUND, "exec %s: there is no such program", what);
    if (cancel_is_set(cancel))
        cancelled++;
    close_fds(fds);
    running--;
    return result;
}

/* Until the client's side has closed its ends of all. */
int
container_attach(struct runtime *rt, const char *id, struct stream_fds *fds, struct error *err)
{
    struct pollfd all[] = {{fds->stdio[0], POLLIN, 0}, {fds->stdio[1], 0, 0}};
    char byte;
    (void)rt;
    (void)id;
    (void)err;
    running++;
    assert_int_equal(write(fds->stdio[1], "here", 4), 4);
    while (read(all[0].fd, &byte, 1) == 1)
        assert_int_equal(write(all[1].fd, &byte, 1), 1);
    (void)poll(all + 1, 1, PATIENCE_S * 1000);
    close_fds(fds);
    running--;
    return 0;
}

/* This machine's own, for who has the right to go there. */
static bool pod_is_there;

int
pod_open_netns(struct runtime *rt, const char *id, struct error *err)
{
    (void)rt;
    if (pod_is_there)
        return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return error_set(err, ERR_PRECONDITION, "pod %s is not ready", id);
}

/* ---- the server ---- */

static struct streaming *server;

static int
open_fds(void)
{
    cleanup_closedir DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(dir))
        count++;
    return count;
}

static void
until(bool (*so)(void))
{
    for (int i = 0; i < PATIENCE_S * 100 && !so(); i++)
        (void)poll(NULL, 0, 10);
    assert_true(so());
}

static bool
nothing_runs(void)
{
    return running == 0;
}

static int fds_before;

static bool
no_fd_is_left(void)
{
    return open_fds() <= fds_before;
}

static int
server_up(void **state)
{
    const struct streaming_options options = {.address = "127.0.0.1", .tls_cert = "", .tls_key = "", .idle_ns = 3600 * NS_PER_SECOND, .sessions = 16};
    struct error err;
    (void)state;
    server = streaming_open(&options, &err);
    fds_before = open_fds();
    cancelled = 0;
    return server ? 0 : -1;
}

/* However a story ended: no job, no connection, no pipe is left. */
static int
server_down(void **state)
{
    (void)state;
    until(nothing_runs);
    until(no_fd_is_left);
    return streaming_close(server, clock_monotonic_ns() + PATIENCE_S * NS_PER_SECOND) ? 0 : -1;
}

/* ---- a client ---- */

static int
dial(enum errand_kind kind, const char *command, unsigned short port_to_forward)
{
    struct errand *errand = mem_zalloc(1, sizeof *errand);
    struct error err;
    char host[16], path[64], answer[512];
    unsigned short port;
    *errand =
        (struct errand){.kind = kind, .id = str_dup("abc"), .in = true, .out = true, .ports = {port_to_forward, port_to_forward}, .port_count = 2};
    strv_add(&errand->command, command);
    cleanup_free char *url = streaming_url(server, errand, &err);
    assert_non_null(url);
    assert_int_equal(sscanf(url, "http://%15[0-9.]:%hu%63s", host, &port, path), 3);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = PATIENCE_S}, sizeof(struct timeval));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_true(dprintf(fd,
                        "GET %s HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                        path, kind == ERRAND_PORT_FORWARD ? "v4.channel.k8s.io" : "v5.channel.k8s.io") > 0);
    for (size_t n = 0; n < sizeof answer - 1 && recv(fd, answer + n, 1, 0) == 1; n++)
        if (n > 3 && memcmp(answer + n - 3, "\r\n\r\n", 4) == 0)
            return fd;
    fail_msg("no answer");
    return -1;
}

/* A message (its mask is 0) on a channel. */
static void
say(int fd, int channel, const char *text)
{
    size_t length = strlen(text);
    char frame[64] = {(char)0x82, (char)(0x80 | (int)(length + 1)), 0, 0, 0, 0, (char)channel};
    memcpy(frame + 7, text, length);
    assert_int_equal(send(fd, frame, 7 + length, MSG_NOSIGNAL), 7 + length);
}

static void
get(int fd, void *data, size_t length)
{
    assert_int_equal(recv(fd, data, length, MSG_WAITALL), length);
}

/* What comes on a channel until there is `wanted` in it, or (NULL) until the server closes; other channels are passed over. */
static void
hear(int fd, int channel, const char *wanted, char out[4096])
{
    unsigned char header[4];
    size_t have = 0;
    for (*out = '\0'; !wanted || !strstr(out, wanted);) {
        char payload[65536];
        get(fd, header, 2);
        size_t length = header[1];
        if (length == 126) {
            get(fd, header + 2, 2);
            length = (size_t)header[2] << 8 | header[3];
        }
        get(fd, payload, length);
        if (header[0] == 0x88) {
            assert_null(wanted);
            return;
        }
        if (length && payload[0] == channel && have + length < 4096) {
            memcpy(out + have, payload + 1, length - 1);
            have += length - 1;
            out[have] = '\0';
        }
    }
}

/* ---- stories ---- */

static void
a_command_that_ends_says_how(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_EXEC, "echo", 0);
    say(fd, 0, "to and ");
    say(fd, 0, "fro");
    hear(fd, 1, "to and fro", text);
    assert_int_equal(send(fd, "\x82\x82\0\0\0\0\xff\0", 8, 0), 8); /* ends channel 0 */
    hear(fd, 3, NULL, text);
    assert_non_null(strstr(text, "exit code 3"));
    (void)close(fd);
}

static void
a_command_that_cannot_run_says_why(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_EXEC, "nonsense", 0);
    hear(fd, 3, NULL, text);
    assert_non_null(strstr(text, "exec nonsense: there is no such program"));
    (void)close(fd);
}

static bool
some_was_cancelled(void)
{
    return cancelled > 0;
}

static void
a_client_that_hangs_up_has_its_command_killed(void **state)
{
    (void)state;
    (void)close(dial(ERRAND_EXEC, "wait", 0));
    until(some_was_cancelled);
}

static void
a_client_that_resets_has_its_command_killed(void **state)
{
    (void)state;
    int fd = dial(ERRAND_EXEC, "babble", 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    (void)close(fd);
    until(some_was_cancelled);
}

static void
a_client_that_speaks_nonsense_is_left(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_EXEC, "wait", 0);
    assert_int_equal(send(fd, "no frame", 8, 0), 8);
    hear(fd, 3, NULL, text);
    until(some_was_cancelled);
    (void)close(fd);
}

static void
a_client_that_reads_nothing_stalls_no_other(void **state)
{
    char text[4096];
    (void)state;
    int stalled = dial(ERRAND_EXEC, "babble", 0);
    (void)poll(NULL, 0, 200);
    int fd = dial(ERRAND_EXEC, "echo", 0);
    say(fd, 0, "to and fro");
    hear(fd, 1, "to and fro", text);
    (void)close(fd);
    (void)close(stalled);
    until(some_was_cancelled);
}

static void
an_attached_client_that_leaves_ends_only_its_part(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_ATTACH, "", 0);
    say(fd, 0, "abc");
    hear(fd, 1, "hereabc", text);
    (void)close(fd);
    until(nothing_runs);
}

static void
a_connection_to_a_pod_that_is_gone_is_refused_with_words(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_PORT_FORWARD, "", 80);
    hear(fd, 1, NULL, text);
    assert_string_equal(text + 2, "pod abc is not ready");
    (void)close(fd);
}

/* The pod's side resets while a message is half said: what follows of it is nobody's. */
static void
a_connection_that_breaks_within_a_message_ends_alone(void **state)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    char text[4096];
    (void)state;
    if (geteuid() != 0)
        skip();
    cleanup_close int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&here, size), 0);
    assert_int_equal(listen(listener, 2), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&here, &size), 0);
    pod_is_there = true;
    int fd = dial(ERRAND_PORT_FORWARD, "", ntohs(here.sin_port));
    int broken = accept4(listener, NULL, NULL, SOCK_CLOEXEC), other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)setsockopt(broken, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    assert_int_equal(send(fd, "\x82\xfe\x00\x80\0\0\0\0\0half", 13, 0), 13); /* of 127 bytes for channel 0 */
    (void)recv(broken, text, 4, MSG_WAITALL);
    (void)close(broken);
    for (int sent = 4; sent < 127; sent += 3) {
        assert_int_equal(send(fd, "end", 3, MSG_NOSIGNAL), 3);
        (void)poll(NULL, 0, 2);
    }
    say(fd, 2, "hello");
    assert_int_equal(recv(other, text, 5, MSG_WAITALL), 5);
    assert_memory_equal(text, "hello", 5);
    (void)close(other);
    (void)close(fd);
    pod_is_there = false;
}

static void
a_server_that_stops_says_so(void **state)
{
    char text[4096];
    (void)state;
    int fd = dial(ERRAND_EXEC, "wait", 0), silent = dial(ERRAND_EXEC, "babble", 0);
    assert_true(streaming_close(server, clock_monotonic_ns() + PATIENCE_S * NS_PER_SECOND));
    hear(fd, 3, NULL, text);
    assert_non_null(strstr(text, "crispd stops"));
    (void)close(fd);
    (void)close(silent);
    server = NULL;
}

int
main(void)
{
#define STORY(f) cmocka_unit_test_setup_teardown(f, server_up, server_down)
    const struct CMUnitTest tests[] = {
        STORY(a_command_that_ends_says_how),
        STORY(a_command_that_cannot_run_says_why),
        STORY(a_client_that_hangs_up_has_its_command_killed),
        STORY(a_client_that_resets_has_its_command_killed),
        STORY(a_client_that_speaks_nonsense_is_left),
        STORY(a_client_that_reads_nothing_stalls_no_other),
        STORY(an_attached_client_that_leaves_ends_only_its_part),
        STORY(a_connection_to_a_pod_that_is_gone_is_refused_with_words),
        STORY(a_connection_that_breaks_within_a_message_ends_alone),
        STORY(a_server_that_stops_says_so),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
