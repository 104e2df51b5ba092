/* A small world for tests of networks, in namespaces of its own, so that no address of a test is ever the machine's: the process itself is the host
 * (10.77.0.2, fd77::2 on up0, MTU 1400, default routes), "out" is a namespace beyond it (10.77.0.1, fd77::1). Needs root and iproute2. The namespaces
 * and the files (a tmpfs) go with the process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False, with a word why, where it cannot be made: not root. Once a process, before threads. */
bool world_open(void);
/* A directory of the world. */
const char *world_dir(void);

void world_run(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a shell command that must succeed */
bool world_try(const char *format, ...) __attribute__((format(printf, 1, 2)));
void world_write(const char *path, int mode, const char *text);
char *world_read(const char *path); /* "" when absent; caller frees */

/* A namespace NAME at /run/netns/NAME, with lo up. */
const char *world_add(const char *name);
void world_remove(const char *name);

/* Answer every TCP connection and UDP datagram to these ports in a namespace (NULL: the host) with "TEXT CLIENT'S-ADDRESS", IPv4 and IPv6, until
 * world_silence. */
void world_serve(const char *netns, uint16_t tcp_port, uint16_t udp_port, const char *text);
void world_silence(void);
/* What a server answers to a client in `netns` (from this port, 0: any), or "none". Static buffer. */
const char *world_ask(const char *netns, const char *protocol, const char *address, uint16_t port, uint16_t from_port);

int world_fd_count(void);
