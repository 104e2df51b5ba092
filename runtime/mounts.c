/* What is mounted in a container's root: the defaults that every container has, the pod's files in /etc, the request's mounts; sorted so that what is
 * mounted deeper comes later. A default whose place the request takes is left out. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "runtime/container_spec.h"
#include "runtime/idmap.h"
#include "runtime/selinux.h"
#include "runtime/validate.h"

enum { MOUNTS_AT_BIRTH = 32 };

/* ---- options of mounts, as runtimes of the OCI know them ---- */

static const struct {
    const char *option;
    enum { ALREADY_SO, READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, PRIVATE, SLAVE, SHARED } meaning;
} mount_options[] = {
    {"bind", ALREADY_SO}, {"rbind", ALREADY_SO}, {"rw", ALREADY_SO}, {"suid", ALREADY_SO}, {"dev", ALREADY_SO},  {"exec", ALREADY_SO},
    {"ro", READ_ONLY},    {"nosuid", NO_SUID},   {"nodev", NO_DEV},  {"noexec", NO_EXEC},  {"private", PRIVATE}, {"rprivate", PRIVATE},
    {"slave", SLAVE},     {"rslave", SLAVE},     {"shared", SHARED}, {"rshared", SHARED},
};

int
mount_option(struct mount_request *mount, const char *option, struct error *err)
{
    size_t i = 0, count = sizeof mount_options / sizeof *mount_options;
    while (i < count && !str_eq(mount_options[i].option, option))
        i++;
    if (i == count)
        return error_set(err, ERR_UNSUPPORTED, "mounts: %s: option \"%.40s\"", mount->container_path, option ? option : "");
    switch (mount_options[i].meaning) {
    case ALREADY_SO:
        break;
    case READ_ONLY:
        mount->readonly = true;
        break;
    case NO_SUID:
        mount->nosuid = true;
        break;
    case NO_DEV:
        mount->nodev = true;
        break;
    case NO_EXEC:
        mount->noexec = true;
        break;
    case PRIVATE:
        mount->propagation = PROPAGATION_PRIVATE;
        break;
    case SLAVE:
        mount->propagation = PROPAGATION_HOST_TO_CONTAINER;
        break;
    case SHARED:
        mount->propagation = PROPAGATION_BIDIRECTIONAL;
        break;
    }
    return 0;
}

/* ---- what is mounted ---- */

struct mount {
    char *target; /* clean */
    size_t depth, order;
    bool late;
    enum spec_op_type type;
    struct spec_args args;
};

struct mounts {
    struct mount *list;
    size_t count, room;
    const struct container *container;
    struct strv kept; /* texts of args that nothing else keeps */
};

static void
mounts_free(struct mounts *mounts)
{
    for (size_t i = 0; i < mounts->count; i++)
        free(mounts->list[i].target);
    free(mounts->list);
    strv_free(&mounts->kept);
}

static size_t
depth_of(const char *path)
{
    size_t depth = 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

static bool
is_taken(const struct container_config *config, const char *target)
{
    for (size_t i = 0; i < config->mount_count; i++) {
        cleanup_free char *path = path_clean(config->mounts[i].container_path);
        if (str_eq(path, target))
            return true;
    }
    return false;
}

/* Takes `target`; texts in args must live until the spec is built. */
static void
add(struct mounts *mounts, char *target, enum spec_op_type type, struct spec_args args)
{
    if (mounts->count == mounts->room) {
        mounts->room = mounts->room ? mounts->room * 2 : MOUNTS_AT_BIRTH;
        mounts->list = mem_realloc(mounts->list, mounts->room, sizeof *mounts->list);
    }
    mounts->list[mounts->count] = (struct mount){target, depth_of(target), mounts->count, false, type, args};
    mounts->count++;
}

static void
add_default(struct mounts *mounts, const char *target, enum spec_op_type type, struct spec_args args)
{
    if (!is_taken(mounts->container->config, target))
        add(mounts, str_dup(target), type, args);
}

#define FS(source_, fstype_, flags_, data_)                                  \
    SPEC_MOUNT, (struct spec_args)                                           \
    {                                                                        \
        .text = {(source_), NULL, (fstype_), (data_)}, .number = {(flags_) } \
    }

/* Options with the label; kept. */
static const char *
labelled(struct mounts *mounts, const char *options)
{
    strv_take(&mounts->kept, mount_options_labelled(options, mounts->container->mount_label));
    return mounts->kept.items[mounts->kept.count - 1];
}

/* What is in /proc and /sys has the kernel's own labels. */
static void
add_kernel_filesystems(struct mounts *mounts)
{
    const unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    add_default(mounts, "/proc", FS("proc", "proc", quiet, NULL));
    add_default(mounts, "/dev", FS("tmpfs", "tmpfs", MS_NOSUID | MS_STRICTATIME, labelled(mounts, "mode=755,size=65536k")));
    add_default(mounts, "/dev/pts", FS("devpts", "devpts", MS_NOSUID | MS_NOEXEC, labelled(mounts, "newinstance,ptmxmode=0666,mode=0620,gid=5")));
    add_default(mounts, "/dev/mqueue", FS("mqueue", "mqueue", quiet, NULL));
    /* Its file system knows no context= (Linux 6.1). */
    if (!str_empty(mounts->container->mount_label) && selinux_enabled())
        add_default(mounts, "/dev/mqueue", SPEC_LABEL, (struct spec_args){.text = {NULL, mounts->container->mount_label}});
    add_default(mounts, "/sys", FS("sysfs", "sysfs", quiet | (mounts->container->config->privileged ? 0 : MS_RDONLY), NULL));
}

static void
add_shm(struct mounts *mounts, const struct pod_config *pod)
{
    if (pod->ipc == NAMESPACE_NODE)
        add_default(mounts, "/dev/shm", SPEC_BIND, (struct spec_args){.text = {"/dev/shm"}, .number = {0, MS_PRIVATE}});
    else
        add_default(mounts, "/dev/shm", SPEC_SHM, (struct spec_args){0});
}

/* A container sees its own cgroup as the root (it has a cgroup namespace), in the same places as the host has them. */
static void
add_cgroups(struct mounts *mounts, const struct cgroups *cgroups)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (mounts->container->config->privileged ? 0 : MS_RDONLY);
    if (is_taken(mounts->container->config, "/sys/fs/cgroup"))
        return;
    if (cgroups_only_unified(cgroups)) {
        add_default(mounts, "/sys/fs/cgroup", FS("cgroup", "cgroup2", flags, NULL));
        return;
    }
    add_default(mounts, "/sys/fs/cgroup", FS("tmpfs", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=64k"));
    for (size_t i = 0; i < cgroups->count; i++) {
        const struct cgroup_hierarchy *h = &cgroups->list[i];
        cleanup_free char *target = str_printf("/sys/fs/cgroup/%s", h->name);
        add_default(mounts, target, FS("cgroup", h->unified ? "cgroup2" : "cgroup", flags, h->unified ? NULL : h->options));
    }
}

static const struct {
    const char *name, *target;
} etc_files[] = {{"hosts", "/etc/hosts"}, {"hostname", "/etc/hostname"}, {"resolv.conf", "/etc/resolv.conf"}};

static void
add_etc_files(struct mounts *mounts, const char *etc_dir)
{
    for (size_t i = 0; i < sizeof etc_files / sizeof *etc_files; i++) {
        strv_addf(&mounts->kept, "%s/%s", etc_dir, etc_files[i].name);
        const char *source = mounts->kept.items[mounts->kept.count - 1];
        add_default(
            mounts, etc_files[i].target, SPEC_BIND,
            (struct spec_args){.text = {source}, .number = {mounts->container->config->readonly_rootfs ? SPEC_BIND_READONLY : 0, MS_PRIVATE}});
    }
}

/* The pod's own namespace serves where the maps are its own. */
static void
map_owners(struct mounts *mounts, const struct mount_request *request, struct spec_args *args)
{
    if (!idmap_is_set(&request->maps))
        return;
    args->number[0] |= SPEC_BIND_IDMAP;
    if (idmap_equal(&request->maps, &mounts->container->pod->config->userns))
        return;
    strv_take(&mounts->kept, idmap_uid_text(&request->maps));
    args->text[2] = mounts->kept.items[mounts->kept.count - 1];
    strv_take(&mounts->kept, idmap_gid_text(&request->maps));
    args->text[3] = mounts->kept.items[mounts->kept.count - 1];
}

/* What shows the namespaces of who mounts it, and all below it: mounted by the container's init, where that is another process than the one that
 * makes the rest. Those of the node it may not mount. */
static bool
is_late(const struct container *c, const char *target)
{
    bool userns = idmap_is_set(&c->pod->config->userns);
    const struct {
        const char *path;
        bool late;
    } places[] = {
        {"/proc", container_pid_mode(c) != NAMESPACE_NODE},
        {"/dev/pts", userns},
        {"/dev/mqueue", userns && c->pod->config->ipc != NAMESPACE_NODE},
        {"/sys/fs/cgroup", userns},
    };
    for (size_t i = 0; container_enters(c) && i < sizeof places / sizeof *places; i++)
        if (places[i].late && path_is_in(target, places[i].path))
            return true;
    return false;
}

/* Beneath the layers is an empty directory, as overlay wants two. The init of SPEC_ENTER is no longer one who can mount layers. */
static int
add_image(struct mounts *mounts, const struct runtime *rt, const struct mount_request *request, uint64_t flags, struct error *err)
{
    cleanup_buf struct buf options = BUF(OVERLAY_OPTIONS_MAX);
    cleanup_free char *target = path_clean(request->container_path);
    if (is_late(mounts->container, target))
        return error_set(err, ERR_INVALID, "no image can be mounted in what belongs to the pod's namespaces");
    if (!overlay_lowers(&options, &request->image_layers, rt->empty_dir))
        return overlay_too_long(request->image_layers.count, err);
    const char *all = labelled(mounts, options.data);
    if (strlen(all) > OVERLAY_OPTIONS_MAX)
        return overlay_too_long(request->image_layers.count, err);
    add(mounts, steal(target), SPEC_IMAGE,
        (struct spec_args){.text = {rt->options.layers_dir, NULL, all, request->image_sub_path}, .number = {flags | SPEC_BIND_READONLY, MS_PRIVATE}});
    return 0;
}

static int
add_requested(struct mounts *mounts, const struct runtime *rt, struct error *err)
{
    static const unsigned long propagations[] = {
        [PROPAGATION_PRIVATE] = MS_PRIVATE | MS_REC,
        [PROPAGATION_HOST_TO_CONTAINER] = MS_SLAVE | MS_REC,
        [PROPAGATION_BIDIRECTIONAL] = MS_SHARED | MS_REC,
    };
    for (size_t i = 0; i < mounts->container->config->mount_count; i++) {
        const struct mount_request *request = &mounts->container->config->mounts[i];
        uint64_t flags = SPEC_BIND_RECURSIVE | (request->readonly ? SPEC_BIND_READONLY : 0) |
                         (request->recursive_read_only ? SPEC_BIND_READONLY_RECURSIVE : 0) | (request->nosuid ? SPEC_BIND_NOSUID : 0) |
                         (request->nodev ? SPEC_BIND_NODEV : 0) | (request->noexec ? SPEC_BIND_NOEXEC : 0);
        if (request->image_layers.count) {
            if (add_image(mounts, rt, request, flags, err) < 0)
                return error_prefix(err, "mount at %s", request->container_path);
            continue;
        }
        struct spec_args args = {.text = {request->host_path}, .number = {flags, propagations[request->propagation]}};
        map_owners(mounts, request, &args);
        add(mounts, path_clean(request->container_path), SPEC_BIND, args);
    }
    return 0;
}

static int
by_depth(const void *a, const void *b)
{
    const struct mount *left = a, *right = b;
    if (left->late != right->late)
        return left->late ? 1 : -1;
    if (left->depth != right->depth)
        return left->depth < right->depth ? -1 : 1;
    return left->order < right->order ? -1 : 1;
}

static size_t
emit(struct mounts *mounts, size_t from, bool late, struct spec_builder *b)
{
    for (; from < mounts->count && mounts->list[from].late == late; from++) {
        struct mount *mount = &mounts->list[from];
        mount->args.text[mount->type == SPEC_SHM || mount->type == SPEC_LABEL ? 0 : 1] = mount->target;
        spec_add(b, mount->type, mount->args);
    }
    return from;
}

static void
emit_enter(const struct container *c, struct spec_builder *b)
{
    const struct id_maps *maps = &c->pod->config->userns;
    uint64_t own = (container_pid_mode(c) == NAMESPACE_CONTAINER ? CLONE_NEWPID : 0) | (idmap_is_set(maps) ? CLONE_NEWNS | CLONE_NEWCGROUP : 0);
    if (container_pivots_early(c))
        spec_op(b, SPEC_PIVOT, .number = {0});
    if (container_enters(c))
        spec_op(b, SPEC_ENTER, .number = {own, (uint64_t)idmap_uid(maps, c->credentials.uid)});
}

/* Nodes that anybody may use are the container's root's; the rights to others stay as the host gives them, also where its ids mean nobody inside. */
static void
emit_device(const struct id_maps *maps, const struct device_node *node, struct spec_builder *b)
{
    bool anybodys = idmap_is_set(maps) && (node->mode & 0666) == 0666;
    int64_t uid = anybodys ? idmap_uid(maps, 0) : node->uid, gid = anybodys ? idmap_gid(maps, 0) : node->gid;
    spec_op(b, SPEC_MKNOD, .text = {node->path}, .number = {node->mode, node->dev, (uint64_t)uid, (uint64_t)gid});
}

/* In a /dev of its own; a requested mount of /dev brings what it has. */
static void
emit_dev(const struct container *c, const struct devices *devices, struct spec_builder *b)
{
    const struct container_config *config = c->config;
    static const char *const links[][2] = {{"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
                                           {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/core", "/proc/kcore"},      {"/dev/ptmx", "pts/ptmx"}};
    if (is_taken(config, "/dev"))
        return;
    for (size_t i = 0; i < devices->node_count; i++) {
        const struct device_node *node = &devices->nodes[i];
        if (!is_taken(config, node->path))
            emit_device(&c->pod->config->userns, node, b);
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        spec_op(b, SPEC_SYMLINK, .text = {links[i][0], links[i][1]});
}

/* The tmpfs takes its mount points and links first, then it is read-only. */
static void
emit_cgroup_links(const struct container_config *config, const struct cgroups *cgroups, struct spec_builder *b)
{
    if (cgroups_only_unified(cgroups) || is_taken(config, "/sys/fs/cgroup"))
        return;
    for (size_t i = 0; i + 1 < cgroups->links.count; i += 2) {
        cleanup_free char *path = str_printf("/sys/fs/cgroup/%s", cgroups->links.items[i]);
        spec_op(b, SPEC_SYMLINK, .text = {path, cgroups->links.items[i + 1]});
    }
    if (!config->privileged)
        spec_op(b, SPEC_MOUNT, .text = {"tmpfs", "/sys/fs/cgroup", "tmpfs"},
                .number = {MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC});
}

int
mounts_compile(struct runtime *rt, const struct container *c, const struct devices *devices, struct spec_builder *b, struct error *err)
{
    cleanup(mounts_free) struct mounts mounts = {.container = c};
    cleanup_free char *etc_dir = str_printf("%s/%s", rt->etc_dir, c->pod->id);
    add_kernel_filesystems(&mounts);
    add_shm(&mounts, c->pod->config);
    add_cgroups(&mounts, &rt->cgroups);
    add_etc_files(&mounts, etc_dir);
    TRY(add_requested(&mounts, rt, err));
    for (size_t i = 0; i < mounts.count; i++)
        mounts.list[i].late = is_late(c, mounts.list[i].target);
    qsort(mounts.list, mounts.count, sizeof *mounts.list, by_depth);
    size_t early = emit(&mounts, 0, false, b);
    emit_dev(c, devices, b);
    emit_enter(c, b);
    (void)emit(&mounts, early, true, b);
    emit_cgroup_links(c->config, &rt->cgroups, b);
    return 0;
}
