#include "cri/service_manager.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

enum { FIRST_PASSED_FD = 3 };

void
service_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (str_empty(path) || strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract namespace */
    cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (fd >= 0)
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

static int
option(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

static bool
for_us(void)
{
    const char *pid = getenv("LISTEN_PID");
    uint64_t wanted;
    return pid && str_to_u64(pid, INT32_MAX, "LISTEN_PID", &wanted, NULL) == 0 && wanted == (uint64_t)getpid();
}

int
service_passed_socket(struct error *err)
{
    const char *count = for_us() ? getenv("LISTEN_FDS") : NULL;
    bool one = str_eq(count, "1"), none = !count || str_eq(count, "0");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    if (none)
        return -1;
    int fd = FIRST_PASSED_FD;
    if (!one || option(fd, SO_DOMAIN) != AF_UNIX || option(fd, SO_TYPE) != SOCK_STREAM || option(fd, SO_ACCEPTCONN) != 1)
        return error_set(err, ERR_INVALID, "the service manager must pass one listening unix stream socket");
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return error_errno(err, errno, "the socket that the service manager passed");
    return fd;
}
