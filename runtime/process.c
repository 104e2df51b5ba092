#include "runtime/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

static int
read_boot_id(char out[37], struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    TRY(file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &length, err));
    if (length < 36)
        return error_set(err, ERR_INTERNAL, "/proc/sys/kernel/random/boot_id: %zu bytes", length);
    memcpy(out, text, 36);
    out[36] = '\0';
    return 0;
}

/* Field 22 of /proc/PID/stat, counted behind the last ')': a process may have any name. */
static int
read_start_ticks(pid_t pid, uint64_t *out, struct error *err)
{
    char path[48];
    cleanup_free char *text = NULL;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    TRY(file_read(AT_FDCWD, path, 4096, &text, NULL, err));
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    char *end = NULL;
    *out = at ? strtoull(at + 1, &end, 10) : 0;
    return at && end && *end == ' ' ? 0 : error_set(err, ERR_INTERNAL, "%s: no start time in it", path);
}

int
process_identify(pid_t pid, struct process_identity *out, struct error *err)
{
    struct process_identity identity = {.pid = pid};
    TRY(read_start_ticks(pid, &identity.start_ticks, err));
    TRY(read_boot_id(identity.boot_id, err));
    *out = identity;
    return 0;
}

bool
process_is(const struct process_identity *identity)
{
    struct process_identity now;
    struct error ignored;
    return identity->pid > 0 && process_identify(identity->pid, &now, &ignored) == 0 && now.start_ticks == identity->start_ticks &&
           strcmp(now.boot_id, identity->boot_id) == 0;
}
