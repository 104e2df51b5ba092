/* RuntimeDefault. A container may make every call that Linux 6.18 has, except those below: what reaches beyond the container, is not namespaced, or
 * has been a way into the kernel more often than of use. Where a capability already decides about a call, it is left to those who hold it. Calls of
 * later kernels are denied until somebody has looked at them and raised LAST_CALL.
 *
 * The effect is that of the default which Docker documents (docs.docker.com, "Seccomp security profiles for Docker") and containerd shares; the
 * reasons are from there and from the manual pages of section 2. ptrace and process_vm_* are allowed, as since Linux 4.8 they cannot get around the
 * filter. */
#include <errno.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/personality.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "runtime/seccomp_profile.h"

#define CAP(name) (UINT64_C(1) << CAP_##name)

enum { LAST_CALL = 469 /* file_setattr, Linux 6.17; numbers are the same on every machine since 424 */ };

static const struct {
    const char *why;
    uint64_t unless; /* one of these capabilities is held; 0: for nobody */
    const char *calls;
} denied[] = {
    {"code in the kernel", CAP(SYS_MODULE), "init_module finit_module delete_module"},
    {"another kernel", 0, "kexec_load kexec_file_load"},
    {"the machine goes down", CAP(SYS_BOOT), "reboot"},
    {"out of the namespaces, or into new ones", CAP(SYS_ADMIN), "setns unshare"},
    {"mounts", CAP(SYS_ADMIN),
     "mount umount umount2 fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr mount_setattr statmount listmount"},
    {"another root: the runtime's business", 0, "pivot_root"},
    {"a way out of a chroot, and in", CAP(SYS_CHROOT), "chroot"},
    {"files without a path, past the mounts", CAP(DAC_READ_SEARCH), "open_by_handle_at"},
    {"quotas and accounts of the whole file system or machine", CAP(SYS_ADMIN), "quotactl quotactl_fd lookup_dcookie"},
    {"process accounts of the machine", CAP(SYS_PACCT), "acct"},
    {"swap is the machine's", 0, "swapon swapoff"},
    {"keyrings are not namespaced", 0, "add_key request_key keyctl"},
    {"time is not namespaced", CAP(SYS_TIME), "settimeofday stime clock_settime clock_settime64 clock_adjtime clock_adjtime64"},
    {"names that the pod was given", CAP(SYS_ADMIN), "sethostname setdomainname"},
    {"ports of the hardware", CAP(SYS_RAWIO), "ioperm iopl"},
    {"configuration of the hardware", 0, "pciconfig_iobase pciconfig_read pciconfig_write rtas spu_create spu_run s390_sthyi"},
    {"real mode of an x86", 0, "vm86 vm86old"},
    {"other processes' files and memory", CAP(SYS_PTRACE), "kcmp pidfd_getfd process_madvise"},
    {"placing memory on nodes", CAP(SYS_NICE), "mbind get_mempolicy set_mempolicy set_mempolicy_home_node"},
    {"moving memory between nodes", 0, "move_pages migrate_pages"},
    {"programs in the kernel", CAP(SYS_ADMIN) | CAP(BPF), "bpf"},
    {"watching the kernel", CAP(SYS_ADMIN) | CAP(PERFMON), "perf_event_open"},
    {"watching whole file systems", CAP(SYS_ADMIN), "fanotify_init"},
    {"the kernel's log", CAP(SYS_ADMIN) | CAP(SYSLOG), "syslog"},
    {"hanging up terminals", CAP(SYS_TTY_CONFIG), "vhangup"},
    {"stops the kernel in the middle of a copy, what exploits wait for", 0, "userfaultfd"},
    {"calls past this filter", 0, "io_uring_setup io_uring_enter io_uring_register"},
    {"left over from kernels before this one", 0,
     "_sysctl sysfs ustat uselib nfsservctl create_module get_kernel_syms query_module afs_syscall security tuxcall vserver getpmsg putpmsg "
     "epoll_ctl_old epoll_wait_old"},
};

/* clone(2)'s flags; CLONE_NEWTIME is none of them, its bit belongs to the signal. */
static const uint64_t namespace_flags[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};

/* PER_LINUX and PER_LINUX32, each with or without UNAME26, and the question which one it is: others switch protections off (READ_IMPLIES_EXEC,
 * ADDR_NO_RANDOMIZE). */
static const uint32_t personalities[] = {PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, 0xffffffff};

/* Machines whose calls end at LAST_CALL, and the 32-bit programs they also run. x32 is left out: its numbers lie above LAST_CALL. */
static const struct {
    uint32_t native, also;
} machines[] = {
    {SCMP_ARCH_X86_64, SCMP_ARCH_X86},
    {SCMP_ARCH_AARCH64, SCMP_ARCH_ARM},
    {SCMP_ARCH_S390X, SCMP_ARCH_S390},
    {SCMP_ARCH_PPC64LE, 0},
    {SCMP_ARCH_RISCV64, 0},
};

static struct seccomp_rule *
deny(struct seccomp_profile *profile, const char *calls, int errnum)
{
    struct seccomp_rule *rule = seccomp_profile_add(profile, SCMP_ACT_ERRNO((uint32_t)errnum));
    strv_split(&rule->names, calls, ' ', true);
    return rule;
}

static void
deny_where(struct seccomp_profile *profile, const char *call, struct seccomp_comparison comparison)
{
    struct seccomp_rule *rule = deny(profile, call, EPERM);
    rule->comparisons = mem_dup(&comparison, sizeof comparison);
    rule->comparison_count = 1;
}

/* A filter cannot look behind the pointer that clone3 takes; told that it is missing, C libraries use clone. */
static void
deny_new_namespaces(struct seccomp_profile *profile, uint32_t native)
{
    unsigned flags_argument = native == SCMP_ARCH_S390X ? 1 : 0;
    for (size_t i = 0; i < sizeof namespace_flags / sizeof *namespace_flags; i++)
        deny_where(profile, "clone", (struct seccomp_comparison){flags_argument, SCMP_CMP_MASKED_EQ, namespace_flags[i], namespace_flags[i]});
    (void)deny(profile, "clone3", ENOSYS);
}

int
seccomp_profile_default(const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err)
{
    const uint32_t native = seccomp_arch_native();
    *out = (struct seccomp_profile){.default_action = SCMP_ACT_ALLOW};
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        if (machines[i].native == native) {
            out->last_call = LAST_CALL;
            out->arches[0] = machines[i].also;
            out->arch_count = machines[i].also != 0;
        }
    if (!out->last_call)
        return error_set(err, ERR_UNSUPPORTED, "seccomp RuntimeDefault: crisp %s has no profile for this kind of machine", CRISP_VERSION);
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++)
        if (!(denied[i].unless & subject->caps))
            (void)deny(out, denied[i].calls, EPERM);
    if (!(subject->caps & CAP(SYS_ADMIN)))
        deny_new_namespaces(out, native);
    /* Sockets to the hypervisor are not namespaced. */
    deny_where(out, "socket", (struct seccomp_comparison){0, SCMP_CMP_EQ, AF_VSOCK, 0});
    out->only = (struct seccomp_only){"personality", personalities, sizeof personalities / sizeof *personalities};
    return 0;
}
