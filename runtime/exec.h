/* A command in a running container, as ExecSync and streaming sessions run it: in a cgroup of its own, for as long as it lives. For the files of
 * runtime/ only. */
#pragma once

#include "runtime/objects.h"

struct exec {
    struct runtime *rt;
    struct container *container; /* a reference, the caller's */
    const struct strv *command;
    bool tty;
    const struct cancel *cancel; /* its end kills the command's whole tree */
    char cgroup_name[64];        /* exec_begin's */
};

/* Whether it can be run now: the container runs, there is a command. */
int exec_begin(struct exec *e, struct error *err);
/* Run it to its end with what `order` says of stdio; *status is its exit code. */
int exec_run(const struct exec *e, struct link_exec *order, int *status, struct error *err);
