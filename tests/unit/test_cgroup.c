/* cgroups of this host, made and removed. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"
#include "runtime/cgroup_units.h"

static struct cgroups cgroups;
static char *parent, *path;

static int
set_up(void **state)
{
    (void)state;
    if (geteuid() != 0 || cgroups_open(&cgroups, NULL) < 0)
        return 0;
    parent = str_printf("/crisp-cgroup-%d/a", (int)getpid());
    path = str_printf("%s/b", parent);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    free(parent);
    free(path);
    cgroups_close(&cgroups);
    return 0;
}

static void
need_cgroups(void)
{
    if (!parent)
        skip();
}

static bool
exists(const char *cgroup)
{
    bool found = false;
    for (size_t i = 0; i < cgroups.count; i++) {
        cleanup_free char *absolute = str_printf("%s%s", cgroups.list[i].mount_point, cgroup);
        found |= access(absolute, F_OK) == 0;
    }
    return found;
}

static void
make(void)
{
    struct error err;
    need_cgroups();
    if (cgroup_claim_parent(&cgroups, parent, &err) < 0 || cgroup_make(&cgroups, path, &err) < 0)
        fail_msg("%s", err.message);
}

static void
unmake(void)
{
    assert_int_equal(cgroup_remove(&cgroups, path), 0);
    cgroup_release_parent(&cgroups, parent);
    cleanup_free char *top = str_printf("/crisp-cgroup-%d", (int)getpid());
    assert_false(exists(top));
}

static void
test_parents_that_crisp_made_go_and_others_stay(void **state)
{
    (void)state;
    make();
    cgroup_release_parent(&cgroups, parent);
    assert_true(exists(parent));
    unmake();
    cleanup_free char *foreign = str_printf("%s/crisp-foreign-%d", cgroups.list[0].mount_point, (int)getpid());
    cleanup_free char *below = str_printf("/crisp-foreign-%d/mine", (int)getpid());
    assert_int_equal(mkdir(foreign, 0755), 0);
    assert_int_equal(cgroup_claim_parent(&cgroups, below, NULL), 0);
    cgroup_release_parent(&cgroups, below);
    assert_int_equal(rmdir(foreign), 0);
    assert_false(exists(below));
}

static pid_t
sleeper_in(const char *cgroup)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < cgroups.count; i++) {
            cleanup_free char *procs = str_printf("%s%s/cgroup.procs", cgroups.list[i].mount_point, cgroup);
            if (file_put(AT_FDCWD, procs, "0", NULL) < 0)
                _exit(9);
        }
        (void)pause();
        _exit(0);
    }
    return pid;
}

static void
test_everything_in_it_is_killed(void **state)
{
    (void)state;
    make();
    struct error err;
    int status;
    assert_false(cgroup_populated(&cgroups, path));
    pid_t pid = sleeper_in(path);
    for (int tries = 0; tries < 500 && !cgroup_populated(&cgroups, path); tries++)
        (void)usleep(1000);
    assert_true(cgroup_populated(&cgroups, path));
    assert_int_equal(cgroup_remove(&cgroups, path), 1);
    if (cgroup_kill(&cgroups, path, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(cgroup_kill(&cgroups, "/crisp-not-there", &err), 0);
    unmake();
}

static void
test_a_container_that_made_cgroups_of_its_own_is_removed_with_them(void **state)
{
    (void)state;
    make();
    cleanup_free char *deep = str_printf("%s%s/x/y/z", cgroups.list[0].mount_point, path);
    assert_int_equal(file_mkdirs(deep, 0755, NULL), 0);
    unmake();
}

static void
test_limits_are_written_or_refused_with_their_file(void **state)
{
    (void)state;
    struct error err;
    make();
    struct resources r = {.memory_limit_bytes = 64 << 20, .cpu_shares = 2048, .cpu_period = 50000, .cpu_quota = 25000};
    if (cgroups_of(&cgroups, "memory") && cgroups_of(&cgroups, "cpu") && cgroup_apply(&cgroups, path, &r, &err) < 0)
        fail_msg("%s", err.message);
    if (cgroups_of(&cgroups, "pids") && cgroup_limit_pids(&cgroups, path, 17, &err) < 0)
        fail_msg("%s", err.message);
    cleanup_free char *pids = cgroup_file(&cgroups, path, "pids", "pids.max"), *text = NULL;
    if (pids) {
        assert_int_equal(file_read(AT_FDCWD, pids, 64, &text, NULL, &err), 0);
        assert_string_equal(text, "17\n");
    }
    strmap_set(&r.unified, "../../cgroup.kill", "1");
    assert_int_equal(cgroup_apply(&cgroups, path, &r, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    strmap_free(&r.unified);
    strmap_set(&r.unified, "memory.not-there", "1");
    assert_int_equal(cgroup_apply(&cgroups, path, &r, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    strmap_free(&r.unified);
    unmake();
}

static void
test_paths_are_clean(void **state)
{
    (void)state;
    cleanup_free char *given = cgroup_path("kubepods//burstable/pod1/", "/x", NULL), *fallback = cgroup_path("", "/crisp", NULL);
    assert_string_equal(given, "/kubepods/burstable/pod1");
    assert_string_equal(fallback, "/crisp");
    assert_null(cgroup_path("/a/../b", "/x", NULL));
    assert_null(cgroup_path("/", "/x", NULL));
}

static void
test_names_of_slices_and_scopes(void **state)
{
    static const char *const bad[] = {"/kubepods/pod1", "pod1",     "-.slice",     ".slice",   "a--b.slice",
                                      "a-.slice",       "-a.slice", "a/b.service", "a b.slice"};
    struct error err;
    (void)state;
    cleanup_free char *given = slice_path("kubepods-burstable-pod1_2.slice", &err);
    assert_string_equal(given, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice");
    cleanup_free char *by_path = slice_path(given, &err), *below = slice_below("/crisp.slice", "0af1"), *scope = scope_path(below, "77");
    assert_string_equal(by_path, given);
    assert_string_equal(below, "/crisp.slice/crisp-0af1.slice");
    assert_string_equal(scope, "/crisp.slice/crisp-0af1.slice/crisp-77.scope");
    cleanup_free char *of_scope = cgroup_container_id(scope), *of_path = cgroup_container_id("/crisp/pod/77");
    assert_string_equal(of_scope, "77");
    assert_string_equal(of_path, "77");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(slice_path(bad[i], &err));
        assert_int_equal(err.kind, ERR_INVALID);
    }
}

static void
test_an_update_that_is_refused_leaves_all_as_it_was(void **state)
{
    (void)state;
    struct error err;
    struct resources r = {.memory_limit_bytes = 64 << 20, .cpu_shares = 2048};
    need_cgroups();
    if (!cgroups_of(&cgroups, "memory") || !cgroups_of(&cgroups, "cpu"))
        skip();
    make();
    assert_int_equal(cgroup_update(&cgroups, path, &r, &err), 0);
    r.memory_limit_bytes = 96 << 20;
    strmap_set(&r.unified, "memory.not-there", "1");
    assert_int_equal(cgroup_update(&cgroups, path, &r, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    strmap_free(&r.unified);
    bool v2 = cgroups_of(&cgroups, "memory")->unified;
    cleanup_free char *file = cgroup_file(&cgroups, path, "memory", v2 ? "memory.max" : "memory.limit_in_bytes"), *text = NULL;
    assert_int_equal(file_read(AT_FDCWD, file, 64, &text, NULL, &err), 0);
    assert_string_equal(text, "67108864\n");
    unmake();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parents_that_crisp_made_go_and_others_stay),
        cmocka_unit_test(test_everything_in_it_is_killed),
        cmocka_unit_test(test_a_container_that_made_cgroups_of_its_own_is_removed_with_them),
        cmocka_unit_test(test_limits_are_written_or_refused_with_their_file),
        cmocka_unit_test(test_paths_are_clean),
        cmocka_unit_test(test_names_of_slices_and_scopes),
        cmocka_unit_test(test_an_update_that_is_refused_leaves_all_as_it_was),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
