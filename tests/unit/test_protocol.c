/* One older message of each kind, byte for byte, as version 1 sends them: a crispd and a monitor of other versions still say them. A new kind gets
 * its line here; a line that is here does not change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/protocol.h"

/* clang-format off */
#define HEAD(type, serial)       1, 0, (type), 0, (serial), 0, 0, 0
#define NUMBER(tag, value)       (tag), 0, 0, 0, 8, 0, 0, 0, (value), 0, 0, 0, 0, 0, 0, 0
#define TEXT(tag, a, b)          (tag), 0, 0, 0, 3, 0, 0, 0, (a), (b), 0, 0
#define FROM_THE_FUTURE          200, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0
#define BYTES(...)               (const unsigned char[]){__VA_ARGS__}, sizeof((const unsigned char[]){__VA_ARGS__})

static const struct old {
    enum protocol_type type;
    const unsigned char *bytes;
    size_t length;
    struct { uint16_t tag; uint64_t number; const char *text; } fields[8];
} old[] = {
    {PROTOCOL_ANSWER, BYTES(HEAD(1, 9), NUMBER(1, 2), NUMBER(2, 3), TEXT(3, 'i', 't'), TEXT(17, 'n', 'o'), NUMBER(8, 77), NUMBER(9, 5), NUMBER(11, 137)),
     {{TAG_ERRNUM, 2, NULL}, {TAG_FAILED_OP, 3, NULL}, {TAG_WORDS, 0, "it"}, {TAG_REFUSAL, 0, "no"}, {TAG_PID, 77, NULL}, {TAG_STARTED_NS, 5, NULL},
      {TAG_STATUS, 137, NULL}}},
    {PROTOCOL_EXITED, BYTES(HEAD(2, 0), TEXT(4, 'a', 'b'), NUMBER(11, 137), NUMBER(12, 1), NUMBER(13, 5), FROM_THE_FUTURE),
     {{TAG_ID, 0, "ab"}, {TAG_STATUS, 137, NULL}, {TAG_OOM, 1, NULL}, {TAG_FINISHED_NS, 5, NULL}}},
    {PROTOCOL_WARNING, BYTES(HEAD(3, 0), TEXT(4, 'a', 'b'), TEXT(3, 'o', 'h'), NUMBER(1, 28)),
     {{TAG_ID, 0, "ab"}, {TAG_WORDS, 0, "oh"}, {TAG_ERRNUM, 28, NULL}}},
    {PROTOCOL_POD, BYTES(HEAD(16, 9), NUMBER(16, 1), NUMBER(18, 1), NUMBER(18, 2), NUMBER(18, 3)), {{TAG_SHARED_PID, 1, NULL}, {TAG_FD_ROLE, FD_POD_SPEC, NULL}}},
    {PROTOCOL_LIST, BYTES(HEAD(17, 9)), {{0}}},
    {PROTOCOL_CREATE, BYTES(HEAD(18, 9), TEXT(4, 'a', 'b'), NUMBER(7, 5), TEXT(5, '/', 'l'), NUMBER(19, 10), TEXT(6, '/', 'o'), NUMBER(18, 4)),
     {{TAG_ID, 0, "ab"}, {TAG_FLAGS, FLAG_TTY | FLAG_STDIN_ONCE, NULL}, {TAG_LOG, 0, "/l"}, {TAG_LOG_RATE, 10, NULL}, {TAG_OOM_FILE, 0, "/o"},
      {TAG_FD_ROLE, FD_SPEC, NULL}, {TAG_LOG_BUFFER, 0, NULL}}},
    {PROTOCOL_START, BYTES(HEAD(19, 9), TEXT(4, 'a', 'b')), {{TAG_ID, 0, "ab"}}},
    {PROTOCOL_SIGNAL, BYTES(HEAD(20, 9), TEXT(4, 'a', 'b'), NUMBER(10, 15)), {{TAG_ID, 0, "ab"}, {TAG_SIGNAL, 15, NULL}}},
    {PROTOCOL_KILL, BYTES(HEAD(21, 9), TEXT(4, 'a', 'b')), {{TAG_ID, 0, "ab"}}},
    {PROTOCOL_DELETE, BYTES(HEAD(22, 9), TEXT(4, 'a', 'b')), {{TAG_ID, 0, "ab"}}},
    {PROTOCOL_REOPEN, BYTES(HEAD(23, 9), TEXT(4, 'a', 'b')), {{TAG_ID, 0, "ab"}}},
    {PROTOCOL_EXEC, BYTES(HEAD(24, 9), TEXT(4, 'a', 'b'), NUMBER(18, 4)), {{TAG_ID, 0, "ab"}, {TAG_FD_ROLE, FD_SPEC, NULL}}},
    {PROTOCOL_EXEC_KILL, BYTES(HEAD(25, 9), NUMBER(14, 8)), {{TAG_TARGET, 8, NULL}}},
    {PROTOCOL_END, BYTES(HEAD(26, 9)), {{0}}},
    {PROTOCOL_ATTACH, BYTES(HEAD(27, 9), TEXT(4, 'a', 'b'), NUMBER(18, 8)), {{TAG_ID, 0, "ab"}, {TAG_FD_ROLE, FD_STDOUT, NULL}}},
    {PROTOCOL_HOLD, BYTES(HEAD(28, 9), NUMBER(18, 11)), {{TAG_FD_ROLE, FD_HOLD, NULL}}},
};
/* clang-format on */

static struct message m;

static void
receive(const unsigned char *bytes, size_t length, int result)
{
    struct error err = {0};
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(send(ends[0], bytes, length, 0), length);
    assert_int_equal(message_receive(ends[1], &m, &err), result);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void
an_older_message_of_each_kind_is_understood(void **state)
{
    (void)state;
    bool kept[PROTOCOL_TYPE_COUNT] = {false};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        receive(old[i].bytes, old[i].length, 1);
        assert_int_equal(m.type, old[i].type);
        assert_int_equal(m.serial, m.type == PROTOCOL_EXITED || m.type == PROTOCOL_WARNING ? 0 : 9);
        for (size_t f = 0; old[i].fields[f].tag; f++) {
            if (old[i].fields[f].text)
                assert_string_equal(message_string(&m, old[i].fields[f].tag), old[i].fields[f].text);
            else
                assert_int_equal(message_u64(&m, old[i].fields[f].tag), old[i].fields[f].number);
        }
        kept[m.type] = true;
    }
    for (int type = 0; type < PROTOCOL_TYPE_COUNT; type++)
        if (!kept[type] && (type >= PROTOCOL_POD || (type >= PROTOCOL_ANSWER && type <= PROTOCOL_WARNING)))
            fail_msg("no older message of type %d is kept here", type);
}

/* An answer to LIST has a struct for each container; a newer one may be longer, an older one shorter. */
static void
the_containers_of_an_older_list_are_where_they_were(void **state)
{
    (void)state;
    assert_int_equal(TAG_CONTAINER, 15);
    assert_int_equal(offsetof(struct protocol_container, state), 72);
    assert_int_equal(offsetof(struct protocol_container, pid), 76);
    assert_int_equal(offsetof(struct protocol_container, started_ns), 80);
    assert_int_equal(offsetof(struct protocol_container, finished_ns), 88);
    assert_int_equal(offsetof(struct protocol_container, status), 96);
    assert_int_equal(offsetof(struct protocol_container, oom_killed), 100);
    assert_int_equal(STATE_CREATED, 1);
    assert_int_equal(STATE_EXITED, 3);
    assert_int_equal(FLAG_NEW_PID_NS, 16);
    assert_int_equal(FLAG_ENTERS, 32);
    assert_int_equal(FD_CONSOLE, 10);
}

/* Its serial is where every version has it: the sender can be told. */
static void
the_serial_of_an_unreadable_message_is_known(void **state)
{
    (void)state;
    receive((const unsigned char[]){2, 0, 19, 0, 9, 0, 0, 0}, 8, -1);
    assert_int_equal(m.serial, 9);
    receive((const unsigned char[]){1, 0, 19, 0, 8, 0, 0, 0, 1}, 9, -1);
    assert_int_equal(m.serial, 8);
    receive((const unsigned char[]){1, 0, 19}, 3, -1);
    assert_int_equal(m.serial, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_older_message_of_each_kind_is_understood),
        cmocka_unit_test(the_containers_of_an_older_list_are_where_they_were),
        cmocka_unit_test(the_serial_of_an_unreadable_message_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
