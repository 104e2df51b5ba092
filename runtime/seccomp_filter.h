/* From a seccomp profile to the kernel's program, by libseccomp. */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "base/error.h"
#include "runtime/seccomp_profile.h"

struct seccomp_program {
    struct sock_filter *code; /* owned */
    size_t length;            /* instructions; never more than BPF_MAXINSNS */
    unsigned flags;           /* SECCOMP_FILTER_FLAG_*, for seccomp(2) */
};

/* Names that no machine has are skipped: profiles name calls of later kernels. ERR_INVALID for a comparison that cannot be, ERR_UNSUPPORTED for one
 * on a call that libseccomp does not know yet, ERR_EXHAUSTED for a program that the kernel would not take. The caller frees `out`. */
int seccomp_filter_compile(const struct seccomp_profile *profile, struct seccomp_program *out, struct error *err);
