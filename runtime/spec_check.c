#include <linux/filter.h>
#include <string.h>

#include "runtime/spec_block.h"

const struct spec_form spec_forms[SPEC_OP_COUNT] = {
    [SPEC_WRITE] = {"write", 2, LIST_NONE},
    [SPEC_SYSCTL] = {"sysctl", 2, LIST_NONE},
    [SPEC_UNSHARE] = {"unshare", 0, LIST_NONE},
    [SPEC_SETNS] = {"enter", 0, LIST_NONE},
    [SPEC_HOSTNAME] = {"hostname", 1, LIST_NONE},
    [SPEC_LINK_UP] = {"link-up", 1, LIST_NONE},
    [SPEC_PIN_NETNS] = {"pin-netns", 1, LIST_NONE},
    [SPEC_POD_SHM] = {"pod-shm", 0, LIST_NONE},
    [SPEC_PROPAGATION] = {"propagation", 1, LIST_NONE},
    [SPEC_OVERLAY] = {"overlay", 3, LIST_NONE},
    [SPEC_ROOT] = {"root", 1, LIST_NONE},
    [SPEC_MOUNT] = {"mount", 3, LIST_NONE},
    [SPEC_BIND] = {"bind", 2, LIST_NONE},
    [SPEC_SHM] = {"shm", 1, LIST_NONE},
    [SPEC_MKDIR] = {"mkdir", 1, LIST_NONE},
    [SPEC_MKNOD] = {"mknod", 1, LIST_NONE},
    [SPEC_SYMLINK] = {"symlink", 2, LIST_NONE},
    [SPEC_MASK] = {"mask", 1, LIST_NONE},
    [SPEC_READONLY] = {"readonly", 1, LIST_NONE},
    [SPEC_PIVOT] = {"pivot", 0, LIST_NONE},
    [SPEC_ROOT_READONLY] = {"root-readonly", 0, LIST_NONE},
    [SPEC_CONSOLE] = {"console", 0, LIST_NONE},
    [SPEC_RLIMIT] = {"rlimit", 0, LIST_NONE},
    [SPEC_CHDIR] = {"chdir", 1, LIST_NONE},
    [SPEC_GROUPS] = {"groups", 0, LIST_GROUPS},
    [SPEC_BOUNDING] = {"bounding", 0, LIST_NONE},
    [SPEC_USER] = {"user", 0, LIST_NONE},
    [SPEC_CAPS] = {"caps", 0, LIST_NONE},
    [SPEC_NO_NEW_PRIVS] = {"no-new-privs", 0, LIST_NONE},
    [SPEC_SECCOMP] = {"seccomp", 0, LIST_FILTER},
    [SPEC_UMASK] = {"umask", 0, LIST_NONE},
    [SPEC_WAIT] = {"wait", 0, LIST_NONE},
    [SPEC_KEYRING] = {"keyring", 1, LIST_NONE},
    [SPEC_GATE] = {"gate", 0, LIST_NONE},
    [SPEC_EXEC] = {"exec", 0, LIST_EXEC},
    [SPEC_IMAGE] = {"image", 3, LIST_NONE},
    [SPEC_LABEL] = {"label", 2, LIST_NONE},
    [SPEC_USERNS] = {"userns", 2, LIST_NONE},
    [SPEC_IDMAP] = {"idmap", 1, LIST_NONE},
    [SPEC_FS_USER] = {"fs-user", 0, LIST_NONE},
    [SPEC_ENTER] = {"enter-pod", 0, LIST_NONE},
};

/* A string must start behind the operations and end inside the block: the block's last byte is NUL, so every start is enough. */
static bool
string_sound(const struct spec *spec, size_t body, uint64_t offset)
{
    return offset >= body && offset < spec->size;
}

/* argv has at least one element; both arrays end with 0. */
static bool
exec_sound(const struct spec *spec, size_t body, const struct spec_op *op)
{
    const uint64_t *slot = spec_list(spec, op);
    size_t count = op->list_bytes / sizeof *slot, ends = 0;
    if (op->list_bytes % sizeof *slot || count < 3 || slot[0] == 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (slot[i] == 0)
            ends++;
        else if (!string_sound(spec, body, slot[i]))
            return false;
    }
    return ends == 2 && slot[count - 1] == 0;
}

static bool
list_sound(const struct spec *spec, size_t body, const struct spec_op *op)
{
    if (!op->list)
        return spec_forms[op->type].list == LIST_NONE || (spec_forms[op->type].list == LIST_GROUPS && op->number[0] == 0);
    if (op->list % 8 || op->list < body || op->list_bytes > spec->size || op->list > spec->size - op->list_bytes)
        return false;
    switch (spec_forms[op->type].list) {
    case LIST_GROUPS:
        return op->number[0] <= op->list_bytes / sizeof(uint32_t);
    case LIST_FILTER:
        return op->list_bytes % sizeof(struct sock_filter) == 0 && op->list_bytes / sizeof(struct sock_filter) <= BPF_MAXINSNS;
    case LIST_EXEC:
        return exec_sound(spec, body, op);
    default:
        return false;
    }
}

static bool
op_sound(const struct spec *spec, size_t body, const struct spec_op *op)
{
    if (op->type >= SPEC_OP_COUNT)
        return false;
    for (unsigned i = 0; i < SPEC_TEXTS; i++) {
        if (op->text[i] ? !string_sound(spec, body, op->text[i]) : i < spec_forms[op->type].texts)
            return false;
    }
    return list_sound(spec, body, op);
}

const struct spec *
spec_check(const void *memory, size_t size)
{
    const struct spec *spec = memory;
    if (size < sizeof *spec + 8 || size > SPEC_SIZE_MAX || ((const char *)memory)[size - 1] != '\0')
        return NULL;
    if (spec->magic != SPEC_MAGIC || spec->version != SPEC_VERSION || spec->size != size || spec->op_count > SPEC_OPS_MAX)
        return NULL;
    size_t body = sizeof *spec + spec->op_count * sizeof spec->ops[0];
    if (body >= size)
        return NULL;
    for (size_t i = 0; i < spec->op_count; i++)
        if (!op_sound(spec, body, &spec->ops[i]))
            return NULL;
    return spec;
}
