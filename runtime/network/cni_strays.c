#include "runtime/network/cni_strays.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"

enum {
    ENVIRONMENT_MAX = 2 << 20, /* what execve(2) takes with the usual stack */
    DEATH_MS = 1000,
};

static bool
is_led_for(pid_t pid, const struct strv *container_ids)
{
    static const char name[] = "CNI_CONTAINERID=";
    cleanup_free char *path = str_printf("/proc/%d/environ", (int)pid), *text = NULL;
    size_t length;
    if (getpgid(pid) != pid || getsid(pid) == pid || file_read(AT_FDCWD, path, ENVIRONMENT_MAX, &text, &length, NULL) < 0)
        return false;
    for (const char *at = text; at < text + length; at += strlen(at) + 1)
        if (str_starts(at, name))
            return strv_has(container_ids, at + strlen(name));
    return false;
}

/* The pidfd is opened first: what is then seen of the pid is of that process for as long as the pidfd says that it lives. */
static void
end_if_stray(pid_t pid, const struct strv *container_ids)
{
    cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || !is_led_for(pid, container_ids) || syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return;
    cleanup_free char *number = str_printf("%d", (int)pid);
    log_warn("a CNI plugin of a crispd that was killed is killed too", "pid", number);
    (void)kill(-pid, SIGKILL);
    struct pollfd dead = {.fd = pidfd, .events = POLLIN};
    if (poll(&dead, 1, DEATH_MS) == 0)
        log_warn("a CNI plugin does not die", "pid", number);
}

void
cni_strays_end(const struct strv *container_ids)
{
    if (container_ids->count == 0)
        return;
    cleanup_closedir DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint64_t pid;
        if (str_to_u64(entry->d_name, INT32_MAX, "pid", &pid, NULL) == 0 && pid > 1)
            end_if_stray((pid_t)pid, container_ids);
    }
}
