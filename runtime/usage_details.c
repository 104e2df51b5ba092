/* What is found out process by process and device by device. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"
#include "runtime/usage.h"

enum {
    FILE_MAX = 1 << 20,
    DEPTH_MAX = 32,            /* as in runtime/cgroup.c */
    DESCRIPTORS_MAX = 1 << 18, /* looked at for one container; beyond, the count goes on without telling sockets apart */
};

/* ---- processes ---- */

static void
count_descriptors(int64_t pid, struct usage_details *out)
{
    char path[48], target[16];
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/fd", pid);
    cleanup_closedir DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        /* stat(2) would ask the file system behind the descriptor, which may hang. */
        ssize_t length = out->files++ < DESCRIPTORS_MAX ? readlinkat(dirfd(dir), entry->d_name, target, sizeof target) : 0;
        out->sockets += length >= 7 && memcmp(target, "socket:", 7) == 0;
    }
}

static void
count_in(int dir, bool descriptors, struct usage_details *out)
{
    cleanup_free char *text = NULL;
    if (file_read(dir, "cgroup.procs", FILE_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        int64_t pid;
        if (!*line || str_to_i64(line, "pid", &pid, NULL) < 0)
            continue;
        out->processes++;
        if (descriptors)
            count_descriptors(pid, out);
    }
}

/* Takes fd. */
static void
count_below(int fd, int depth, bool descriptors, struct usage_details *out)
{
    cleanup_closedir DIR *dir = fdopendir(fd);
    if (!dir) {
        (void)close(fd);
        return;
    }
    count_in(fd, descriptors, out);
    for (struct dirent *entry; depth > 0 && (entry = readdir(dir));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0)
            count_below(below, depth - 1, descriptors, out);
    }
}

/* What holds a container's scope until its end is counted is none of its processes (monitor/task.c). */
static int64_t
holders(const struct cgroups *cgroups, const char *path)
{
    cleanup_strv struct strv children = {0};
    int64_t count = str_ends(path, ".scope");
    if (str_ends(path, ".slice"))
        cgroup_children(cgroups, path, &children);
    for (size_t i = 0; i < children.count; i++)
        count += str_ends(children.items[i], ".scope");
    return count;
}

static void
count_processes(const struct cgroups *cgroups, const char *path, bool descriptors, struct usage_details *out)
{
    const char *first = cgroups->unified < 0 && cgroups->list[0].controllers.count ? cgroups->list[0].controllers.items[0] : NULL;
    int fd = first ? cgroup_open_controller(cgroups, path, first, NULL) : cgroup_open_unified(cgroups, path, NULL);
    out->processes = out->files = out->sockets = fd < 0 ? UNKNOWN : 0;
    if (fd >= 0)
        count_below(fd, DEPTH_MAX, descriptors, out);
    if (out->processes > 0)
        out->processes -= holders(cgroups, path);
}

int64_t
usage_processes(const struct cgroups *cgroups, const char *path)
{
    struct usage_details counted = {0};
    count_processes(cgroups, path, false, &counted);
    return counted.processes;
}

int64_t
usage_open_files_limit(pid_t pid)
{
    static const char name[] = "Max open files";
    char path[48];
    cleanup_free char *text = NULL;
    (void)snprintf(path, sizeof path, "/proc/%d/limits", pid);
    if (pid <= 0 || file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
        return UNKNOWN;
    const char *line = strstr(text, name);
    char *end;
    int64_t value = line ? strtoll(line + strlen(name), &end, 10) : UNKNOWN;
    return line && end != line + strlen(name) ? value : UNKNOWN;
}

/* ---- devices ---- */

void
usage_device_name(unsigned major, unsigned minor, char out[DEVICE_NAME_SIZE])
{
    char path[64];
    cleanup_free char *text = NULL;
    out[0] = '\0';
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/uevent", major, minor);
    if (file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
        return;
    const char *name = strstr(text, "DEVNAME=");
    if (name)
        (void)snprintf(out, DEVICE_NAME_SIZE, "/dev/%.*s", (int)strcspn(name + 8, "\n"), name + 8);
}

static struct device_usage *
device_of(struct usage_details *details, unsigned major, unsigned minor)
{
    for (size_t i = 0; i < details->device_count; i++)
        if (details->devices[i].major == major && details->devices[i].minor == minor)
            return &details->devices[i];
    details->devices = mem_realloc(details->devices, details->device_count + 1, sizeof *details->devices);
    struct device_usage *device = &details->devices[details->device_count++];
    *device = (struct device_usage){.major = major, .minor = minor};
    usage_device_name(major, minor, device->name);
    return device;
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" */
static void
read_v2_io(int dir, struct usage_details *out)
{
    cleanup_free char *text = NULL;
    if (file_read(dir, "io.stat", FILE_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        unsigned major, minor;
        struct device_usage d;
        if (sscanf(line, "%u:%u rbytes=%" SCNd64 " wbytes=%" SCNd64 " rios=%" SCNd64 " wios=%" SCNd64, &major, &minor, &d.read_bytes,
                   &d.written_bytes, &d.reads, &d.writes) != 6)
            continue;
        struct device_usage *device = device_of(out, major, minor);
        device->read_bytes = d.read_bytes;
        device->written_bytes = d.written_bytes;
        device->reads = d.reads;
        device->writes = d.writes;
    }
}

/* "8:0 Read 1", "8:0 Write 2", other operations, "Total 3" */
static void
read_v1_io(int dir, const char *file, bool bytes, struct usage_details *out)
{
    cleanup_free char *text = NULL;
    if (file_read(dir, file, FILE_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        unsigned major, minor;
        char operation[16];
        int64_t value;
        if (sscanf(line, "%u:%u %15s %" SCNd64, &major, &minor, operation, &value) != 4)
            continue;
        struct device_usage *device = device_of(out, major, minor);
        if (str_eq(operation, "Read"))
            *(bytes ? &device->read_bytes : &device->reads) = value;
        else if (str_eq(operation, "Write"))
            *(bytes ? &device->written_bytes : &device->writes) = value;
    }
}

static void
read_devices(const struct cgroups *cgroups, const char *path, struct usage_details *out)
{
    bool v1 = cgroups_of(cgroups, "blkio") != NULL;
    cleanup_close int dir = v1 ? cgroup_open_controller(cgroups, path, "blkio", NULL) : cgroup_open_controller(cgroups, path, "io", NULL);
    if (dir < 0)
        return;
    if (!v1) {
        read_v2_io(dir, out);
        return;
    }
    read_v1_io(dir, "blkio.throttle.io_service_bytes_recursive", true, out);
    read_v1_io(dir, "blkio.throttle.io_serviced_recursive", false, out);
}

/* ---- huge pages ---- */

static int64_t
number_in(int dir, const char *page_size, const char *what)
{
    char file[64];
    cleanup_free char *text = NULL;
    (void)snprintf(file, sizeof file, "hugetlb.%s.%s", page_size, what);
    return file_read(dir, file, 64, &text, NULL, NULL) < 0 ? UNKNOWN : strtoll(text, NULL, 10);
}

static void
read_hugepages(const struct cgroups *cgroups, const char *path, struct usage_details *out)
{
    const struct cgroup_hierarchy *h = cgroups_of(cgroups, "hugetlb");
    int fd = h ? cgroup_open_controller(cgroups, path, "hugetlb", NULL) : -1;
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir)
        return;
    const char *current = h->unified ? "current" : "usage_in_bytes";
    for (struct dirent *entry; (entry = readdir(dir));) {
        char page_size[PAGE_SIZE_SIZE], what[32];
        if (sscanf(entry->d_name, "hugetlb.%15[^.].%31s", page_size, what) != 2 || !str_eq(what, current))
            continue;
        out->hugepages = mem_realloc(out->hugepages, out->hugepage_count + 1, sizeof *out->hugepages);
        struct hugepage_usage *pages = &out->hugepages[out->hugepage_count++];
        *pages = (struct hugepage_usage){.bytes = number_in(fd, page_size, current),
                                         .peak_bytes = h->unified ? UNKNOWN : number_in(fd, page_size, "max_usage_in_bytes")};
        memcpy(pages->page_size, page_size, sizeof page_size);
    }
}

void
usage_read_details(const struct cgroups *cgroups, const char *path, struct usage_details *out)
{
    *out = (struct usage_details){0};
    count_processes(cgroups, path, true, out);
    read_devices(cgroups, path, out);
    read_hugepages(cgroups, path, out);
}

void
usage_details_free(struct usage_details *details)
{
    free(details->devices);
    free(details->hugepages);
    *details = (struct usage_details){0};
}

/* ---- network ---- */

/* "  eth0: BYTES PACKETS ERRS DROP fifo frame compressed multicast BYTES PACKETS ERRS DROP …" */
static bool
read_interface(const char *line, struct interface_usage *out)
{
    return sscanf(line, " %15[^:]: %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %*u %*u %*u %*u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                  out->name, &out->rx_bytes, &out->rx_packets, &out->rx_errors, &out->rx_dropped, &out->tx_bytes, &out->tx_packets, &out->tx_errors,
                  &out->tx_dropped) == 9 &&
           !str_eq(out->name, "lo");
}

struct interface_usage *
usage_interfaces(pid_t pid, size_t *count)
{
    char path[48];
    cleanup_free char *text = NULL;
    struct interface_usage *list = NULL, one;
    *count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/net/dev", pid);
    if (pid <= 0 || file_read(AT_FDCWD, path, FILE_MAX, &text, NULL, NULL) < 0)
        return NULL;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
        if (read_interface(line, &one)) {
            list = mem_realloc(list, *count + 1, sizeof *list);
            list[(*count)++] = one;
        }
    return list;
}
