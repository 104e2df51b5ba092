/* A real monitor under attack and in bad weather: full and hanging disks, memory that runs out, programs that are missing a thousand times, images
 * with hostile symlinks, a monitor that is frozen or killed at any moment. */
#include "monitor_node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "runtime/hub.h"
#include "runtime/monitor/stdio.h"

static int
count_fds(pid_t pid)
{
    char path[64];
    int count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    cleanup_closedir DIR *dir = opendir(path);
    while (dir && readdir(dir))
        count++;
    return count;
}

/* kB of the monitor's memory that is its alone. */
static long
private_kb(pid_t pid)
{
    char path[64];
    cleanup_free char *text = NULL;
    struct error err = {0};
    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    must(file_read(AT_FDCWD, path, 1 << 16, &text, NULL, &err), &err);
    return strtol(strstr(text, "\nAnonymous:") + 11, NULL, 10);
}

static void
a_thousand_missing_programs_leave_nothing(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    int fds = 0, failed_op;
    long kb = 0;
    int64_t started_ns;
    for (int i = 0; i < 1000; i++) {
        struct crate c = {.command = {"not-there"}};
        must(crate_create(&box, &c, &failed_op, &err), &err);
        assert_int_equal(link_start(box.link, c.id, &started_ns, &failed_op, &err), -1);
        for (int k = 0; link_delete(box.link, c.id, &err) < 0; k++) { /* its exit is being recorded */
            assert_int_equal(err.kind, ERR_PRECONDITION);
            assert_true(k < 1000);
            pause_ms(1);
        }
        crate_gone(&c);
        must(file_remove_tree(AT_FDCWD, at("containers/%s", c.id), &err), &err);
        if (i == 20) {
            fds = count_fds(box.identity.pid);
            kb = private_kb(box.identity.pid);
        }
    }
    pause_ms(50);
    assert_true(count_fds(box.identity.pid) <= fds);
    assert_true(private_kb(box.identity.pid) <= kb + 16);
    pod_down(&box);
}

static void
a_small_monitor_stays_small(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate crates[3];
    for (int i = 0; i < 3; i++) {
        crates[i] = (struct crate){.command = {"sh", "-c", "seq 1 100000; sleep 1000"}};
        crate_start(&box, &crates[i]);
    }
    for (int i = 0; i < 3; i++)
        wait_log(&crates[i], " 100000\n");
    pause_ms(100);
    long kb = private_kb(box.identity.pid);
    print_message("a monitor with three containers that have logged 100,000 lines each: %ld kB anonymous\n", kb);
#ifndef __SANITIZE_ADDRESS__
    assert_true(kb <= 250);
#endif
    pod_down(&box);
    for (int i = 0; i < 3; i++)
        crate_gone(&crates[i]);
}

static void
my_images_resolv_conf_is_a_symlink_into_run_and_nothing_started(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    assert_int_equal(symlink("../made-up/systemd/stub.conf", at("lower/stub")), 0);
    assert_int_equal(symlink("stub", at("lower/resolv.conf")), 0);
    struct crate crate = {.command = {"sh", "-c", "cmp /resolv.conf /made-up/systemd/stub.conf && test -s /resolv.conf"},
                          .bind_source = "/etc/hosts",
                          .bind_target = "/resolv.conf"};
    crate_start(&box, &crate);
    assert_int_equal(wait_exit(crate.id).status, 0);
    crate_delete(&box, &crate);
    assert_int_equal(unlink(at("lower/resolv.conf")) + unlink(at("lower/stub")), 0);
    pod_down(&box);
}

static void
hostile_symlinks_stay_in_the_root(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    assert_int_equal(symlink("../../../../../../../var/tmp/crisp-escaped", at("lower/evil-file")), 0);
    assert_int_equal(symlink("/proc/self/root/var/tmp", at("lower/evil-dir")), 0);
    assert_int_equal(mkdir(at("lower/var"), 0755) + mkdir(at("lower/var/tmp"), 0755), 0);
    /* Made and mounted inside. */
    struct crate inside = {
        .command = {"sh", "-c", "cat /var/tmp/crisp-escaped | head -n1"}, .bind_source = "/etc/hosts", .bind_target = "/evil-file"};
    crate_start(&box, &inside);
    assert_int_equal(wait_exit(inside.id).status, 0);
    assert_int_not_equal(access("/var/tmp/crisp-escaped", F_OK), 0);
    crate_delete(&box, &inside);
    /* A magic link is not followed at all. */
    struct error err = {0};
    int failed_op;
    struct crate magic = {.command = {"true"}, .bind_source = "/etc/hosts", .bind_target = "/evil-dir/crisp-escaped"};
    assert_int_equal(crate_create(&box, &magic, &failed_op, &err), -1);
    assert_int_equal(err.errnum, ELOOP);
    assert_int_not_equal(access("/var/tmp/crisp-escaped", F_OK), 0);
    crate_gone(&magic);
    /* Nothing is mounted onto procfs by another name. */
    assert_int_equal(symlink("/proc/version", at("lower/evil-proc")), 0);
    struct crate proc = {.command = {"true"}, .bind_source = "/etc/hosts", .bind_target = "/evil-proc"};
    assert_int_equal(crate_create(&box, &proc, &failed_op, &err), -1);
    assert_int_equal(err.errnum, EACCES);
    crate_gone(&proc);
    struct crate named = {.command = {"true"}, .bind_source = "/etc/hosts", .bind_target = "/proc/version"};
    crate_start(&box, &named);
    assert_int_equal(wait_exit(named.id).status, 0);
    crate_delete(&box, &named);
    assert_int_equal(unlink(at("lower/evil-proc")), 0);
    assert_int_equal(unlink(at("lower/evil-file")), 0);
    assert_int_equal(unlink(at("lower/evil-dir")), 0);
    pod_down(&box);
}

static void
nothing_of_the_monitor_leaks_into_a_container(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {
        .command = {"sh", "-c",
                    "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)' /proc/self/status; grep -c . /proc/mounts; env; sleep 1000"}};
    crate_start(&box, &c);
    wait_log(&c, "HOME=/");
    cleanup_free char *log = log_of(&c);
    assert_non_null(strstr(log, "stdout F 0 1 2 3 SigBlk:\t0000000000000000\n"));
    assert_non_null(strstr(log, "SigIgn:\t0000000000000000\n"));
    assert_null(strstr(log, "CRISP"));
    /* Mounts: what the spec asked for and nothing of the host. */
    cleanup_buf struct buf output = BUF(1 << 16);
    int status;
    must(run_in(&box, &c, (const char *const[]){"grep", "-v", "-E", " (/|/proc.*|/dev.*|/sys.*|/etc/hosts) ", "/proc/mounts", NULL}, NULL, &status,
                &output, &err),
         &err);
    assert_int_equal(status, 1);
    must(link_kill(box.link, c.id, &err), &err);
    (void)wait_exit(c.id);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
running_out_of_memory_is_told_every_time(void **state)
{
    (void)state;
    NEEDS_ROOT();
    if (!memory_cgroup()) {
        print_message("skipped: no memory controller\n");
        skip();
    }
    struct box box = pod_up();
    for (int i = 0; i < 20; i++) {
        struct crate c = {.command = {"busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M"}, .memory_limited = true};
        crate_start(&box, &c);
        struct exit_report report = wait_exit(c.id);
        assert_int_equal(report.status, 137);
        assert_true(report.oom_killed);
        crate_delete(&box, &c);
    }
    pod_down(&box);
}

static void
a_full_disk_slows_the_container_and_loses_nothing(void **state)
{
    (void)state;
    NEEDS_ROOT();
    assert_int_equal(mkdir(at("small"), 0755), 0);
    assert_int_equal(mount("tmpfs", at("small"), "tmpfs", 0, "size=64k"), 0);
    struct box box = pod_up();
    cleanup_free char *log_path = str_dup(at("small/0.log"));
    struct crate c = {.command = {"sh", "-c", "seq 1 50000"}, .log = log_path};
    crate_start(&box, &c);
    pause_ms(400);
    struct exit_report report;
    assert_false(exit_seen(c.id, &report)); /* it waits */
    assert_int_equal(mount(NULL, at("small"), NULL, MS_REMOUNT, "size=64m"), 0);
    assert_int_equal(wait_exit(c.id).status, 0);
    pause_ms(500);
    cleanup_free char *log = log_records(log_path);
    long expected = 0;
    for (char *line = log; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(strtol(line + strlen("stdout F "), NULL, 10), ++expected);
    assert_int_equal(expected, 50000);
    crate_delete(&box, &c);
    pod_down(&box);
    assert_int_equal(umount2(at("small"), 0), 0);
}

static bool
was_told(const char *words)
{
    cleanup_strv struct strv lines = {0};
    log_recent(&lines);
    for (size_t i = 0; i < lines.count; i++)
        if (strstr(lines.items[i], words))
            return true;
    return false;
}

/* The kubelet rotates, or somebody deletes the log to make room: neither waits for the disk that is full, and what was not yet written goes on in the
 * new file. */
static void
a_log_on_a_full_disk_can_be_opened_again(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    assert_int_equal(mkdir(at("little"), 0755), 0);
    assert_int_equal(mount("tmpfs", at("little"), "tmpfs", 0, "size=64k"), 0);
    struct box box = pod_up();
    cleanup_free char *log_path = str_dup(at("little/0.log")), *rotated = str_dup(at("little/0.log.1"));
    struct crate c = {.command = {"sh", "-c", "seq 1 50000"}, .log = log_path};
    crate_start(&box, &c);
    for (int i = 0; i < 100 && !was_told("its log waits for space"); i++)
        pause_ms(20);
    assert_true(was_told("No space left on device"));
    assert_int_equal(rename(log_path, rotated), 0);
    int64_t before = clock_monotonic_ns();
    must(link_reopen_log(box.link, c.id, &err), &err);
    assert_true(clock_monotonic_ns() - before < NS_PER_SECOND);
    assert_int_equal(access(log_path, F_OK), 0);
    cleanup_free char *old = log_records(rotated);
    assert_int_equal(unlink(rotated), 0);
    assert_int_equal(mount(NULL, at("little"), NULL, MS_REMOUNT, "size=64m"), 0);
    assert_int_equal(wait_exit(c.id).status, 0);
    wait_log(&c, " 50000\n");
    cleanup_free char *new = log_records(log_path), *all = str_printf("%s%s", old, new);
    long expected = 0;
    for (char *line = all; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(strtol(line + strlen("stdout F "), NULL, 10), ++expected);
    assert_int_equal(expected, 50000);
    for (int i = 0; i < 100 && !was_told("its log is written again"); i++)
        pause_ms(20);
    assert_true(was_told("its log is written again"));
    crate_delete(&box, &c);
    pod_down(&box);
    assert_int_equal(umount2(at("little"), 0), 0);
}

/* A test that fails must not leave it frozen: whoever writes there could not even be killed. */
static int frozen = -1;

static void
freeze(int disk)
{
    assert_int_equal(ioctl(disk, FIFREEZE, 0), 0);
    frozen = disk;
}

static void
thaw(void)
{
    assert_int_equal(ioctl(frozen, FITHAW, 0), 0);
    (void)close(steal(frozen));
}

static int
faults_down(void **state)
{
    if (frozen >= 0)
        thaw();
    return node_down(state);
}

/* An ext4 that can be frozen, as a disk that hangs. */
static int
frozen_disk_up(const char *name)
{
    cleanup_free char *make =
        str_printf("cd %s && truncate -s 16M %s.disk && mkfs.ext4 -q -O ^has_journal %s.disk && mkdir %s && mount -o loop %s.disk %s", node.dir, name,
                   name, name, name, name);
    if (system(make) != 0)
        return -1;
    return open(at("%s", name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
a_log_directory_that_hangs_delays_neither_exit_nor_kill_nor_exec(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int disk = frozen_disk_up("hang");
    if (disk < 0) {
        print_message("skipped: no loop device\n");
        skip();
    }
    struct box box = pod_up();
    cleanup_free char *log_path = str_dup(at("hang/0.log")), *other_path = str_dup(at("hang/1.log")), *flood_path = str_dup(at("hang/2.log"));
    struct crate ends = {.command = {"sh", "-c", "echo first; sleep 0.5; echo second; exit 6"}, .log = log_path};
    struct crate stays = {.command = {"sh", "-c", "while :; do echo tick; sleep 0.01; done"}, .log = other_path};
    struct crate floods = {.command = {"sh", "-c", "sleep 0.3; yes"}, .log = flood_path};
    crate_start(&box, &ends);
    crate_start(&box, &stays);
    crate_start(&box, &floods);
    pause_ms(100);
    long kb = private_kb(box.identity.pid);
    freeze(disk);
    int64_t before = clock_monotonic_ns();
    struct exit_report report = wait_exit(ends.id);
    assert_int_equal(report.status, 6);
    assert_true(clock_monotonic_ns() - before < 2 * NS_PER_SECOND);
    long held = private_kb(box.identity.pid) - kb;
    print_message("logs that hang hold %ld kB\n", held);
#ifndef __SANITIZE_ADDRESS__
    assert_true(held < (long)(sizeof(struct block) * BLOCKS_MAX >> 10) + 64);
#endif
    int status = -1;
    before = clock_monotonic_ns();
    must(run_in(&box, &stays, (const char *const[]){"true", NULL}, NULL, &status, NULL, &err), &err);
    assert_int_equal(status, 0);
    must(link_kill(box.link, stays.id, &err), &err);
    must(link_kill(box.link, floods.id, &err), &err);
    assert_int_equal(wait_exit(stays.id).status, 137);
    assert_int_equal(wait_exit(floods.id).status, 137);
    assert_true(clock_monotonic_ns() - before < NS_PER_SECOND);
    thaw();
    wait_log(&(struct crate){.id = "", .log = log_path}, "second");
    crate_delete(&box, &ends);
    crate_delete(&box, &stays);
    crate_delete(&box, &floods);
    pod_down(&box);
    assert_int_equal(umount2(at("hang"), 0), 0);
}

/* It goes on while its log hangs, within its buffer; the log then has lines in their order, and how many bytes are missing where. */
static void
a_nonblocking_container_does_not_wait_for_a_log_that_hangs(void **state)
{
    (void)state;
    NEEDS_ROOT();
    enum { BUFFER = 256 << 10 };
    int disk = frozen_disk_up("frozen");
    if (disk < 0) {
        print_message("skipped: no loop device\n");
        skip();
    }
    struct box box = pod_up();
    cleanup_free char *log_path = str_dup(at("frozen/0.log"));
    struct crate c = {.command = {"sh", "-c", "sleep 0.3; seq 1 300000; echo end >&2; exit 6"}, .log = log_path, .log_buffer = BUFFER};
    crate_start(&box, &c);
    long kb = private_kb(box.identity.pid);
    freeze(disk);
    assert_int_equal(wait_exit(c.id).status, 6);
    long held = private_kb(box.identity.pid) - kb;
    print_message("a nonblocking log that hangs holds %ld kB\n", held);
#ifndef __SANITIZE_ADDRESS__
    assert_true(held > (BUFFER >> 10) && held < (BUFFER >> 10) + (long)(sizeof(struct block) * (BLOCKS_PER_STREAM + 2) >> 10) + 64);
#endif
    thaw();
    wait_log(&c, " were lost here");
    pause_ms(200);
    cleanup_free char *log = log_records(log_path);
    long last = 0, lost = 0, bytes = 0;
    for (char *line = log; *line; line = strchr(line, '\n') + 1) {
        const char *text = line + strlen("stdout F ");
        if (strncmp(text, "crisp: ", 7) == 0) {
            lost += strtol(text + 7, NULL, 10);
            continue;
        }
        bytes += strchr(text, '\n') + 1 - text;
        if (strncmp(line, "stderr", 6) == 0)
            continue;
        long number = strtol(text, NULL, 10);
        assert_true(number > last);
        last = number;
    }
    assert_true(lost > 0);
    assert_int_equal(bytes + lost, 1988895 + 4); /* 1 … 300000 with their newlines; "end" */
    crate_delete(&box, &c);
    pod_down(&box);
    assert_int_equal(umount2(at("frozen"), 0), 0);
}

static void
a_rate_slows_and_drops_nothing(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "seq 1 60000"}, .log_rate = 150000}; /* 348,894 bytes: one second's burst, then a second and more */
    int64_t before = clock_monotonic_ns();
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    wait_log(&c, " 60000\n");
    int64_t took = clock_monotonic_ns() - before;
    assert_true(took > NS_PER_SECOND / 2 && took < 4 * NS_PER_SECOND);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_large_environment_fits(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    cleanup_free char *variable = mem_alloc(100001);
    memset(variable, 'v', 100000);
    memcpy(variable, "BIG=", 4);
    variable[100000] = '\0';
    struct crate c = {.command = {"sh", "-c", "echo ${#BIG}"}, .environment = variable};
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    cleanup_free char *log = log_of(&c);
    assert_string_equal(log, "stdout F 99996\n");
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
mounts_pass_both_ways_where_asked(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    cleanup_free char *source = str_dup(at("volume"));
    assert_int_equal(mkdir(source, 0755), 0);
    assert_int_equal(mount("tmpfs", source, "tmpfs", 0, NULL), 0);
    assert_int_equal(mount(NULL, source, NULL, MS_SHARED, NULL), 0);
    assert_int_equal(mkdir(at("volume/later"), 0755), 0);
    struct crate both = {.command = {"sleep", "1000"},
                         .bind_source = source,
                         .bind_target = "/data",
                         .bind_flags = SPEC_BIND_RECURSIVE,
                         .bind_propagation = MS_SHARED | MS_REC};
    struct crate slave = both, private = both;
    slave.bind_propagation = MS_SLAVE | MS_REC;
    private.bind_propagation = MS_PRIVATE | MS_REC;
    crate_start(&box, &both);
    crate_start(&box, &slave);
    crate_start(&box, &private);
    assert_int_equal(mount("tmpfs", at("volume/later"), "tmpfs", 0, NULL), 0);
    const char *const look[] = {"grep", "-q", " /data/later ", "/proc/mounts", NULL};
    int status = -1;
    must(run_in(&box, &both, look, NULL, &status, NULL, &err), &err);
    assert_int_equal(status, 0);
    must(run_in(&box, &slave, look, NULL, &status, NULL, &err), &err);
    assert_int_equal(status, 0);
    must(run_in(&box, &private, look, NULL, &status, NULL, &err), &err);
    assert_int_equal(status, 1);
    assert_int_equal(umount2(at("volume/later"), 0), 0);
    must(run_in(&box, &both, look, NULL, &status, NULL, &err), &err);
    assert_int_equal(status, 1);
    pod_down(&box);
    crate_gone(&both);
    crate_gone(&slave);
    crate_gone(&private);
    assert_int_equal(umount2(source, 0), 0);
}

struct many {
    struct box *box;
    const struct crate *crate;
    int failures;
};

static void *
run_many(void *arg)
{
    struct many *many = arg;
    for (int i = 0; i < 20; i++) {
        struct error err = {0};
        int status = -1;
        cleanup_buf struct buf output = BUF(1 << 16);
        if (run_in(many->box, many->crate, (const char *const[]){"sh", "-c", "echo out; exit 3", NULL}, NULL, &status, &output, &err) < 0 ||
            status != 3 || !str_eq(output.data, "out\n"))
            many->failures++;
    }
    return NULL;
}

static void
many_execs_at_once_do_not_mix(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sleep", "1000"}};
    crate_start(&box, &c);
    pthread_t threads[16];
    struct many many[16];
    for (int i = 0; i < 16; i++) {
        many[i] = (struct many){.box = &box, .crate = &c};
        assert_int_equal(pthread_create(&threads[i], NULL, run_many, &many[i]), 0);
    }
    for (int i = 0; i < 16; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(many[i].failures, 0);
    }
    must(link_kill(box.link, c.id, &err), &err);
    (void)wait_exit(c.id);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_frozen_monitor_is_an_error_and_not_a_hang(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sleep", "1000"}};
    crate_start(&box, &c);
    assert_int_equal(kill(box.identity.pid, SIGSTOP), 0);
    hub_close(node.hub);
    open_hub();
    struct cancel cancel;
    must(cancel_open(&cancel, clock_monotonic_ns() + 300 * NS_PER_MS, &err), &err);
    struct link *link = NULL;
    struct link_container *containers = NULL;
    size_t count;
    int64_t before = clock_monotonic_ns();
    assert_int_equal(link_adopt(node.hub, box.id, node.state_dir, &box.identity, &cancel, &link, &containers, &count, &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    assert_true(clock_monotonic_ns() - before < NS_PER_SECOND);
    cancel_close(&cancel);
    assert_int_equal(kill(box.identity.pid, SIGCONT), 0);
    must(link_adopt(node.hub, box.id, node.state_dir, &box.identity, NULL, &box.link, &containers, &count, &err), &err);
    assert_int_equal(count, 1);
    free(containers);
    struct process_identity other = box.identity;
    other.start_ticks++;
    assert_int_equal(link_adopt(node.hub, box.id, node.state_dir, &other, NULL, &link, &containers, &count, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    pod_down(&box);
    crate_gone(&c);
}

static void *
kill_nothing(void *link)
{
    struct error *err = mem_zalloc(1, sizeof *err);
    (void)link_kill(link, "nothing", err);
    return err;
}

static void
wait_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, 2000), 1);
}

/* Damaged, of another version, of a kind that came later: each gets one sentence, and the conversation goes on. */
static void
a_request_that_cannot_be_read_is_answered(void **state)
{
    (void)state;
    NEEDS_ROOT();
    static const struct {
        unsigned char bytes[12];
        size_t length;
        const char *words;
    } requests[] = {
        {{2, 0, PROTOCOL_LIST, 0, 9, 0, 0, 0}, 8, "it is of version 2, this crisp speaks 1"},
        {{1, 0, PROTOCOL_LIST, 0, 9, 0, 0, 0, 1}, 9, "malformed datagram of 9 bytes"},
        {{1, 0, 200, 0, 9, 0, 0, 0}, 8, "its monitor is older and does not know the request"},
        {{1, 0, PROTOCOL_END, 0, 9, 0, 0, 0}, 8, ""},
    };
    static struct message answer;
    struct error err = {0};
    struct box box = pod_up();
    struct sockaddr_un address;
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    protocol_address(&address, node.state_dir, box.id);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        assert_int_equal(send(fd, requests[i].bytes, requests[i].length, 0), requests[i].length);
        wait_readable(fd);
        assert_int_equal(message_receive(fd, &answer, &err), 1);
        assert_int_equal(answer.type, PROTOCOL_ANSWER);
        assert_int_equal(answer.serial, 9);
        assert_int_equal(message_u64(&answer, TAG_ERRNUM) != 0, *requests[i].words != '\0');
        assert_non_null(strstr(message_string(&answer, TAG_REFUSAL), requests[i].words));
    }
    pod_down(&box);
}

/* The other way round: a monitor of another version answers what we cannot read. */
static void
an_answer_that_cannot_be_read_ends_the_call(void **state)
{
    (void)state;
    static const unsigned char answer[] = {2, 0, PROTOCOL_ANSWER, 0, 1, 0, 0, 0};
    static struct message request;
    struct error err = {0};
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct link *link = hub_add(node.hub, "strange", getpid(), (int)syscall(SYS_pidfd_open, getpid(), 0), ends[0]);
    assert_int_equal(send(ends[1], answer, sizeof answer, 0), sizeof answer); /* to the first call, before it is made: nobody's */
    pause_ms(50);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, kill_nothing, link), 0);
    wait_readable(ends[1]);
    assert_int_equal(message_receive(ends[1], &request, &err), 1);
    assert_int_equal(request.serial, 1);
    assert_int_equal(send(ends[1], answer, sizeof answer, 0), sizeof answer);
    struct error *failed;
    assert_int_equal(pthread_join(thread, (void **)&failed), 0);
    assert_int_equal(failed->kind, ERR_UNSUPPORTED);
    assert_non_null(strstr(failed->message, "cannot be read"));
    free(failed);
    link_free(link);
    (void)close(ends[1]);
}

static void
a_monitor_killed_at_any_moment_leaves_no_process(void **state)
{
    (void)state;
    NEEDS_ROOT();
    srand(8);
    for (int round = 0; round < 60; round++) {
        struct error err = {0};
        int failed_op;
        int64_t started_ns;
        struct box box = pod_up();
        struct crate c = {.command = {"sleep", "1000"}};
        pid_t killer = fork();
        if (killer == 0) {
            (void)usleep((useconds_t)(rand() % 1000) * (unsigned)round / 15);
            (void)kill(box.identity.pid, SIGKILL);
            _exit(0);
        }
        if (crate_create(&box, &c, &failed_op, &err) < 0 || link_start(box.link, c.id, &started_ns, &failed_op, &err) < 0)
            assert_int_equal(err.kind, ERR_UNAVAILABLE);
        (void)waitpid(killer, NULL, 0);
        for (int i = 0; i < 400 && process_is(&box.identity); i++)
            pause_ms(5);
        assert_false(process_is(&box.identity));
        link_free(box.link);
        crate_gone(&c);
        (void)unlink(at("state/%s.sock", box.id));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_missing_programs_leave_nothing),
        cmocka_unit_test(a_small_monitor_stays_small),
        cmocka_unit_test(hostile_symlinks_stay_in_the_root),
        cmocka_unit_test(my_images_resolv_conf_is_a_symlink_into_run_and_nothing_started),
        cmocka_unit_test(nothing_of_the_monitor_leaks_into_a_container),
        cmocka_unit_test(running_out_of_memory_is_told_every_time),
        cmocka_unit_test(a_full_disk_slows_the_container_and_loses_nothing),
        cmocka_unit_test(a_log_on_a_full_disk_can_be_opened_again),
        cmocka_unit_test(a_log_directory_that_hangs_delays_neither_exit_nor_kill_nor_exec),
        cmocka_unit_test(a_nonblocking_container_does_not_wait_for_a_log_that_hangs),
        cmocka_unit_test(a_rate_slows_and_drops_nothing),
        cmocka_unit_test(a_large_environment_fits),
        cmocka_unit_test(mounts_pass_both_ways_where_asked),
        cmocka_unit_test(many_execs_at_once_do_not_mix),
        cmocka_unit_test(a_frozen_monitor_is_an_error_and_not_a_hang),
        cmocka_unit_test(a_request_that_cannot_be_read_is_answered),
        cmocka_unit_test(an_answer_that_cannot_be_read_ends_the_call),
        cmocka_unit_test(a_monitor_killed_at_any_moment_leaves_no_process),
    };
    return cmocka_run_group_tests(tests, node_up, faults_down);
}
