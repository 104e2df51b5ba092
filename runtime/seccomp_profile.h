/* A seccomp profile as read or made: what happens on which system call. A value; nothing of the kernel is touched here.
 *
 * Two sources: a file in the JSON form of the OCI runtime spec (config-linux.md, "Seccomp") with the additions that Docker made and others took over
 * (archMap; includes and excludes by capability, architecture and kernel), and crisp's own default. seccomp_filter.h makes a program of it. Actions
 * are libseccomp's SCMP_ACT_* values, which are the kernel's SECCOMP_RET_*. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum {
    SECCOMP_PROFILE_BYTES_MAX = 1 << 20, /* of a file; the longest in the field have 50 KiB */
    SECCOMP_RULES_MAX = 4096,
    SECCOMP_NAMES_MAX = 1024, /* of one rule: more than there are calls */
    SECCOMP_ARCHES_MAX = 24,
    SECCOMP_ARGS = 6,
};

struct seccomp_comparison {
    unsigned index; /* of the argument, 0 to 5 */
    int operator;   /* enum scmp_compare */
    uint64_t value; /* SCMP_CMP_MASKED_EQ: the mask */
    uint64_t value_two;
};

/* Holds for the calls named where all comparisons hold. */
struct seccomp_rule {
    struct strv names;
    uint32_t action;
    struct seccomp_comparison *comparisons;
    size_t comparison_count;
};

/* In addition, a call answered with EPERM unless the low half of its first argument is one of `values`: libseccomp cannot say "none of these". */
struct seccomp_only {
    const char *name; /* NULL: none */
    const uint32_t *values;
    size_t count;
};

struct seccomp_profile {
    uint32_t default_action;
    uint32_t arches[SECCOMP_ARCHES_MAX]; /* besides this machine's own */
    size_t arch_count;
    unsigned filter_flags; /* SECCOMP_FILTER_FLAG_* */
    struct seccomp_rule *rules;
    size_t rule_count;
    unsigned last_call; /* calls of a higher number are answered with EPERM; 0: by the default action */
    struct seccomp_only only;
};

/* For whom: what includes and excludes ask about. */
struct seccomp_subject {
    uint64_t caps; /* that the container may have */
    unsigned kernel_major, kernel_minor;
};

/* Read a file's text. Rules whose includes or excludes do not fit are left out. ERR_INVALID for what the form does not allow, with the place;
 * ERR_UNSUPPORTED for what crisp does not do: SCMP_ACT_NOTIFY, which would need an agent on the other end. The caller frees `out`, also after an
 * error. */
int seccomp_profile_read(const char *json, size_t length, const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err);

/* seccomp_default.c: RuntimeDefault for a container with these capabilities. ERR_UNSUPPORTED on a machine whose calls nobody has looked through. The
 * caller frees. */
int seccomp_profile_default(const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err);

/* One more rule, for `out` to own. */
struct seccomp_rule *seccomp_profile_add(struct seccomp_profile *profile, uint32_t action);

void seccomp_profile_free(struct seccomp_profile *profile);
#define cleanup_seccomp_profile cleanup(seccomp_profile_free)
