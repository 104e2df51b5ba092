#include "netns_world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS_MAX = 32, ANSWER_MS = 1000 };

static char dir[64];
static pid_t servers[SERVERS_MAX];
static size_t server_count;

static void
fail(const char *what)
{
    perror(what);
    abort();
}

bool
world_try(const char *format, ...)
{
    char command[4096];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command) == 0;
}

void
world_run(const char *format, ...)
{
    char command[4096];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (system(command) != 0) {
        (void)fprintf(stderr, "failed: %s\n", command);
        abort();
    }
}

static void
remove_dir(void)
{
    if (umount2(dir, MNT_DETACH) == 0)
        (void)rmdir(dir);
}

bool
world_open(void)
{
    if (geteuid() != 0) {
        (void)puts("skipped: network namespaces need root");
        return false;
    }
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail("namespaces");
    (void)snprintf(dir, sizeof dir, "/var/tmp/crisp-world.XXXXXX");
    if (!mkdtemp(dir) || mount("tmpfs", dir, "tmpfs", 0, "mode=0755") < 0)
        fail(dir);
    (void)atexit(remove_dir);
    (void)mkdir("/run/netns", 0755);
    if (mount("tmpfs", "/run/netns", "tmpfs", 0, "mode=0755") < 0)
        fail("/run/netns");
    world_run("ip link set lo up && ip netns add out && ip -n out link set lo up");
    world_run("ip link add up0 mtu 1400 type veth peer name out0 mtu 1400 netns out");
    world_run("ip addr add 10.77.0.2/24 dev up0 && ip addr add fd77::2/64 dev up0 nodad && ip link set up0 up");
    world_run("ip -n out addr add 10.77.0.1/24 dev out0 && ip -n out addr add fd77::1/64 dev out0 nodad && ip -n out link set out0 up");
    world_run("ip route add default via 10.77.0.1 && ip -6 route add default via fd77::1");
    return true;
}

const char *
world_dir(void)
{
    return dir;
}

void
world_write(const char *path, int mode, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, (mode_t)mode) < 0)
        fail(path);
    (void)close(fd);
}

char *
world_read(const char *path)
{
    enum { MOST = 1 << 20 };
    char *text = calloc(1, MOST);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return text;
    ssize_t n = read(fd, text, MOST - 1);
    (void)close(fd);
    if (n < 0)
        fail(path);
    return text;
}

const char *
world_add(const char *name)
{
    static char path[8][64];
    static unsigned next;
    char *at = path[next++ % 8];
    world_run("ip netns add %s && ip -n %s link set lo up", name, name);
    (void)snprintf(at, 64, "/run/netns/%s", name);
    return at;
}

void
world_remove(const char *name)
{
    (void)world_try("ip netns del %s", name);
}

/* Enter for a while: the fd to come back with. */
static int
enter(const char *netns)
{
    char path[64];
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)snprintf(path, sizeof path, "/run/netns/%s", netns ? netns : "");
    int there = netns ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (home < 0 || (netns && (there < 0 || setns(there, CLONE_NEWNET) < 0)))
        fail(path);
    if (there >= 0)
        (void)close(there);
    return home;
}

static void
come_back(int home)
{
    if (setns(home, CLONE_NEWNET) < 0)
        fail("setns");
    (void)close(home);
}

static int
bound_socket(int family, int type, uint16_t port)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    const void *address = family == AF_INET ? (const void *)&four : (const void *)&six;
    if (fd < 0 || bind(fd, address, family == AF_INET ? sizeof four : sizeof six) < 0)
        fail("bind");
    if (type == SOCK_STREAM && listen(fd, 8) < 0)
        fail("listen");
    return fd;
}

static void
answer(int fd, bool stream, const char *text)
{
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    char request[64], ip[INET6_ADDRSTRLEN] = "", reply[128];
    int connection = stream ? accept(fd, (struct sockaddr *)&from, &size) : fd;
    if (!stream && recvfrom(fd, request, sizeof request, 0, (struct sockaddr *)&from, &size) < 0)
        return;
    const void *bytes = from.ss_family == AF_INET ? (const void *)&((struct sockaddr_in *)(void *)&from)->sin_addr
                                                  : (const void *)&((struct sockaddr_in6 *)(void *)&from)->sin6_addr;
    (void)inet_ntop(from.ss_family, bytes, ip, sizeof ip);
    int length = snprintf(reply, sizeof reply, "%s %s", text, ip);
    (void)sendto(connection, reply, (size_t)length, MSG_NOSIGNAL, stream ? NULL : (struct sockaddr *)&from, stream ? 0 : size);
    if (stream)
        (void)close(connection);
}

static void
serve(uint16_t tcp_port, uint16_t udp_port, const char *text, int ready)
{
    struct pollfd p[4] = {
        {.fd = bound_socket(AF_INET, SOCK_STREAM, tcp_port), .events = POLLIN},
        {.fd = bound_socket(AF_INET6, SOCK_STREAM, tcp_port), .events = POLLIN},
        {.fd = bound_socket(AF_INET, SOCK_DGRAM, udp_port), .events = POLLIN},
        {.fd = bound_socket(AF_INET6, SOCK_DGRAM, udp_port), .events = POLLIN},
    };
    if (write(ready, "1", 1) != 1)
        _exit(1);
    while (poll(p, 4, -1) > 0)
        for (int i = 0; i < 4; i++)
            if (p[i].revents)
                answer(p[i].fd, i < 2, text);
    _exit(0);
}

void
world_serve(const char *netns, uint16_t tcp_port, uint16_t udp_port, const char *text)
{
    int ready[2];
    char byte;
    if (server_count == SERVERS_MAX || pipe2(ready, O_CLOEXEC) < 0)
        fail("world_serve");
    int home = enter(netns);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(tcp_port, udp_port, text, ready[1]);
    }
    come_back(home);
    (void)close(ready[1]);
    if (pid < 0 || read(ready[0], &byte, 1) != 1)
        fail("server");
    (void)close(ready[0]);
    servers[server_count++] = pid;
}

void
world_silence(void)
{
    while (server_count) {
        (void)kill(servers[--server_count], SIGKILL);
        (void)waitpid(servers[server_count], NULL, 0);
    }
}

static bool
reach(int fd, const char *address, uint16_t port)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, address, &four.sin_addr) == 1)
        return connect(fd, (struct sockaddr *)&four, sizeof four) == 0;
    return inet_pton(AF_INET6, address, &six.sin6_addr) == 1 && connect(fd, (struct sockaddr *)&six, sizeof six) == 0;
}

const char *
world_ask(const char *netns, const char *protocol, const char *address, uint16_t port, uint16_t from_port)
{
    static char reply[128];
    struct timeval patience = {.tv_usec = ANSWER_MS * 1000 % 1000000, .tv_sec = ANSWER_MS / 1000};
    bool stream = strcmp(protocol, "tcp") == 0;
    int home = enter(netns);
    int family = strchr(address, ':') ? AF_INET6 : AF_INET;
    int fd = from_port ? bound_socket(family, SOCK_DGRAM, from_port) : socket(family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
    come_back(home);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    ssize_t n = -1;
    if (reach(fd, address, port) && (stream || send(fd, "?", 1, 0) == 1))
        n = recv(fd, reply, sizeof reply - 1, 0);
    (void)close(fd);
    reply[n > 0 ? n : 0] = '\0';
    return n > 0 ? reply : "none";
}

int
world_fd_count(void)
{
    int count = 0;
    DIR *fds = opendir("/proc/self/fd");
    while (fds && readdir(fds))
        count++;
    (void)closedir(fds);
    return count;
}
