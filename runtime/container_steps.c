#include "runtime/container_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "runtime/apparmor.h"
#include "runtime/caps.h"
#include "runtime/cgroup_units.h"
#include "runtime/change.h"
#include "runtime/container_exit.h"
#include "runtime/container_spec.h"
#include "runtime/idmap.h"
#include "runtime/janitor.h"
#include "runtime/records.h"
#include "runtime/seccomp.h"
#include "runtime/selinux.h"
#include "runtime/user.h"

struct making {
    struct runtime *rt;
    struct container *container;
    struct runtime_handler handler;
    struct devices devices;
    int hold;          /* write end of the pipe of what is in its scope until its init is; -1 */
    struct error late; /* of what is made while the init is on its way */
};

/* ---- layers and user ---- */

int
container_hold_layers(struct runtime *rt, const struct container *c, struct error *err)
{
    cleanup_strv struct strv layers = {0};
    strv_copy(&layers, &c->config->layers);
    for (size_t i = 0; i < c->config->mount_count; i++)
        strv_copy(&layers, &c->config->mounts[i].image_layers);
    return rt->options.hold_layers ? rt->options.hold_layers(rt->options.arg, &layers, c->id, err) : 0;
}

static int
make_layers(struct making *m, struct error *err)
{
    return container_hold_layers(m->rt, m->container, err);
}

static void
undo_layers(struct making *m)
{
    if (m->rt->options.release_layers)
        m->rt->options.release_layers(m->rt->options.arg, m->container->id);
}

/* The kernel would say "Invalid argument". */
static int
check_mapped(const struct container *c, struct error *err)
{
    const struct id_maps *maps = &c->pod->config->userns;
    const struct credentials *who = &c->credentials;
    int64_t group;
    if (idmap_uid(maps, who->uid) == NO_ID)
        return error_set(err, ERR_INVALID, "user %lld is not in the pod's user namespace", (long long)who->uid);
    if (idmap_gid(maps, who->gid) == NO_ID)
        return error_set(err, ERR_INVALID, "group %lld is not in the pod's user namespace", (long long)who->gid);
    for (size_t i = 0; i < who->groups.count; i++)
        if (str_to_i64(who->groups.items[i], "group", &group, NULL) == 0 && idmap_gid(maps, group) == NO_ID)
            return error_set(err, ERR_INVALID, "group %lld is not in the pod's user namespace", (long long)group);
    return 0;
}

static int
make_user(struct making *m, struct error *err)
{
    TRY(user_resolve(m->rt->options.layers_dir, m->container->config, &m->container->credentials, err));
    return check_mapped(m->container, err);
}

/* Nothing confines a privileged container. */
static int
make_seccomp(struct making *m, struct error *err)
{
    const struct container_config *config = m->container->config;
    const char *profile = str_empty(config->seccomp) ? m->handler.seccomp_unset : config->seccomp;
    struct caps caps;
    TRY(caps_resolve(config, m->rt->bounding, &caps, err));
    return seccomp_prepare(m->rt->seccomp, config->privileged ? "unconfined" : profile, caps.allowed, &m->container->credentials.filter, err);
}

static int
make_apparmor(struct making *m, struct error *err)
{
    const struct container_config *config = m->container->config;
    return apparmor_prepare(config->privileged ? "unconfined" : config->apparmor, &m->container->credentials.profile, err);
}

static int
make_labels(struct making *m, struct error *err)
{
    struct container *c = m->container;
    return selinux_labels(c->config, c->pod->config, &c->credentials.label, &c->mount_label, err);
}

static int
make_devices(struct making *m, struct error *err)
{
    return devices_resolve(m->container->config, !m->handler.privileged_without_host_devices, &m->devices, err);
}

/* ---- mount sources ---- */

/* CRI wants an error for a host path that is missing; pods everywhere count on containerd and CRI-O, which make a directory of it. */
static int
make_sources(struct making *m, struct error *err)
{
    const struct container_config *config = m->container->config;
    for (size_t i = 0; i < config->mount_count; i++) {
        const char *path = config->mounts[i].host_path;
        struct stat st;
        if (str_empty(path) || stat(path, &st) == 0 || errno != ENOENT)
            continue;
        if (file_mkdirs(path, 0755, err) < 0)
            return error_as((error_prefix(err, "mount at %s", config->mounts[i].container_path), err), ERR_INVALID);
    }
    return 0;
}

/* What is privileged may read them as they are. */
static int
make_relabelled(struct making *m, struct error *err)
{
    const struct container_config *config = m->container->config;
    for (size_t i = 0; i < config->mount_count; i++) {
        const struct mount_request *mount = &config->mounts[i];
        bool wanted = mount->selinux_relabel && !str_empty(mount->host_path) && !str_empty(m->container->mount_label) && !config->privileged;
        if (wanted && selinux_relabel(mount->host_path, m->container->mount_label, err) < 0)
            return error_prefix(err, "mount at %s", mount->container_path);
    }
    return 0;
}

/* ---- record ---- */

static bool
give_back(void *arg, const char *cgroup)
{
    struct runtime *rt = arg;
    if (cgroup_remove(&rt->cgroups, cgroup) != 0)
        return false;
    scope_stop(rt->systemd, cgroup);
    cleanup_free char *id = cgroup_container_id(cgroup);
    record_container_discard(rt, id);
    return true;
}

void
container_give_back(struct runtime *rt, const char *cgroup)
{
    if (!give_back(rt, cgroup))
        janitor_add(rt->janitor, give_back, cgroup, NS_PER_MS);
}

static int
make_record(struct making *m, struct error *err)
{
    return record_container_new(m->rt, m->container, err);
}

static void
undo_record(struct making *m)
{
    container_give_back(m->rt, m->container->cgroup);
}

/* ---- cgroup ---- */

/* What holds a scope is one of its processes. */
static int64_t
pids_limit(const struct making *m)
{
    return m->handler.pids_limit > 0 && m->hold >= 0 ? m->handler.pids_limit + 1 : m->handler.pids_limit;
}

static int
limit_cgroup(struct making *m, struct error *err)
{
    const struct container *c = m->container;
    const struct cgroups *cgroups = &m->rt->cgroups;
    TRY(cgroup_apply(cgroups, c->cgroup, &c->config->resources, err));
    if (cgroups_of(cgroups, "pids"))
        TRY(cgroup_limit_pids(cgroups, c->cgroup, pids_limit(m), err));
    return m->devices.rule_count ? cgroup_allow_devices(cgroups, c->cgroup, m->devices.rules, m->devices.rule_count, err) : 0;
}

/* A scope is made with a process in it, and goes with its last one: something holds it from before the init is cloned until after its end, when what
 * the cgroup has counted was read. */
static int
make_scope(struct making *m, struct error *err)
{
    const struct container *c = m->container;
    int ends[2];
    pid_t holder = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    cleanup_close int theirs = ends[0];
    m->hold = ends[1];
    struct link *link = TRY_PTR(pod_take_link(m->rt, c->pod, err));
    int result = link_hold(link, theirs, &holder, err);
    pod_release_link(m->rt, c->pod);
    TRY(result);
    return scope_start(m->rt->systemd, &m->rt->cgroups, c->cgroup, holder, &c->config->resources, pids_limit(m), m->devices.rules,
                       m->devices.rule_count, err);
}

static int
make_cgroup(struct making *m, struct error *err)
{
    if (m->rt->systemd && str_ends(m->container->cgroup, ".scope"))
        TRY(make_scope(m, err));
    return cgroup_make_first(&m->rt->cgroups, m->container->cgroup, err);
}

/* link_create's meanwhile. Ten hierarchies of v1 take 0.5 ms, about as long as the init until it has mounted its root and needs them. */
static int
complete_cgroup(void *arg)
{
    struct making *m = arg;
    TRY(cgroup_make(&m->rt->cgroups, m->container->cgroup, &m->late));
    return limit_cgroup(m, &m->late);
}

/* It goes with the record. */

/* ---- log ---- */

/* A pod that has the node's logs mounted can put a symlink in the way. */
static int
check_log_directory(const char *log_directory, const char *log_path, struct error *err)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    const char *slash = strrchr(log_path, '/');
    if (!slash)
        return 0;
    cleanup_free char *below = str_ndup(log_path, (size_t)(slash - log_path));
    cleanup_close int top = TRY(file_open(AT_FDCWD, log_directory, O_PATH | O_DIRECTORY, 0, err));
    cleanup_close int directory = (int)syscall(SYS_openat2, top, below, &how, sizeof how);
    int errnum = directory >= 0 ? 0 : errno;
    if (errnum == 0 || errnum == ENOENT)
        return 0;
    (void)error_errno(err, errnum, "log_path %s in the pod's log directory %s", log_path, log_directory);
    return errnum == EXDEV ? error_as(err, ERR_INVALID) : -1;
}

/* The kubelet makes the directory; others count on it being made. */
static int
make_log_directory(struct making *m, struct error *err)
{
    const char *path = m->container->log_path;
    if (str_empty(path))
        return 0;
    cleanup_free char *parent = str_ndup(path, (size_t)(strrchr(path, '/') - path));
    const char *log_directory = m->container->pod->config->log_directory;
    TRY(file_mkdirs(log_directory, 0755, err));
    TRY(check_log_directory(log_directory, m->container->config->log_path, err));
    return file_mkdirs(parent, 0755, err);
}

/* ---- launch ---- */

int
container_launch_error(const struct spec_builder *spec, int failed_op, struct error *err)
{
    if (failed_op < 0)
        return -1;
    cleanup_free char *words = spec_explain(spec, (size_t)failed_op);
    if (err && err->errnum == EOPNOTSUPP && spec_type(spec, (size_t)failed_op) == SPEC_BIND)
        (void)error_set(err, ERR_INVALID, "its file system cannot map ids");
    if (err && (err->kind == ERR_NOT_FOUND || err->kind == ERR_DENIED || err->kind == ERR_EXISTS || err->errnum == ENOEXEC))
        error_as(err, ERR_INVALID);
    return error_prefix(err, "%s", words);
}

static pid_t
target_pid(struct runtime *rt, const struct container *c, struct error *err)
{
    HOLD(&rt->lock);
    struct container *target = TRY_PTR(container_find(rt, c->config->target_id, err));
    bool same_pod = target->pod == c->pod;
    pid_t pid = target->pid;
    container_unref(target);
    if (!same_pod)
        return error_set(err, ERR_INVALID, "target %s: it is of another pod", c->config->target_id);
    return pid > 0 ? pid : error_set(err, ERR_PRECONDITION, "target %s: it does not run", c->config->target_id);
}

static int
choose_pids(struct runtime *rt, const struct container *c, struct link_create *create, struct error *err)
{
    enum namespace_mode mode = container_pid_mode(c);
    create->enters = container_enters(c);
    create->target_pid_ns = -1;
    create->host_pid = mode == NAMESPACE_NODE;
    create->new_pid_ns = mode == NAMESPACE_CONTAINER;
    if (mode != NAMESPACE_TARGET)
        return 0;
    pid_t pid = TRY(target_pid(rt, c, err));
    cleanup_free char *path = str_printf("/proc/%d/ns/pid", (int)pid);
    create->target_pid_ns = TRY(file_open(AT_FDCWD, path, O_RDONLY, 0, err));
    return 0;
}

static char *
oom_file(const struct cgroups *cgroups, const char *cgroup)
{
    const struct cgroup_hierarchy *h = cgroups_of(cgroups, "memory");
    return h ? cgroup_file(cgroups, cgroup, "memory", h->unified ? "memory.events" : "memory.oom_control") : NULL;
}

static int
launch(struct making *m, struct link *link, const struct spec_builder *b, int spec, int cgroup, struct error *err)
{
    struct container *c = m->container;
    cleanup_free char *oom = oom_file(&m->rt->cgroups, c->cgroup);
    struct link_create create = {.container_id = c->id,
                                 .spec = spec,
                                 .cgroup = cgroup,
                                 .hold = m->hold,
                                 .oom_file = oom ? oom : "",
                                 .log_path = c->log_path,
                                 .log_directory_length = strlen(c->pod->config->log_directory),
                                 .tty = c->config->tty,
                                 .log_bytes_per_second = m->rt->options.log_bytes_per_second,
                                 .log_buffer_bytes = m->rt->options.log_buffer_bytes,
                                 .stdin_open = c->config->stdin_open,
                                 .stdin_once = c->config->stdin_once,
                                 .meanwhile = complete_cgroup,
                                 .arg = m};
    pid_t pid = 0;
    int failed_op = -1;
    TRY(choose_pids(m->rt, c, &create, err));
    int result = link_create(link, &create, &pid, &failed_op, err);
    if (create.target_pid_ns >= 0)
        (void)close(create.target_pid_ns);
    if (m->late.kind != ERR_NONE) {
        *err = m->late;
        return error_prefix(err, "cgroup");
    }
    if (result < 0)
        return container_launch_error(b, failed_op, err);
    HOLD(&m->rt->lock);
    c->pid = pid;
    return 0;
}

static int
launch_in_cgroup(struct making *m, struct link *link, const struct spec_builder *b, struct error *err)
{
    cleanup_close int spec = TRY(spec_finish((struct spec_builder *)(uintptr_t)b, err));
    cleanup_close int cgroup = m->rt->cgroups.unified >= 0 ? TRY(cgroup_open_unified(&m->rt->cgroups, m->container->cgroup, err)) : -1;
    return launch(m, link, b, spec, cgroup, err);
}

static int
make_init(struct making *m, struct error *err)
{
    struct spec_builder *b = TRY_PTR(container_spec(m->rt, m->container, &m->devices, err));
    struct link *link = pod_take_link(m->rt, m->container->pod, err);
    int result = link ? launch_in_cgroup(m, link, b, err) : -1;
    if (link)
        pod_release_link(m->rt, m->container->pod);
    spec_free(b);
    return result;
}

static void
undo_init(struct making *m)
{
    struct link *link = pod_take_link(m->rt, m->container->pod, NULL);
    (void)cgroup_kill(&m->rt->cgroups, m->container->cgroup, NULL);
    if (!link)
        return;
    (void)link_delete(link, m->container->id, NULL);
    pod_release_link(m->rt, m->container->pod);
}

/* ---- state ---- */

static void
undo_state(struct making *m)
{
    HOLD(&m->rt->lock);
    m->container->phase = CONTAINER_PHASE_MAKING;
    change_tell(m->rt, CHANGE_DELETED, m->container->id, m->container->pod);
}

static int
make_state(struct making *m, struct error *err)
{
    struct container *c = m->container;
    pthread_mutex_lock(&m->rt->lock);
    (void)container_move(m->rt, c, CONTAINER_PHASE_CREATED);
    /* Its end may have been reported before its beginning. */
    container_end_if_exited(m->rt, c);
    pthread_mutex_unlock(&m->rt->lock);
    if (record_container_state(m->rt, c, err) == 0)
        return 0;
    undo_state(m);
    return -1;
}

/* ---- the table ---- */

static const struct step {
    const char *stage;
    int (*make)(struct making *m, struct error *err); /* leaves nothing that the undo of an earlier step does not take */
    void (*undo)(struct making *m);
} steps[] = {
    {"layers", make_layers, undo_layers},
    {"user", make_user, NULL},
    {"seccomp", make_seccomp, NULL},
    {"AppArmor", make_apparmor, NULL},
    {"SELinux", make_labels, NULL},
    {"devices", make_devices, NULL},
    {"mount sources", make_sources, NULL},
    {"SELinux relabelling of volumes", make_relabelled, NULL},
    {"record", make_record, undo_record},
    {"cgroup", make_cgroup, NULL},
    {"log directory", make_log_directory, NULL},
    {"launch", make_init, undo_init},
    {"state", make_state, undo_state},
};

size_t
container_step_count(void)
{
    return sizeof steps / sizeof *steps;
}

int
container_make(struct runtime *rt, struct container *c, struct error *err)
{
    struct making m = {.rt = rt, .container = c, .handler = runtime_handler_named(rt, c->pod->config->runtime_handler), .hold = -1};
    size_t done = 0;
    int result = 0;
    while (done < container_step_count() && result == 0) {
        operation_stage(c->operation, steps[done].stage);
        result = steps[done].make(&m, err);
        if (result < 0)
            error_prefix(err, "%s", steps[done].stage);
        else if (++done == rt->fail_container_step)
            result = error_set(err, ERR_INTERNAL, "%s: it was made to fail here", steps[done - 1].stage);
    }
    while (result < 0 && done-- > 0)
        if (steps[done].undo)
            steps[done].undo(&m);
    if (m.hold >= 0)
        (void)close(m.hold);
    devices_free(&m.devices);
    return result;
}
