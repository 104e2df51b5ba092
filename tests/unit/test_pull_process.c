/* crisp-pull as crispd speaks with it, in an order that crispd's own threads seldom choose. Needs root (the sandbox, trusted.*). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/message.h"
#include "fake_registry.h"
#include "imageservice/protocol.h"

enum { PATIENCE_SECONDS = 20 };

static char root[64];
static struct fake_registry *registry;
static int crisp_pull; /* the socket */
static pid_t pid;
static struct message message;

/* Below `root`: what crispd gives it. */
static const char *const options[] = {"incoming", "partial", "layers", "blobs"};

static void
execute(int theirs)
{
    char *argv[] = {(char *)CRISP_PULL, NULL, NULL, NULL, NULL, (char *)"--downloads=4", (char *)"--per-pull=4", (char *)"--stall=20", NULL};
    for (size_t i = 0; i < 4; i++)
        argv[1 + i] = str_printf("--%s=%s/%s", options[i], root, options[i]);
    (void)dup2(theirs, PULL_SOCKET_FD);
    (void)execv(CRISP_PULL, argv);
    _exit(127);
}

static int
set_up(void **state)
{
    (void)state;
    int ends[2];
    (void)strcpy(root, "/var/tmp/crisp-pull.XXXXXX");
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < 4; i++) {
        cleanup_free char *path = str_printf("%s/%s", root, options[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        execute(ends[1]);
    (void)close(ends[1]);
    crisp_pull = ends[0];
    (void)setsockopt(crisp_pull, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = PATIENCE_SECONDS}, sizeof(struct timeval));
    registry = fake_registry_start();
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    int status;
    (void)close(crisp_pull);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    fake_registry_stop(registry);
    return file_remove_tree(AT_FDCWD, root, NULL);
}

static void
tell(void)
{
    struct error err = {0};
    if (message_send(crisp_pull, &message, &err) < 0)
        fail_msg("%s", err.message);
}

static void
expect(enum pull_message type, uint32_t serial)
{
    struct error err = {0};
    if (message_receive(crisp_pull, &message, &err) <= 0)
        fail_msg("crisp-pull is silent: %s", err.message);
    message_close_fds(&message);
    if (message.type == PULL_FAILED)
        fail_msg("%s", message_string(&message, PULL_ERROR_MESSAGE));
    assert_int_equal(message.type, type);
    assert_int_equal(message.serial, serial);
}

/* Begin a pull, up to its question about the layers. */
static void
start(uint32_t serial, const char *repository)
{
    cleanup_free char *reference = str_printf("127.0.0.1:%u/%s:latest", fake_registry_port(registry), repository);
    message_begin(&message, PULL_START, serial);
    message_put_string(&message, PULL_REFERENCE, reference);
    tell();
    expect(PULL_LAYERS, serial);
}

static void
have_none(uint32_t serial, size_t layers)
{
    message_begin(&message, PULL_HAVE, serial);
    while (layers--)
        message_put_string(&message, PULL_NAME, "");
    tell();
}

/* As crispd commits: the path of the one layer that the pull brings goes to layers/NAME. */
static void
take_layer(uint32_t serial, const char *name)
{
    expect(PULL_DONE, serial);
    cleanup_free char *from = str_printf("%s/incoming/%s", root, message_string(&message, PULL_INCOMING));
    cleanup_free char *to = str_printf("%s/layers/%s", root, name);
    if (rename(from, to) < 0)
        fail_msg("%s is not there", from);
    message_begin(&message, PULL_COMMITTED, serial);
    tell();
}

static void
slow_when_big(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (strstr(request->path, "/blobs/") && reply->length > 10000)
        reply->slow_ms = 100;
}

/* The second pull holds the first one's layer in crisp-pull, as one does that crispd has seen fail and that has not quite ended. */
static void
a_layer_that_was_taken_and_removed_is_fetched_again(void **state)
{
    (void)state;
    struct fake_layer *shared = fake_layer_make((const struct fake_file[]){{"etc/passwd", "root", 0}, {NULL, NULL, 0}});
    struct fake_layer *big = fake_layer_make((const struct fake_file[]){{"big", NULL, 1 << 20}, {NULL, NULL, 0}});
    free(fake_registry_put(registry, "one", "latest", (const struct fake_layer *const[]){shared}, 1, "", NULL));
    free(fake_registry_put(registry, "two", "latest", (const struct fake_layer *const[]){shared, big}, 2, "", NULL));
    fake_registry_hook(registry, slow_when_big, NULL);
    start(1, "one");
    start(2, "two");
    have_none(2, 2);
    for (int i = 0; i < PATIENCE_SECONDS * 20 && !fake_registry_count(registry, big->digest); i++)
        (void)usleep(50000);
    have_none(1, 1);
    take_layer(1, "1");
    assert_int_equal(fake_registry_count(registry, shared->digest), 1);
    start(3, "one");
    have_none(3, 1);
    take_layer(3, "2");
    assert_int_equal(fake_registry_count(registry, shared->digest), 2);
    fake_layer_free(shared);
    fake_layer_free(big);
}

int
main(void)
{
    if (geteuid() != 0) {
        (void)puts("skipped: it needs root");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_layer_that_was_taken_and_removed_is_fetched_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
