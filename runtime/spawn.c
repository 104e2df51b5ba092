#include "runtime/spawn.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

enum { CONNECTION_FD = 3, PROGRAM_FD = 4, STACK_BYTES = 32768 };

struct child {
    const struct spawn *spawn;
    char *const *argv, *const *envp;
    int errnum; /* written by the child: the memory is shared */
};

/* The child: shares our memory until it executes, while our thread is stopped. System calls only. */
__attribute__((no_sanitize("address", "undefined"))) static void
child_run(struct child *child)
{
    const struct spawn *spawn = child->spawn;
    /* Both out of the way of 3 and 4 first. */
    int connection = fcntl(spawn->connection, F_DUPFD, PROGRAM_FD + 1), program = fcntl(spawn->program, F_DUPFD, PROGRAM_FD + 1);
    if (connection >= 0 && program >= 0 && dup2(connection, CONNECTION_FD) >= 0 && dup3(program, PROGRAM_FD, O_CLOEXEC) >= 0 &&
        close_range(PROGRAM_FD + 1, ~0U, 0) == 0)
        (void)syscall(SYS_execveat, PROGRAM_FD, "", child->argv, child->envp, AT_EMPTY_PATH);
    child->errnum = errno;
    _exit(127);
}

/* clone3 whose child runs child_run on the given stack and never returns. By hand, since the child may not return through our frame. */
#if defined(__x86_64__)
static long
clone_on_stack(struct clone_args *args, struct child *child)
{
    register long result __asm__("rax") = SYS_clone3;
    register void *rdi __asm__("rdi") = args;
    register size_t rsi __asm__("rsi") = sizeof *args;
    register void *argument __asm__("r12") = child;
    register void (*run)(struct child *) __asm__("r13") = child_run;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r12, %%rdi\n\t"
                     "call *%%r13\n\t"
                     "hlt\n"
                     "1:"
                     : "+r"(result)
                     : "r"(rdi), "r"(rsi), "r"(argument), "r"(run)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static long
clone_on_stack(struct clone_args *args, struct child *child)
{
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register size_t x1 __asm__("x1") = sizeof *args;
    register void *argument __asm__("x19") = child;
    register void (*run)(struct child *) __asm__("x20") = child_run;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x19\n\t"
                     "blr x20\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(argument), "r"(run)
                     : "memory");
    return x0;
}
#else
#error "spawn.c: clone3 on a stack of its own is written for x86_64 and aarch64"
#endif

pid_t
spawn_monitor(const struct spawn *spawn, int *pidfd, struct error *err)
{
    char *argv[] = {(char *)(uintptr_t)spawn->name, (char *)(uintptr_t)spawn->argument, NULL}, *envp[] = {NULL};
    struct child child = {.spawn = spawn, .argv = argv, .envp = envp};
    _Alignas(16) char stack[STACK_BYTES];
    struct clone_args args = {
        .flags = 0ULL | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | (spawn->cgroup >= 0 ? CLONE_INTO_CGROUP : 0ULL),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .stack = (uint64_t)(uintptr_t)stack,
        .stack_size = sizeof stack,
        .cgroup = spawn->cgroup >= 0 ? (unsigned)spawn->cgroup : 0U,
    };
    /* No handler of ours may run in the child on shared memory. The monitor empties the mask itself. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    long pid = clone_on_stack(&args, &child);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return error_errno(err, (int)-pid, "clone %s", spawn->name);
    if (!child.errnum)
        return (pid_t)pid;
    siginfo_t info;
    (void)waitid(P_PIDFD, (id_t)*pidfd, &info, WEXITED | __WALL);
    (void)close(*pidfd);
    return error_errno(err, child.errnum, "execute %s", spawn->name);
}

int
spawn_program(const char *path, struct error *err)
{
    enum { MEMFD_EXEC = 0x10 /* MFD_EXEC, Linux 6.3; older kernels always may */ };
    struct stat st;
    cleanup_close int file = TRY(file_open(AT_FDCWD, path, O_RDONLY, 0, err));
    if (fstat(file, &st) < 0)
        return error_errno(err, errno, "stat %s", path);
    cleanup_close int copy = memfd_create("crisp-monitor", MFD_CLOEXEC | MFD_ALLOW_SEALING | MEMFD_EXEC);
    if (copy < 0 && errno == EINVAL)
        copy = memfd_create("crisp-monitor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy < 0)
        return steal(file);
    for (off_t at = 0; at < st.st_size;) {
        ssize_t n = sendfile(copy, file, &at, (size_t)(st.st_size - at));
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy %s into memory", path); /* 0: it was cut meanwhile */
    }
    if (fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return error_errno(err, errno, "seal the copy of %s", path);
    return steal(copy);
}
