#include "runtime/apparmor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define LOCALHOST "localhost/"

enum { PROFILES_BYTES_MAX = 16 << 20 };

static const char profiles_file[] = "/sys/kernel/security/apparmor/profiles";
static const char *const parsers[] = {"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/local/sbin/apparmor_parser"};

/* What a container may do that has its capabilities, user and seccomp filter besides: everything but mount, trace what is not confined as it is, and
 * write to what of /proc and /sys is the machine's. Its files are its own: only where the kernel shows through are there rules. */
static const char own_profile[] =
    "profile " APPARMOR_OWN_PROFILE " flags=(attach_disconnected,mediate_deleted) {\n"
    "  network,\n"
    "  capability,\n"
    "  file,\n"
    "  umount,\n"
    "  deny mount,\n"
    "  signal (receive) peer=unconfined,\n"
    "  signal (send, receive) peer=" APPARMOR_OWN_PROFILE ",\n"
    "  ptrace (trace, read, tracedby, readby) peer=" APPARMOR_OWN_PROFILE ",\n"
    "  unix,\n"
    "  deny /proc/sysrq-trigger rwklx,\n"
    "  deny /proc/kcore rwklx,\n"
    "  deny /proc/mem rwklx,\n"
    "  deny /proc/kmem rwklx,\n"
    "  deny /proc/{acpi,bus,fs,irq,scsi}/** wklx,\n"
    "  deny /proc/sys/kernel/{core_pattern,modprobe,hotplug,poweroff_cmd,usermodehelper/**,sysrq,kexec_load_disabled,modules_disabled} wklx,\n"
    "  deny /proc/sys/{vm,fs,dev,debug,abi}/** wklx,\n"
    "  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,module,power}/** wklx,\n"
    "  deny /sys/fs/[^c]*/** wklx,\n"
    "  deny /sys/kernel/** wklx,\n"
    "  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,\n"
    "}\n";

static const char *
parser(void)
{
    for (size_t i = 0; i < sizeof parsers / sizeof *parsers; i++)
        if (access(parsers[i], X_OK) == 0)
            return parsers[i];
    return NULL;
}

static bool
in_charge(void)
{
    cleanup_free char *text = NULL;
    return file_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &text, NULL, NULL) == 0 && text[0] == 'Y' &&
           access(profiles_file, R_OK) == 0;
}

bool
apparmor_enabled(void)
{
    return in_charge() && parser();
}

/* Lines of "NAME (mode)". */
static int
is_loaded(const char *name, bool *out, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length = strlen(name);
    TRY(file_read(AT_FDCWD, profiles_file, PROFILES_BYTES_MAX, &text, NULL, err));
    *out = false;
    for (const char *line = text; *line && !*out; line += strcspn(line, "\n"), line += *line == '\n')
        *out = strncmp(line, name, length) == 0 && strncmp(line + length, " (", 2) == 0;
    return 0;
}

/* ---- our own ---- */

static int
run_parser(const char *program, int profile, int output, struct error *err)
{
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "--skip-cache", (char *)(uintptr_t) "--replace", NULL}, *envp[] = {NULL};
    posix_spawn_file_actions_t files;
    pid_t pid;
    int status;
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_adddup2(&files, profile, STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    (void)posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    int errnum = posix_spawn(&pid, program, &files, NULL, argv, envp);
    (void)posix_spawn_file_actions_destroy(&files);
    if (errnum)
        return error_errno(err, errnum, "execute %s", program);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_errno(err, errno, "wait for %s", program);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    char words[512] = "";
    ssize_t n = pread(output, words, sizeof words - 1, 0);
    words[n > 0 ? strcspn(words, "\n") : 0] = '\0';
    return error_set(err, ERR_INTERNAL, "%s refuses crisp's profile: %s", program, words);
}

static int
load_own(struct error *err)
{
    const char *program = parser();
    if (!program)
        return error_set(err, ERR_UNSUPPORTED, "AppArmor profile runtime/default: there is no apparmor_parser to load it");
    cleanup_close int profile = TRY(file_sealed_memfd("crisp-apparmor", own_profile, strlen(own_profile), err));
    cleanup_close int output = memfd_create("crisp-apparmor-output", MFD_CLOEXEC);
    if (output < 0 || lseek(profile, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "make a memfd");
    return run_parser(program, profile, output, err);
}

static int
have_own(struct error *err)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    bool loaded = false;
    TRY(is_loaded(APPARMOR_OWN_PROFILE, &loaded, err));
    if (loaded)
        return 0;
    pthread_mutex_lock(&one_at_a_time);
    int result = is_loaded(APPARMOR_OWN_PROFILE, &loaded, err);
    if (result == 0 && !loaded)
        result = load_own(err);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

/* ---- choosing ---- */

static int
have_of_node(const char *name, struct error *err)
{
    bool loaded = false;
    if (!in_charge())
        return error_set(err, ERR_UNSUPPORTED, "AppArmor profile %.200s: AppArmor is not in charge on this node", name);
    if (str_empty(name) || strpbrk(name, "\n"))
        return error_set(err, ERR_INVALID, "AppArmor profile \"%.200s\": it is no name of a profile", name);
    TRY(is_loaded(name, &loaded, err));
    return loaded ? 0 : error_set(err, ERR_INVALID, "AppArmor profile %.200s: it is not loaded on this node", name);
}

int
apparmor_prepare(const char *profile, char **name, struct error *err)
{
    const char *chosen = "";
    *name = NULL;
    if (str_empty(profile) ? apparmor_enabled() : str_eq(profile, "runtime/default") && in_charge()) {
        TRY(have_own(err));
        chosen = APPARMOR_OWN_PROFILE;
    } else if (!str_empty(profile) && str_starts(profile, LOCALHOST)) {
        chosen = profile + strlen(LOCALHOST);
        TRY(have_of_node(chosen, err));
    } else if (!str_empty(profile) && !str_eq(profile, "unconfined") && !str_eq(profile, "runtime/default")) {
        return error_set(err, ERR_INVALID, "AppArmor profile \"%.100s\": it is none of runtime/default, unconfined, localhost/NAME", profile);
    }
    *name = str_dup(chosen);
    return 0;
}
