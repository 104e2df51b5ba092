#include "runtime/devices.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/validate.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { DEPTH_MAX = 8, NODES_MAX = 2048 };

static const struct {
    const char *path;
    unsigned major, minor;
} standard[] = {
    {"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

/* Nodes may be made of any device, but used only of these: that is what tar and package managers need. */
static const struct device_rule standard_rules[] = {
    {'c', -1, -1, "m"}, {'b', -1, -1, "m"}, {'c', 1, 3, "rwm"}, {'c', 1, 5, "rwm"}, {'c', 1, 7, "rwm"},    {'c', 1, 8, "rwm"},
    {'c', 1, 9, "rwm"}, {'c', 5, 0, "rwm"}, {'c', 5, 1, "rwm"}, {'c', 5, 2, "rwm"}, {'c', 136, -1, "rwm"},
};

static void
add_rule(struct devices *devices, struct device_rule rule)
{
    devices->rules = mem_realloc(devices->rules, devices->rule_count + 1, sizeof *devices->rules);
    devices->rules[devices->rule_count++] = rule;
}

static void
add_node(struct devices *devices, const char *path, const struct stat *st)
{
    for (size_t i = 0; i < devices->node_count; i++)
        if (str_eq(devices->nodes[i].path, path))
            return;
    devices->nodes = mem_realloc(devices->nodes, devices->node_count + 1, sizeof *devices->nodes);
    devices->nodes[devices->node_count++] = (struct device_node){str_dup(path), st->st_mode, st->st_rdev, st->st_uid, st->st_gid};
}

static bool
is_device(const struct stat *st)
{
    return S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
}

/* Of the host's /dev, what a container has of its own. */
static bool
is_own(const char *path)
{
    static const char *const own[] = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx", "/dev/.udev"};
    for (size_t i = 0; i < COUNT(own); i++)
        if (str_eq(path, own[i]))
            return true;
    return false;
}

struct request {
    struct devices *out;
    const char *access; /* NULL: no rules */
};

static void
add_device(const struct request *request, const char *path, const struct stat *st)
{
    add_node(request->out, path, st);
    if (!request->access)
        return;
    struct device_rule rule = {S_ISBLK(st->st_mode) ? 'b' : 'c', (int64_t)major(st->st_rdev), (int64_t)minor(st->st_rdev), ""};
    memcpy(rule.access, request->access, strnlen(request->access, sizeof rule.access - 1));
    add_rule(request->out, rule);
}

/* All devices below the host's directory `fd`, as if it were `path` in the container. */
static void
add_below(const struct request *request, int fd, const char *path, int depth)
{
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) && request->out->node_count < NODES_MAX;) {
        struct stat st;
        cleanup_free char *below = str_printf("%s/%s", path, entry->d_name);
        if (entry->d_name[0] == '.' || is_own(below) || fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (is_device(&st))
            add_device(request, below, &st);
        int next = S_ISDIR(st.st_mode) && depth > 0 ? openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (next >= 0)
            add_below(request, next, below, depth - 1);
    }
}

static int
add_requested(struct devices *out, const struct device_request *asked, struct error *err)
{
    struct stat st;
    cleanup_free char *path = path_clean(str_empty(asked->container_path) ? asked->host_path : asked->container_path);
    const struct request request = {out, str_empty(asked->permissions) ? "rwm" : asked->permissions};
    if (!str_empty(asked->type)) {
        st = (struct stat){.st_mode = (*asked->type == 'b' ? S_IFBLK : S_IFCHR) | ((mode_t)asked->mode & 07777),
                           .st_rdev = makedev((unsigned)asked->major, (unsigned)asked->minor),
                           .st_uid = (uid_t)asked->uid,
                           .st_gid = (gid_t)asked->gid};
        add_device(&request, path, &st);
        return 0;
    }
    if (stat(asked->host_path, &st) < 0)
        return error_as((error_errno(err, errno, "device %s", asked->host_path), err), ERR_INVALID);
    if (is_device(&st)) {
        add_device(&request, path, &st);
        return 0;
    }
    if (!S_ISDIR(st.st_mode))
        return error_set(err, ERR_INVALID, "device %s: it is no device", asked->host_path);
    int fd = TRY(file_open(AT_FDCWD, asked->host_path, O_RDONLY | O_DIRECTORY, 0, err));
    add_below(&request, fd, path, DEPTH_MAX);
    return 0;
}

static void
add_all_of_host(struct devices *out)
{
    int fd = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        add_below(&(struct request){out, NULL}, fd, "/dev", DEPTH_MAX);
}

int
devices_resolve(const struct container_config *config, bool host_too, struct devices *out, struct error *err)
{
    bool all = config->privileged && host_too;
    *out = (struct devices){0};
    for (size_t i = 0; i < COUNT(standard); i++)
        add_node(out, standard[i].path, &(struct stat){.st_mode = S_IFCHR | 0666, .st_rdev = makedev(standard[i].major, standard[i].minor)});
    for (size_t i = 0; !all && i < COUNT(standard_rules); i++)
        add_rule(out, standard_rules[i]);
    for (size_t i = 0; i < config->device_count; i++)
        if (add_requested(out, &config->devices[i], err) < 0) {
            devices_free(out);
            return -1;
        }
    if (all) {
        add_all_of_host(out);
        out->rule_count = 0;
    }
    return 0;
}

void
devices_free(struct devices *devices)
{
    for (size_t i = 0; i < devices->node_count; i++)
        free(devices->nodes[i].path);
    free(devices->nodes);
    free(devices->rules);
    *devices = (struct devices){0};
}
