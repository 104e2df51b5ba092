/* What makes a process this one and no other with its pid: recorded beside every pid that is to be signalled later, since pids are given again, after
 * a reboot at the latest. No state; any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct process_identity {
    pid_t pid;            /* 0: none */
    uint64_t start_ticks; /* /proc/PID/stat, field 22 */
    char boot_id[37];     /* /proc/sys/kernel/random/boot_id */
};

/* Of a process that runs now: ERR_NOT_FOUND where there is none. */
int process_identify(pid_t pid, struct process_identity *out, struct error *err);
/* Still that very process; a zombie counts. */
bool process_is(const struct process_identity *identity);
