#include "runtime_world.h"

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
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

static void
put(const char *dir, const char *name, const char *text)
{
    cleanup_free char *path = str_printf("%s/%s", dir, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void
make_layer(const char *layers)
{
    static const char *const applets[] = {"sh",     "sleep", "true",     "cat",   "echo", "ls",    "id",   "mount", "ps",   "kill", "touch",
                                          "ip",     "grep",  "hostname", "mkdir", "seq",  "dd",    "df",   "pwd",   "env",  "ln",   "rm",
                                          "sysctl", "stat",  "ulimit",   "head",  "wc",   "mknod", "ping", "nproc", "chmod"};
    cleanup_free char *bin = str_printf("%s/1/bin", layers);
    cleanup_free char *etc = str_printf("%s/1/etc", layers);
    cleanup_free char *tmp = str_printf("%s/1/tmp", layers);
    cleanup_free char *copy = str_printf("cp /bin/busybox %s/busybox", bin);
    assert_int_equal(file_mkdirs(bin, 0755, NULL) | file_mkdirs(etc, 0755, NULL) | file_mkdirs(tmp, 01777, NULL), 0);
    assert_int_equal(system(copy), 0);
    for (size_t i = 0; i < sizeof applets / sizeof *applets; i++) {
        cleanup_free char *link = str_printf("%s/%s", bin, applets[i]);
        assert_int_equal(symlink("busybox", link), 0);
    }
    put(etc, "passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/home/web:/bin/sh\n");
    put(etc, "group", "root:x:0:\nweb:x:1001:\nstaff:x:50:web,other\n");
}

/* CRISP_TEST_CNI: a bridge by CNI plugins instead of the built-in network (on kernels without nftables, and to see it work). */
static void
use_cni(struct world *world)
{
    world->cni = str_printf("%s/cni", world->dir);
    cleanup_free char *text =
        str_printf("{\"cniVersion\":\"1.0.0\",\"name\":\"world\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":\"ctest0\",\"isGateway\":true,"
                   "\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"%s/leases\",\"ranges\":[[{\"subnet\":\"10.222.0.0/16\"}]]}}]}",
                   world->dir);
    assert_int_equal(file_mkdirs(world->cni, 0755, NULL), 0);
    put(world->cni, "10-world.conflist", text);
    world->options.network.mode = NETWORK_CNI;
    world->options.network.cni_config_dir = world->cni;
    strv_add(&world->options.network.cni_plugin_dirs, "/usr/lib/cni");
}

bool
world_make(struct world *world)
{
    if (geteuid() != 0)
        return false;
    *world = (struct world){0};
    log_open(getenv("CRISP_TEST_VERBOSE") ? LOG_DEBUG_ : LOG_ERROR_);
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
        system("ip link set lo up") != 0)
        return false;
    const char *where = getenv("CRISP_TEST_DIR");
    (void)snprintf(world->dir, sizeof world->dir, "%s/crisp-world.XXXXXX", where ? where : "/var/tmp");
    assert_non_null(mkdtemp(world->dir));
    world->root = str_printf("%s/root", world->dir);
    world->state = str_printf("%s/state", world->dir);
    world->layers = str_printf("%s/layers", world->dir);
    world->logs = str_printf("%s/logs", world->dir);
    world->cgroup = str_printf("/crisp-test-%d", (int)getpid());
    world->monitors = str_printf("/crisp-test-monitors-%d", (int)getpid());
    cleanup_free char *network = str_printf("%s/root/network", world->dir);
    make_layer(world->layers);
    world->options = (struct runtime_options){
        .root = world->root,
        .state = world->state,
        .monitor_program = CRISP_MONITOR,
        .layers_dir = world->layers,
        .cgroup_parent = world->cgroup,
        .monitor_cgroup = world->monitors,
        .nofile_soft = 1024,
        .nofile_hard = 524288,
        .unprivileged_ports = true,
        .unprivileged_ping = true,
        .network = {.mode = NETWORK_BUILTIN,
                    .state = world->state,
                    .cni_config_dir = "/nonexistent",
                    .cni_timeout_ns = 10 * NS_PER_SECOND,
                    .builtin_bridge = "ctest0"},
    };
    world->options.network.root = steal(network);
    strv_add(&world->options.network.builtin_pools, "10.222.0.0/16");
    if (getenv("CRISP_TEST_CNI"))
        use_cni(world);
    return true;
}

void
world_open(struct world *world)
{
    struct error err;
    if (runtime_open(&world->options, &world->rt, &err) < 0)
        fail_msg("%s", err.message);
}

void
world_close(struct world *world)
{
    runtime_close(world->rt);
    world->rt = NULL;
}

static void
add_leftovers(struct buf *left, const char *what, const char *path)
{
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && !(entry->d_type == DT_REG && str_starts(path, "/sys")))
            (void)buf_addf(left, "%s %s/%s\n", what, path, entry->d_name);
}

static void
look(const struct world *world, struct buf *left)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids",
                                        "/sys/fs/cgroup/cpuset"};
    static const char *const records[] = {"root/pods",   "root/containers", "root/trash",  "root/set-aside",
                                          "state/netns", "state/monitors",  "state/rootfs"};
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        cleanup_free char *path = str_printf("%s/%s", world->dir, records[i]);
        add_leftovers(left, "file", path);
    }
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        cleanup_free char *path = str_printf("%s%s", roots[i], world->cgroup);
        if (access(path, F_OK) == 0)
            (void)buf_addf(left, "cgroup %s\n", path);
        add_leftovers(left, "cgroup", path);
        cleanup_free char *monitors = str_printf("%s%s", roots[i], world->monitors);
        add_leftovers(left, "cgroup", monitors);
    }
    cleanup_free char *mounts = NULL;
    if (file_read(AT_FDCWD, "/proc/self/mountinfo", 1 << 20, &mounts, NULL, NULL) == 0 && strstr(mounts, world->dir))
        (void)buf_adds(left, "a mount below the directory\n");
}

const char *
world_leftovers(struct world *world)
{
    static char text[8192];
    for (int tries = 0; tries < 40; tries++) {
        cleanup_buf struct buf left = BUF(sizeof text - 1);
        look(world, &left);
        (void)snprintf(text, sizeof text, "%s", left.length ? left.data : "");
        if (!*text)
            break;
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return text;
}

void
world_unmake(struct world *world)
{
    (void)file_remove_tree(AT_FDCWD, world->dir, NULL);
    free(world->root);
    free(world->state);
    free(world->layers);
    free(world->logs);
    free(world->cni);
    strv_free(&world->options.network.cni_plugin_dirs);
    free(world->cgroup);
    free(world->monitors);
    free((char *)(uintptr_t)world->options.network.root);
    strv_free(&world->options.network.builtin_pools);
}

int
world_end(struct world *world)
{
    if (!world->rt)
        return 0;
    const char *left = world_leftovers(world);
    world_close(world);
    world_unmake(world);
    if (*left)
        print_error("left over:\n%s", left);
    return *left ? -1 : 0;
}

struct pod_config *
world_pod(const struct world *world, const char *name)
{
    struct pod_config *config = pod_config_new();
    config->key = (struct pod_key){str_dup(name), str_printf("uid-%s", name), str_dup("default"), 0};
    config->hostname = str_dup(name);
    config->log_directory = str_printf("%s/%s", world->logs, name);
    config->network = NAMESPACE_POD;
    config->pid = NAMESPACE_CONTAINER;
    config->ipc = NAMESPACE_POD;
    config->request = str_dup(name);
    config->request_length = strlen(name);
    return config;
}

struct container_config *
world_container(const char *pod_id, const char *name, const char *script)
{
    struct container_config *config = container_config_new();
    config->pod_id = str_dup(pod_id);
    config->name = str_dup(name);
    config->image_id = str_dup("sha256:0");
    strv_add(&config->layers, "1");
    strv_add(&config->args, "/bin/sh");
    strv_add(&config->args, "-c");
    strv_add(&config->args, script);
    config->log_path = str_printf("%s.log", name);
    config->pid = NAMESPACE_CONTAINER;
    config->request = str_printf("%s %s", name, script);
    config->request_length = strlen(config->request);
    return config;
}

void
world_run_pod(struct world *world, const char *name, char id[ID_SIZE])
{
    struct error err;
    if (pod_run(world->rt, world_pod(world, name), id, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

void
world_run_container(struct world *world, const char *pod_id, const char *name, const char *script, char id[ID_SIZE])
{
    struct error err;
    if (container_create(world->rt, world_container(pod_id, name, script), id, NULL, &err) < 0 || container_start(world->rt, id, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

const char *
world_exec(struct world *world, const char *id, const char *script, int *code)
{
    static char text[65536];
    struct error err;
    struct exec_result result;
    cleanup_strv struct strv command = {0};
    strv_add(&command, "/bin/sh");
    strv_add(&command, "-c");
    strv_add(&command, script);
    if (container_exec(world->rt, id, &command, 10 * NS_PER_SECOND, NULL, &result, &err) < 0)
        fail_msg("%s", err.message);
    (void)snprintf(text, sizeof text, "%.*s%.*s", (int)result.out_length, result.out ? result.out : "", (int)result.err_length,
                   result.err ? result.err : "");
    if (code)
        *code = result.exit_code;
    exec_result_free(&result);
    return text;
}

int
world_exit_code(struct world *world, const char *id)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct container_status status;
        struct error err;
        if (container_status(world->rt, id, &status, &err) < 0)
            fail_msg("%s", err.message);
        bool ended = status.state == CONTAINER_EXITED;
        int code = status.exit_code;
        container_status_free(&status);
        if (ended)
            return code;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    fail_msg("the container did not end within 10 s");
    return -1;
}
