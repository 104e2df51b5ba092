/* Runs a CNI plugin: a program of its own process group, in crispd's network namespace, with a deadline. At its end (or the deadline's, or the
 * caller's) the whole group is killed, so that nothing it started stays. Its output is bounded; what is beyond is read and dropped.
 *
 * crispd has many threads: the child is made by posix_spawn (vfork and exec, nothing in between), gets three fds and no other, no blocked signal,
 * and is reaped here, by its pidfd. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/str.h"

enum { CNI_STDOUT_MAX = 1 << 20, CNI_STDERR_MAX = 8192 };

struct cni_exec {
    const char *path;
    char *const *environment;
    const char *input; /* its stdin */
    int64_t timeout_ns;
    const struct cancel *cancel; /* may be NULL */
    const char *stage;           /* "CNI plugin bridge (network pods): ADD", for errors */
};

struct cni_output {
    struct buf out;    /* NULL data: nothing */
    struct buf errors; /* stderr, its beginning */
    bool cut;          /* it wrote more than CNI_STDOUT_MAX */
    int status;        /* as of waitpid(2) */
};

/* -1 only when it could not be run to its end: ERR_NOT_FOUND, ERR_DENIED, ERR_DEADLINE, ERR_CANCELLED. The caller frees the output either way. */
int cni_exec(const struct cni_exec *exec, struct cni_output *out, struct error *err);
void cni_output_free(struct cni_output *out);
#define cleanup_output cleanup(cni_output_free)
