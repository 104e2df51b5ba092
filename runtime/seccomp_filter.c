#include "runtime/seccomp_filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/file.h"

/* ARM's own five calls lie far above the common ones. */
enum { ARM_PRIVATE_FIRST = 0x0f0001, ARM_PRIVATE_LAST = 0x0f0005 };

CLEANUP_DEFINE(filter_freep, scmp_filter_ctx, seccomp_release)

/* Calls that Debian 12's libseccomp (2.5.4) does not know; their numbers are the same everywhere. */
static const struct {
    const char *name;
    int number;
} newer_calls[] = {
    {"map_shadow_stack", 453}, {"futex_wake", 454},        {"futex_wait", 455},        {"futex_requeue", 456},    {"statmount", 457},
    {"listmount", 458},        {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461}, {"mseal", 462},
    {"setxattrat", 463},       {"getxattrat", 464},        {"listxattrat", 465},       {"removexattrat", 466},    {"open_tree_attr", 467},
    {"file_getattr", 468},     {"file_setattr", 469},
};

static int
newer_call(const char *name)
{
    for (size_t i = 0; i < sizeof newer_calls / sizeof *newer_calls; i++)
        if (str_eq(newer_calls[i].name, name))
            return newer_calls[i].number;
    return __NR_SCMP_ERROR;
}

/* ---- what libseccomp cannot: a few instructions in front of its program ---- */

struct code {
    struct sock_filter *list;
    size_t count, room;
};

static void
emit(struct code *c, struct sock_filter instruction)
{
    if (c->count == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->list = mem_realloc(c->list, c->room, sizeof *c->list);
    }
    c->list[c->count++] = instruction;
}

#define LOAD(member) ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, member)))
/* The half that fits a register of the filter. */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LOAD_FIRST_ARGUMENT ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, args[0]) + 4))
#else
#define LOAD_FIRST_ARGUMENT LOAD(args[0])
#endif
#define JUMP_IF(test, value, yes, no) ((struct sock_filter)BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(value), (uint8_t)(yes), (uint8_t)(no)))
#define ANSWER(action)                ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, (uint32_t)(action)))

/* The number is loaded. */
static void
emit_last_call(const struct seccomp_profile *profile, struct code *c)
{
    if (!profile->last_call)
        return;
    bool arm = profile->arch_count && profile->arches[0] == SCMP_ARCH_ARM;
    emit(c, JUMP_IF(BPF_JGT, profile->last_call, 0, arm ? 3 : 1));
    if (arm) {
        emit(c, JUMP_IF(BPF_JGE, ARM_PRIVATE_FIRST, 0, 1));
        emit(c, JUMP_IF(BPF_JGT, ARM_PRIVATE_LAST, 0, 1));
    }
    emit(c, ANSWER(SCMP_ACT_ERRNO(EPERM)));
}

static int
emit_newer_calls(const struct seccomp_profile *profile, struct code *c, struct error *err)
{
    for (size_t i = 0; i < profile->rule_count; i++) {
        const struct seccomp_rule *rule = &profile->rules[i];
        for (size_t n = 0; n < rule->names.count; n++) {
            const char *name = rule->names.items[n];
            int number = newer_call(name);
            if (number < 0 || seccomp_syscall_resolve_name(name) != __NR_SCMP_ERROR)
                continue;
            if (rule->comparison_count)
                return error_set(err, ERR_UNSUPPORTED, "%s: this libseccomp cannot compare its arguments", name);
            emit(c, JUMP_IF(BPF_JEQ, number, 0, 1));
            emit(c, ANSWER(rule->action));
        }
    }
    return 0;
}

static void
emit_only_on(const struct seccomp_only *only, uint32_t arch, struct code *c)
{
    int number = seccomp_syscall_resolve_name_arch(arch, only->name);
    if (number < 0)
        return;
    size_t length = only->count + 4; /* what follows the first test */
    emit(c, LOAD(arch));
    emit(c, JUMP_IF(BPF_JEQ, arch, 0, length));
    emit(c, LOAD(nr));
    emit(c, JUMP_IF(BPF_JEQ, number, 0, length - 2));
    emit(c, LOAD_FIRST_ARGUMENT);
    for (size_t i = 0; i < only->count; i++)
        emit(c, JUMP_IF(BPF_JEQ, only->values[i], only->count - i, 0));
    emit(c, ANSWER(SCMP_ACT_ERRNO(EPERM)));
}

static int
emit_front(const struct seccomp_profile *profile, struct code *c, struct error *err)
{
    emit(c, LOAD(nr));
    emit_last_call(profile, c);
    TRY(emit_newer_calls(profile, c, err));
    if (c->count == 1)
        c->count = 0;
    if (!profile->only.name)
        return 0;
    emit_only_on(&profile->only, seccomp_arch_native(), c);
    for (size_t i = 0; i < profile->arch_count; i++)
        emit_only_on(&profile->only, profile->arches[i], c);
    return 0;
}

/* ---- libseccomp's part ---- */

static struct scmp_arg_cmp
comparison_of(const struct seccomp_comparison *from)
{
    return (struct scmp_arg_cmp){from->index, (enum scmp_compare)from->operator, from->value, from->value_two};
}

static int
add_call(scmp_filter_ctx filter, const struct seccomp_rule *rule, int number, const struct scmp_arg_cmp *comparisons, unsigned count)
{
    int status = seccomp_rule_add_array(filter, rule->action, number, count, comparisons);
    /* EEXIST: another rule said so already. EDOM: no machine of this profile has the call. */
    return status == -EEXIST || status == -EDOM ? 0 : status;
}

/* libseccomp takes one comparison an argument; several on the same one are alternatives, as runc has it. */
static int
add_rule_for(scmp_filter_ctx filter, const struct seccomp_rule *rule, int number)
{
    struct scmp_arg_cmp comparisons[SECCOMP_ARGS];
    unsigned seen = 0;
    bool alternatives = false;
    int status = 0;
    for (size_t i = 0; i < rule->comparison_count; i++) {
        alternatives = alternatives || (seen >> rule->comparisons[i].index & 1);
        seen |= 1U << rule->comparisons[i].index;
    }
    if (!alternatives) {
        for (size_t i = 0; i < rule->comparison_count; i++)
            comparisons[i] = comparison_of(&rule->comparisons[i]);
        return add_call(filter, rule, number, comparisons, (unsigned)rule->comparison_count);
    }
    for (size_t i = 0; i < rule->comparison_count && status == 0; i++) {
        comparisons[0] = comparison_of(&rule->comparisons[i]);
        status = add_call(filter, rule, number, comparisons, 1);
    }
    return status;
}

static int
add_rule(scmp_filter_ctx filter, const struct seccomp_profile *profile, const struct seccomp_rule *rule, struct error *err)
{
    if (rule->action == profile->default_action)
        return 0;
    for (size_t i = 0; i < rule->names.count; i++) {
        int number = seccomp_syscall_resolve_name(rule->names.items[i]);
        int status = number == __NR_SCMP_ERROR ? 0 : add_rule_for(filter, rule, number);
        if (status < 0)
            return error_as((error_errno(err, -status, "seccomp rule for %s", rule->names.items[i]), err), ERR_INVALID);
    }
    return 0;
}

static int
fill(scmp_filter_ctx filter, const struct seccomp_profile *profile, struct error *err)
{
    for (size_t i = 0; i < profile->arch_count; i++) {
        int status = seccomp_arch_add(filter, profile->arches[i]);
        /* EDOM: a profile for several kinds of machine names one of the other byte order. */
        if (status < 0 && status != -EEXIST && status != -EDOM)
            return error_errno(err, -status, "seccomp architecture 0x%x", profile->arches[i]);
    }
    /* A tree instead of a list: the kernel goes through it for each of its calls when the filter is set. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < profile->rule_count; i++)
        TRY(add_rule(filter, profile, &profile->rules[i], err));
    return 0;
}

static int export(scmp_filter_ctx filter, char **out, size_t *length, struct error *err)
{
    cleanup_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "make a memfd");
    int status = seccomp_export_bpf(filter, fd);
    if (status < 0)
        return error_errno(err, -status, "make the seccomp program");
    if (lseek(fd, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "read the seccomp program");
    return file_read_fd(fd, "the seccomp program", BPF_MAXINSNS * sizeof(struct sock_filter), out, length, err);
}

int
seccomp_filter_compile(const struct seccomp_profile *profile, struct seccomp_program *out, struct error *err)
{
    *out = (struct seccomp_program){0};
    cleanup(filter_freep) scmp_filter_ctx filter = seccomp_init(profile->default_action);
    if (!filter)
        return error_set(err, ERR_INVALID, "seccomp: the default action 0x%x cannot be", profile->default_action);
    TRY(fill(filter, profile, err));
    cleanup_free char *rest = NULL;
    size_t bytes;
    TRY(export(filter, &rest, &bytes, err));
    struct code code = {0};
    if (emit_front(profile, &code, err) < 0) {
        free(code.list);
        return -1;
    }
    size_t count = bytes / sizeof *code.list;
    out->length = code.count + count;
    out->flags = profile->filter_flags;
    out->code = mem_realloc(code.list, out->length, sizeof *code.list);
    memcpy(out->code + code.count, rest, bytes);
    if (out->length <= BPF_MAXINSNS)
        return 0;
    free(steal(out->code));
    return error_set(err, ERR_EXHAUSTED, "seccomp: the profile makes %zu instructions; the kernel takes %d", out->length, BPF_MAXINSNS);
}
