/* The digest of an unpacked tree: alike for trees that are alike, another for each thing that can change. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "imageservice/tree.h"

static char place[64];

static void
in_place(const char *command)
{
    cleanup_free char *line = str_printf("cd %s && { %s; }", place, command);
    if (system(line) != 0) /* NOLINT: the tests' own words */
        fail_msg("%s failed", command);
}

static const char make[] =
    "mkdir -p t/d/e; echo text >t/f; echo more >t/d/g; ln -s f t/s; ln t/f t/h; mkfifo t/p; mknod t/c c 1 3; setfattr -n user.a -v b t/f;"
    "truncate -s 3M t/hole; echo end >>t/hole; find t -exec touch -h -d @1000000000.5 {} +";

static void
digest(const char *of, char out[TREE_DIGEST_SIZE])
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/%s", place, of);
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree_digest(fd, true, NULL, out, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(tree_digest_valid(out));
}

static int
set_up(void **state)
{
    (void)state;
    (void)strcpy(place, "/var/tmp/crisp-tree.XXXXXX");
    assert_non_null(mkdtemp(place));
    in_place(make);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    return file_remove_tree(AT_FDCWD, place, NULL);
}

static void
a_copy_is_alike_also_where_a_hole_was_filled(void **state)
{
    (void)state;
    char one[TREE_DIGEST_SIZE], two[TREE_DIGEST_SIZE];
    digest("t", one);
    in_place("cp -a --sparse=never t copy; touch -h -d @1000000000.5 copy/c");
    digest("copy", two);
    assert_string_equal(one, two);
}

static void
each_change_is_seen(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "printf T | dd of=t/f conv=notrunc status=none",
        "truncate -s 3 t/d/g",
        "mv t/d/g t/d/G",
        "rm t/d/g",
        "echo new >t/n",
        "chmod 600 t/f",
        "chmod 700 t/d/e",
        "chown 1 t/f",
        "chgrp -h 1 t/s",
        "touch -d @1000000000.6 t/f",
        "touch -d @1 t/d",
        "touch -h -d @1 t/s",
        "ln -sf g t/s",
        "setfattr -n user.a -v c t/f",
        "setfattr -n trusted.overlay.opaque -v y t/d",
        "rm t/c; mknod t/c c 1 5",
        "rm t/h; cp -a t/f t/h",
        "rm t/p; mkdir t/p",
        "printf x | dd of=t/hole bs=1 seek=2000000 conv=notrunc status=none",
        "mv t/d/e t/e",
    };
    char before[TREE_DIGEST_SIZE], after[TREE_DIGEST_SIZE];
    digest("t", before);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        /* Times are set again, so that it is the change itself which is seen; directories change with what is in them. */
        cleanup_free char *change =
            str_printf("cp -a t kept; %s; %s", changes[i], strstr(changes[i], "touch") ? "true" : "find t -exec touch -h -d @1000000000.5 {} +");
        in_place(change);
        digest("t", after);
        if (strcmp(before, after) == 0)
            fail_msg("nothing is seen of: %s", changes[i]);
        in_place("rm -r t; mv kept t; touch -h -d @1000000000.5 t/c");
        digest("t", after);
        assert_string_equal(before, after);
    }
}

static void
what_is_mounted_below_is_none_of_it(void **state)
{
    (void)state;
    char out[TREE_DIGEST_SIZE];
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/t", place), *below = str_printf("%s/d/e", path);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", below, "tmpfs", 0, NULL) < 0)
        fail_msg("mount: %m");
    cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = tree_digest(fd, false, NULL, out, &err);
    assert_int_equal(umount(below), 0);
    assert_int_equal(result, -1);
    assert_string_equal(err.message, "/d/e: something is mounted here");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    if (geteuid() != 0) {
        (void)puts("skipped: it needs root");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_copy_is_alike_also_where_a_hole_was_filled),
        TEST(each_change_is_seen),
        TEST(what_is_mounted_below_is_none_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
