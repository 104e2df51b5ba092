#include "cri/listener.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/service_manager.h"

enum { BACKLOG = 1024, GROUPS_MAX = 256 };

#define LOCK_PATIENCE_NS NS_PER_SECOND

static int
already_locked(const char *path, int fd, struct error *err)
{
    char holder[32] = "";
    ssize_t length = pread(fd, holder, sizeof holder - 1, 0);
    holder[length > 0 ? length : 0] = '\0';
    holder[strspn(holder, "0123456789")] = '\0';
    return error_set(err, ERR_EXISTS, "another crispd%s%s runs already: it holds %s", *holder ? ", process " : "", holder, path);
}

int
listener_lock(const char *path, struct error *err)
{
    cleanup_close int fd = TRY(file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, err));
    /* A crispd that was killed holds its lock until its last thread is gone. */
    int64_t end = clock_monotonic_ns() + LOCK_PATIENCE_NS;
    int result;
    while ((result = flock(fd, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK && clock_monotonic_ns() < end)
        (void)nanosleep(&(struct timespec){.tv_nsec = 5 * NS_PER_MS}, NULL);
    if (result < 0)
        return errno == EWOULDBLOCK ? already_locked(path, fd, err) : error_errno(err, errno, "lock %s", path);
    char own[32];
    int length = snprintf(own, sizeof own, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, own, (size_t)length, 0) < 0)
        return error_errno(err, errno, "write %s", path);
    return steal(fd);
}

static struct sockaddr_un
address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int
new_socket(struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? error_errno(err, errno, "make a unix socket") : fd;
}

static int
remove_stale(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : error_errno(err, errno, "%s", path);
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERR_EXISTS, "%s is there already and is no socket", path);
    cleanup_close int fd = TRY(new_socket(err));
    struct sockaddr_un address = address_of(path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN)
        return error_set(err, ERR_EXISTS, "somebody serves %s already", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_errno(err, errno, "remove the stale socket %s", path);
    return 0;
}

/* The mode is right from the first moment: there is no time in which others could connect. */
static int
bind_with_mode(int fd, const char *path, mode_t mode)
{
    struct sockaddr_un address = address_of(path);
    mode_t before = umask(0777 & ~mode);
    int result = bind(fd, (struct sockaddr *)&address, sizeof address);
    int errnum = errno;
    (void)umask(before);
    errno = errnum;
    return result;
}

static int
make_socket(const char *path, struct error *err)
{
    TRY(remove_stale(path, err));
    cleanup_close int fd = TRY(new_socket(err));
    if (bind_with_mode(fd, path, 0660) < 0)
        return error_errno(err, errno, "bind %s", path);
    if (listen(fd, BACKLOG) < 0)
        return error_errno(err, errno, "listen on %s", path);
    return steal(fd);
}

int
listener_open(struct listener *listener, const char *path, struct error *err)
{
    *listener = (struct listener){.fd = -1};
    struct error failure = {0};
    listener->fd = service_passed_socket(&failure);
    if (listener->fd < 0 && failure.kind != ERR_NONE) {
        *err = failure;
        return -1;
    }
    if (listener->fd < 0) {
        listener->fd = TRY(make_socket(path, err));
        listener->path = str_dup(path);
    }
    struct stat st;
    listener->group = stat(path, &st) == 0 ? st.st_gid : 0;
    return 0;
}

void
listener_close(struct listener *listener)
{
    cleanup_closep(&listener->fd);
    listener->fd = -1;
    if (listener->path)
        (void)unlink(listener->path);
    free(steal(listener->path));
}

static bool
in_group(int fd, gid_t group)
{
    gid_t groups[GROUPS_MAX];
    socklen_t length = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0)
        return false;
    for (size_t i = 0; i < length / sizeof *groups; i++)
        if (groups[i] == group)
            return true;
    return false;
}

static bool
may_speak(int fd, gid_t group)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    if (peer.uid == 0 || peer.gid == group || in_group(fd, group))
        return true;
    char uid[16], pid[16];
    (void)snprintf(uid, sizeof uid, "%u", peer.uid);
    (void)snprintf(pid, sizeof pid, "%d", peer.pid);
    log_warn("connection refused: the peer is neither root nor of the socket's group", "uid", uid, "pid", pid);
    return false;
}

int
listener_accept(const struct listener *listener, struct error *err)
{
    for (;;) {
        cleanup_close int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0)
            return error_errno(err, errno, "accept a connection");
        if (may_speak(fd, listener->group))
            return steal(fd);
    }
}
