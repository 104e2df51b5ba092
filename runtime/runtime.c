/* The runtime's own life: open, recover, close. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/caps.h"
#include "runtime/container_exit.h"
#include "runtime/janitor.h"
#include "runtime/meter.h"
#include "runtime/objects.h"
#include "runtime/pod_steps.h"
#include "runtime/pod_stop.h"
#include "runtime/recovery.h"
#include "runtime/seccomp.h"
#include "runtime/systemd.h"
#include "runtime/userns.h"

static const int64_t monitor_answers_ns = 5 * NS_PER_SECOND;

static void
copy_options(struct runtime_options *to, const struct runtime_options *from)
{
    *to = *from;
    to->root = str_dup(from->root);
    to->state = str_dup(from->state);
    to->monitor_program = str_dup(from->monitor_program);
    to->layers_dir = str_dup(from->layers_dir);
    const char *usual_parent = from->systemd_cgroups ? "crisp.slice" : "/crisp";
    to->cgroup_parent = str_dup(str_empty(from->cgroup_parent) ? usual_parent : from->cgroup_parent);
    to->seccomp_unset = str_dup(from->seccomp_unset);
    to->cdi_dirs = to->masked_paths = to->readonly_paths = (struct strv){0};
    strv_copy(&to->cdi_dirs, &from->cdi_dirs);
    strv_copy(&to->masked_paths, &from->masked_paths);
    strv_copy(&to->readonly_paths, &from->readonly_paths);
    to->monitor_cgroup = NULL;
    to->network = (struct network_options){0};
}

static void
free_options(struct runtime_options *options)
{
    free((char *)(uintptr_t)options->root);
    free((char *)(uintptr_t)options->state);
    free((char *)(uintptr_t)options->monitor_program);
    free((char *)(uintptr_t)options->layers_dir);
    free((char *)(uintptr_t)options->cgroup_parent);
    free((char *)(uintptr_t)options->seccomp_unset);
    strv_free(&options->cdi_dirs);
    strv_free(&options->masked_paths);
    strv_free(&options->readonly_paths);
}

static int
open_dir(const char *parent, const char *name, mode_t mode, struct error *err)
{
    cleanup_free char *path = str_printf("%s%s%s", parent, *name ? "/" : "", name);
    TRY(file_mkdirs(path, mode, err));
    return file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, err);
}

/* ext4 makes a new inode near its directory and skips, one by one, those deleted within the last minutes: where many containers come and go that is
 * what a start waits for longest. Below a directory marked as the top of hierarchies (chattr(1), T) each new directory goes to a group of its own.
 * Elsewhere the mark means nothing. */
static void
spread_directories_below(int dir)
{
    int flags;
    if (ioctl(dir, FS_IOC_GETFLAGS, &flags) < 0)
        return;
    flags |= FS_TOPDIR_FL;
    (void)ioctl(dir, FS_IOC_SETFLAGS, &flags);
}

static int
open_directories(struct runtime *rt, struct error *err)
{
    const char *root = rt->options.root, *state = rt->options.state;
    rt->root_dir = TRY(open_dir(root, "", 0700, err));
    rt->pods_dir = TRY(open_dir(root, "pods", 0700, err));
    rt->containers_dir = TRY(open_dir(root, "containers", 0700, err));
    rt->trash_dir = TRY(open_dir(root, "trash", 0700, err));
    spread_directories_below(rt->pods_dir);
    spread_directories_below(rt->containers_dir);
    rt->monitors_dir = TRY(open_dir(state, "monitors", 0700, err));
    cleanup_close int aside = TRY(open_dir(root, "set-aside", 0700, err));
    rt->netns_dir = str_printf("%s/netns", state);
    rt->rootfs_dir = str_printf("%s/rootfs", state);
    rt->etc_dir = str_printf("%s/etc", root); /* containers write there: not into the memory that /run is */
    TRY(file_mkdirs(rt->netns_dir, 0755, err));
    TRY(file_mkdirs(rt->etc_dir, 0700, err));
    return file_mkdirs(rt->rootfs_dir, 0700, err);
}

/* Mount points that every container needs are in this lowest layer, so that none is made in its writable one: each would be a new inode, and a
 * copied-up /etc. */
static int
make_skeleton(struct runtime *rt, struct error *err)
{
    static const char *const directories[] = {"proc", "sys", "dev"}, *const files[] = {"etc/hosts", "etc/hostname", "etc/resolv.conf"};
    rt->skeleton_dir = str_printf("%s/skeleton", rt->options.root);
    rt->empty_dir = str_printf("%s/empty", rt->options.root);
    TRY(file_mkdirs(rt->empty_dir, 0755, err));
    cleanup_free char *etc = str_printf("%s/etc", rt->skeleton_dir);
    TRY(file_mkdirs(etc, 0755, err));
    cleanup_close int dir = TRY(file_open(AT_FDCWD, rt->skeleton_dir, O_RDONLY | O_DIRECTORY, 0, err));
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if (mkdirat(dir, directories[i], 0755) < 0 && errno != EEXIST)
            return error_errno(err, errno, "make %s/%s", rt->skeleton_dir, directories[i]);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int file = TRY(file_open(dir, files[i], O_WRONLY | O_CREAT, 0644, err));
        (void)close(file);
    }
    return 0;
}

static int
read_boot_id(struct runtime *rt, struct error *err)
{
    cleanup_free char *text = NULL;
    TRY(file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL, err));
    (void)snprintf(rt->boot_id, sizeof rt->boot_id, "%.36s", text);
    return 0;
}

/* Asking for it loads the module where it is one. */
static bool
kernel_has_overlay(void)
{
    cleanup_close int context = fsopen("overlay", FSOPEN_CLOEXEC);
    return context >= 0;
}

/* A namespace and an idmapped clone of where the root file systems are, both gone at once. */
static void
look_for_userns(struct runtime *rt)
{
    struct userns u;
    int errnum = userns_make(&u, 0, "0 65536 65536\n", "0 65536 65536\n", NULL);
    if (errnum) {
        rt->no_userns = str_printf("the kernel makes no user namespace: %s", strerrordesc_np(errnum));
        return;
    }
    userns_end(&u);
    cleanup_close int ns = u.fd;
    cleanup_close int tree = open_tree(AT_FDCWD, rt->options.root, OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC);
    errnum = tree < 0 ? errno : userns_map_tree(tree, ns, false);
    if (errnum)
        rt->no_userns = str_printf("the file system of %s cannot map ids: %s", rt->options.root, strerrordesc_np(errnum));
}

/* Found once, said in Status: the kubelet shows it, and crispd runs on for what it can. */
static void
look_at_host(struct runtime *rt)
{
    if (!kernel_has_overlay())
        rt->not_ready = str_dup("the kernel has no overlayfs");
    look_for_userns(rt);
    rt->bounding = caps_bounding_set();
    if (!(rt->bounding & UINT64_C(1) << CAP_SYS_RESOURCE))
        log_info("without CAP_SYS_RESOURCE oom scores are not lowered and limits not raised: the present values are kept");
}

static int
open_cgroups(struct runtime *rt, const struct runtime_options *options, struct error *err)
{
    TRY(cgroups_open(&rt->cgroups, err));
    rt->monitor_cgroup = TRY_PTR(cgroup_path(options->monitor_cgroup, "/crisp-monitors", err));
    if (options->systemd_cgroups)
        TRY(systemd_open(&rt->systemd, err));
    cleanup_free char *parent = TRY_PTR(pod_cgroup_parent(rt, "", "", err));
    for (size_t i = 0; i < options->handler_count; i++) {
        cleanup_free char *of_handler = TRY_PTR(pod_cgroup_parent(rt, "", options->handlers[i].name, err));
    }
    return cgroup_claim_parent(&rt->cgroups, rt->monitor_cgroup, err);
}

static int
open_parts(struct runtime *rt, const struct runtime_options *options, struct error *err)
{
    TRY(read_boot_id(rt, err));
    TRY(open_directories(rt, err));
    TRY(make_skeleton(rt, err));
    TRY(open_cgroups(rt, options, err));
    look_at_host(rt);
    TRY(janitor_open(rt, &rt->janitor, err));
    TRY(janitor_open(rt, &rt->sweeper, err));
    rt->meter = meter_open(rt);
    cleanup_free char *programs = str_printf("%s/seccomp", rt->options.root);
    TRY(seccomp_store_open(programs, &rt->seccomp, err));
    TRY(network_open(&options->network, &rt->network, err));
    const struct hub_options hub = {.monitor_program = rt->options.monitor_program,
                                    .answer_timeout_ns = monitor_answers_ns,
                                    .arg = rt,
                                    .exited = container_exited,
                                    .lost = pod_lost};
    return hub_open(&hub, &rt->hub, err);
}

int
runtime_open(const struct runtime_options *options, struct runtime **out, struct error *err)
{
    struct runtime *rt = mem_zalloc(1, sizeof *rt);
    rt->root_dir = rt->pods_dir = rt->containers_dir = rt->trash_dir = rt->monitors_dir = -1;
    rt->cgroups.unified = -1;
    copy_options(&rt->options, options);
    pthread_mutex_init(&rt->lock, NULL);
    pthread_mutex_init(&rt->parents_lock, NULL);
    if (open_parts(rt, options, err) < 0) {
        runtime_close(rt);
        return error_prefix(err, "runtime");
    }
    recovery_begin(rt);
    *out = rt;
    return 0;
}

static void
wait_for_threads(struct runtime *rt)
{
    HOLD(&rt->lock);
    while (rt->threads > 0 && waiters_wait(&rt->waiters, &rt->lock, NULL, INT64_MAX, "waiting for calls to end", NULL) >= 0)
        ;
}

/* The monitors live on. */
static void
drop_links(struct runtime *rt)
{
    struct pod *pod, *next;
    HASH_ITER (by_id, rt->pods_by_id, pod, next) {
        pthread_mutex_lock(&rt->lock);
        struct link *link = steal(pod->link);
        pthread_mutex_unlock(&rt->lock);
        link_free(link);
    }
    hub_close(rt->hub);
}

static void
drop_objects(struct runtime *rt)
{
    struct container *c, *next_container;
    struct pod *pod, *next_pod;
    HASH_ITER (by_id, rt->containers_by_id, c, next_container)
        container_list_out(rt, c);
    HASH_ITER (by_id, rt->pods_by_id, pod, next_pod)
        pod_list_out(rt, pod);
}

static void
close_directories(struct runtime *rt)
{
    int *const fds[] = {&rt->root_dir, &rt->pods_dir, &rt->containers_dir, &rt->trash_dir, &rt->monitors_dir};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (*fds[i] >= 0)
            (void)close(*fds[i]);
}

/* Parents of cgroups that are empty now; those of living pods stay. */
static void
release_cgroups(struct runtime *rt)
{
    if (rt->monitor_cgroup)
        cgroup_release_parent(&rt->cgroups, rt->monitor_cgroup);
    cgroups_close(&rt->cgroups);
}

void
runtime_close(struct runtime *rt)
{
    wait_for_threads(rt);
    meter_close(rt->meter);
    janitor_close(rt->janitor);
    janitor_close(rt->sweeper);
    drop_links(rt);
    drop_objects(rt);
    if (rt->network)
        network_close(rt->network);
    close_directories(rt);
    release_cgroups(rt);
    systemd_close(rt->systemd);
    free_options(&rt->options);
    seccomp_store_close(rt->seccomp);
    free(rt->rootfs_dir);
    free(rt->netns_dir);
    free(rt->etc_dir);
    free(rt->skeleton_dir);
    free(rt->empty_dir);
    free(rt->monitor_cgroup);
    free(rt->not_ready);
    free(rt->no_userns);
    strv_free(&rt->set_aside);
    pthread_mutex_destroy(&rt->lock);
    pthread_mutex_destroy(&rt->parents_lock);
    free(rt);
}

void
runtime_recovered(struct runtime *rt, const struct cancel *cancel)
{
    HOLD(&rt->lock);
    while (rt->meetings + rt->undoings > 0 && waiters_wait(&rt->waiters, &rt->lock, cancel, INT64_MAX, "waiting for monitors", NULL) >= 0)
        ;
}

struct runtime_handler
runtime_handler_named(const struct runtime *rt, const char *name)
{
    const struct runtime_options *o = &rt->options;
    struct runtime_handler handler = {.pids_limit = -1};
    for (size_t i = 0; i < o->handler_count; i++)
        if (str_eq(o->handlers[i].name, name))
            handler = o->handlers[i];
    if (str_empty(handler.cgroup_parent))
        handler.cgroup_parent = (char *)(uintptr_t)o->cgroup_parent;
    if (str_empty(handler.seccomp_unset))
        handler.seccomp_unset = (char *)(uintptr_t)o->seccomp_unset;
    if (handler.pids_limit < 0)
        handler.pids_limit = o->pids_limit;
    return handler;
}

struct network *
runtime_network(struct runtime *rt)
{
    return rt->network;
}

void
runtime_ready(struct runtime *rt, char reason[256])
{
    (void)snprintf(reason, 256, "%s", rt->not_ready ? rt->not_ready : "");
}

bool
runtime_has_userns(const struct runtime *rt)
{
    return !rt->no_userns;
}
