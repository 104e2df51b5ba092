/* Labels by runtime/selinux.h, on a node where SELinux is not in charge: it takes and keeps labels of files all the same. */
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/configs.h"
#include "runtime/selinux.h"

static const char label[] = "system_u:object_r:container_file_t:s0:c1,c2";
static struct error err;

static void
levels_are_two_categories(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        unsigned a, b;
        char rest;
        cleanup_free char *level = selinux_new_level();
        assert_int_equal(sscanf(level, "s0:c%u,c%u%c", &a, &b, &rest), 2);
        assert_true(a < b && b < 1024);
        assert_int_equal(selinux_check(&(struct selinux_options){.level = level}, &err), 0);
    }
}

static void
parts_of_labels_are_checked(void **state)
{
    (void)state;
    static const char *const sound[] = {"", "s0", "s0:c5", "s0:c4,c5", "s0:c0.c1023", "s0-s0:c0.c1023", "s0-s15:c0.c1023", "s3:c1,c5.c9"};
    static const char *const unsound[] = {"c1,c2", "s0,c1,c2", "s0:x", "s0:c1\"", "s0 ", "0", ":c1", "s0\n"};
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        assert_int_equal(selinux_check(&(struct selinux_options){.level = (char *)(uintptr_t)sound[i]}, &err), 0);
    for (size_t i = 0; i < sizeof unsound / sizeof *unsound; i++) {
        assert_int_equal(selinux_check(&(struct selinux_options){.level = (char *)(uintptr_t)unsound[i]}, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
    char bad[] = "a:b", quoted[] = "x\",y";
    assert_int_equal(selinux_check(&(struct selinux_options){.user = bad}, &err), -1);
    assert_int_equal(selinux_check(&(struct selinux_options){.role = quoted}, &err), -1);
    assert_int_equal(selinux_check(&(struct selinux_options){.type = bad}, &err), -1);
}

static void
expect_files(const struct selinux_options *of_container, const struct selinux_options *of_pod, const char *pod_level, const char *want)
{
    struct container_config config = {.selinux = *of_container};
    struct pod_config pod = {.selinux = *of_pod, .selinux_level = (char *)(uintptr_t)pod_level};
    cleanup_free char *process = NULL, *files = NULL;
    assert_int_equal(selinux_labels(&config, &pod, &process, &files, &err), 0);
    assert_string_equal(process, "");
    assert_string_equal(files, want);
}

static void
what_the_request_leaves_open_is_the_pods_then_the_policys(void **state)
{
    (void)state;
    if (selinux_enabled())
        skip();
    char level[] = "s0:c4,c5", user[] = "user_u", type[] = "svirt_t", pods[] = "s0:c8,c9";
    const struct selinux_options none = {0}, typed = {.type = type}, levelled = {.level = level}, named = {.user = user};
    expect_files(&none, &none, pods, "");
    expect_files(&typed, &none, pods, "system_u:object_r:container_file_t:s0:c8,c9");
    expect_files(&levelled, &none, pods, "system_u:object_r:container_file_t:s0:c4,c5");
    expect_files(&none, &named, pods, "user_u:object_r:container_file_t:s0:c8,c9");
    expect_files(&levelled, &named, pods, "system_u:object_r:container_file_t:s0:c4,c5");
}

/* ---- relabelling ---- */

static char top[] = "/var/tmp/test-selinux.XXXXXX";

static const char *
in(const char *name)
{
    static char path[4][512];
    static unsigned next;
    char *out = path[next++ % 4];
    (void)snprintf(out, sizeof path[0], "%s/%s", top, name);
    return out;
}

static bool
has(const char *path, const char *want)
{
    char now[256];
    ssize_t n = lgetxattr(path, "security.selinux", now, sizeof now - 1);
    now[n > 0 ? n : 0] = '\0';
    return strcmp(now, want) == 0;
}

static void
make_file(const char *path)
{
    assert_int_equal(file_replace(AT_FDCWD, path, "", 0, 0600, false, &err), 0);
}

static int
make_tree(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(top));
    assert_int_equal(file_mkdirs(in("volume/a/b/c"), 0700, &err), 0);
    make_file(in("volume/a/file"));
    make_file(in("outside"));
    assert_int_equal(symlink(in("outside"), in("volume/a/link")), 0);
    assert_int_equal(mkfifo(in("volume/fifo"), 0600), 0);
    assert_int_equal(symlink(in("volume"), in("by-link")), 0);
    assert_int_equal(file_mkdirs(in("volume/mounted"), 0700, &err), 0);
    assert_int_equal(mount("tmpfs", in("volume/mounted"), "tmpfs", 0, NULL), 0);
    make_file(in("volume/mounted/file"));
    return 0;
}

static int
remove_tree(void **state)
{
    (void)state;
    (void)umount2(in("volume/mounted"), MNT_DETACH);
    assert_int_equal(file_remove_tree(AT_FDCWD, top, &err), 0);
    memcpy(top + strlen(top) - 6, "XXXXXX", 6);
    return 0;
}

static void
a_volume_gets_its_label_to_the_last_file_and_nothing_else_does(void **state)
{
    (void)state;
    assert_int_equal(selinux_relabel(in("by-link"), label, &err), 0);
    static const char *const inside[] = {"volume", "volume/a", "volume/a/b/c", "volume/a/file", "volume/a/link", "volume/fifo"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        assert_true(has(in(inside[i]), label));
    static const char *const outside[] = {".", "by-link", "outside", "volume/mounted", "volume/mounted/file"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        assert_false(has(in(outside[i]), label));
    assert_int_equal(selinux_relabel(in("outside"), label, &err), 0); /* a file */
    assert_true(has(in("outside"), label));
}

/* The top is last, so that what was broken off is taken up; once it is done nobody looks below. */
static void
a_volume_that_has_the_label_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(lsetxattr(in("volume/a"), "security.selinux", label, sizeof label, 0), 0);
    assert_int_equal(selinux_relabel(in("volume"), label, &err), 0);
    assert_true(has(in("volume/a/file"), label) && has(in("volume"), label));
    assert_int_equal(lremovexattr(in("volume/a/file"), "security.selinux"), 0);
    assert_int_equal(selinux_relabel(in("volume"), label, &err), 0);
    assert_false(has(in("volume/a/file"), label));
}

static void
the_nodes_own_directories_are_refused(void **state)
{
    (void)state;
    assert_int_equal(symlink("/etc", in("volume/etc")), 0);
    static const char *const refused[] = {"/", "/usr/../etc", "/var/lib/", "/proc"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(selinux_relabel(refused[i], label, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
    assert_int_equal(selinux_relabel(in("volume/etc"), label, &err), -1);
    assert_non_null(strstr(err.message, "the node's own"));
    assert_int_equal(selinux_relabel(in("no-such"), label, &err), -1);
}

#define TREE(test) cmocka_unit_test_setup_teardown(test, make_tree, remove_tree)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_two_categories),
        cmocka_unit_test(parts_of_labels_are_checked),
        cmocka_unit_test(what_the_request_leaves_open_is_the_pods_then_the_policys),
        TREE(a_volume_gets_its_label_to_the_last_file_and_nothing_else_does),
        TREE(a_volume_that_has_the_label_is_left_alone),
        TREE(the_nodes_own_directories_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
