#include "runtime/container_spec.h"

#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/caps.h"
#include "runtime/env.h"
#include "runtime/idmap.h"
#include "runtime/seccomp.h"
#include "runtime/selinux.h"

char *
pod_hostname(const struct pod_config *config)
{
    char name[65] = "localhost";
    if (!str_empty(config->hostname) && config->network != NAMESPACE_NODE)
        return str_dup(config->hostname);
    (void)gethostname(name, sizeof name - 1);
    return str_dup(name);
}

enum namespace_mode
container_pid_mode(const struct container *c)
{
    return c->config->pid == NAMESPACE_POD ? c->pod->config->pid : c->config->pid;
}

bool
container_enters(const struct container *c)
{
    enum namespace_mode mode = container_pid_mode(c);
    return idmap_is_set(&c->pod->config->userns) || mode == NAMESPACE_POD || mode == NAMESPACE_TARGET;
}

bool
container_pivots_early(const struct container *c)
{
    return container_enters(c) && !idmap_is_set(&c->pod->config->userns);
}

/* A process that writes itself into v1's tasks while it has one thread is not made to wait, as any other that moves is (10 ms); the unified hierarchy
 * is joined by the clone. */
static void
join_cgroups(const struct runtime *rt, const char *path, struct spec_builder *b)
{
    for (size_t i = 0; i < rt->cgroups.count; i++) {
        cleanup_free char *tasks = str_printf("%s%s/tasks", rt->cgroups.list[i].mount_point, path);
        if (!rt->cgroups.list[i].unified)
            spec_op(b, SPEC_WRITE, .text = {tasks, "0"});
    }
}

static void
set_oom_score(struct runtime *rt, const struct container *c, struct spec_builder *b)
{
    char text[24];
    pthread_mutex_lock(&rt->lock);
    int64_t score = c->resources.oom_score_adj;
    pthread_mutex_unlock(&rt->lock);
    (void)snprintf(text, sizeof text, "%" PRId64, score);
    spec_op(b, SPEC_WRITE, .text = {"/proc/self/oom_score_adj", text}, .number = {SPEC_MAY_EPERM});
}

char *
mount_options_labelled(const char *options, const char *label)
{
    const char *given = options ? options : "";
    bool labelled = !str_empty(label) && selinux_enabled();
    return labelled ? str_printf("%s%scontext=\"%s\"", given, *given ? "," : "", label) : str_dup(given);
}

bool
overlay_lowers(struct buf *options, const struct strv *layers, const char *lowest)
{
    bool fits = buf_adds(options, "lowerdir=");
    for (size_t i = layers->count; i-- > 0;)
        fits = fits && buf_addf(options, "%s:", layers->items[i]);
    return fits && buf_adds(options, lowest);
}

int
overlay_too_long(size_t layers, struct error *err)
{
    return error_set(err, ERR_INVALID, "the names of the image's %zu layers do not fit into the %d bytes that the kernel takes", layers,
                     OVERLAY_OPTIONS_MAX);
}

static int
add_overlay(const struct runtime *rt, const struct container *c, struct spec_builder *b, struct error *err)
{
    const struct strv *layers = &c->config->layers;
    cleanup_buf struct buf options = BUF(OVERLAY_OPTIONS_MAX);
    if (layers->count == 0)
        return error_set(err, ERR_INVALID, "the image has no layers");
    bool fits = overlay_lowers(&options, layers, rt->skeleton_dir) &&
                buf_addf(&options, ",upperdir=%s/containers/%s/upper,workdir=%s/containers/%s/work,volatile", rt->options.root, c->id,
                         rt->options.root, c->id);
    cleanup_free char *labelled = mount_options_labelled(options.data, c->mount_label);
    if (!fits || strlen(labelled) > OVERLAY_OPTIONS_MAX)
        return overlay_too_long(layers->count, err);
    if (idmap_is_set(&c->pod->config->userns)) {
        spec_op(b, SPEC_IDMAP, .text = {rt->options.layers_dir});
        spec_op(b, SPEC_IDMAP, .text = {rt->skeleton_dir});
    }
    spec_op(b, SPEC_OVERLAY, .text = {rt->options.layers_dir, rt->rootfs_dir, labelled});
    spec_op(b, SPEC_ROOT, .text = {rt->rootfs_dir});
    if (idmap_is_set(&c->pod->config->userns))
        spec_op(b, SPEC_FS_USER, .number = {(uint64_t)idmap_uid(&c->pod->config->userns, 0), (uint64_t)idmap_gid(&c->pod->config->userns, 0)});
    return 0;
}

static void
add_proc_paths(const struct container_config *config, const char *label, struct spec_builder *b)
{
    cleanup_free char *options = mount_options_labelled(NULL, label);
    if (config->privileged)
        return;
    for (size_t i = 0; i < config->readonly_paths.count; i++)
        spec_op(b, SPEC_READONLY, .text = {config->readonly_paths.items[i]});
    for (size_t i = 0; i < config->masked_paths.count; i++)
        spec_op(b, SPEC_MASK, .text = {config->masked_paths.items[i], options});
}

static void
add_limits(const struct runtime *rt, struct spec_builder *b)
{
    if (rt->options.nofile_hard > 0)
        spec_op(b, SPEC_RLIMIT, .number = {RLIMIT_NOFILE, (uint64_t)rt->options.nofile_soft, (uint64_t)rt->options.nofile_hard});
}

static void
add_groups(const struct credentials *who, struct spec_builder *b)
{
    cleanup_free uint32_t *gids = mem_zalloc(who->groups.count, sizeof *gids);
    size_t count = 0;
    for (size_t i = 0; i < who->groups.count; i++) {
        uint64_t gid;
        if (str_to_u64(who->groups.items[i], UINT32_MAX, "gid", &gid, NULL) == 0)
            gids[count++] = (uint32_t)gid;
    }
    spec_op(b, SPEC_GROUPS, .number = {count}, .list = gids, .list_bytes = count * sizeof *gids);
}

/* Said while the host's /proc is at hand; the kernel keeps it for the next execve, also of a child. */
static void
add_profile(const struct container *c, struct spec_builder *b)
{
    if (str_empty(c->credentials.profile))
        return;
    cleanup_free char *words = str_printf("exec %s", c->credentials.profile);
    spec_op(b, SPEC_WRITE, .text = {"/proc/self/attr/apparmor/exec", words});
}

/* Of the process, and of the keyring that it gets. */
static void
add_label(const struct container *c, struct spec_builder *b)
{
    if (str_empty(c->credentials.label))
        return;
    spec_op(b, SPEC_WRITE, .text = {"/proc/self/attr/exec", c->credentials.label});
    spec_op(b, SPEC_WRITE, .text = {"/proc/self/attr/keycreate", c->credentials.label});
}

/* Without one of its own a container would have that of whoever started crispd, and share it with all others. */
static void
add_keyring(const struct container *c, struct spec_builder *b)
{
    cleanup_free char *name = str_printf("crisp-%s", c->id);
    spec_op(b, SPEC_KEYRING, .text = {name});
}

/* From root to whom it shall be: what init and execs have in common. */
static int
add_identity(const struct runtime *rt, const struct container *c, struct spec_builder *b, struct error *err)
{
    const struct credentials *who = &c->credentials;
    struct caps caps;
    TRY(caps_resolve(c->config, rt->bounding, &caps, err));
    add_keyring(c, b);
    spec_op(b, SPEC_UMASK, .number = {022});
    spec_op(b, SPEC_BOUNDING, .number = {caps.allowed});
    add_groups(who, b);
    spec_op(b, SPEC_USER, .number = {(uint64_t)who->uid, (uint64_t)who->gid});
    /* A user other than root keeps over exec what is ambient; its permitted set would only be lost there. */
    uint64_t held = who->uid == 0 ? caps.allowed : caps.ambient;
    /* Without no_new_privs only CAP_SYS_ADMIN may set a filter. What is beyond the bounding set is gone with the exec that follows. */
    if (!str_empty(who->filter) && !c->config->no_new_privs)
        held |= UINT64_C(1) << CAP_SYS_ADMIN;
    spec_op(b, SPEC_CAPS, .number = {held, held, caps.ambient, caps.ambient});
    if (c->config->no_new_privs)
        spec_op(b, SPEC_NO_NEW_PRIVS, .number = {0});
    return 0;
}

static int
add_init(struct runtime *rt, const struct container *c, const struct devices *devices, struct spec_builder *b, struct error *err)
{
    const struct container_config *config = c->config;
    cleanup_strv struct strv env = {0};
    cleanup_free char *hostname = pod_hostname(c->pod->config);
    set_oom_score(rt, c, b);
    add_profile(c, b);
    add_label(c, b);
    add_limits(rt, b);
    spec_op(b, SPEC_UNSHARE, .number = {CLONE_NEWNS});
    spec_op(b, SPEC_PROPAGATION, .text = {"/"}, .number = {MS_SLAVE | MS_REC});
    TRY(add_overlay(rt, c, b, err));
    spec_op(b, SPEC_GATE, .number = {0});
    join_cgroups(rt, c->cgroup, b);
    if (!idmap_is_set(&c->pod->config->userns))
        spec_op(b, SPEC_UNSHARE, .number = {CLONE_NEWCGROUP});
    for (size_t i = 0; i < config->volumes.count; i++)
        spec_op(b, SPEC_MKDIR, .text = {config->volumes.items[i]}, .number = {0755});
    TRY(mounts_compile(rt, c, devices, b, err));
    add_proc_paths(config, c->mount_label, b);
    if (!container_pivots_early(c))
        spec_op(b, SPEC_PIVOT, .number = {0});
    if (config->tty)
        spec_op(b, SPEC_CONSOLE, .number = {(uint64_t)c->credentials.uid});
    spec_op(b, SPEC_CHDIR, .text = {str_empty(config->working_dir) ? "/" : config->working_dir}, .number = {1, 0, 0});
    if (config->readonly_rootfs)
        spec_op(b, SPEC_ROOT_READONLY, .number = {0});
    TRY(add_identity(rt, c, b, err));
    spec_op(b, SPEC_WAIT, .number = {0});
    TRY(seccomp_add(rt->seccomp, c->credentials.filter, b, err)); /* after the wait: what it forbids is the program's business, not ours */
    env_compile(config, config->tty, hostname, c->credentials.home, &env);
    spec_exec(b, &config->args, &env);
    return 0;
}

struct spec_builder *
container_spec(struct runtime *rt, const struct container *c, const struct devices *devices, struct error *err)
{
    struct spec_builder *b = spec_new();
    if (add_init(rt, c, devices, b, err) == 0)
        return b;
    spec_free(b);
    return NULL;
}

static int
add_exec(struct runtime *rt, const struct container *c, const struct strv *command, bool tty, struct spec_builder *b, struct error *err)
{
    const struct container_config *config = c->config;
    cleanup_strv struct strv env = {0};
    cleanup_free char *hostname = pod_hostname(c->pod->config);
    join_cgroups(rt, c->cgroup, b);
    set_oom_score(rt, c, b);
    add_profile(c, b);
    add_label(c, b);
    add_limits(rt, b);
    spec_op(b, SPEC_SETNS, .number = {CLONE_NEWNS | CLONE_NEWCGROUP, (uint64_t)idmap_uid(&c->pod->config->userns, c->credentials.uid)});
    if (tty)
        spec_op(b, SPEC_CONSOLE, .number = {(uint64_t)c->credentials.uid});
    spec_op(b, SPEC_CHDIR, .text = {str_empty(config->working_dir) ? "/" : config->working_dir}, .number = {0});
    TRY(add_identity(rt, c, b, err));
    TRY(seccomp_add(rt->seccomp, c->credentials.filter, b, err));
    env_compile(config, tty, hostname, c->credentials.home, &env);
    spec_exec(b, command, &env);
    return 0;
}

struct spec_builder *
exec_spec(struct runtime *rt, const struct container *c, const struct strv *command, bool tty, struct error *err)
{
    struct spec_builder *b = spec_new();
    if (add_exec(rt, c, command, tty, b, err) == 0)
        return b;
    spec_free(b);
    return NULL;
}
