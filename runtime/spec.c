#include "runtime/spec.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/spec_block.h"

struct spec_builder {
    struct spec_op *ops;
    size_t count, capacity;
    struct buf data; /* strings and lists; offsets are relative to it until spec_finish knows where it lies */
    bool overflow;
};

struct spec_builder *
spec_new(void)
{
    struct spec_builder *b = mem_zalloc(1, sizeof *b);
    b->data = BUF(SPEC_SIZE_MAX);
    /* So that offset 0 is never a string's. */
    (void)buf_add(&b->data, "\0\0\0\0\0\0\0", 8);
    return b;
}

void
spec_free(struct spec_builder *b)
{
    if (!b)
        return;
    free(b->ops);
    buf_free(&b->data);
    free(b);
}

static uint32_t
add_bytes(struct spec_builder *b, const void *bytes, size_t length)
{
    static const char zeros[8];
    size_t offset = b->data.length;
    if (!buf_add(&b->data, bytes, length) || !buf_add(&b->data, zeros, -b->data.length % 8))
        b->overflow = true;
    return (uint32_t)offset;
}

static struct spec_op *
add_op(struct spec_builder *b, enum spec_op_type type)
{
    if (b->count == b->capacity) {
        b->capacity = b->capacity ? b->capacity * 2 : 64;
        b->ops = mem_realloc(b->ops, b->capacity, sizeof *b->ops);
    }
    b->ops[b->count] = (struct spec_op){.type = type};
    return &b->ops[b->count++];
}

void
spec_add(struct spec_builder *b, enum spec_op_type type, struct spec_args args)
{
    struct spec_op *op = add_op(b, type);
    for (unsigned i = 0; i < SPEC_TEXTS; i++) {
        op->text[i] = args.text[i] ? add_bytes(b, args.text[i], strlen(args.text[i]) + 1) : 0;
        op->number[i] = args.number[i];
    }
    if (args.list && args.list_bytes) {
        op->list = add_bytes(b, args.list, args.list_bytes);
        op->list_bytes = (uint32_t)args.list_bytes;
    }
}

static void
add_strings(struct spec_builder *b, uint64_t *slots, const struct strv *strings)
{
    for (size_t i = 0; i < strings->count; i++)
        slots[i] = add_bytes(b, strings->items[i], strlen(strings->items[i]) + 1);
}

void
spec_exec(struct spec_builder *b, const struct strv *argv, const struct strv *envp)
{
    size_t count = argv->count + envp->count + 2;
    cleanup_free uint64_t *slots = mem_zalloc(count, sizeof *slots);
    add_strings(b, slots, argv);
    add_strings(b, slots + argv->count + 1, envp);
    struct spec_op *op = add_op(b, SPEC_EXEC);
    op->list = add_bytes(b, slots, count * sizeof *slots);
    op->list_bytes = (uint32_t)(count * sizeof *slots);
}

/* The block as it will lie in memory: offsets moved behind the operations. */
static struct spec *
assemble(const struct spec_builder *b, size_t *size)
{
    size_t body = sizeof(struct spec) + b->count * sizeof *b->ops;
    *size = body + b->data.length + 8; /* it ends with NUL, so that every string does */
    struct spec *spec = mem_zalloc(*size, 1);
    *spec = (struct spec){.magic = SPEC_MAGIC, .version = SPEC_VERSION, .size = (uint32_t)*size, .op_count = (uint32_t)b->count};
    memcpy((char *)spec + body, b->data.data, b->data.length);
    for (size_t i = 0; i < b->count; i++) {
        struct spec_op *op = &spec->ops[i];
        *op = b->ops[i];
        for (unsigned t = 0; t < SPEC_TEXTS; t++)
            op->text[t] += op->text[t] ? (uint32_t)body : 0;
        op->list += op->list ? (uint32_t)body : 0;
        uint64_t *slots = (uint64_t *)(void *)((char *)spec + op->list);
        for (size_t s = 0; op->type == SPEC_EXEC && s < op->list_bytes / sizeof *slots; s++)
            slots[s] += slots[s] ? body : 0;
    }
    return spec;
}

int
spec_finish(struct spec_builder *b, struct error *err)
{
    size_t largest = SPEC_SIZE_MAX - sizeof(struct spec) - 8;
    if (b->count > SPEC_OPS_MAX || b->overflow || b->data.length + b->count * sizeof *b->ops > largest)
        return error_set(err, ERR_EXHAUSTED, "launch spec: %zu operations with more than %d bytes of arguments, mounts and environment", b->count,
                         SPEC_SIZE_MAX);
    size_t size;
    cleanup_free struct spec *spec = assemble(b, &size);
    if (!spec_check(spec, size))
        return error_set(err, ERR_INTERNAL, "launch spec: an operation lacks an argument");
    return file_sealed_memfd("crisp-spec", spec, size, err);
}

/* The words for people. */

static const char *
text_of(const struct spec_builder *b, const struct spec_op *op, unsigned i)
{
    return op->text[i] ? b->data.data + op->text[i] : "";
}

struct flag_word {
    uint64_t flag;
    const char *word;
};

static const struct flag_word mount_words[] = {
    {MS_RDONLY, "ro"},
    {MS_NOSUID, "nosuid"},
    {MS_NODEV, "nodev"},
    {MS_NOEXEC, "noexec"},
    {MS_NOATIME, "noatime"},
    {MS_RELATIME, "relatime"},
    {MS_STRICTATIME, "strictatime"},
    {MS_SHARED, "shared"},
    {MS_SLAVE, "slave"},
    {MS_PRIVATE, "private"},
    {MS_REC, "recursive"},
    {0, NULL},
};
static const struct flag_word bind_words[] = {
    {SPEC_BIND_READONLY, "ro"},
    {SPEC_BIND_RECURSIVE, "recursive"},
    {SPEC_BIND_READONLY_RECURSIVE, "recursively-ro"},
    {SPEC_BIND_NOSUID, "nosuid"},
    {SPEC_BIND_NODEV, "nodev"},
    {SPEC_BIND_NOEXEC, "noexec"},
    {SPEC_BIND_IDMAP, "idmapped"},
    {0, NULL},
};
static const struct flag_word namespace_words[] = {
    {0x00020000, "mount"}, {0x02000000, "cgroup"}, {0x04000000, "uts"}, {0x08000000, "ipc"},
    {0x10000000, "user"},  {0x20000000, "pid"},    {0x40000000, "net"}, {0, NULL},
};

/* " word,word" of the flags that are set; nothing where none is. */
static void
put_flags(struct buf *out, const struct flag_word *words, uint64_t flags)
{
    const char *between = " ";
    for (const struct flag_word *w = words; w->word; w++) {
        if ((flags & w->flag) != w->flag)
            continue;
        (void)buf_addf(out, "%s%s", between, w->word);
        between = ",";
    }
}

static void
put_list(struct buf *out, const struct spec_builder *b, const struct spec_op *op)
{
    if (!op->list)
        return;
    if (op->type == SPEC_EXEC) {
        const uint64_t *slots = (const uint64_t *)(const void *)(b->data.data + op->list);
        for (; *slots; slots++)
            (void)buf_addf(out, " %s", b->data.data + *slots);
        return;
    }
    if (op->type != SPEC_GROUPS) {
        (void)buf_addf(out, " of %u bytes", op->list_bytes);
        return;
    }
    const uint32_t *group = (const uint32_t *)(const void *)(b->data.data + op->list);
    for (uint64_t i = 0; i < op->number[0]; i++)
        (void)buf_addf(out, " %u", group[i]);
}

/* An operation in words. $0 to $3 are its texts ("$ 3": with a space in front, where there is one); #d0 to #d3 its numbers, in decimal (d), octal
 * (o), hexadecimal (x), or as words of mount (m), namespace (n) or bind (b) flags with a space in front; * is its list. Without a line here: its name
 * and first text. */
static const char *const words[SPEC_OP_COUNT] = {
    [SPEC_WRITE] = "write $1 to $0",
    [SPEC_SYSCTL] = "sysctl $0 = $1",
    [SPEC_UNSHARE] = "new namespaces#n0",
    [SPEC_SETNS] = "enter the container's namespaces#n0",
    [SPEC_PROPAGATION] = "make mounts below $0#m0",
    [SPEC_OVERLAY] = "mount overlay at $1 from $0 $2#m0",
    [SPEC_MOUNT] = "mount $2 at $1#m0$ 3",
    [SPEC_BIND] = "mount $0 at $1#b0#m1",
    [SPEC_SHM] = "mount the pod's shm at $0",
    [SPEC_POD_SHM] = "make the pod's shm of #d0 bytes",
    [SPEC_LINK_UP] = "bring up $0",
    [SPEC_PIN_NETNS] = "keep the network namespace at $0",
    [SPEC_ROOT] = "root file system $0",
    [SPEC_MKDIR] = "make directory $0 mode #o0",
    [SPEC_MKNOD] = "make device $0 mode #o0 number #x1 owner #d2:#d3",
    [SPEC_RLIMIT] = "resource limit #d0 = #d1:#d2",
    [SPEC_CHDIR] = "working directory $0",
    [SPEC_USER] = "user #d0 group #d1",
    [SPEC_BOUNDING] = "bounding set #x0",
    [SPEC_CAPS] = "capabilities effective #x0 permitted #x1 inheritable #x2 ambient #x3",
    [SPEC_UMASK] = "umask #o0",
    [SPEC_GROUPS] = "groups*",
    [SPEC_SECCOMP] = "seccomp*",
    [SPEC_EXEC] = "exec*",
    [SPEC_KEYRING] = "session keyring $0",
    [SPEC_LABEL] = "label $0 $1",
    [SPEC_IMAGE] = "mount image at $1#b0$ 3 from $0 $2",
    [SPEC_GATE] = "wait for its cgroups",
    [SPEC_USERNS] = "new user namespace with#n0",
    [SPEC_IDMAP] = "map the ids of $0",
    [SPEC_FS_USER] = "make files as user #d0 group #d1",
    [SPEC_ENTER] = "enter the pod's namespaces with#n0",
};

static void
put_number(struct buf *out, char how, unsigned long long number)
{
    switch (how) {
    case 'o':
        (void)buf_addf(out, "%llo", number);
        return;
    case 'x':
        (void)buf_addf(out, "%llx", number);
        return;
    case 'm':
        put_flags(out, mount_words, number);
        return;
    case 'n':
        put_flags(out, namespace_words, number);
        return;
    case 'b':
        put_flags(out, bind_words, number);
        return;
    default:
        (void)buf_addf(out, "%llu", number);
    }
}

static void
put_words(struct buf *out, const struct spec_builder *b, const struct spec_op *op)
{
    const char *at = words[op->type];
    if (!at) {
        const char *text = text_of(b, op, 0);
        (void)buf_addf(out, "%s%s%s", spec_forms[op->type].name, *text ? " " : "", text);
        return;
    }
    for (; *at; at++) {
        if (*at == '*') {
            put_list(out, b, op);
        } else if (*at == '#') {
            put_number(out, at[1], op->number[at[2] - '0']);
            at += 2;
        } else if (*at == '$') {
            bool spaced = *++at == ' ';
            at += spaced;
            const char *text = text_of(b, op, (unsigned)(*at - '0'));
            (void)buf_addf(out, "%s%s", spaced && *text ? " " : "", text);
        } else {
            (void)buf_add(out, at, 1);
        }
    }
}

char *
spec_explain(const struct spec_builder *b, size_t n)
{
    if (n >= b->count)
        return str_printf("operation %zu", n);
    struct buf out = BUF(SPEC_SIZE_MAX);
    put_words(&out, b, &b->ops[n]);
    return out.data;
}

char *
spec_dump(const struct spec_builder *b)
{
    struct buf out = BUF(SPEC_SIZE_MAX);
    (void)buf_adds(&out, "");
    for (size_t i = 0; i < b->count; i++) {
        put_words(&out, b, &b->ops[i]);
        (void)buf_adds(&out, "\n");
    }
    return out.data;
}

enum spec_op_type
spec_type(const struct spec_builder *b, size_t n)
{
    return n < b->count ? (enum spec_op_type)b->ops[n].type : SPEC_OP_COUNT;
}
