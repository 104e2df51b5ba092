#include "runtime/exit_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"

size_t
exit_record_format(const struct exit_report *report, char *out)
{
    return (size_t)snprintf(out, EXIT_RECORD_MAX, "version=1\nstatus=%d\noom_killed=%d\nfinished_ns=%lld\nend\n", report->status, report->oom_killed,
                            (long long)report->finished_ns);
}

/* The number behind "\nKEY=" (or at the start); false where it is missing or malformed. */
static bool
number_of(const char *text, const char *key, int64_t *out)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, length) != 0 || line[length] != '=')
            continue;
        char *end;
        errno = 0;
        long long value = strtoll(line + length + 1, &end, 10);
        if (errno || end == line + length + 1 || *end != '\n')
            return false;
        *out = value;
        return true;
    }
    return false;
}

bool
exit_record_parse(const char *text, struct exit_report *out)
{
    int64_t version, status, oom, finished;
    size_t length = strlen(text);
    if (length < 5 || strcmp(text + length - 5, "\nend\n") != 0)
        return false;
    if (!number_of(text, "version", &version) || !number_of(text, "status", &status) || !number_of(text, "oom_killed", &oom) ||
        !number_of(text, "finished_ns", &finished))
        return false;
    if (version < 1 || status < 0 || status > 255 || finished < 0)
        return false;
    *out = (struct exit_report){.status = (int)status, .oom_killed = oom != 0, .finished_ns = finished};
    return true;
}

bool
exit_record_read(int containers_dir, const char *container_id, struct exit_report *out)
{
    char path[ID_SIZE + 8], text[EXIT_RECORD_MAX];
    if (!id_valid(container_id))
        return false;
    (void)snprintf(path, sizeof path, "%s/exit", container_id);
    cleanup_close int fd = openat(containers_dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0)
        return false;
    text[n] = '\0';
    return exit_record_parse(text, out);
}

void
exit_record_sync(int containers_dir, const char *container_id)
{
    char path[ID_SIZE + 8];
    (void)snprintf(path, sizeof path, "%s/exit", container_id);
    cleanup_close int file = openat(containers_dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    cleanup_close int directory = openat(containers_dir, container_id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file >= 0 && directory >= 0 && fsync(file) == 0)
        (void)fsync(directory);
}
