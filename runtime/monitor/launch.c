#include "runtime/monitor/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int (*const operations[SPEC_OP_COUNT])(struct launch *l, const struct spec_op *op) = {
#define LAUNCH_ENTRY(type, function) [type] = function,
    LAUNCH_OPS(LAUNCH_ENTRY)
#undef LAUNCH_ENTRY
};

const struct spec *
launch_map(int fd, size_t *size, int *errnum)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > SPEC_SIZE_MAX) {
        *errnum = EINVAL;
        return NULL;
    }
    *size = (size_t)st.st_size;
    void *memory = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (memory == MAP_FAILED) {
        *errnum = errno;
        return NULL;
    }
    const struct spec *spec = spec_check(memory, *size);
    if (!spec) {
        (void)munmap(memory, *size);
        *errnum = EINVAL;
    }
    return spec;
}

int
launch_run(struct launch *l, int *failed_op)
{
    for (uint32_t i = 0; i < l->spec->op_count; i++) {
        const struct spec_op *op = &l->spec->ops[i];
        int errnum = operations[op->type](l, op);
        if (errnum) {
            *failed_op = (int)i;
            return errnum;
        }
    }
    return 0;
}

void
launch_close_others(const int *kept, unsigned count)
{
    for (unsigned from = STDERR_FILENO + 1;;) {
        unsigned next = ~0U;
        for (unsigned i = 0; i < count; i++)
            if (kept[i] >= 0 && (unsigned)kept[i] >= from && (unsigned)kept[i] < next)
                next = (unsigned)kept[i];
        if (next > from)
            (void)close_range(from, next == ~0U ? ~0U : next - 1, 0);
        if (next == ~0U)
            return;
        from = next + 1;
    }
}

_Noreturn static void
fail(int channel, int op, int errnum)
{
    struct launch_report report = {.kind = REPORT_FAILED, .op = op, .errnum = errnum};
    (void)send(channel, &report, sizeof report, MSG_NOSIGNAL);
    /* As a shell has it: 127 not found, 126 found and not to be executed. */
    _exit(errnum == ENOENT ? 127 : 126);
}

_Noreturn void
launch_child(const struct launch_child *child)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    for (int i = 0; i < 3; i++)
        if (dup2(child->stdio[i], i) < 0)
            fail(child->channel, -1, errno);
    launch_close_others((int[]){child->spec, child->channel, child->init_pidfd, child->gate, child->shm, child->userns, child->pid_ns}, 7);
    size_t size;
    int errnum = 0, failed_op = -1;
    struct launch l = {LAUNCH_NONE};
    l.channel = child->channel;
    l.init_pidfd = child->init_pidfd;
    l.gate = child->gate;
    l.shm = child->shm;
    l.userns = child->userns;
    l.pid_ns = child->pid_ns;
    l.spec = launch_map(child->spec, &size, &errnum);
    (void)close(child->spec);
    if (l.spec)
        errnum = launch_run(&l, &failed_op);
    fail(child->channel, failed_op, errnum ? errnum : EINVAL);
}
