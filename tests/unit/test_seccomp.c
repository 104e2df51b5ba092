/* Seccomp profiles: read from JSON, compiled, set on a real process and tried out. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/seccomp.h"
#include "runtime/seccomp_filter.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)

enum { KILLED = -1000, NO_SUCH_CALL = 400 /* of no machine, and below the last one */ };

static struct seccomp_program
program_of(const struct seccomp_profile *profile)
{
    struct seccomp_program program;
    struct error err = {0};
    if (seccomp_filter_compile(profile, &program, &err) < 0)
        fail_msg("%s", err.message);
    return program;
}

static struct seccomp_program
default_for(uint64_t caps)
{
    const struct seccomp_subject subject = {.caps = caps, .kernel_major = 6, .kernel_minor = 1};
    cleanup_seccomp_profile struct seccomp_profile profile = {0};
    struct error err = {0};
    if (seccomp_profile_default(&subject, &profile, &err) < 0)
        fail_msg("%s", err.message);
    return program_of(&profile);
}

static struct seccomp_program
read_for(const char *json, const struct seccomp_subject *subject)
{
    cleanup_seccomp_profile struct seccomp_profile profile = {0};
    struct error err = {0};
    if (seccomp_profile_read(json, strlen(json), subject, &profile, &err) < 0)
        fail_msg("%s", err.message);
    return program_of(&profile);
}

static struct seccomp_program
read_json(const char *json)
{
    return read_for(json, &(struct seccomp_subject){.caps = CAP(CHOWN), .kernel_major = 6, .kernel_minor = 1});
}

struct call {
    long number;
    unsigned long args[3];
};

static void
try(const struct seccomp_program *program, const struct call *call, int answer)
{
    struct sock_fprog code = {(unsigned short)program->length, program->code};
    int errnum = 0;
    (void)signal(SIGSYS, SIG_DFL); /* cmocka catches it */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, program->flags, &code) < 0)
        errnum = -errno;
    else if (syscall(call->number, call->args[0], call->args[1], call->args[2], 0, 0, 0) < 0)
        errnum = errno;
    (void)!write(answer, &errnum, sizeof errnum);
    _exit(0);
}

/* The errno of a call under a filter, 0 for success, KILLED. */
static int
outcome(const struct seccomp_program *program, struct call call)
{
    int ends[2], errnum = KILLED, status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        try(program, &call, ends[1]);
    (void)close(ends[1]);
    if (read(ends[0], &errnum, sizeof errnum) != sizeof errnum)
        errnum = KILLED;
    (void)close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return errnum;
}

#define CALL(name, ...) ((struct call){SYS_##name, {__VA_ARGS__}})

/* ---- RuntimeDefault ---- */

static void
the_default_denies_what_reaches_beyond_the_container(void **state)
{
    (void)state;
    struct seccomp_program program = default_for(CAP(CHOWN) | CAP(NET_RAW));
    const struct call denied[] = {
        CALL(unshare, 0),
        CALL(setns, (unsigned long)-1),
        CALL(mount, 0),
        CALL(umount2, 0),
        CALL(pivot_root, 0),
        CALL(chroot, 0),
        CALL(reboot, 0),
        CALL(init_module, 0),
        CALL(kexec_load, 0),
        CALL(bpf, 99),
        CALL(perf_event_open, 0),
        CALL(add_key, 0),
        CALL(keyctl, 99),
        CALL(swapon, 0),
        CALL(userfaultfd, 0),
        CALL(io_uring_setup, 0),
        CALL(open_by_handle_at, 0),
        CALL(sethostname, 0),
        CALL(settimeofday, 0),
        CALL(syslog, 99),
        CALL(kcmp, 0),
        CALL(move_pages, 0),
        CALL(mbind, 0),
        CALL(acct, 0),
        CALL(quotactl, 0),
        CALL(fsopen, 0),
        CALL(fanotify_init, 0),
        {457, {0}} /* statmount */,
        {467, {0}} /* open_tree_attr */,
        {470, {0}} /* of a later kernel */,
        {100000, {0}},
    };
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (outcome(&program, denied[i]) != EPERM)
            fail_msg("call %ld: %d", denied[i].number, outcome(&program, denied[i]));
    free(program.code);
}

static void
the_default_allows_what_programs_do(void **state)
{
    (void)state;
    struct seccomp_program program = default_for(0);
    assert_int_equal(outcome(&program, CALL(getpid, 0)), 0);
    assert_int_equal(outcome(&program, CALL(umask, 022)), 0);
    assert_int_equal(outcome(&program, CALL(clone, SIGCHLD)), 0);
    assert_int_equal(outcome(&program, CALL(socket, AF_UNIX, SOCK_STREAM)), 0);
    assert_int_equal(outcome(&program, CALL(ptrace, 0xffff, 1)), ESRCH);                     /* the kernel's answer */
    assert_int_not_equal(outcome(&program, (struct call){452, {(unsigned long)-1}}), EPERM); /* fchmodat2: newer than most C libraries */
    assert_int_equal(outcome(&program, (struct call){NO_SUCH_CALL, {0}}), ENOSYS);
    free(program.code);
}

static void
the_default_looks_at_arguments(void **state)
{
    (void)state;
    struct seccomp_program program = default_for(0);
    static const unsigned long flags[] = {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        assert_int_equal(outcome(&program, CALL(clone, flags[i] | SIGCHLD)), EPERM);
    assert_int_equal(outcome(&program, CALL(clone3, 0)), ENOSYS);
    assert_int_equal(outcome(&program, CALL(socket, AF_VSOCK, SOCK_STREAM)), EPERM);
    assert_int_equal(outcome(&program, CALL(personality, 0xffffffff)), 0);
    assert_int_equal(outcome(&program, CALL(personality, PER_LINUX)), 0);
    assert_int_equal(outcome(&program, CALL(personality, PER_LINUX32)), 0);
    assert_int_equal(outcome(&program, CALL(personality, PER_LINUX | UNAME26)), 0);
    assert_int_equal(outcome(&program, CALL(personality, ADDR_NO_RANDOMIZE)), EPERM);
    assert_int_equal(outcome(&program, CALL(personality, READ_IMPLIES_EXEC)), EPERM);
    assert_int_equal(outcome(&program, CALL(personality, PER_SVR4)), EPERM);
    free(program.code);
}

/* What a capability is for, its holder may do; the kernel checks the capability as ever. */
static void
the_default_knows_the_container_s_capabilities(void **state)
{
    (void)state;
    const struct {
        uint64_t cap;
        struct call call;
    } opened[] = {
        {CAP(SYS_ADMIN), CALL(unshare, 0)},
        {CAP(SYS_ADMIN), CALL(clone3, 0)},
        {CAP(SYS_ADMIN), CALL(fsopen, 0)},
        {CAP(SYS_CHROOT), CALL(chroot, 0)},
        {CAP(BPF), CALL(bpf, 99)},
        {CAP(SYSLOG), CALL(syslog, 99)},
        {CAP(SYS_PTRACE), CALL(kcmp, 0)},
        {CAP(SYS_NICE), CALL(get_mempolicy, 0)},
        {CAP(DAC_READ_SEARCH), CALL(open_by_handle_at, 0)},
    };
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++) {
        struct seccomp_program with = default_for(opened[i].cap), without = default_for(~opened[i].cap & ~CAP(SYS_ADMIN));
        int denied = opened[i].call.number == SYS_clone3 ? ENOSYS : EPERM;
        if (outcome(&with, opened[i].call) == denied || outcome(&without, opened[i].call) != denied)
            fail_msg("call %ld: %d with, %d without", opened[i].call.number, outcome(&with, opened[i].call), outcome(&without, opened[i].call));
        free(with.code);
        free(without.code);
    }
    /* Nobody's, whatever they hold. */
    struct seccomp_program all = default_for(UINT64_MAX);
    assert_int_equal(outcome(&all, CALL(kexec_load, 0)), EPERM);
    assert_int_equal(outcome(&all, CALL(keyctl, 99)), EPERM);
    free(all.code);
}

static void
the_default_is_small(void **state)
{
    (void)state;
    struct seccomp_program program = default_for(0);
    print_message("%zu instructions\n", program.length);
    assert_in_range(program.length, 50, 700); /* the kernel compiles it anew for each process that sets it */
    free(program.code);
}

/* ---- files ---- */

static void
every_action_is_known(void **state)
{
    (void)state;
    struct seccomp_program program = read_json("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": ["
                                               "{\"names\": [\"umask\", \"no_such_call\"], \"action\": \"SCMP_ACT_ERRNO\"},"
                                               "{\"name\": \"getppid\", \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 38},"
                                               "{\"names\": [\"getuid\"], \"action\": \"SCMP_ACT_KILL\"},"
                                               "{\"names\": [\"geteuid\"], \"action\": \"SCMP_ACT_KILL_PROCESS\"},"
                                               "{\"names\": [\"getgid\"], \"action\": \"SCMP_ACT_TRAP\"},"
                                               "{\"names\": [\"getegid\"], \"action\": \"SCMP_ACT_TRACE\", \"errnoRet\": 7},"
                                               "{\"names\": [\"getsid\"], \"action\": \"SCMP_ACT_LOG\"}]}");
    assert_int_equal(outcome(&program, CALL(umask, 022)), EPERM);
    assert_int_equal(outcome(&program, CALL(getppid, 0)), ENOSYS);
    assert_int_equal(outcome(&program, CALL(getuid, 0)), KILLED);
    assert_int_equal(outcome(&program, CALL(geteuid, 0)), KILLED);
    assert_int_equal(outcome(&program, CALL(getgid, 0)), KILLED);
    assert_int_equal(outcome(&program, CALL(getegid, 0)), ENOSYS); /* nobody traces */
    assert_int_equal(outcome(&program, CALL(getsid, 0)), 0);
    assert_int_equal(outcome(&program, CALL(getpid, 0)), 0);
    free(program.code);
}

static void
a_list_of_what_is_allowed(void **state)
{
    (void)state;
    struct seccomp_program program =
        read_json("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 13, \"flags\": [\"SECCOMP_FILTER_FLAG_LOG\"],"
                  "\"architectures\": [\"SCMP_ARCH_X86_64\", \"SCMP_ARCH_X86\", \"SCMP_ARCH_AARCH64\", \"SCMP_ARCH_LOONGARCH64\"],"
                  "\"syscalls\": [{\"names\": [\"write\", \"exit_group\", \"getpid\", \"mseal\"], \"action\": \"SCMP_ACT_ALLOW\"}]}");
    assert_int_equal(program.flags, SECCOMP_FILTER_FLAG_LOG);
    assert_int_equal(outcome(&program, CALL(getpid, 0)), 0);
    assert_int_equal(outcome(&program, CALL(getppid, 0)), EACCES);
    assert_int_not_equal(outcome(&program, (struct call){462, {1, 2, 3}}), EACCES); /* mseal */
    assert_int_equal(outcome(&program, (struct call){461, {0}}), EACCES);
    free(program.code);
}

/* umask's argument is compared; it succeeds where it is let through. */
static void
every_comparison_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *op;
        unsigned value, value_two;
        unsigned denied, let_through;
    } cases[] = {
        {"SCMP_CMP_EQ", 5, 0, 5, 4}, {"SCMP_CMP_NE", 5, 0, 4, 5}, {"SCMP_CMP_LT", 5, 0, 4, 5},        {"SCMP_CMP_LE", 5, 0, 5, 6},
        {"SCMP_CMP_GE", 5, 0, 5, 4}, {"SCMP_CMP_GT", 5, 0, 6, 5}, {"SCMP_CMP_MASKED_EQ", 6, 4, 5, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_free char *json =
            str_printf("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_ERRNO\","
                       "\"args\": [{\"index\": 0, \"value\": %u, \"valueTwo\": %u, \"op\": \"%s\"}]}]}",
                       cases[i].value, cases[i].value_two, cases[i].op);
        struct seccomp_program program = read_json(json);
        assert_int_equal(outcome(&program, CALL(umask, cases[i].denied)), EPERM);
        assert_int_equal(outcome(&program, CALL(umask, cases[i].let_through)), 0);
        free(program.code);
    }
}

/* As runc has it: comparisons of different arguments must all hold, of the same one any. */
static void
several_comparisons(void **state)
{
    (void)state;
    struct seccomp_program both =
        read_json("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"socket\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": ["
                  "{\"index\": 0, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}, {\"index\": 1, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}]}]}");
    assert_int_equal(outcome(&both, CALL(socket, AF_UNIX, SOCK_STREAM)), EPERM);
    assert_int_equal(outcome(&both, CALL(socket, AF_UNIX, SOCK_DGRAM)), 0);
    struct seccomp_program any =
        read_json("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": ["
                  "{\"index\": 0, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}, {\"index\": 0, \"value\": 2, \"op\": \"SCMP_CMP_EQ\"}]}]}");
    assert_int_equal(outcome(&any, CALL(umask, 1)), EPERM);
    assert_int_equal(outcome(&any, CALL(umask, 2)), EPERM);
    assert_int_equal(outcome(&any, CALL(umask, 3)), 0);
    free(both.code);
    free(any.code);
}

static void
includes_and_excludes(void **state)
{
    (void)state;
    static const struct {
        const char *condition;
        bool applies;
    } cases[] = {
        {"\"includes\": {\"caps\": [\"CAP_SYS_NICE\"]}", true},
        {"\"includes\": {\"caps\": [\"CAP_SYS_NICE\", \"CAP_SYS_ADMIN\"]}", false},
        {"\"includes\": {\"caps\": [\"CAP_OF_LATER\"]}", false},
        {"\"excludes\": {\"caps\": [\"CAP_SYS_NICE\"]}", false},
        {"\"excludes\": {\"caps\": [\"CAP_SYS_ADMIN\"]}", true},
        {"\"includes\": {\"minKernel\": \"4.8\"}", true},
        {"\"includes\": {\"minKernel\": \"6.1\"}", true},
        {"\"includes\": {\"minKernel\": \"6.2\"}", false},
        {"\"excludes\": {\"minKernel\": \"4.8\"}", false},
        {"\"includes\": {\"arches\": [\"sparc\"]}", false},
        {"\"includes\": {\"arches\": [\"amd64\", \"arm64\", \"s390x\", \"ppc64le\", \"riscv64\"]}", true},
        {"\"excludes\": {\"arches\": [\"amd64\", \"arm64\", \"s390x\", \"ppc64le\", \"riscv64\"]}", false},
        {"\"includes\": {}, \"excludes\": {}, \"comment\": \"\"", true},
    };
    const struct seccomp_subject subject = {.caps = CAP(SYS_NICE), .kernel_major = 6, .kernel_minor = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_free char *json =
            str_printf("{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_ERRNO\", %s}]}",
                       cases[i].condition);
        struct seccomp_program program = read_for(json, &subject);
        if (outcome(&program, CALL(umask, 022)) != (cases[i].applies ? EPERM : 0))
            fail_msg("%s", cases[i].condition);
        free(program.code);
    }
}

static void
wrong_profiles_are_told_where(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
        enum error_kind kind;
    } cases[] = {
        {"", "line 1", ERR_INVALID},
        {"[]", "no JSON object", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\"", "line 1", ERR_INVALID},
        {"{}", "defaultAction", ERR_INVALID},
        {"{\"defaultAction\": 5}", "defaultAction", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_MAYBE\"}", "SCMP_ACT_MAYBE", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}", "SCMP_ACT_NOTIFY", ERR_UNSUPPORTED},
        {"{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 5000}", "defaultErrnoRet", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"amd64\"]}", "amd64", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"QUICK\"]}", "QUICK", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": {}}", "syscalls", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [5]}", "syscalls: item 0", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"action\": \"SCMP_ACT_LOG\"}]}", "names", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"index\": 6, "
         "\"op\": \"SCMP_CMP_EQ\"}]}]}",
         "args: item 0: index", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_LOG\", \"args\": [{\"op\": "
         "\"SCMP_CMP_IS\"}]}]}",
         "SCMP_CMP_IS", ERR_INVALID},
        {"{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"umask\"], \"action\": \"SCMP_ACT_LOG\", \"includes\": "
         "{\"minKernel\": \"new\"}}]}",
         "minKernel", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_seccomp_profile struct seccomp_profile profile = {0};
        struct error err = {0};
        assert_int_equal(seccomp_profile_read(cases[i].json, strlen(cases[i].json), &(struct seccomp_subject){0}, &profile, &err), -1);
        if (err.kind != cases[i].kind || !strstr(err.message, cases[i].words))
            fail_msg("%s: %s", cases[i].json, err.message);
    }
}

/* ---- the store ---- */

struct world {
    char directory[64];
    struct seccomp_store *store;
};

static int
setup(void **state)
{
    struct world *w = mem_zalloc(1, sizeof *w);
    (void)snprintf(w->directory, sizeof w->directory, "/var/tmp/test-seccomp.XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    assert_int_equal(seccomp_store_open(w->directory, &w->store, NULL), 0);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;
    seccomp_store_close(w->store);
    assert_int_equal(file_remove_tree(AT_FDCWD, w->directory, NULL), 0);
    free(w);
    return 0;
}

static char *
prepared(struct world *w, const char *profile, uint64_t caps)
{
    struct error err = {0};
    char *name;
    if (seccomp_prepare(w->store, profile, caps, &name, &err) < 0)
        fail_msg("%s", err.message);
    return name;
}

static void
programs_are_shared_and_survive_crispd(void **state)
{
    struct world *w = *state;
    cleanup_free char *one = prepared(w, "runtime/default", 1), *same = prepared(w, "runtime/default", 1);
    cleanup_free char *other = prepared(w, "runtime/default", CAP(SYS_ADMIN)), *none = prepared(w, "unconfined", 1), *unset = prepared(w, "", 1);
    assert_string_equal(one, same);
    assert_string_not_equal(one, other);
    assert_string_equal(none, "");
    assert_string_equal(unset, "");

    struct error err = {0};
    struct spec_builder *before = spec_new(), *after = spec_new();
    assert_int_equal(seccomp_add(w->store, one, before, NULL), 0);
    seccomp_store_close(w->store);
    assert_int_equal(seccomp_store_open(w->directory, &w->store, NULL), 0);
    seccomp_store_keep(w->store, &(struct strv){.items = (char *[]){one, NULL}, .count = 1});
    assert_int_equal(seccomp_add(w->store, one, after, NULL), 0);
    cleanup_free char *text = spec_dump(before), *text_after = spec_dump(after);
    assert_string_equal(text, text_after);
    assert_true(str_starts(text, "seccomp of "));

    assert_int_equal(seccomp_add(w->store, other, after, &err), -1); /* nobody had it any more */
    assert_int_equal(err.kind, ERR_INTERNAL);
    assert_int_equal(seccomp_add(w->store, "", after, &err), 0);
    spec_free(before);
    spec_free(after);
}

static void
a_damaged_program_is_never_used(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    struct spec_builder *b = spec_new();
    cleanup_free char *name = prepared(w, "runtime/default", 2), *path = str_printf("%s/%s", w->directory, name);
    assert_int_equal(truncate(path, 24), 0);
    seccomp_store_close(w->store);
    assert_int_equal(seccomp_store_open(w->directory, &w->store, NULL), 0);
    assert_int_equal(seccomp_add(w->store, name, b, &err), -1);
    assert_non_null(strstr(err.message, "damaged"));
    cleanup_free char *again = prepared(w, "runtime/default", 2);
    assert_string_equal(again, name);
    assert_int_equal(seccomp_add(w->store, name, b, &err), 0);
    spec_free(b);
}

static void
a_localhost_profile_is_read_when_the_container_is_made(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    char *name = NULL;
    cleanup_free char *path = str_printf("%s/.profile.json", w->directory), *profile = str_printf("localhost/%s", path);
    assert_int_equal(seccomp_prepare(w->store, profile, 0, &name, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_non_null(strstr(err.message, path));
    static const char first[] = "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}", second[] = "{\"defaultAction\": \"SCMP_ACT_LOG\"}",
                      wrong[] = "{\"defaultAction\": 1}";
    assert_int_equal(file_replace(AT_FDCWD, path, first, strlen(first), 0600, false, NULL), 0);
    cleanup_free char *one = prepared(w, profile, 0);
    assert_int_equal(file_replace(AT_FDCWD, path, second, strlen(second), 0600, false, NULL), 0);
    cleanup_free char *two = prepared(w, profile, 0);
    assert_string_not_equal(one, two);
    assert_int_equal(file_replace(AT_FDCWD, path, wrong, strlen(wrong), 0600, false, NULL), 0);
    assert_int_equal(seccomp_prepare(w->store, profile, 0, &name, &err), -1);
    assert_int_equal(seccomp_prepare(w->store, "localhost/a.json", 0, &name, &err), -1);
    assert_non_null(strstr(err.message, "not absolute"));
    assert_int_equal(seccomp_prepare(w->store, "docker", 0, &name, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_denies_what_reaches_beyond_the_container),
        cmocka_unit_test(the_default_allows_what_programs_do),
        cmocka_unit_test(the_default_looks_at_arguments),
        cmocka_unit_test(the_default_knows_the_container_s_capabilities),
        cmocka_unit_test(the_default_is_small),
        cmocka_unit_test(every_action_is_known),
        cmocka_unit_test(a_list_of_what_is_allowed),
        cmocka_unit_test(every_comparison_is_known),
        cmocka_unit_test(several_comparisons),
        cmocka_unit_test(includes_and_excludes),
        cmocka_unit_test(wrong_profiles_are_told_where),
        cmocka_unit_test_setup_teardown(programs_are_shared_and_survive_crispd, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_program_is_never_used, setup, teardown),
        cmocka_unit_test_setup_teardown(a_localhost_profile_is_read_when_the_container_is_made, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
