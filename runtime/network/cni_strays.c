#include "runtime/network/cni_strays.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

enum { ENVIRONMENT_MAX = 2 << 20 /* what execve(2) takes with the usual stack */ };

static const int64_t patience_ns = NS_PER_SECOND;

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

struct stray {
    pid_t pid;
    int pidfd;
};

struct strays {
    struct stray *list;
    size_t count;
};

/* The pidfd is opened first: what is then seen of the pid is of that process for as long as the pidfd says that it lives. */
static void
add_if_stray(struct strays *strays, pid_t pid, const struct strv *container_ids)
{
    cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 || !is_led_for(pid, container_ids) || syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return;
    strays->list = mem_realloc(strays->list, strays->count + 1, sizeof *strays->list);
    strays->list[strays->count++] = (struct stray){pid, steal(pidfd)};
}

static bool
dies_until(const struct stray *stray, int64_t end_ns)
{
    int64_t left_ns = end_ns - clock_monotonic_ns();
    struct pollfd dead = {.fd = stray->pidfd, .events = POLLIN};
    return poll(&dead, 1, left_ns > 0 ? (int)(left_ns / NS_PER_MS) : 0) > 0;
}

static void
end_stray(const struct stray *stray)
{
    cleanup_free char *pid = str_printf("%d", (int)stray->pid);
    log_warn("a CNI plugin of a crispd that was killed does not end; it is killed too", "pid", pid);
    (void)kill(-stray->pid, SIGKILL);
    if (!dies_until(stray, clock_monotonic_ns() + patience_ns))
        log_warn("a CNI plugin does not die", "pid", pid);
}

static void
find_strays(struct strays *strays, const struct strv *container_ids)
{
    cleanup_closedir DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        uint64_t pid;
        if (str_to_u64(entry->d_name, INT32_MAX, "pid", &pid, NULL) == 0 && pid > 1)
            add_if_stray(strays, (pid_t)pid, container_ids);
    }
}

void
cni_strays_end(const struct strv *container_ids)
{
    struct strays strays = {0};
    int64_t end_ns = clock_monotonic_ns() + patience_ns;
    if (container_ids->count > 0)
        find_strays(&strays, container_ids);
    for (size_t i = 0; i < strays.count; i++) {
        if (!dies_until(&strays.list[i], end_ns))
            end_stray(&strays.list[i]);
        (void)close(strays.list[i].pidfd);
    }
    free(strays.list);
}
