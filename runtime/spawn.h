/* Starting a monitor from a process with many threads and a gRPC server in it: no fork of it, no handler of it in the child. clone3 with
 * CLONE_VM|CLONE_VFORK on a stack of its own, straight into the monitor's cgroup; the child only moves fds and executes. */
#pragma once

#include <sys/types.h>

#include "base/error.h"

struct spawn {
    int program; /* fd of the executable */
    const char *name, *argument;
    int connection; /* becomes fd 3; everything above is closed */
    int cgroup;     /* -1: stay in ours */
};

/* The pid, with a pidfd (close it; reap by waitid(P_PIDFD, …, __WALL): no SIGCHLD comes). */
pid_t spawn_monitor(const struct spawn *spawn, int *pidfd, struct error *err);

/* A sealed copy of the program in memory, to be executed from: what a container might reach through /proc/PID/exe is then not the file on the disk.
 * The file itself where the kernel forbids executing from memory (vm.memfd_noexec). */
int spawn_program(const char *path, struct error *err);
