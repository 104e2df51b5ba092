#include "runtime/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

static const char made_by_crisp[] = "trusted.crisp";

/* "/a/b" → "a/b", for *at calls below the root's fd. */
static const char *
below_root(const char *path)
{
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

bool
cgroups_only_unified(const struct cgroups *cgroups)
{
    return cgroups->count == 1 && cgroups->unified == 0;
}

const struct cgroup_hierarchy *
cgroups_of(const struct cgroups *cgroups, const char *controller)
{
    for (size_t i = 0; i < cgroups->count; i++)
        if (strv_has(&cgroups->list[i].controllers, controller))
            return &cgroups->list[i];
    return NULL;
}

char *
cgroup_path(const char *path, const char *fallback, struct error *err)
{
    const char *chosen = str_empty(path) ? fallback : path;
    cleanup_strv struct strv components = {0};
    strv_split(&components, chosen, '/', true);
    cleanup_buf struct buf clean = BUF(4096);
    bool fits = true;
    for (size_t i = 0; i < components.count; i++) {
        if (str_eq(components.items[i], "..") || str_eq(components.items[i], ".")) {
            error_set(err, ERR_INVALID, "cgroup_parent %s: it has a component %s", chosen, components.items[i]);
            return NULL;
        }
        fits = fits && buf_addf(&clean, "/%s", components.items[i]);
    }
    if (!fits || clean.length == 0) {
        error_set(err, ERR_INVALID, "cgroup_parent %.64s: it is %s", chosen, fits ? "the root" : "too long");
        return NULL;
    }
    return steal(clean.data);
}

/* --- making --- */

/* A new v1 cpuset is empty, and no process may enter it, until it has its parent's CPUs and memory nodes (cpuset(7)). */
static int
inherit_cpuset(int parent, int made, const char *path, struct error *err)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    for (size_t i = 0; i < 2; i++) {
        cleanup_free char *value = NULL;
        TRY(file_read(parent, files[i], 65536, &value, NULL, err));
        if (file_put(made, files[i], value, err) < 0)
            return error_prefix(err, "cgroup %s", path);
    }
    return 0;
}

static int
complete(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
    if (h->unified || !strv_has(&h->controllers, "cpuset"))
        return 0;
    cleanup_close int made = TRY(file_open(h->root, below_root(path), O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_close int parent = TRY(file_open(made, "..", O_RDONLY | O_DIRECTORY, 0, err));
    return inherit_cpuset(parent, made, path, err);
}

static int
read_words(int dir, const char *file, struct strv *words, struct error *err)
{
    cleanup_free char *text = NULL;
    TRY(file_read(dir, file, 4096, &text, NULL, err));
    text[strcspn(text, "\n")] = '\0';
    strv_split(words, text, ' ', true);
    return 0;
}

/* In the unified hierarchy a controller works in a cgroup when its parent lists it in cgroup.subtree_control; which ones can be listed is up to the
 * parent's parent. */
static int
enable_controllers(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
    cleanup_close int dir = TRY(file_open(h->root, below_root(path), O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_strv struct strv enabled = {0}, available = {0};
    TRY(read_words(dir, "cgroup.subtree_control", &enabled, err));
    TRY(read_words(dir, "cgroup.controllers", &available, err));
    cleanup_buf struct buf missing = BUF(4096);
    for (size_t i = 0; i < h->controllers.count; i++)
        if (!strv_has(&enabled, h->controllers.items[i]) && strv_has(&available, h->controllers.items[i]))
            (void)buf_addf(&missing, "%s+%s", missing.length ? " " : "", h->controllers.items[i]);
    if (missing.length && file_put(dir, "cgroup.subtree_control", missing.data, err) < 0)
        return error_prefix(err, "cgroup %s", path);
    return 0;
}

static int
make_one(const struct cgroup_hierarchy *h, const char *path, bool mark, struct error *err)
{
    if (mkdirat(h->root, below_root(path), 0755) < 0)
        return errno == EEXIST ? 0 : error_errno(err, errno, "make cgroup %s%s", h->mount_point, path);
    if (mark) {
        cleanup_free char *absolute = str_printf("%s%s", h->mount_point, path);
        (void)setxattr(absolute, made_by_crisp, "1", 1, 0);
    }
    return complete(h, path, err);
}

/* Each prefix of `path` in turn: "/a", "/a/b", "/a/b/c". */
static int
claim_in(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
    cleanup_free char *prefix = str_dup(path);
    if (h->unified)
        TRY(enable_controllers(h, "/", err));
    for (char *end = strchrnul(prefix + 1, '/');; end = strchrnul(end + 1, '/')) {
        char kept = *end;
        *end = '\0';
        TRY(make_one(h, prefix, true, err));
        if (h->unified)
            TRY(enable_controllers(h, prefix, err));
        *end = kept;
        if (!kept)
            return 0;
    }
}

int
cgroup_claim_parent(const struct cgroups *cgroups, const char *path, struct error *err)
{
    for (size_t i = 0; i < cgroups->count; i++)
        if (claim_in(&cgroups->list[i], path, err) < 0) {
            cgroup_release_parent(cgroups, path);
            return -1;
        }
    return 0;
}

static void
release_in(const struct cgroup_hierarchy *h, const char *path)
{
    cleanup_free char *prefix = str_dup(path);
    char mark[2];
    for (char *slash; *prefix; *slash = '\0') {
        slash = strrchr(prefix, '/');
        cleanup_free char *absolute = str_printf("%s%s", h->mount_point, prefix);
        if (getxattr(absolute, made_by_crisp, mark, sizeof mark) < 0)
            return;
        if (rmdir(absolute) < 0 && errno != ENOENT)
            return;
    }
}

void
cgroup_remove_own_parent(const struct cgroups *cgroups, const char *path)
{
    for (size_t i = 0; i < cgroups->count; i++)
        (void)unlinkat(cgroups->list[i].root, below_root(path), AT_REMOVEDIR);
}

void
cgroup_release_parent(const struct cgroups *cgroups, const char *path)
{
    for (size_t i = 0; i < cgroups->count; i++)
        release_in(&cgroups->list[i], path);
}

bool
cgroup_parent_is_released(const struct cgroups *cgroups, const char *path)
{
    char mark[2];
    for (size_t i = 0; i < cgroups->count; i++) {
        cleanup_free char *absolute = str_printf("%s%s", cgroups->list[i].mount_point, path);
        if (getxattr(absolute, made_by_crisp, mark, sizeof mark) >= 0)
            return false;
    }
    return true;
}

int
cgroup_make(const struct cgroups *cgroups, const char *path, struct error *err)
{
    for (size_t i = 0; i < cgroups->count; i++)
        if (make_one(&cgroups->list[i], path, false, err) < 0) {
            (void)cgroup_remove(cgroups, path);
            return -1;
        }
    return 0;
}

int
cgroup_make_first(const struct cgroups *cgroups, const char *path, struct error *err)
{
    const struct cgroup_hierarchy *memory = cgroups_of(cgroups, "memory");
    if (cgroups->unified >= 0)
        TRY(make_one(&cgroups->list[cgroups->unified], path, false, err));
    return memory && !memory->unified ? make_one(memory, path, false, err) : 0;
}

int
cgroup_make_child(const struct cgroups *cgroups, const char *path, const char *name, struct error *err)
{
    if (cgroups->unified < 0)
        return error_errno(err, ENOENT, "the unified cgroup hierarchy");
    const struct cgroup_hierarchy *h = &cgroups->list[cgroups->unified];
    cleanup_free char *child = str_printf("%s/%s", path, name);
    TRY(make_one(h, child, false, err));
    return file_open(h->root, below_root(child), O_RDONLY | O_DIRECTORY, 0, err);
}

void
cgroup_remove_child(const struct cgroups *cgroups, const char *path, const char *name)
{
    cleanup_free char *child = str_printf("%s/%s", path, name);
    if (cgroups->unified >= 0)
        (void)unlinkat(cgroups->list[cgroups->unified].root, below_root(child), AT_REMOVEDIR);
}

/* --- removing --- */

/* A cgroup directory holds files that cannot be unlinked and children that can be removed: rmdir, and only where that fails look inside. */
static int
remove_dir(int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    int fd = depth > 0 ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        return 1;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            (void)remove_dir(fd, entry->d_name, depth - 1);
    (void)closedir(dir);
    return unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : 1;
}

int
cgroup_remove(const struct cgroups *cgroups, const char *path)
{
    enum { DEPTH_MAX = 32 }; /* a container with a writable cgroup may have made some below */
    int busy = 0;
    for (size_t i = 0; i < cgroups->count; i++)
        busy |= remove_dir(cgroups->list[i].root, below_root(path), DEPTH_MAX);
    return busy;
}

/* --- looking and killing --- */

static int
open_in(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
    return file_open(h->root, below_root(path), O_RDONLY | O_DIRECTORY, 0, err);
}

int
cgroup_open_unified(const struct cgroups *cgroups, const char *path, struct error *err)
{
    if (cgroups->unified < 0)
        return error_errno(err, ENOENT, "the unified cgroup hierarchy");
    return open_in(&cgroups->list[cgroups->unified], path, err);
}

int
cgroup_open_controller(const struct cgroups *cgroups, const char *path, const char *controller, struct error *err)
{
    const struct cgroup_hierarchy *h = cgroups_of(cgroups, controller);
    return h ? open_in(h, path, err) : error_set(err, ERR_UNSUPPORTED, "this host has no cgroup controller %s", controller);
}

char *
cgroup_file(const struct cgroups *cgroups, const char *path, const char *controller, const char *file)
{
    const struct cgroup_hierarchy *h = cgroups_of(cgroups, controller);
    return h ? str_printf("%s%s/%s", h->mount_point, path, file) : NULL;
}

/* Which hierarchy tells who is in a cgroup. */
static const struct cgroup_hierarchy *
census(const struct cgroups *cgroups)
{
    return &cgroups->list[cgroups->unified >= 0 ? cgroups->unified : 0];
}

bool
cgroup_populated(const struct cgroups *cgroups, const char *path)
{
    const struct cgroup_hierarchy *h = census(cgroups);
    cleanup_close int dir = open_in(h, path, NULL);
    cleanup_free char *text = NULL;
    if (dir < 0 || file_read(dir, h->unified ? "cgroup.events" : "tasks", 1 << 20, &text, NULL, NULL) < 0)
        return false;
    return h->unified ? strstr(text, "populated 1") != NULL : *text != '\0';
}

/* Pids of the processes in it, decimal. */
static void
read_procs(int dir, struct strv *pids)
{
    cleanup_free char *text = NULL;
    if (file_read(dir, "cgroup.procs", 1 << 20, &text, NULL, NULL) == 0)
        strv_split(pids, text, '\n', true);
}

void
cgroup_set_oom_score(const struct cgroups *cgroups, const char *path, int64_t score)
{
    cleanup_close int dir = open_in(census(cgroups), path, NULL);
    cleanup_strv struct strv pids = {0};
    cleanup_free char *value = str_printf("%" PRId64, score);
    if (dir >= 0)
        read_procs(dir, &pids);
    for (size_t i = 0; i < pids.count; i++) {
        cleanup_free char *file = str_printf("/proc/%s/oom_score_adj", pids.items[i]);
        (void)file_put(AT_FDCWD, file, value, NULL);
    }
}

static size_t
kill_each(int dir)
{
    cleanup_strv struct strv pids = {0};
    size_t killed = 0;
    read_procs(dir, &pids);
    for (size_t i = 0; i < pids.count; i++) {
        uint64_t pid;
        if (str_to_u64(pids.items[i], INT32_MAX, "pid", &pid, NULL) == 0 && pid > 1)
            killed += kill((pid_t)pid, SIGKILL) == 0;
    }
    return killed;
}

/* A host without cgroup.kill (v1 alone): a process may fork between the reading and the killing, so until none is left. */
static int
kill_by_list(const struct cgroup_hierarchy *h, const char *path, struct error *err)
{
    enum { ROUNDS = 100 };
    cleanup_close int dir = open_in(h, path, err);
    if (dir < 0)
        return errno == ENOENT ? 0 : -1;
    for (int round = 0; round < ROUNDS; round++) {
        if (kill_each(dir) == 0)
            return 0;
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return error_set(err, ERR_INTERNAL, "cgroup %s: processes go on being made while they are killed", path);
}

int
cgroup_kill(const struct cgroups *cgroups, const char *path, struct error *err)
{
    const struct cgroup_hierarchy *h = census(cgroups);
    if (!h->unified)
        return kill_by_list(h, path, err);
    cleanup_close int dir = openat(h->root, below_root(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "cgroup %s", path);
    struct error failed;
    if (file_put(dir, "cgroup.kill", "1", &failed) == 0 || failed.errnum == ENODEV)
        return 0;
    if (err)
        *err = failed;
    return error_prefix(err, "cgroup %s", path);
}

static void
children_in(const struct cgroup_hierarchy *h, const char *path, struct strv *names)
{
    int fd = open_in(h, path, NULL);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            strv_add(names, entry->d_name);
}

void
cgroup_children(const struct cgroups *cgroups, const char *path, struct strv *names)
{
    children_in(census(cgroups), path, names);
}

void
cgroup_children_anywhere(const struct cgroups *cgroups, const char *path, struct strv *names)
{
    for (size_t i = 0; i < cgroups->count; i++)
        children_in(&cgroups->list[i], path, names);
}
