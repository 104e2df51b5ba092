/* Figures of cgroups, from files as the kernel writes them under v1, v2, and hybrid hosts. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"
#include "runtime/usage.h"

static char top[] = "/tmp/test-usage.XXXXXX";

static void
put(const char *dir, const char *name, const char *text)
{
    cleanup_free char *folder = str_printf("%s/%s/pod/c", top, dir), *path = str_printf("%s/%s", folder, name);
    assert_int_equal(file_mkdirs(folder, 0700, NULL), 0);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct cgroup_hierarchy
hierarchy(const char *dir, const char *controllers, bool unified)
{
    struct cgroup_hierarchy h = {.mount_point = str_printf("%s/%s", top, dir), .name = str_dup(dir), .options = str_dup(""), .unified = unified};
    strv_split(&h.controllers, controllers, ',', true);
    h.root = open(h.mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(h.root >= 0);
    return h;
}

static struct cgroups
host(const struct cgroup_hierarchy *list, size_t count, int unified)
{
    return (struct cgroups){.list = mem_dup(list, count * sizeof *list), .count = count, .unified = unified};
}

#define SOME "some avg10=1.50 avg60=2.25 avg300=0.10 total=2000123\n"
#define FULL "full avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\n"

static void
put_pressure(const char *dir)
{
    put(dir, "cpu.pressure", SOME FULL);
    put(dir, "memory.pressure", SOME FULL);
    put(dir, "io.pressure", SOME FULL);
}

static void
expect_pressure(const struct usage *usage)
{
    for (size_t i = 0; i < PRESSURES; i++) {
        assert_int_equal(usage->pressure[i].some.total_ns, 2000123000);
        assert_int_equal(usage->pressure[i].full.total_ns, 1000000000);
        assert_true(usage->pressure[i].some.percent[1] > 2.2 && usage->pressure[i].some.percent[1] < 2.3);
    }
}

static void
v2_says_everything_in_one_hierarchy(void **state)
{
    (void)state;
    put("v2", "cpu.stat", "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 7000\n");
    put("v2", "cpu.max", "20000 100000\n");
    put("v2", "cpu.weight", "100\n");
    put("v2", "memory.current", "50000000\n");
    put("v2", "memory.peak", "60000000\n");
    put("v2", "memory.max", "67108864\n");
    put("v2", "memory.low", "0\n");
    put("v2", "memory.stat",
        "anon 30000000\nfile 15000000\nkernel 4000000\nfile_mapped 1000000\ninactive_file 10000000\npgfault 123\npgmajfault 4\n");
    put("v2", "memory.events", "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\noom_group_kill 0\n");
    put("v2", "memory.swap.current", "1000\n");
    put("v2", "memory.swap.max", "5000\n");
    put("v2", "pids.current", "3\n");
    put("v2", "pids.max", "max\n");
    put("v2", "io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:1 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n");
    put("v2", "hugetlb.2MB.current", "4194304\n");
    put("v2", "hugetlb.2MB.rsvd.current", "0\n");
    put("v2", "cgroup.procs", "");
    put_pressure("v2");
    struct cgroup_hierarchy h = hierarchy("v2", "cpuset,cpu,io,memory,hugetlb,pids", true);
    struct cgroups cgroups = host(&h, 1, 0);
    struct usage usage;
    usage_read(&cgroups, "/pod/c", &usage);
    static const struct {
        enum figure figure;
        int64_t value;
    } expected[] = {
        {FIGURE_CPU_NS, 5000000000},
        {FIGURE_CPU_USER_NS, 3000000000},
        {FIGURE_CPU_SYSTEM_NS, 2000000000},
        {FIGURE_THROTTLED_NS, 7000000},
        {FIGURE_PERIODS, 10},
        {FIGURE_THROTTLED_PERIODS, 4},
        {FIGURE_CPU_QUOTA_US, 20000},
        {FIGURE_CPU_PERIOD_US, 100000},
        {FIGURE_CPU_SHARES, 1024},
        {FIGURE_MEMORY, 50000000},
        {FIGURE_MEMORY_PEAK, 60000000},
        {FIGURE_MEMORY_LIMIT, 67108864},
        {FIGURE_MEMORY_RESERVED, 0},
        {FIGURE_MEMORY_CACHE, 15000000},
        {FIGURE_MEMORY_RSS, 30000000},
        {FIGURE_MEMORY_KERNEL, 4000000},
        {FIGURE_MEMORY_MAPPED, 1000000},
        {FIGURE_PAGE_FAULTS, 123},
        {FIGURE_MAJOR_PAGE_FAULTS, 4},
        {FIGURE_OWN_PAGE_FAULTS, 123},
        {FIGURE_MEMORY_LIMIT_HITS, 6},
        {FIGURE_OOM_KILLS, 1},
        {FIGURE_SWAP, 1000},
        {FIGURE_SWAP_LIMIT, 5000},
        {FIGURE_MEMORY_WORKING_SET, 40000000},
        {FIGURE_TASKS, 3},
        {FIGURE_TASKS_LIMIT, UNKNOWN},
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (usage.figures[expected[i].figure] != expected[i].value)
            fail_msg("figure %d is %lld, not %lld", (int)expected[i].figure, (long long)usage.figures[expected[i].figure],
                     (long long)expected[i].value);
    assert_int_equal(usage.memory_left_bytes, 27108864);
    assert_int_equal(usage.swap_left_bytes, 4000);
    expect_pressure(&usage);

    struct usage_details details;
    usage_read_details(&cgroups, "/pod/c", &details);
    assert_int_equal(details.device_count, 2);
    assert_int_equal(details.devices[0].major, 8);
    assert_int_equal(details.devices[0].read_bytes, 4096);
    assert_int_equal(details.devices[0].written_bytes, 8192);
    assert_int_equal(details.devices[0].writes, 2);
    assert_int_equal(details.devices[1].minor, 1);
    assert_int_equal(details.hugepage_count, 1);
    assert_string_equal(details.hugepages[0].page_size, "2MB");
    assert_int_equal(details.hugepages[0].bytes, 4194304);
    assert_int_equal(details.hugepages[0].peak_bytes, UNKNOWN);
    assert_int_equal(details.processes, 0);
    usage_details_free(&details);

    put("v2", "cpu.max", "max 50000\n");
    put("v2", "memory.max", "max\n");
    usage_read(&cgroups, "/pod/c", &usage);
    assert_int_equal(usage.figures[FIGURE_CPU_QUOTA_US], UNKNOWN);
    assert_int_equal(usage.figures[FIGURE_CPU_PERIOD_US], 50000);
    assert_int_equal(usage.figures[FIGURE_MEMORY_LIMIT], UNKNOWN);
    assert_int_equal(usage.memory_left_bytes, UNKNOWN);
    cgroups_close(&cgroups);
}

static void
a_hybrid_host_has_v1s_figures_and_v2s_pressure(void **state)
{
    (void)state;
    put("cpuacct", "cpuacct.usage", "5000000001\n");
    put("cpuacct", "cpuacct.usage_user", "3000000001\n");
    put("cpuacct", "cpuacct.usage_sys", "2000000000\n");
    put("cpu", "cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 7000000\n");
    put("cpu", "cpu.shares", "512\n");
    put("cpu", "cpu.cfs_period_us", "100000\n");
    put("cpu", "cpu.cfs_quota_us", "-1\n");
    put("memory", "memory.usage_in_bytes", "50000000\n");
    put("memory", "memory.limit_in_bytes", "9223372036854771712\n");
    put("memory", "memory.memsw.usage_in_bytes", "50003000\n");
    put("memory", "memory.memsw.limit_in_bytes", "9223372036854771712\n");
    put("memory", "memory.failcnt", "0\n");
    put("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    put("memory", "memory.stat",
        "cache 1\nrss 2\npgfault 5\npgmajfault 6\ntotal_cache 10\ntotal_rss 20\ntotal_inactive_file 60000000\ntotal_pgfault 50\ntotal_pgmajfault "
        "60\n");
    put("blkio", "blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\nTotal 12288\n");
    put("blkio", "blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n");
    put("unified", "cgroup.procs", "");
    put_pressure("unified");
    const struct cgroup_hierarchy list[] = {hierarchy("cpuacct", "cpuacct", false), hierarchy("cpu", "cpu", false),
                                            hierarchy("memory", "memory", false), hierarchy("blkio", "blkio", false),
                                            hierarchy("unified", "hugetlb", true)};
    struct cgroups cgroups = host(list, 5, 4);
    struct usage usage;
    usage_read(&cgroups, "/pod/c", &usage);
    assert_int_equal(usage.figures[FIGURE_CPU_NS], 5000000001);
    assert_int_equal(usage.figures[FIGURE_CPU_USER_NS], 3000000001);
    assert_int_equal(usage.figures[FIGURE_THROTTLED_NS], 7000000);
    assert_int_equal(usage.figures[FIGURE_CPU_SHARES], 512);
    assert_int_equal(usage.figures[FIGURE_CPU_PERIOD_US], 100000);
    assert_int_equal(usage.figures[FIGURE_CPU_QUOTA_US], UNKNOWN);
    assert_int_equal(usage.figures[FIGURE_MEMORY_LIMIT], UNKNOWN);
    assert_int_equal(usage.figures[FIGURE_MEMORY_WORKING_SET], 0);
    assert_int_equal(usage.figures[FIGURE_SWAP], 3000);
    assert_int_equal(usage.figures[FIGURE_OOM_KILLS], 3);
    assert_int_equal(usage.figures[FIGURE_OWN_PAGE_FAULTS], 5);
    assert_int_equal(usage.figures[FIGURE_PAGE_FAULTS], 50);
    assert_int_equal(usage.figures[FIGURE_MEMORY_KERNEL], UNKNOWN);
    assert_int_equal(usage.figures[FIGURE_TASKS], UNKNOWN);
    expect_pressure(&usage);
    struct usage_details details;
    usage_read_details(&cgroups, "/pod/c", &details);
    assert_int_equal(details.device_count, 1);
    assert_int_equal(details.devices[0].read_bytes, 4096);
    assert_int_equal(details.devices[0].reads, 1);
    assert_int_equal(details.devices[0].writes, 2);
    usage_details_free(&details);
    cgroups_close(&cgroups);
}

static void
a_cgroup_that_is_gone_uses_nothing_known(void **state)
{
    (void)state;
    struct cgroup_hierarchy h = hierarchy("v2", "cpu,memory,pids,io", true);
    struct cgroups cgroups = host(&h, 1, 0);
    struct usage usage, sum;
    usage_read(&cgroups, "/pod/gone", &usage);
    for (size_t i = 0; i < FIGURES; i++)
        assert_int_equal(usage.figures[i], UNKNOWN);
    assert_int_equal(usage.pressure[PRESSURE_CPU].some.total_ns, UNKNOWN);
    assert_int_equal(usage_processes(&cgroups, "/pod/gone"), UNKNOWN);
    usage_zero(&sum);
    usage_add(&sum, &usage);
    assert_int_equal(sum.figures[FIGURE_MEMORY], UNKNOWN);
    cgroups_close(&cgroups);
}

static void
descriptors_and_interfaces_of_a_process_are_counted(void **state)
{
    (void)state;
    char pid[16];
    (void)snprintf(pid, sizeof pid, "%d\n", getpid());
    put("v2", "cgroup.procs", pid);
    put("v2/pod/c/exec.mount", "unused", "");
    cleanup_free char *below = str_printf("%s/v2/pod/c/below", top), *procs = str_printf("%s/cgroup.procs", below);
    assert_int_equal(file_mkdirs(below, 0700, NULL), 0);
    FILE *file = fopen(procs, "we");
    assert_non_null(file);
    assert_true(fputs(pid, file) >= 0);
    assert_int_equal(fclose(file), 0);
    struct cgroup_hierarchy h = hierarchy("v2", "cpu,memory,pids,io", true);
    struct cgroups cgroups = host(&h, 1, 0);
    struct usage_details before, after;
    usage_read_details(&cgroups, "/pod/c", &before);
    assert_int_equal(before.processes, 2);
    assert_true(before.files >= 6);
    int sockets[2];
    assert_int_equal(pipe2(sockets, O_CLOEXEC), 0);
    usage_read_details(&cgroups, "/pod/c", &after);
    assert_int_equal(after.files, before.files + 4); /* both cgroups name the same process */
    assert_int_equal(after.sockets, before.sockets);
    (void)close(sockets[0]);
    (void)close(sockets[1]);
    usage_details_free(&before);
    usage_details_free(&after);
    cgroups_close(&cgroups);
    assert_true(usage_open_files_limit(getpid()) > 0);
    size_t count;
    struct interface_usage *list = usage_interfaces(getpid(), &count);
    for (size_t i = 0; i < count; i++)
        assert_string_not_equal(list[i].name, "lo");
    free(list);
    assert_null(usage_interfaces(0, &count));
}

static int
set_up(void **state)
{
    (void)state;
    return mkdtemp(top) ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    return file_remove_tree(AT_FDCWD, top, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v2_says_everything_in_one_hierarchy),
        cmocka_unit_test(a_hybrid_host_has_v1s_figures_and_v2s_pressure),
        cmocka_unit_test(a_cgroup_that_is_gone_uses_nothing_known),
        cmocka_unit_test(descriptors_and_interfaces_of_a_process_are_counted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
