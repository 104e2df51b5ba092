/* Which devices a container may use: v1 by the files of the devices controller, v2 by a BPF program on the cgroup (kernel: bpf_cgroup_dev_ctx). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/cgroup.h"

static void
number_text(int64_t number, char out[24])
{
    if (number < 0)
        (void)snprintf(out, 24, "*");
    else
        (void)snprintf(out, 24, "%" PRId64, number);
}

static int
allow_v1(const struct cgroups *cgroups, const char *path, const struct device_rule *rules, size_t count, struct error *err)
{
    cleanup_close int dir = TRY(cgroup_open_controller(cgroups, path, "devices", err));
    TRY(file_put(dir, "devices.deny", "a", err));
    cleanup_close int allow = TRY(file_open(dir, "devices.allow", O_WRONLY, 0, err));
    for (size_t i = 0; i < count; i++) {
        char text[64], major[24], minor[24];
        number_text(rules[i].major, major);
        number_text(rules[i].minor, minor);
        int length = snprintf(text, sizeof text, "%c %s:%s %s", rules[i].type, major, minor, rules[i].access);
        if (write(allow, text, (size_t)length) < 0)
            return error_errno(err, errno, "devices.allow %s", text);
    }
    return 0;
}

/* A program of at most this many instructions: 8 a rule and 8 around. */
enum { INSTRUCTIONS_PER_RULE = 8, INSTRUCTIONS_AROUND = 8, RULES_MAX = 480 };

struct program {
    struct bpf_insn *code;
    size_t length;
};

static void
emit(struct program *p, int code, int dst, int src, int off, int32_t imm)
{
    p->code[p->length++] =
        (struct bpf_insn){.code = (uint8_t)code, .dst_reg = (uint8_t)(dst & 15), .src_reg = (uint8_t)(src & 15), .off = (int16_t)off, .imm = imm};
}

static int32_t
access_mask(const char *access)
{
    return (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0) | (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0) |
           (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0);
}

/* r2 type, r3 access, r4 major, r5 minor, as asked; each rule that does not match jumps to the next one. */
static void
emit_rule(struct program *p, const struct device_rule *rule)
{
    size_t tests[4], test_count = 0;
    tests[test_count++] = p->length;
    emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 0, rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    emit(p, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
    emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0, access_mask(rule->access));
    tests[test_count++] = p->length;
    emit(p, BPF_JMP | BPF_JNE | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
    if (rule->major >= 0) {
        tests[test_count++] = p->length;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, 0, (int32_t)rule->major);
    }
    if (rule->minor >= 0) {
        tests[test_count++] = p->length;
        emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, (int32_t)rule->minor);
    }
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    for (size_t i = 0; i < test_count; i++)
        p->code[tests[i]].off = (int16_t)(p->length - tests[i] - 1);
}

static void
emit_all(struct program *p, const struct device_rule *rules, size_t count)
{
    int at_type = offsetof(struct bpf_cgroup_dev_ctx, access_type);
    emit(p, BPF_LDX | BPF_W | BPF_MEM, BPF_REG_2, BPF_REG_1, at_type, 0);
    emit(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
    emit(p, BPF_LDX | BPF_W | BPF_MEM, BPF_REG_3, BPF_REG_1, at_type, 0);
    emit(p, BPF_ALU | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
    emit(p, BPF_LDX | BPF_W | BPF_MEM, BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
    emit(p, BPF_LDX | BPF_W | BPF_MEM, BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
    for (size_t i = 0; i < count; i++)
        emit_rule(p, &rules[i]);
    emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
    emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static int
load(const struct program *p, struct error *err)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (uint64_t)(uintptr_t)p->code;
    attr.insn_cnt = (uint32_t)p->length;
    attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
    int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    return fd >= 0 ? fd : error_errno(err, errno, "load the device program of %zu instructions", p->length);
}

static int
attach(int program, int cgroup, struct error *err)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)cgroup;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = BPF_CGROUP_DEVICE;
    attr.attach_flags = BPF_F_ALLOW_MULTI;
    return syscall(SYS_bpf, BPF_PROG_ATTACH, &attr, sizeof attr) == 0 ? 0 : error_errno(err, errno, "attach the device program");
}

static int
allow_v2(const struct cgroups *cgroups, const char *path, const struct device_rule *rules, size_t count, struct error *err)
{
    if (count > RULES_MAX)
        return error_set(err, ERR_INVALID, "%zu devices are more than the %d a container can have", count, RULES_MAX);
    cleanup_free struct bpf_insn *code = mem_zalloc(count * INSTRUCTIONS_PER_RULE + INSTRUCTIONS_AROUND, sizeof *code);
    struct program program = {.code = code};
    emit_all(&program, rules, count);
    cleanup_close int cgroup = TRY(cgroup_open_unified(cgroups, path, err));
    cleanup_close int loaded = TRY(load(&program, err));
    return attach(loaded, cgroup, err);
}

int
cgroup_allow_devices(const struct cgroups *cgroups, const char *path, const struct device_rule *rules, size_t count, struct error *err)
{
    bool v1 = cgroups_of(cgroups, "devices") != NULL;
    int result = v1 ? allow_v1(cgroups, path, rules, count, err) : allow_v2(cgroups, path, rules, count, err);
    return result < 0 ? error_prefix(err, "cgroup %s: devices", path) : 0;
}
