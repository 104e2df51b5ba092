/* What a container sees and is, on this very machine. */
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
#include "base/clock.h"
#include "base/file.h"
#include "runtime_world.h"

static struct world world;
static char pod[ID_SIZE];

static int
set_up(void **state)
{
    (void)state;
    if (!world_make(&world))
        return 0;
    world_open(&world);
    world_run_pod(&world, "web-0", pod);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    if (world.rt)
        (void)pod_remove(world.rt, pod, NULL, NULL);
    return world_end(&world);
}

/* Creates and starts; fails with the error's words. */
static void
launch(struct container_config *config, char id[ID_SIZE])
{
    struct error err;
    if (!world.rt)
        skip();
    if (container_create(world.rt, config, id, NULL, &err) < 0 || container_start(world.rt, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static struct container_config *
sleeper(const char *name)
{
    if (!world.rt)
        skip();
    return world_container(pod, name, "trap 'exit 0' TERM; sleep 1000 & wait");
}

static void
expect(const char *id, const char *script, const char *output)
{
    int code;
    assert_string_equal(world_exec(&world, id, script, &code), output);
}

static void
take_away(const char *id)
{
    struct error err;
    if (container_remove(world.rt, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void
test_a_plain_container(void **state)
{
    (void)state;
    char id[ID_SIZE];
    launch(sleeper("plain"), id);
    expect(id, "hostname; pwd; echo $HOSTNAME $HOME; cat /etc/hostname", "web-0\n/\nweb-0 /root\nweb-0\n");
    expect(id, "ls /dev", "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n");
    expect(id, "grep Cap /proc/self/status",
           "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n");
    expect(id, "touch /sys/x 2>&1; touch /sys/fs/cgroup/x 2>&1",
           "touch: /sys/x: Read-only file system\ntouch: /sys/fs/cgroup/x: Read-only file system\n");
    expect(id, "ulimit -Sn", "1024\n");
    expect(id, "df /dev/shm | head -2 | grep -c 65536", "1\n");
    expect(id, "ls -a /proc/1/fd | wc -l", "5\n");
    take_away(id);
}

static void
test_a_device_that_is_not_given_cannot_be_used(void **state)
{
    (void)state;
    char id[ID_SIZE];
    launch(sleeper("devices"), id);
    expect(id, "mknod /disk b 254 0 && head -c 1 /disk 2>&1", "head: /disk: Operation not permitted\n");
    expect(id, "head -c 4 /dev/zero | wc -c; echo x > /dev/null", "4\n");
    take_away(id);
    struct container_config *config = sleeper("devices");
    config->attempt = 1;
    config->devices = mem_zalloc(1, sizeof *config->devices);
    config->device_count = 1;
    const char *device = access("/dev/loop-control", F_OK) == 0 ? "/dev/loop-control" : "/dev/ubda";
    config->devices[0] = (struct device_request){.container_path = str_dup("/dev/given"), .host_path = str_dup(device), .permissions = str_dup("r")};
    launch(config, id);
    expect(id, "(: < /dev/given) && echo readable; (: > /dev/given) 2>&1", "readable\n/bin/sh: can't create /dev/given: Operation not permitted\n");
    take_away(id);
}

static void
test_a_user_by_name_with_the_groups_of_the_image(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct container_config *config = sleeper("user");
    config->user = str_dup("web");
    strv_add(&config->supplemental_groups, "4321");
    strv_add(&config->env, "GREETING=hello");
    launch(config, id);
    expect(id, "id -u; id -g; id -G; echo $HOME $GREETING; grep CapEff /proc/self/status",
           "1000\n1001\n1001 50 4321\n/home/web hello\nCapEff:\t0000000000000000\n");
    struct container_status status;
    assert_int_equal(container_status(world.rt, id, &status, NULL), 0);
    assert_int_equal(status.uid, 1000);
    assert_int_equal(status.gid, 1001);
    assert_int_equal(status.groups.count, 3);
    container_status_free(&status);
    take_away(id);
}

static void
test_a_uid_that_the_image_does_not_know(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct container_config *config = sleeper("uid");
    config->user = str_dup("5000:6000");
    launch(config, id);
    expect(id, "id -u; id -G; echo $HOME", "5000\n6000\n/\n");
    take_away(id);
}

static void
test_a_privileged_container_and_a_read_only_one(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    struct container_config *config = sleeper("ro");
    config->readonly_rootfs = config->no_new_privs = true;
    config->working_dir = str_dup("/work/here");
    strv_add(&config->drop_capabilities, "ALL");
    strv_add(&config->add_capabilities, "NET_ADMIN");
    strv_add(&config->masked_paths, "/proc/version");
    strv_add(&config->masked_paths, "/proc/not-there");
    strv_add(&config->masked_paths, "/proc/fs");
    strv_add(&config->readonly_paths, "/proc/sys");
    launch(config, id);
    expect(id, "pwd; touch /x 2>&1; touch /dev/shm/x; echo 1 2>&1 > /proc/sys/kernel/domainname",
           "/work/here\ntouch: /x: Read-only file system\n/bin/sh: can't create /proc/sys/kernel/domainname: Read-only file system\n");
    expect(id, "grep -E 'CapEff|NoNew' /proc/self/status; cat /proc/version | wc -c; ls /proc/fs | wc -l",
           "CapEff:\t0000000000001000\nNoNewPrivs:\t1\n0\n0\n");
    take_away(id);
    struct error err;
    config = sleeper("privileged");
    config->privileged = true;
    assert_int_equal(container_create(world.rt, config, id, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    char privileged_pod[ID_SIZE];
    struct pod_config *pod_config = world_pod(&world, "privileged");
    pod_config->privileged = true;
    assert_int_equal(pod_run(world.rt, pod_config, privileged_pod, NULL, NULL), 0);
    config = world_container(privileged_pod, "privileged", "sleep 1000");
    config->privileged = true;
    launch(config, id);
    expect(id, "cd /sys/fs/cgroup; test -d memory && cd memory; test -c /dev/kmsg && mkdir own && echo well", "well\n");
    assert_int_equal(pod_remove(world.rt, privileged_pod, NULL, NULL), 0);
}

static void
add_mount(struct container_config *config, const char *host, const char *path, bool readonly, enum mount_propagation propagation)
{
    config->mounts = mem_realloc(config->mounts, config->mount_count + 1, sizeof *config->mounts);
    config->mounts[config->mount_count++] =
        (struct mount_request){.container_path = str_dup(path), .host_path = str_dup(host), .readonly = readonly, .propagation = propagation};
}

static void
test_mounts_of_the_request(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    cleanup_free char *data = str_printf("%s/data", world.dir), *file = str_printf("%s/data/file", world.dir);
    assert_int_equal(file_mkdirs(data, 0755, NULL), 0);
    assert_int_equal(close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), 0);
    struct container_config *config = sleeper("mounts");
    add_mount(config, data, "/data/deep/down", false, PROPAGATION_PRIVATE);
    add_mount(config, data, "../../../etc/ro", true, PROPAGATION_PRIVATE);
    add_mount(config, file, "/etc/hosts", false, PROPAGATION_PRIVATE);
    launch(config, id);
    expect(id, "echo hello > /data/deep/down/file; cat /etc/ro/file /etc/hosts; touch /etc/ro/x 2>&1",
           "hello\nhello\ntouch: /etc/ro/x: Read-only file system\n");
    take_away(id);
}

static void
test_mounts_propagate_as_asked(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    cleanup_free char *shared = str_printf("%s/shared", world.dir),
                      *make = str_printf("mkdir -p %s/shared/in %s/shared/out && mount -t tmpfs shared %s/shared && mount --make-rshared %s/shared "
                                         "&& mkdir %s/shared/in %s/shared/out",
                                         world.dir, world.dir, world.dir, world.dir, world.dir, world.dir);
    assert_int_equal(system(make), 0);
    struct pod_config *pod_config = world_pod(&world, "propagation");
    char shared_pod[ID_SIZE];
    pod_config->privileged = true;
    assert_int_equal(pod_run(world.rt, pod_config, shared_pod, NULL, NULL), 0);
    struct container_config *config = world_container(shared_pod, "main", "sleep 1000");
    config->privileged = true;
    add_mount(config, shared, "/both", false, PROPAGATION_BIDIRECTIONAL);
    add_mount(config, shared, "/slave", false, PROPAGATION_HOST_TO_CONTAINER);
    launch(config, id);
    cleanup_free char *mount_in = str_printf("mount -t tmpfs in %s/shared/in && touch %s/shared/in/x", world.dir, world.dir);
    cleanup_free char *look_out = str_printf("test -e %s/shared/out/y", world.dir);
    assert_int_equal(system(mount_in), 0);
    expect(id, "ls /both/in /slave/in", "/both/in:\nx\n\n/slave/in:\nx\n");
    expect(id, "mount -t tmpfs out /both/out && touch /both/out/y && ls /slave/out", "y\n");
    assert_int_equal(system(look_out), 0);
    assert_int_equal(pod_remove(world.rt, shared_pod, NULL, NULL), 0);
    cleanup_free char *unmount = str_printf("umount -R %s/shared", world.dir);
    assert_int_equal(system(unmount), 0);
}

/* What the limits are called, by the shape of this host's cgroups. */
static bool
has_v1(void)
{
    return access("/sys/fs/cgroup/memory", F_OK) == 0;
}

static void
test_limits_are_in_the_cgroup_and_can_be_changed(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    struct container_config *config = sleeper("limits");
    config->resources.memory_limit_bytes = 64 << 20;
    config->resources.cpu_shares = 512;
    config->resources.cpu_period = 100000;
    config->resources.cpu_quota = 50000;
    config->resources.oom_score_adj = 900;
    launch(config, id);
    expect(id, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj", "900\n900\n");
    if (has_v1())
        expect(id, "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us", "67108864\n512\n50000\n");
    else
        expect(id, "cd /sys/fs/cgroup; cat memory.max cpu.weight cpu.max", "67108864\n59\n50000 100000\n");
    struct resources more = {.memory_limit_bytes = 128 << 20, .memory_swap_limit_bytes = 128 << 20};
    if (container_update(world.rt, id, &more, &err) < 0)
        fail_msg("%s", err.message);
    if (has_v1())
        expect(id, "cd /sys/fs/cgroup/memory; cat memory.limit_in_bytes memory.memsw.limit_in_bytes", "134217728\n134217728\n");
    else
        expect(id, "cd /sys/fs/cgroup; cat memory.max cpu.max", "134217728\n50000 100000\n");
    struct container_status status;
    assert_int_equal(container_status(world.rt, id, &status, NULL), 0);
    assert_int_equal(status.resources.memory_limit_bytes, 128 << 20);
    assert_int_equal(status.resources.cpu_shares, 512);
    container_status_free(&status);
    take_away(id);
}

static void
test_a_container_out_of_memory_says_so(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    struct container_config *config =
        world_container(pod, "oom", "head -c 200m /dev/zero > /dev/shm/x; x=$(cat /dev/zero | head -c 100000000); sleep 1");
    config->resources.memory_limit_bytes = config->resources.memory_swap_limit_bytes = 20 << 20;
    strv_free(&config->args);
    strv_add(&config->args, "/bin/dd");
    strv_add(&config->args, "if=/dev/zero");
    strv_add(&config->args, "of=/dev/null");
    strv_add(&config->args, "bs=100M");
    strv_add(&config->args, "count=1");
    launch(config, id);
    assert_int_equal(world_exit_code(&world, id), 137);
    struct container_status status;
    assert_int_equal(container_status(world.rt, id, &status, NULL), 0);
    assert_string_equal(status.reason, "OOMKilled");
    container_status_free(&status);
    take_away(id);
}

static void
test_containers_of_a_pod_share_what_they_should(void **state)
{
    (void)state;
    char a[ID_SIZE], b[ID_SIZE];
    launch(sleeper("a"), a);
    launch(sleeper("b"), b);
    expect(a, "echo from-a > /dev/shm/note; until ps -o args | grep -q '^sleep 1000'; do :; done; ps -o args | grep -c '^sleep 1000'", "1\n");
    expect(b, "cat /dev/shm/note; ip -4 -o addr show eth0 | wc -l", "from-a\n1\n");
    take_away(a);
    take_away(b);
}

static void
test_a_pod_with_one_pid_namespace(void **state)
{
    (void)state;
    char shared[ID_SIZE], a[ID_SIZE], b[ID_SIZE];
    if (!world.rt)
        skip();
    struct pod_config *config = world_pod(&world, "shared");
    config->pid = NAMESPACE_POD;
    assert_int_equal(pod_run(world.rt, config, shared, NULL, NULL), 0);
    struct container_config *first = world_container(shared, "a", "sleep 1001"), *second = world_container(shared, "b", "sleep 1002");
    first->pid = second->pid = NAMESPACE_POD;
    launch(first, a);
    launch(second, b);
    expect(a, "ps -o args | grep 'sleep 100' | grep -vc grep", "2\n");
    assert_int_equal(container_stop(world.rt, a, 0, NULL, NULL), 0);
    expect(b, "ps -o args | grep 'sleep 100' | grep -vc grep", "1\n");
    char target[ID_SIZE];
    struct container_config *debug = world_container(shared, "debug", "sleep 1003");
    debug->pid = NAMESPACE_TARGET;
    debug->target_id = str_dup(b);
    launch(debug, target);
    expect(target, "ps -o args | grep 'sleep 100' | grep -vc grep", "2\n");
    assert_int_equal(pod_remove(world.rt, shared, NULL, NULL), 0);
}

static struct id_mapping *
ids_from(uint32_t host)
{
    struct id_mapping *ids = mem_zalloc(1, sizeof *ids);
    *ids = (struct id_mapping){.host_id = host, .length = 65536};
    return ids;
}

static void
mask(struct container_config *config)
{
    strv_add(&config->masked_paths, "/proc/keys");
    strv_add(&config->masked_paths, "/proc/timer_list");
    strv_add(&config->masked_paths, "/proc/irq");
}

static void
test_a_pod_with_users_of_its_own(void **state)
{
    (void)state;
    char own[ID_SIZE], id[ID_SIZE];
    if (!world.rt || !runtime_has_userns(world.rt))
        skip();
    struct pod_config *config = world_pod(&world, "users");
    config->pid = NAMESPACE_POD;
    config->userns = (struct id_maps){.uids = ids_from(300000), .gids = ids_from(300000), .uid_count = 1, .gid_count = 1};
    strmap_set(&config->sysctls, "kernel.shmmax", "123456789");
    assert_int_equal(pod_run(world.rt, config, own, NULL, NULL), 0);
    struct container_config *first = world_container(own, "main", "sleep 1000");
    first->pid = NAMESPACE_POD;
    mask(first);
    launch(first, id);
    expect(id, "wc -c </proc/keys; wc -c </proc/timer_list; ls /proc/irq", "0\n0\n");
    expect(id, "tr -s ' ' </proc/self/uid_map; stat -c %u / /bin/busybox /etc/hosts /dev/shm /dev/null /dev/mqueue | uniq", " 0 300000 65536\n0\n");
    expect(id, "touch /new && chown 5:6 /new && stat -c %u:%g /new; cat /proc/sys/kernel/shmmax /proc/1/comm; echo x >/dev/shm/x",
           "5:6\n123456789\ncrisp-init\n");
    cleanup_free char *path = str_printf("%s/containers/%s/upper/new", world.root, id);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 300005);
    assert_int_equal(st.st_gid, 300006);
    struct container_config *second = world_container(own, "second", "sleep 1001");
    mask(second);
    launch(second, id);
    expect(id,
           "tr -s ' ' </proc/self/gid_map; wc -c </proc/keys; wc -c </proc/timer_list; tr '\\0' ' ' </proc/1/cmdline | grep -c 'sleep 1001'; stat -c "
           "%u /dev/pts/ptmx",
           " 0 300000 65536\n0\n0\n1\n0\n");
    assert_int_equal(pod_remove(world.rt, own, NULL, NULL), 0);
}

static void
test_a_pod_of_the_node(void **state)
{
    (void)state;
    char node[ID_SIZE], id[ID_SIZE], expected[80];
    if (!world.rt)
        skip();
    struct pod_config *config = world_pod(&world, "node");
    config->network = config->pid = config->ipc = NAMESPACE_NODE;
    assert_int_equal(pod_run(world.rt, config, node, NULL, NULL), 0);
    struct container_config *first = world_container(node, "main", "sleep 1000 & sleep 1000");
    first->pid = NAMESPACE_NODE;
    launch(first, id);
    expected[0] = '\0';
    (void)gethostname(expected, sizeof expected - 2);
    strcat(expected, "\n");
    expect(id, "hostname", expected);
    cleanup_free char *own = str_printf("%d\n", (int)getpid());
    cleanup_free char *script = str_printf("ps -o pid | grep -w %d | head -1 | tr -d ' '", (int)getpid());
    (void)script;
    cleanup_free char *look = str_printf("ls -d /proc/%d", (int)getpid());
    cleanup_free char *found = str_printf("/proc/%d\n", (int)getpid());
    (void)own;
    expect(id, look, found);
    struct pod_status status;
    assert_int_equal(pod_status(world.rt, node, &status, NULL), 0);
    assert_string_equal(status.netns_path, "");
    assert_int_equal(status.ips.count, 0);
    pod_status_free(&status);
    assert_int_equal(pod_remove(world.rt, node, NULL, NULL), 0);
}

static void
test_sysctls_of_the_pod(void **state)
{
    (void)state;
    char tuned[ID_SIZE], id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    struct pod_config *config = world_pod(&world, "tuned");
    strmap_set(&config->sysctls, "net.ipv4.ip_local_port_range", "1024 65535");
    strmap_set(&config->sysctls, "kernel.shm_rmid_forced", "1");
    if (pod_run(world.rt, config, tuned, NULL, &err) < 0)
        fail_msg("%s", err.message);
    launch(world_container(tuned, "main", "sleep 1000"), id);
    expect(id, "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start",
           "1024\t65535\n1\n0\n");
    assert_int_equal(pod_remove(world.rt, tuned, NULL, NULL), 0);
    config = world_pod(&world, "bad");
    strmap_set(&config->sysctls, "kernel.panic", "1");
    assert_int_equal(pod_run(world.rt, config, tuned, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

static void
test_i_mistyped_a_sysctl_and_was_told_something_was_not_found(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    if (!world.rt)
        skip();
    struct pod_config *config = world_pod(&world, "mistyped");
    strmap_set(&config->sysctls, "net.ipv4.nonsense", "1");
    assert_int_equal(pod_run(world.rt, config, id, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_non_null(strstr(err.message, "sysctl net.ipv4.nonsense"));
}

static void
test_exec_is_killed_as_a_whole_at_its_deadline(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    struct exec_result result;
    cleanup_strv struct strv command = {0};
    launch(sleeper("exec"), id);
    strv_add(&command, "/bin/sh");
    strv_add(&command, "-c");
    strv_add(&command, "sleep 2000 & sleep 2000");
    int64_t began = clock_monotonic_ns();
    assert_int_equal(container_exec(world.rt, id, &command, NS_PER_SECOND / 4, NULL, &result, &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    assert_true(clock_monotonic_ns() - began < NS_PER_SECOND);
    expect(id, "ps -o args | grep 'sleep 2000' | grep -vc grep", "0\n");
    /* A child that keeps stdout open delays the answer by the drain only. */
    began = clock_monotonic_ns();
    expect(id, "echo out; sleep 3000 &", "out\n");
    assert_true(clock_monotonic_ns() - began < NS_PER_SECOND);
    take_away(id);
}

static void
test_exec_output_has_a_limit_and_comes_whole_below_it(void **state)
{
    (void)state;
    char id[ID_SIZE];
    struct error err;
    struct exec_result result;
    cleanup_strv struct strv command = {0};
    launch(sleeper("output"), id);
    strv_add(&command, "/bin/sh");
    strv_add(&command, "-c");
    strv_add(&command, "head -c 20m /dev/zero; exit 7");
    if (container_exec(world.rt, id, &command, 0, NULL, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(result.exit_code, 7);
    assert_int_equal(result.out_length, EXEC_OUTPUT_MAX);
    exec_result_free(&result);
    free(command.items[2]);
    command.items[2] = str_dup("seq 1 200000; echo oops >&2");
    assert_int_equal(container_exec(world.rt, id, &command, 0, NULL, &result, &err), 0);
    assert_int_equal(result.out_length, 1288895);
    assert_int_equal(result.err_length, 5);
    exec_result_free(&result);
    take_away(id);
}

static void
test_a_stop_signal_grace_and_the_earliest_deadline(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    launch(world_container(pod, "polite", "trap 'exit 3' TERM; while true; do sleep 0.05; done"), id);
    (void)usleep(100000);
    assert_int_equal(container_stop(world.rt, id, 10 * NS_PER_SECOND, NULL, NULL), 0);
    assert_int_equal(world_exit_code(&world, id), 3);
    take_away(id);
    launch(world_container(pod, "stubborn", "trap '' TERM; while true; do sleep 0.05; done"), id);
    (void)usleep(100000);
    int64_t began = clock_monotonic_ns();
    assert_int_equal(container_stop(world.rt, id, NS_PER_SECOND / 2, NULL, NULL), 0);
    int64_t took = clock_monotonic_ns() - began;
    assert_true(took > NS_PER_SECOND / 3 && took < NS_PER_SECOND);
    assert_int_equal(world_exit_code(&world, id), 137);
    assert_int_equal(container_stop(world.rt, id, 0, NULL, NULL), 0);
    assert_int_equal(container_stop(world.rt, "0123", 0, NULL, NULL), 0);
    take_away(id);
}

static void
test_a_terminal(void **state)
{
    (void)state;
    char id[ID_SIZE];
    if (!world.rt)
        skip();
    struct container_config *config = world_container(pod, "tty", "test -t 0 && test -t 1 && echo $TERM terminal; exit 5");
    config->tty = true;
    launch(config, id);
    assert_int_equal(world_exit_code(&world, id), 5);
    struct container_status status;
    cleanup_free char *log = NULL;
    assert_int_equal(container_status(world.rt, id, &status, NULL), 0);
    for (int tries = 0; tries < 100 && (file_read(AT_FDCWD, status.log_path, 4096, &log, NULL, NULL) < 0 || !log); tries++)
        (void)usleep(10000);
    assert_non_null(log);
    assert_non_null(strstr(log, " stdout F xterm terminal"));
    container_status_free(&status);
    take_away(id);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_container),
        cmocka_unit_test(test_a_device_that_is_not_given_cannot_be_used),
        cmocka_unit_test(test_a_user_by_name_with_the_groups_of_the_image),
        cmocka_unit_test(test_a_uid_that_the_image_does_not_know),
        cmocka_unit_test(test_a_privileged_container_and_a_read_only_one),
        cmocka_unit_test(test_mounts_of_the_request),
        cmocka_unit_test(test_mounts_propagate_as_asked),
        cmocka_unit_test(test_limits_are_in_the_cgroup_and_can_be_changed),
        cmocka_unit_test(test_a_container_out_of_memory_says_so),
        cmocka_unit_test(test_containers_of_a_pod_share_what_they_should),
        cmocka_unit_test(test_a_pod_with_one_pid_namespace),
        cmocka_unit_test(test_a_pod_with_users_of_its_own),
        cmocka_unit_test(test_a_pod_of_the_node),
        cmocka_unit_test(test_sysctls_of_the_pod),
        cmocka_unit_test(test_i_mistyped_a_sysctl_and_was_told_something_was_not_found),
        cmocka_unit_test(test_exec_is_killed_as_a_whole_at_its_deadline),
        cmocka_unit_test(test_exec_output_has_a_limit_and_comes_whole_below_it),
        cmocka_unit_test(test_a_stop_signal_grace_and_the_earliest_deadline),
        cmocka_unit_test(test_a_terminal),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
