#include "monitor_node.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

struct node node = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
on_exited(void *arg, const char *pod_id, const char *container_id, const struct exit_report *report)
{
    struct node *n = arg;
    (void)pod_id;
    (void)pthread_mutex_lock(&n->lock);
    struct seen *seen = &n->exits[n->exit_count++ % EXITS_MAX];
    (void)snprintf(seen->id, sizeof seen->id, "%s", container_id);
    seen->report = *report;
    (void)pthread_mutex_unlock(&n->lock);
}

static void
on_lost(void *arg, const char *pod_id)
{
    struct node *n = arg;
    (void)pod_id;
    (void)pthread_mutex_lock(&n->lock);
    n->lost++;
    (void)pthread_mutex_unlock(&n->lock);
}

void
pause_ms(long ms)
{
    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

bool
exit_seen(const char *id, struct exit_report *report)
{
    bool found = false;
    (void)pthread_mutex_lock(&node.lock);
    for (int i = 0; i < node.exit_count && i < EXITS_MAX; i++)
        if (str_eq(node.exits[i].id, id)) {
            *report = node.exits[i].report;
            found = true;
        }
    (void)pthread_mutex_unlock(&node.lock);
    return found;
}

struct exit_report
wait_exit(const char *id)
{
    struct exit_report report = {.status = -1};
    for (int i = 0; i < 2000 && !exit_seen(id, &report); i++)
        pause_ms(5);
    assert_int_not_equal(report.status, -1);
    return report;
}

char *
at(const char *format, ...)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    va_list args;
    va_start(args, format);
    int n = snprintf(path, 512, "%s/", node.dir);
    (void)vsnprintf(path + n, 512 - (size_t)n, format, args);
    va_end(args);
    return path;
}

void
must(int result, const struct error *err)
{
    if (result < 0)
        fail_msg("%s", err->message);
}

void
open_hub(void)
{
    struct error err;
    struct hub_options options = {.monitor_program = CRISP_MONITOR, .arg = &node, .exited = on_exited, .lost = on_lost};
    must(hub_open(&options, &node.hub, &err), &err);
}

/* The rootfs: busybox and a few directories. */
static void
make_lower(void)
{
    static const char *const dirs[] = {"lower",     "lower/bin", "lower/proc", "lower/sys", "lower/dev",
                                       "lower/etc", "lower/tmp", "lower/data", "state",     "containers"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        assert_int_equal(mkdir(at("%s", dirs[i]), 0755), 0);
    assert_int_equal(chmod(at("lower/tmp"), 01777), 0);
    cleanup_free char *copy = str_printf(
        "cp /bin/busybox %s/lower/bin/busybox && for a in sh echo cat true sleep ls stty id hostname mount grep head yes seq kill tty wc env ip dd "
        "test touch readlink tr; do ln -s busybox %s/lower/bin/$a; done",
        node.dir, node.dir);
    assert_int_equal(system(copy), 0);
}

static const char *
unified_root(void)
{
    return access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
}

int
node_up(void **state)
{
    (void)state;
    struct error err;
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        return 0;
    }
    /* CRISP_TEST_DIR: where /var/tmp cannot be written, or is no place for an overlay (User Mode Linux). */
    (void)snprintf(node.dir, sizeof node.dir, "%s/crisp-link.XXXXXX", getenv("CRISP_TEST_DIR") ? getenv("CRISP_TEST_DIR") : "/var/tmp");
    assert_non_null(mkdtemp(node.dir));
    make_lower();
    node.state_dir = open(at("state"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    node.containers_dir = open(at("containers"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(node.cgroup, sizeof node.cgroup, "%s/crisp-link-%d", unified_root(), getpid());
    cleanup_free char *monitors = str_printf("%s/monitors", node.cgroup);
    must(file_mkdirs(monitors, 0755, &err), &err);
    node.monitors_cgroup = open(monitors, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    open_hub();
    return 0;
}

/* What a failed test has left. */
static void
clean_up(void)
{
    static const char *const mounts[] = {"volume/later", "volume", "small", "hang"};
    for (unsigned i = 0; i < node.monitor_count && i < BOXES_MAX; i++)
        if (process_is(&node.monitors[i]))
            (void)kill(node.monitors[i].pid, SIGKILL);
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++)
        (void)umount2(at("%s", mounts[i]), MNT_DETACH);
    cleanup_free char *groups = str_printf("find %s -mindepth 1 -depth -type d -exec rmdir {} \\; 2> /dev/null", node.cgroup);
    for (int i = 0; i < 100 && access(node.cgroup, F_OK) == 0; i++) {
        (void)!system(groups);
        (void)rmdir(node.cgroup);
        pause_ms(i > 0 ? 10 : 0);
    }
}

int
node_down(void **state)
{
    (void)state;
    struct error err;
    if (geteuid() != 0)
        return 0;
    hub_close(node.hub);
    (void)close(node.state_dir);
    (void)close(node.containers_dir);
    (void)close(node.monitors_cgroup);
    clean_up();
    must(file_remove_tree(AT_FDCWD, node.dir, &err), &err);
    assert_int_not_equal(access(node.cgroup, F_OK), 0);
    return 0;
}

/* ---- pods and containers made by hand ---- */

struct spec_builder *
pod_spec(void)
{
    struct spec_builder *b = spec_new();
    spec_op(b, SPEC_UNSHARE, .number = {CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS});
    spec_op(b, SPEC_HOSTNAME, .text = {"web-0"});
    spec_op(b, SPEC_LINK_UP, .text = {"lo"});
    spec_op(b, SPEC_SYSCTL, .text = {"net.ipv4.ip_unprivileged_port_start", "0"});
    spec_op(b, SPEC_POD_SHM, .number = {64 << 20});
    return b;
}

int
spawn_with(struct box *box, struct spec_builder *b, bool shared_pid, int *failed_op, struct error *err)
{
    cleanup_close int spec = spec_finish(b, err);
    *box = (struct box){0};
    id_make(box->id);
    struct link_spawn spawn = {.pod_id = box->id,
                               .state_dir = node.state_dir,
                               .containers_dir = node.containers_dir,
                               .cgroup = node.monitors_cgroup,
                               .pod_spec = spec,
                               .shared_pid = shared_pid};
    int result = link_spawn(node.hub, &spawn, &box->link, &box->identity, failed_op, err);
    if (result == 0)
        node.monitors[node.monitor_count++ % BOXES_MAX] = box->identity;
    return result;
}

struct box
pod_up(void)
{
    struct box box;
    struct error err = {0};
    int failed_op;
    struct spec_builder *b = pod_spec();
    must(spawn_with(&box, b, false, &failed_op, &err), &err);
    spec_free(b);
    return box;
}

static bool
memory_v1(void)
{
    return access("/sys/fs/cgroup/memory/tasks", F_OK) == 0;
}

bool
memory_cgroup(void)
{
    struct error err;
    cleanup_free char *control = str_printf("%s/cgroup.subtree_control", node.cgroup);
    return memory_v1() || file_put(AT_FDCWD, control, "+memory", &err) == 0;
}

/* The file that counts what the kernel killed; caller frees. */
static char *
limit_memory(const struct crate *c)
{
    struct error err = {0};
    cleanup_free char *dir = memory_v1() ? str_printf("/sys/fs/cgroup/memory/%s", c->id) : str_printf("%s/%s", node.cgroup, c->id);
    must(file_mkdirs(dir, 0755, &err), &err);
    cleanup_free char *limit = str_printf("%s/%s", dir, memory_v1() ? "memory.limit_in_bytes" : "memory.max");
    must(file_put(AT_FDCWD, limit, "16777216", &err), &err);
    return str_printf("%s/%s", dir, memory_v1() ? "memory.oom_control" : "memory.events");
}

static void
crate_root(struct spec_builder *b, const struct crate *c)
{
    cleanup_free char *options = str_printf("lowerdir=lower,upperdir=containers/%s/upper,workdir=containers/%s/work,volatile", c->id, c->id);
    if (c->memory_limited && memory_v1()) {
        cleanup_free char *tasks = str_printf("/sys/fs/cgroup/memory/%s/tasks", c->id);
        spec_op(b, SPEC_WRITE, .text = {tasks, "0"}, .number = {0});
    }
    spec_op(b, SPEC_UNSHARE, .number = {CLONE_NEWNS | CLONE_NEWCGROUP});
    spec_op(b, SPEC_PROPAGATION, .text = {"/"}, .number = {MS_SLAVE | MS_REC});
    spec_op(b, SPEC_OVERLAY, .text = {node.dir, at("containers/%s/root", c->id), options});
    spec_op(b, SPEC_ROOT, .text = {at("containers/%s/root", c->id)});
    spec_op(b, SPEC_MOUNT, .text = {"proc", "/proc", "proc"}, .number = {MS_NOSUID | MS_NODEV | MS_NOEXEC});
    spec_op(b, SPEC_MOUNT, .text = {"tmpfs", "/dev", "tmpfs", "mode=755,size=65536k"}, .number = {MS_NOSUID | MS_STRICTATIME});
    spec_op(b, SPEC_MOUNT, .text = {"devpts", "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"}, .number = {MS_NOSUID | MS_NOEXEC});
    spec_op(b, SPEC_MOUNT, .text = {"mqueue", "/dev/mqueue", "mqueue"}, .number = {MS_NOSUID | MS_NODEV | MS_NOEXEC});
    spec_op(b, SPEC_SHM, .text = {"/dev/shm"});
    spec_op(b, SPEC_MOUNT, .text = {"sysfs", "/sys", "sysfs"}, .number = {MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY});
    static const struct {
        const char *path;
        unsigned major, minor;
    } devices[] = {{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++)
        spec_op(b, SPEC_MKNOD, .text = {devices[i].path}, .number = {S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)});
    spec_op(b, SPEC_SYMLINK, .text = {"/dev/fd", "/proc/self/fd"});
    spec_op(b, SPEC_SYMLINK, .text = {"/dev/stdout", "/proc/self/fd/1"});
    spec_op(b, SPEC_SYMLINK, .text = {"/dev/stderr", "/proc/self/fd/2"});
    spec_op(b, SPEC_SYMLINK, .text = {"/dev/ptmx", "pts/ptmx"});
    spec_op(b, SPEC_BIND, .text = {"/etc/hosts", "/etc/hosts"}, .number = {0, MS_PRIVATE});
    if (c->bind_source)
        spec_op(b, SPEC_BIND, .text = {c->bind_source, c->bind_target},
                .number = {c->bind_flags ? c->bind_flags : SPEC_BIND_READONLY, c->bind_propagation ? c->bind_propagation : MS_PRIVATE});
    static const char *const masked[] = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"};
    for (size_t i = 0; i < sizeof masked / sizeof masked[0]; i++)
        spec_op(b, SPEC_MASK, .text = {masked[i]});
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof readonly / sizeof readonly[0]; i++)
        spec_op(b, SPEC_READONLY, .text = {readonly[i]});
    spec_op(b, SPEC_PIVOT, .number = {0});
}

static void
crate_self(struct spec_builder *b, const struct crate *c)
{
    uint64_t caps = 0xa80425fb;
    if (c->tty)
        spec_op(b, SPEC_CONSOLE, .number = {c->uid});
    spec_op(b, SPEC_RLIMIT, .number = {RLIMIT_NOFILE, 1024, 524288});
    spec_op(b, SPEC_CHDIR, .text = {"/"}, .number = {0});
    spec_op(b, SPEC_GROUPS, .number = {0});
    spec_op(b, SPEC_BOUNDING, .number = {caps});
    spec_op(b, SPEC_USER, .number = {c->uid, c->uid});
    spec_op(b, SPEC_CAPS, .number = {c->uid ? 0 : caps, c->uid ? 0 : caps, 0, 0});
    spec_op(b, SPEC_UMASK, .number = {022});
}

static void
crate_command(struct spec_builder *b, const char *const *command, const char *variable)
{
    cleanup_strv struct strv argv = {0}, envp = {0};
    for (; *command; command++)
        strv_add(&argv, *command);
    strv_add(&envp, "PATH=/bin");
    strv_add(&envp, "HOME=/");
    if (variable)
        strv_add(&envp, variable);
    spec_exec(b, &argv, &envp);
}

int
crate_create(struct box *box, struct crate *c, int *failed_op, struct error *err)
{
    if (!c->id[0])
        id_make(c->id);
    static const char *const parts[] = {"", "/upper", "/work", "/root"};
    for (size_t i = 0; i < 4; i++)
        (void)mkdir(at("containers/%s%s", c->id, parts[i]), 0755);
    c->spec = spec_new();
    if (c->meanwhile)
        spec_op(c->spec, SPEC_GATE, .number = {0});
    crate_root(c->spec, c);
    crate_self(c->spec, c);
    spec_op(c->spec, SPEC_WAIT, .number = {0});
    crate_command(c->spec, c->command, c->environment);
    cleanup_close int spec = spec_finish(c->spec, err);
    cleanup_free char *cgroup = str_printf("%s/%s", node.cgroup, c->id);
    assert_int_equal(mkdir(cgroup, 0755), 0);
    c->cgroup = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *log = c->log ? c->log : at("containers/%s/log", c->id);
    cleanup_free char *oom_file = c->memory_limited ? limit_memory(c) : NULL;
    struct link_create create = {.container_id = c->id,
                                 .hold = -1,
                                 .spec = spec,
                                 .cgroup = c->cgroup,
                                 .target_pid_ns = -1,
                                 .host_pid = c->host_pid,
                                 .new_pid_ns = !c->shared_pid && !c->host_pid,
                                 .log_path = log,
                                 .log_bytes_per_second = c->log_rate,
                                 .log_buffer_bytes = c->log_buffer,
                                 .oom_file = oom_file,
                                 .tty = c->tty,
                                 .stdin_open = c->stdin_open,
                                 .meanwhile = c->meanwhile,
                                 .arg = c->arg};
    pid_t pid;
    return link_create(box->link, &create, &pid, failed_op, err);
}

void
crate_start(struct box *box, struct crate *c)
{
    struct error err = {0};
    int failed_op;
    int64_t started_ns;
    if (crate_create(box, c, &failed_op, &err) < 0)
        fail_msg("operation %d: %s", failed_op, err.message);
    must(link_start(box->link, c->id, &started_ns, &failed_op, &err), &err);
    assert_true(started_ns > 0);
}

/* Everything of it is gone, the cgroup too. */
void
crate_gone(struct crate *c)
{
    spec_free(c->spec);
    (void)close(c->cgroup);
    cleanup_free char *cgroup = str_printf("%s/%s", node.cgroup, c->id);
    int left = -1;
    for (int i = 0; i < 200 && (left = rmdir(cgroup)) < 0; i++)
        pause_ms(5);
    assert_int_equal(left, 0);
    cleanup_free char *memory = str_printf("/sys/fs/cgroup/memory/%s", c->id);
    for (int i = 0; c->memory_limited && i < 200 && rmdir(memory) < 0; i++)
        pause_ms(5);
    assert_int_not_equal(access(memory, F_OK), 0);
}

void
crate_delete(struct box *box, struct crate *c)
{
    struct error err = {0};
    must(link_delete(box->link, c->id, &err), &err);
    crate_gone(c);
}

void
pod_down(struct box *box)
{
    struct error err = {0};
    must(link_end(box->link, &err), &err);
    assert_int_not_equal(access(at("state/%s.sock", box->id), F_OK), 0);
}

/* The log's records, without their times; checks that each is well-formed. */
char *
log_records(const char *path)
{
    struct error err = {0};
    cleanup_free char *text = NULL;
    must(file_read(AT_FDCWD, path, 64 << 20, &text, NULL, &err), &err);
    struct buf out = BUF(64 << 20);
    (void)buf_adds(&out, "");
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end - line >= 39);
        assert_int_equal(line[29], 'Z');
        assert_true(strncmp(line + 30, " stdout ", 8) == 0 || strncmp(line + 30, " stderr ", 8) == 0);
        assert_true((line[38] == 'P' || line[38] == 'F') && line[39] == ' ');
        (void)buf_add(&out, line + 31, (size_t)(end - line) - 30);
        line = end + 1;
    }
    return out.data;
}

char *
log_of(const struct crate *c)
{
    return log_records(c->log ? c->log : at("containers/%s/log", c->id));
}

void
wait_log(const struct crate *c, const char *expected)
{
    for (int i = 0; i < 1000; i++) {
        /* As it is: a reader may come while a record is being written. */
        struct error err = {0};
        cleanup_free char *text = NULL;
        must(file_read(AT_FDCWD, c->log ? c->log : at("containers/%s/log", c->id), 64 << 20, &text, NULL, &err), &err);
        if (strstr(text, expected))
            return;
        pause_ms(5);
    }
    fail_msg("no \"%s\" in the log", expected);
}

int
run_in(struct box *box, const struct crate *c, const char *const *command, const struct cancel *cancel, int *status, struct buf *output,
       struct error *err)
{
    struct spec_builder *b = spec_new();
    spec_op(b, SPEC_SETNS, .number = {CLONE_NEWNS | CLONE_NEWCGROUP});
    crate_self(b, &(struct crate){.uid = c->uid});
    crate_command(b, command, NULL);
    cleanup_close int spec = spec_finish(b, err);
    spec_free(b);
    static atomic_uint next;
    cleanup_free char *path = str_printf("%s/%s/exec-%u.mount", node.cgroup, c->id, next++);
    assert_int_equal(mkdir(path, 0755), 0);
    cleanup_close int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ends[2], failed_op;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct link_exec exec = {.container_id = c->id, .spec = spec, .cgroup = cgroup, .stdio = {-1, ends[1], ends[1]}, .console = -1};
    int result = link_exec(box->link, &exec, cancel, status, &failed_op, err);
    (void)close(ends[1]);
    char chunk[4096];
    for (ssize_t n; output && (n = read(ends[0], chunk, sizeof chunk)) > 0;)
        (void)buf_add(output, chunk, (size_t)n);
    (void)close(ends[0]);
    int left = -1;
    for (int i = 0; i < 200 && (left = rmdir(path)) < 0; i++)
        pause_ms(5);
    assert_int_equal(left, 0);
    return result;
}
