/* What a cgroup uses, as the kernel counts it, v1 and v2 alike. Figures are numbers; usage.c has one line for each, with the file and key that hold
 * it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

struct cgroups;

enum { UNKNOWN = -1 }; /* the kernel does not have the figure; of a limit: there is none */

enum figure {
    /* nanoseconds since the cgroup was made */
    FIGURE_CPU_NS,
    FIGURE_CPU_USER_NS,
    FIGURE_CPU_SYSTEM_NS,
    FIGURE_THROTTLED_NS,
    /* bytes */
    FIGURE_MEMORY,
    FIGURE_MEMORY_PEAK,
    FIGURE_MEMORY_LIMIT,
    FIGURE_MEMORY_RESERVED,
    FIGURE_MEMORY_CACHE,
    FIGURE_MEMORY_RSS,
    FIGURE_MEMORY_KERNEL,
    FIGURE_MEMORY_MAPPED,
    FIGURE_MEMORY_INACTIVE_FILE,
    FIGURE_MEMORY_WORKING_SET, /* in use, less files that nobody touched lately */
    FIGURE_SWAP,
    FIGURE_SWAP_LIMIT, /* v1: of memory and swap together */
    /* counts */
    FIGURE_PERIODS,
    FIGURE_THROTTLED_PERIODS,
    FIGURE_MEMORY_LIMIT_HITS,
    FIGURE_PAGE_FAULTS,
    FIGURE_MAJOR_PAGE_FAULTS,
    FIGURE_OWN_PAGE_FAULTS, /* without cgroups below, where the kernel tells them apart */
    FIGURE_OWN_MAJOR_PAGE_FAULTS,
    FIGURE_OOM_KILLS,
    FIGURE_TASKS,
    FIGURE_TASKS_LIMIT,
    FIGURE_CPU_SHARES, /* in the scale of v1 */
    FIGURE_CPU_PERIOD_US,
    FIGURE_CPU_QUOTA_US,
    FIGURES
};

enum pressure_of { PRESSURE_CPU, PRESSURE_MEMORY, PRESSURE_IO, PRESSURES };

/* PSI [kernel, accounting/psi.rst]. */
struct pressure {
    int64_t total_ns;  /* UNKNOWN: no such figure */
    double percent[3]; /* of the last 10, 60, 300 seconds */
};

struct usage {
    int64_t time_ns; /* wall clock, when it was read */
    int64_t figures[FIGURES];
    struct {
        struct pressure some, full;
    } pressure[PRESSURES];
    int64_t memory_left_bytes, swap_left_bytes; /* until the limit; UNKNOWN where there is none */
    int64_t nano_cores;                         /* CPU time per second of late, in ns; usage_read does not know it */
};

/* All UNKNOWN where there is no such cgroup. */
void usage_read(const struct cgroups *cgroups, const char *path, struct usage *out);

/* Nothing is used: for sums. */
void usage_zero(struct usage *out);
/* Add what another one uses; what either does not know is not known of both. Pressures and what is left are no sums and stay UNKNOWN. */
void usage_add(struct usage *to, const struct usage *more);

/* ---- what takes longer to find out ---- */

enum { DEVICE_NAME_SIZE = 64, PAGE_SIZE_SIZE = 16, INTERFACE_NAME_SIZE = 16 };

struct device_usage {
    unsigned major, minor;
    char name[DEVICE_NAME_SIZE]; /* "/dev/sda"; "" when unknown */
    int64_t read_bytes, written_bytes, reads, writes;
};

struct hugepage_usage {
    char page_size[PAGE_SIZE_SIZE]; /* "2MB" */
    int64_t bytes, peak_bytes;
};

struct interface_usage {
    char name[INTERFACE_NAME_SIZE];
    uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped;
};

struct usage_details {
    struct device_usage *devices;
    size_t device_count;
    struct hugepage_usage *hugepages;
    size_t hugepage_count;
    int64_t processes, files, sockets; /* open descriptors of all processes, and those of them that are sockets */
};

void usage_read_details(const struct cgroups *cgroups, const char *path, struct usage_details *out);
void usage_details_free(struct usage_details *details);

/* Processes in it and below. */
int64_t usage_processes(const struct cgroups *cgroups, const char *path);

/* Every interface but lo of the network namespace that a process is in, read from its /proc: nobody enters the namespace. Array for free(3). */
struct interface_usage *usage_interfaces(pid_t pid, size_t *count);
/* "Max open files" of a process: how many it may have before it raises the limit itself. */
int64_t usage_open_files_limit(pid_t pid);
/* "8:0" → "/dev/sda"; "" when it is no device. */
void usage_device_name(unsigned major, unsigned minor, char out[DEVICE_NAME_SIZE]);
