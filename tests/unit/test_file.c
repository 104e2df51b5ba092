#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"

/* Each test has a directory of its own, by path and by fd. */
struct place {
    char path[64];
    int fd;
};

static struct error err;

static int
setup(void **state)
{
    struct place *place = mem_zalloc(1, sizeof *place);
    (void)snprintf(place->path, sizeof place->path, "/var/tmp/crisp-test-file.XXXXXX");
    if (!mkdtemp(place->path))
        return -1;
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err = (struct error){0};
    *state = place;
    return place->fd < 0 ? -1 : 0;
}

static int
teardown(void **state)
{
    struct place *place = *state;
    (void)close(place->fd);
    int removed = file_remove_tree(AT_FDCWD, place->path, &err);
    free(place);
    return removed;
}

static void
put(const struct place *place, const char *name, const char *text)
{
    assert_int_equal(file_replace(place->fd, name, text, strlen(text), 0644, false, &err), 0);
}

static void
assert_content(const struct place *place, const char *name, const char *expected)
{
    cleanup_free char *text = NULL;
    assert_int_equal(file_read(place->fd, name, 1000, &text, NULL, &err), 0);
    assert_string_equal(text, expected);
}

static size_t
entries(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    size_t count = 0;
    while (readdir(dir))
        count++;
    (void)closedir(dir);
    return count - 2;
}

static void
a_file_is_replaced_as_a_whole(void **state)
{
    struct place *place = *state;
    put(place, "a", "one");
    put(place, "a", "two!");
    assert_content(place, "a", "two!");
    assert_int_equal(file_replace(place->fd, "b", "x", 1, 0600, true, &err), 0);
    struct stat st;
    assert_int_equal(fstatat(place->fd, "b", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(entries(place->fd), 2); /* no temporary file stays */
}

static void
a_replacement_that_fails_leaves_the_old_file_and_nothing_else(void **state)
{
    struct place *place = *state;
    assert_int_equal(mkdirat(place->fd, "taken", 0755), 0);
    put(place, "taken/inside", "x");
    assert_int_equal(file_replace(place->fd, "taken", "x", 1, 0644, false, &err), -1);
    assert_int_equal(entries(place->fd), 1);
    assert_int_equal(file_replace(place->fd, "missing/file", "x", 1, 0644, false, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void
what_a_killed_process_was_replacing_is_swept(void **state)
{
    const struct place *place = *state;
    put(place, ".a.1f.tmp", "half");
    put(place, "kept", "whole");
    put(place, ".kept", "whole");
    file_sweep_replaced(place->fd);
    assert_int_equal(faccessat(place->fd, ".a.1f.tmp", F_OK, 0), -1);
    assert_content(place, "kept", "whole");
    assert_content(place, ".kept", "whole");
}

static void
reading_has_a_limit(void **state)
{
    struct place *place = *state;
    char *text = NULL;
    size_t length = 0;
    put(place, "five", "12345");
    assert_int_equal(file_read(place->fd, "five", 5, &text, &length, &err), 0);
    assert_int_equal(length, 5);
    assert_string_equal(text, "12345");
    free(text);
    text = NULL;
    assert_int_equal(file_read(place->fd, "five", 4, &text, &length, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    assert_null(text);
    put(place, "empty", "");
    assert_int_equal(file_read(place->fd, "empty", 4, &text, &length, &err), 0);
    assert_string_equal(text, "");
    free(text);
}

static void
a_file_is_put_only_where_it_is(void **state)
{
    struct place *place = *state;
    assert_int_equal(file_put(place->fd, "memory.max", "1", &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    put(place, "memory.max", "max");
    assert_int_equal(file_put(place->fd, "memory.max", "1", &err), 0);
    assert_content(place, "memory.max", "1ax");
}

static void
a_path_from_outside_stays_beneath(void **state)
{
    struct place *place = *state;
    put(place, "passwd", "inside");
    assert_int_equal(mkdirat(place->fd, "etc", 0755), 0);
    put(place, "etc/passwd", "inside etc");
    assert_int_equal(symlinkat("/etc/passwd", place->fd, "absolute"), 0);
    assert_int_equal(symlinkat("../../../../../../passwd", place->fd, "etc/upwards"), 0);
    assert_int_equal(symlinkat("loop", place->fd, "loop"), 0);
    static const struct {
        const char *path, *content;
    } cases[] = {{"/etc/passwd", "inside etc"}, {"absolute", "inside etc"}, {"etc/upwards", "inside"}, {"../../passwd", "inside"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_close int fd = file_open_beneath(place->fd, cases[i].path, O_RDONLY, 0, &err);
        assert_true(fd >= 0);
        cleanup_free char *text = NULL;
        assert_int_equal(file_read_fd(fd, "x", 100, &text, NULL, &err), 0);
        assert_string_equal(text, cases[i].content);
    }
    assert_int_equal(file_open_beneath(place->fd, "loop", O_RDONLY, 0, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

static void
directories_are_made_beneath(void **state)
{
    struct place *place = *state;
    assert_int_equal(symlinkat("/real", place->fd, "link"), 0);
    assert_int_equal(mkdirat(place->fd, "real", 0755), 0);
    static const char *const paths[] = {"a/b/c", "/a//b/./c/", "link/x/y", "../../up/there", "", "/"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        cleanup_close int fd = file_mkdirs_beneath(place->fd, paths[i], 0755, &err);
        assert_true(fd >= 0);
    }
    assert_int_equal(faccessat(place->fd, "a/b/c", F_OK, 0), 0);
    assert_int_equal(faccessat(place->fd, "real/x/y", F_OK, 0), 0);
    assert_int_equal(faccessat(place->fd, "up/there", F_OK, 0), 0);
    put(place, "file", "x");
    assert_int_equal(file_mkdirs_beneath(place->fd, "file/below", 0755, &err), -1);
}

static void
mkdirs_makes_parents_and_notices_files(void **state)
{
    struct place *place = *state;
    cleanup_free char *deep = str_printf("%s/x/y/z/", place->path), *file = str_printf("%s/file", place->path);
    assert_int_equal(file_mkdirs(deep, 0755, &err), 0);
    assert_int_equal(file_mkdirs(deep, 0755, &err), 0);
    assert_int_equal(faccessat(place->fd, "x/y/z", F_OK, 0), 0);
    assert_int_equal(file_mkdirs("/", 0755, &err), 0);
    put(place, "file", "x");
    assert_int_equal(file_mkdirs(file, 0755, &err), -1);
    assert_int_equal(err.kind, ERR_EXISTS);
}

static void
a_tree_is_removed_and_symlinks_are_not_followed(void **state)
{
    struct place *place = *state;
    cleanup_close int fd = file_mkdirs_beneath(place->fd, "tree/a/b", 0755, &err);
    put(place, "kept", "x");
    put(place, "tree/a/file", "x");
    assert_int_equal(symlinkat("../kept", place->fd, "tree/link"), 0);
    assert_int_equal(symlinkat("..", place->fd, "tree/up"), 0);
    assert_int_equal(file_remove_tree(place->fd, "tree/", &err), 0);
    assert_int_equal(entries(place->fd), 1);
    assert_int_equal(file_remove_tree(place->fd, "tree", &err), 0);
    assert_int_equal(file_remove_tree(place->fd, "missing/below", &err), 0);
    assert_int_equal(symlinkat("kept", place->fd, "link"), 0);
    assert_int_equal(file_remove_tree(place->fd, "link", &err), 0); /* the link, not what it names */
    assert_content(place, "kept", "x");
}

static void
a_tree_without_end_costs_few_fds(void **state)
{
    struct place *place = *state;
    int at = dup(place->fd);
    for (int depth = 0; depth < 3000; depth++) {
        assert_int_equal(mkdirat(at, "d", 0755), 0);
        int below = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)close(at);
        at = below;
    }
    (void)close(at);
    int before = dup(0);
    (void)close(before);
    uint64_t bytes, inodes;
    assert_int_equal(file_usage(place->fd, "d", &bytes, &inodes, &err), 0);
    assert_true(inodes >= 100);
    assert_int_equal(file_remove_tree(place->fd, "d", &err), 0);
    assert_int_equal(entries(place->fd), 0);
    int after = dup(0);
    assert_int_equal(after, before); /* none is left open */
    (void)close(after);
}

static void
a_mounted_directory_is_never_emptied(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0)
        skip(); /* mounting needs root */
    cleanup_close int made = file_mkdirs_beneath(place->fd, "tree/mounted", 0755, &err);
    pid_t child = fork();
    if (child == 0) {
        cleanup_free char *target = str_printf("%s/tree/mounted", place->path), *file = str_printf("%s/data", target);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", target, "tmpfs", 0, NULL) < 0)
            _exit(10);
        int fd = open(file, O_CREAT | O_WRONLY, 0644);
        struct error failure = {0};
        bool refused = file_remove_tree(AT_FDCWD, place->path, &failure) < 0 && failure.errnum == EBUSY;
        _exit(fd >= 0 && refused && access(file, F_OK) == 0 ? 0 : 11);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void
usage_counts_what_is_there(void **state)
{
    struct place *place = *state;
    char block[8192];
    memset(block, 'x', sizeof block);
    cleanup_close int fd = file_mkdirs_beneath(place->fd, "u/v", 0755, &err);
    assert_int_equal(file_replace(place->fd, "u/v/f", block, sizeof block, 0644, true, &err), 0);
    uint64_t bytes = 0, inodes = 0;
    assert_int_equal(file_usage(place->fd, "u", &bytes, &inodes, &err), 0);
    assert_int_equal(inodes, 3);
    assert_true(bytes >= sizeof block);
}

static void
a_sealed_memfd_cannot_be_changed(void **state)
{
    (void)state;
    cleanup_close int fd = file_sealed_memfd("spec", "hello", 5, &err);
    assert_true(fd >= 0);
    char text[6] = "";
    assert_int_equal(pread(fd, text, 5, 0), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(pwrite(fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 1), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_replaced_as_a_whole),
        TEST(a_replacement_that_fails_leaves_the_old_file_and_nothing_else),
        TEST(what_a_killed_process_was_replacing_is_swept),
        TEST(reading_has_a_limit),
        TEST(a_file_is_put_only_where_it_is),
        TEST(a_path_from_outside_stays_beneath),
        TEST(directories_are_made_beneath),
        TEST(mkdirs_makes_parents_and_notices_files),
        TEST(a_tree_is_removed_and_symlinks_are_not_followed),
        TEST(a_tree_without_end_costs_few_fds),
        TEST(a_mounted_directory_is_never_emptied),
        TEST(usage_counts_what_is_there),
        TEST(a_sealed_memfd_cannot_be_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
