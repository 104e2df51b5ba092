#include "runtime/network/cni_exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

enum { READ_BYTES = 16384, CHUNKS_AT_ONCE = 16, BUSY_TRIES = 10, BUSY_WAIT_US = 100000 };

/* A child that runs: the group is its pid's for as long as it is not reaped. */
struct child {
    pid_t pid;
    int pidfd;
    int out, errors; /* our ends, non-blocking; -1 at their end */
};

static int
make_pipe(int ends[2], struct error *err)
{
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "pipe");
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static int
spawn(const struct cni_exec *exec, int in, int out, int errors, pid_t *pid)
{
    char *argv[] = {(char *)(uintptr_t)exec->path, NULL};
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&files, errors, STDERR_FILENO);
    (void)posix_spawn_file_actions_addclosefrom_np(&files, 3); /* also what a library opened without CLOEXEC */
    (void)posix_spawn_file_actions_addchdir_np(&files, "/");
    int errnum = posix_spawn(pid, exec->path, &files, &attributes, argv, exec->environment);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attributes);
    return errnum;
}

/* Kill what is left of the group, then reap its leader: in this order, since its pid names the group until then. */
static void
end_child(struct child *child, int *status)
{
    (void)kill(-child->pid, SIGKILL);
    while (waitpid(child->pid, status, 0) < 0 && errno == EINTR)
        ;
}

/* The input is a file in memory: nobody has to feed a pipe, and a plugin that does not read it kills nobody by SIGPIPE. The fds are above 2, where
 * crispd has its own, so dup2 overwrites none of them. */
static int
start(const struct cni_exec *exec, struct child *child, struct error *err)
{
    int out[2], errors[2];
    cleanup_close int in = TRY(file_sealed_memfd("cni-stdin", exec->input, strlen(exec->input), err));
    (void)lseek(in, 0, SEEK_SET);
    TRY(make_pipe(out, err));
    child->out = out[0];
    cleanup_close int out_end = out[1];
    TRY(make_pipe(errors, err));
    child->errors = errors[0];
    cleanup_close int errors_end = errors[1];
    int errnum = spawn(exec, in, out_end, errors_end, &child->pid);
    /* An installer is writing it just now, or a child of ours between fork and exec still has it open for writing. */
    for (int again = 0; errnum == ETXTBSY && again < BUSY_TRIES; again++) {
        (void)usleep(BUSY_WAIT_US);
        errnum = spawn(exec, in, out_end, errors_end, &child->pid);
    }
    if (errnum)
        return error_errno(err, errnum, "execute %s", exec->path);
    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd >= 0)
        return 0;
    int status;
    errnum = errno;
    end_child(child, &status);
    return error_errno(err, errnum, "pidfd of %s", exec->path);
}

/* Take what is there, but come back to look at the clock from one that writes without end; at the end of the pipe close it. */
static void
drain(int *fd, struct buf *into, bool *cut)
{
    char chunk[READ_BYTES];
    for (int chunks = 0; *fd >= 0 && chunks < CHUNKS_AT_ONCE; chunks++) {
        ssize_t n = read(*fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        size_t room = into->limit - into->length, length = (size_t)n;
        (void)buf_add(into, chunk, length < room ? length : room);
        if (cut && length > room)
            *cut = true;
        if (n > 0)
            continue;
        (void)close(*fd);
        *fd = -1;
    }
}

static int
out_of_time(const struct cni_exec *exec, struct error *err)
{
    return error_set(err, ERR_DEADLINE, "%s did not end within %.3g s and was killed", exec->stage, (double)exec->timeout_ns / (double)NS_PER_SECOND);
}

/* Until it ends: 0. */
static int
wait_child(const struct cni_exec *exec, struct child *child, struct cni_output *output, struct error *err)
{
    int64_t end = clock_monotonic_ns() + exec->timeout_ns;
    int64_t until = clock_earlier(end, exec->cancel ? exec->cancel->deadline_ns : INT64_MAX);
    for (;;) {
        struct pollfd p[] = {
            {.fd = child->pidfd, .events = POLLIN},
            {.fd = child->out, .events = POLLIN},
            {.fd = child->errors, .events = POLLIN},
            {.fd = exec->cancel ? exec->cancel->fd : -1, .events = POLLIN},
        };
        int64_t left = until - clock_monotonic_ns();
        struct timespec ts = {.tv_sec = left > 0 ? left / NS_PER_SECOND : 0, .tv_nsec = left > 0 ? left % NS_PER_SECOND : 0};
        if (ppoll(p, 4, &ts, NULL) < 0 && errno != EINTR)
            return error_errno(err, errno, "wait for %s", exec->stage);
        drain(&child->out, &output->out, &output->cut);
        drain(&child->errors, &output->errors, NULL);
        if (p[0].revents)
            return 0;
        TRY(cancel_check(exec->cancel, exec->stage, err));
        if (clock_monotonic_ns() >= end)
            return out_of_time(exec, err);
    }
}

static void
close_child(const struct child *child)
{
    int fds[] = {child->out, child->errors, child->pidfd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

int
cni_exec(const struct cni_exec *exec, struct cni_output *output, struct error *err)
{
    struct child child = {.pidfd = -1, .out = -1, .errors = -1};
    *output = (struct cni_output){.out = BUF(CNI_STDOUT_MAX), .errors = BUF(CNI_STDERR_MAX)};
    int result = start(exec, &child, err);
    if (result == 0) {
        result = wait_child(exec, &child, output, err);
        end_child(&child, &output->status);
        drain(&child.out, &output->out, &output->cut);
        drain(&child.errors, &output->errors, NULL);
    }
    close_child(&child);
    return result;
}

void
cni_output_free(struct cni_output *output)
{
    buf_free(&output->out);
    buf_free(&output->errors);
}
