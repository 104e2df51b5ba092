/* Launch specs: what is built is what is read, in words too; a block that is not sound is refused, whatever is in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/spec_block.h"

static struct spec_builder *
example(void)
{
    struct spec_builder *b = spec_new();
    spec_op(b, SPEC_WRITE, .text = {"/sys/fs/cgroup/memory/pod/tasks", "0"}, .number = {SPEC_MAY_ENOENT});
    spec_op(b, SPEC_UNSHARE, .number = {CLONE_NEWNS | CLONE_NEWCGROUP});
    spec_op(b, SPEC_OVERLAY, .text = {"/var/lib/crisp/layers", "/run/root", "lowerdir=a:b,volatile"});
    spec_op(b, SPEC_MOUNT, .text = {"proc", "/proc", "proc"}, .number = {MS_NOSUID | MS_NODEV | MS_NOEXEC});
    spec_op(b, SPEC_BIND, .text = {"/srv/data", "/data"}, .number = {SPEC_BIND_READONLY | SPEC_BIND_RECURSIVE, MS_SLAVE});
    uint32_t groups[] = {10, 20};
    spec_op(b, SPEC_GROUPS, .number = {2}, .list = groups, .list_bytes = sizeof groups);
    struct sock_filter filter[] = {{.code = BPF_RET, .k = 0xffffffff}};
    spec_op(b, SPEC_SECCOMP, .list = filter, .list_bytes = sizeof filter);
    cleanup_strv struct strv argv = {0}, envp = {0};
    strv_add(&argv, "sh");
    strv_add(&argv, "-c");
    strv_add(&argv, "");
    strv_add(&envp, "PATH=/bin");
    spec_exec(b, &argv, &envp);
    return b;
}

static size_t
read_back(int fd, unsigned char *block, size_t size)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_true((size_t)st.st_size <= size);
    assert_int_equal(pread(fd, block, size, 0), st.st_size);
    return (size_t)st.st_size;
}

static _Alignas(16) unsigned char block[1 << 16];

static size_t
finish(struct spec_builder *b)
{
    struct error err = {0};
    cleanup_close int fd = spec_finish(b, &err);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    return read_back(fd, block, sizeof block);
}

static void
what_is_built_is_read(void **state)
{
    (void)state;
    struct spec_builder *b = example();
    const struct spec *spec = spec_check(block, finish(b));
    assert_non_null(spec);
    assert_int_equal(spec->op_count, 8);
    assert_string_equal(spec_text(spec, &spec->ops[0], 1), "0");
    assert_int_equal(spec->ops[0].number[0], SPEC_MAY_ENOENT);
    assert_null(spec_text(spec, &spec->ops[0], 2));
    assert_int_equal(((const uint32_t *)spec_list(spec, &spec->ops[5]))[1], 20);
    const uint64_t *slots = spec_list(spec, &spec->ops[7]);
    assert_string_equal((const char *)spec + slots[0], "sh");
    assert_string_equal((const char *)spec + slots[2], "");
    assert_int_equal(slots[3], 0);
    assert_string_equal((const char *)spec + slots[4], "PATH=/bin");
    assert_int_equal(slots[5], 0);
    spec_free(b);
}

static void
people_can_read_it(void **state)
{
    (void)state;
    struct spec_builder *b = example();
    cleanup_free char *dump = spec_dump(b), *words = spec_explain(b, 4), *beyond = spec_explain(b, 99);
    assert_string_equal(dump, "write 0 to /sys/fs/cgroup/memory/pod/tasks\n"
                              "new namespaces mount,cgroup\n"
                              "mount overlay at /run/root from /var/lib/crisp/layers lowerdir=a:b,volatile\n"
                              "mount proc at /proc nosuid,nodev,noexec\n"
                              "mount /srv/data at /data ro,recursive slave\n"
                              "groups 10 20\n"
                              "seccomp of 8 bytes\n"
                              "exec sh -c \n");
    assert_string_equal(words, "mount /srv/data at /data ro,recursive slave");
    assert_string_equal(beyond, "operation 99");
    spec_free(b);
}

static void
every_operation_has_a_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < SPEC_OP_COUNT; i++)
        assert_non_null(spec_forms[i].name);
}

static void
a_missing_argument_is_found_when_it_is_built(void **state)
{
    (void)state;
    struct error err = {0};
    struct spec_builder *b = spec_new();
    spec_op(b, SPEC_BIND, .text = {"/srv"});
    assert_int_equal(spec_finish(b, &err), -1);
    assert_int_equal(err.kind, ERR_INTERNAL);
    spec_free(b);
}

static void
too_much_is_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct spec_builder *b = spec_new();
    for (int i = 0; i <= SPEC_OPS_MAX; i++)
        spec_op(b, SPEC_PIVOT, .number = {0});
    assert_int_equal(spec_finish(b, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    spec_free(b);
    b = spec_new();
    cleanup_free char *huge = mem_alloc(SPEC_SIZE_MAX + 1);
    memset(huge, 'x', SPEC_SIZE_MAX);
    huge[SPEC_SIZE_MAX] = '\0';
    spec_op(b, SPEC_HOSTNAME, .text = {huge});
    assert_int_equal(spec_finish(b, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    spec_free(b);
}

/* What the launcher would touch. */
static size_t
walk(const struct spec *spec)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < spec->op_count; i++) {
        const struct spec_op *op = &spec->ops[i];
        for (unsigned t = 0; t < SPEC_TEXTS; t++)
            sum += spec_text(spec, op, t) ? strlen(spec_text(spec, op, t)) : 0;
        const unsigned char *list = spec_list(spec, op);
        for (uint32_t k = 0; list && k < op->list_bytes; k++)
            sum += list[k];
        const uint64_t *slots = spec_list(spec, op);
        for (uint32_t k = 0; op->type == SPEC_EXEC && k < op->list_bytes / 8; k++)
            sum += slots[k] ? strlen((const char *)spec + slots[k]) : 0;
    }
    return sum;
}

static void
no_damage_makes_it_read_outside(void **state)
{
    (void)state;
    struct spec_builder *b = example();
    size_t size = finish(b);
    spec_free(b);
    /* In memory of exactly its size, so that AddressSanitizer sees a step beyond. */
    cleanup_free unsigned char *copy = mem_alloc(size);
    unsigned refused = 0;
    srand(4);
    for (int round = 0; round < 200000; round++) {
        memcpy(copy, block, size);
        for (int k = rand() % 3; k >= 0; k--)
            copy[(size_t)rand() % size] = (unsigned char)(rand() % 4 ? rand() : 255);
        const struct spec *spec = spec_check(copy, size);
        refused += !spec;
        if (spec)
            assert_true(walk(spec) < SIZE_MAX);
    }
    assert_true(refused > 1000);
    for (size_t cut = 0; cut < size; cut++)
        assert_null(spec_check(block, cut));
}

/* As a crispd of another version sends it: bind /a to /b, groups 10 and 20, exec sh with A=1. It does not change. */
static void
an_older_spec_is_understood(void **state)
{
    (void)state;
    static const _Alignas(16) uint32_t old[] = {
        0x63737063, 1,   296,    3,                                                          /* header of version 1 */
        12,         216, 224,    0, 0,      0,   0,  0,  1,      0, 0x80000,  0, 0, 0, 0, 0, /* bind */
        24,         0,   0,      0, 0,      232, 8,  0,  2,      0, 0,        0, 0, 0, 0, 0, /* groups */
        32,         0,   0,      0, 0,      256, 32, 0,  0,      0, 0,        0, 0, 0, 0, 0, /* exec */
        0,          0,   0x612f, 0, 0x622f, 0,   10, 20, 0x6873, 0, 0x313d41, 0,             /* "/a" "/b" 10 20 "sh" "A=1" */
        240,        0,   0,      0, 248,    0,   0,  0,  0,      0,                          /* argv, envp */
    };
    /* clang-format off */
    static const char *const numbers[] = {
        "write", "sysctl", "unshare", "enter", "hostname", "link-up", "pin-netns", "pod-shm", "propagation", "overlay", "root", "mount", "bind", "shm",
        "mkdir", "mknod", "symlink", "mask", "readonly", "pivot", "root-readonly", "console", "rlimit", "chdir", "groups", "bounding", "user", "caps",
        "no-new-privs", "seccomp", "umask", "wait", "exec", "keyring", "image", "gate", "label", "userns", "idmap",
        "fs-user", "enter-pod",
    };
    /* clang-format on */
    static _Alignas(16) uint32_t newer[sizeof old / sizeof old[0]];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_string_equal(spec_forms[i].name, numbers[i]);
    const struct spec *spec = spec_check(old, sizeof old);
    assert_non_null(spec);
    assert_int_equal(spec->ops[0].type, SPEC_BIND);
    assert_string_equal(spec_text(spec, &spec->ops[0], 0), "/a");
    assert_string_equal(spec_text(spec, &spec->ops[0], 1), "/b");
    assert_int_equal(spec->ops[0].number[0], SPEC_BIND_READONLY);
    assert_int_equal(spec->ops[0].number[1], MS_SLAVE);
    assert_int_equal(((const uint32_t *)spec_list(spec, &spec->ops[1]))[1], 20);
    const uint64_t *slots = spec_list(spec, &spec->ops[2]);
    assert_string_equal((const char *)spec + slots[0], "sh");
    assert_string_equal((const char *)spec + slots[2], "A=1");
    memcpy(newer, old, sizeof old);
    newer[1] = SPEC_VERSION + 1;
    assert_null(spec_check(newer, sizeof newer));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_built_is_read),       cmocka_unit_test(people_can_read_it),
        cmocka_unit_test(every_operation_has_a_name),  cmocka_unit_test(a_missing_argument_is_found_when_it_is_built),
        cmocka_unit_test(too_much_is_refused),         cmocka_unit_test(no_damage_makes_it_read_outside),
        cmocka_unit_test(an_older_spec_is_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
