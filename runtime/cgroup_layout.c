/* Which cgroup hierarchies this host has, from /proc/self/mountinfo (proc(5)): one line a mount,
 *   ID PARENT MAJOR:MINOR ROOT MOUNT_POINT OPTIONS [TAGS…] - FSTYPE SOURCE SUPER_OPTIONS */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"

/* Super options that are no controller. */
static bool
is_plain_option(const char *option)
{
    static const char *const plain[] = {"rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode", "favordynmods"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (str_eq(option, plain[i]))
            return true;
    return str_starts(option, "release_agent=");
}

static void
read_options(struct cgroup_hierarchy *h, const char *super_options)
{
    cleanup_strv struct strv options = {0};
    cleanup_buf struct buf kept = BUF(4096);
    strv_split(&options, super_options, ',', true);
    for (size_t i = 0; i < options.count; i++) {
        if (is_plain_option(options.items[i]))
            continue;
        strv_add(&h->controllers, options.items[i]);
        bool named_only = str_starts(options.items[i], "name=") && kept.length == 0;
        (void)buf_addf(&kept, "%s%s%s", kept.length ? "," : "", named_only ? "none," : "", options.items[i]);
    }
    h->options = kept.data ? steal(kept.data) : str_dup("");
}

static int
read_unified(struct cgroup_hierarchy *h, struct error *err)
{
    static const char *const wanted[] = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"};
    cleanup_free char *text = NULL;
    TRY(file_read(h->root, "cgroup.controllers", 4096, &text, NULL, err));
    cleanup_strv struct strv available = {0};
    text[strcspn(text, "\n")] = '\0';
    strv_split(&available, text, ' ', true);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (strv_has(&available, wanted[i]))
            strv_add(&h->controllers, wanted[i]);
    return 0;
}

static bool
is_known(const struct cgroups *cgroups, const struct cgroup_hierarchy *h)
{
    for (size_t i = 0; i < cgroups->count; i++)
        if (cgroups->list[i].unified == h->unified && (h->unified || str_eq(cgroups->list[i].options, h->options)))
            return true;
    return false;
}

static void
hierarchy_free(struct cgroup_hierarchy *h)
{
    free(h->mount_point);
    free(h->name);
    free(h->options);
    strv_free(&h->controllers);
    if (h->root >= 0)
        (void)close(h->root);
}

static int
add_hierarchy(struct cgroups *cgroups, const char *mount_point, const char *super_options, bool unified, struct error *err)
{
    struct cgroup_hierarchy h = {.unified = unified, .root = -1};
    if (unified)
        h.options = str_dup("");
    else
        read_options(&h, super_options);
    h.mount_point = str_dup(mount_point);
    h.name = str_dup(strrchr(mount_point, '/') + 1);
    bool skip = is_known(cgroups, &h) || (!unified && h.controllers.count == 0);
    int result = 0;
    if (!skip) {
        h.root = file_open(AT_FDCWD, mount_point, O_RDONLY | O_DIRECTORY, 0, err);
        result = h.root < 0 || (unified && read_unified(&h, err) < 0) ? -1 : 0;
    }
    if (skip || result < 0) {
        hierarchy_free(&h);
        return result;
    }
    if (unified)
        cgroups->unified = (int)cgroups->count;
    cgroups->list = mem_realloc(cgroups->list, cgroups->count + 1, sizeof *cgroups->list);
    cgroups->list[cgroups->count++] = h;
    return 0;
}

static int
read_mount(struct cgroups *cgroups, const char *line, struct error *err)
{
    cleanup_strv struct strv words = {0};
    strv_split(&words, line, ' ', true);
    size_t dash = 6;
    while (dash < words.count && !str_eq(words.items[dash], "-"))
        dash++;
    if (dash + 3 >= words.count)
        return 0;
    bool unified = str_eq(words.items[dash + 1], "cgroup2");
    if (!unified && !str_eq(words.items[dash + 1], "cgroup"))
        return 0;
    return add_hierarchy(cgroups, words.items[4], words.items[dash + 3], unified, err);
}

/* Programs look for /sys/fs/cgroup/cpu also where cpu and cpuacct share a mount named cpu,cpuacct. */
static void
find_links(struct cgroups *cgroups)
{
    for (size_t i = 0; i < cgroups->count; i++) {
        const struct cgroup_hierarchy *h = &cgroups->list[i];
        for (size_t c = 0; !h->unified && h->controllers.count > 1 && c < h->controllers.count; c++) {
            strv_add(&cgroups->links, h->controllers.items[c]);
            strv_add(&cgroups->links, h->name);
        }
    }
}

int
cgroups_open(struct cgroups *cgroups, struct error *err)
{
    *cgroups = (struct cgroups){.unified = -1};
    cleanup_fclose FILE *file = fopen("/proc/self/mountinfo", "re");
    cleanup_free char *line = NULL;
    size_t room = 0;
    if (!file)
        return error_errno(err, errno, "open /proc/self/mountinfo");
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (read_mount(cgroups, line, err) < 0) {
            cgroups_close(cgroups);
            return error_prefix(err, "cgroups");
        }
    }
    find_links(cgroups);
    return cgroups->count ? 0 : error_set(err, ERR_UNSUPPORTED, "no cgroup hierarchy is mounted");
}

void
cgroups_close(struct cgroups *cgroups)
{
    for (size_t i = 0; i < cgroups->count; i++)
        hierarchy_free(&cgroups->list[i]);
    free(cgroups->list);
    strv_free(&cgroups->links);
    *cgroups = (struct cgroups){.unified = -1};
}
