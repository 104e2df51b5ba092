#include "runtime/selinux.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <linux/xattr.h>
#include <selinux/selinux.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

enum {
    CATEGORIES = 1024,
    CONTEXTS_MAX = 65536,
    LABEL_MAX = 4096,
    DEPTH_MAX = 256, /* two fds each */
};

#define SPC_TYPE "spc_t" /* what a process is that nothing confines */

bool
selinux_enabled(void)
{
    return is_selinux_enabled() == 1;
}

/* ---- what is asked for ---- */

bool
selinux_asked(const struct selinux_options *options)
{
    return !str_empty(options->user) || !str_empty(options->role) || !str_empty(options->type) || !str_empty(options->level);
}

int
selinux_check(const struct selinux_options *options, struct error *err)
{
    static const char name[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    const struct {
        const char *field, *value;
    } names[] = {{"user", options->user}, {"role", options->role}, {"type", options->type}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].value && names[i].value[strspn(names[i].value, name)])
            return error_set(err, ERR_INVALID, "selinux_options: %s \"%.100s\" is no name", names[i].field, names[i].value);
    /* "s0", "s0:c1,c2", "s0-s15:c0.c1023": a sensitivity before its categories */
    const char *level = options->level ? options->level : "", *sensitivity = level;
    size_t length = strcspn(level, ":");
    bool sound =
        !*level || (*level == 's' && strspn(sensitivity, "s0123456789-") == length && !level[length + strspn(level + length, ":-sc0123456789.,")]);
    return sound ? 0 : error_set(err, ERR_INVALID, "selinux_options: level \"%.100s\" is not of the form s0:c1,c2", level);
}

char *
selinux_new_level(void)
{
    uint16_t c[2];
    do
        (void)getrandom(c, sizeof c, 0);
    while (c[0] % CATEGORIES == c[1] % CATEGORIES);
    unsigned a = c[0] % CATEGORIES, b = c[1] % CATEGORIES;
    return str_printf("s0:c%u,c%u", a < b ? a : b, a < b ? b : a);
}

/* ---- labels ---- */

/* user:role:type[:level] */
struct context {
    char *text;
    const char *user, *role, *type, *level;
};

static void
context_free(struct context *context)
{
    free(context->text);
}

static const char *
cut(char **at)
{
    char *part = *at, *end = strchrnul(part, ':');
    *at = *end ? end + 1 : end;
    *end = '\0';
    return part;
}

static struct context
context_parse(const char *text, size_t length)
{
    struct context context = {.text = str_ndup(text, length)};
    char *at = context.text;
    context.user = cut(&at);
    context.role = cut(&at);
    context.type = cut(&at);
    context.level = at;
    return context;
}

/* A line `key = "user:role:type:level"` of the policy's lxc_contexts. */
static struct context
default_context(const char *key, const char *otherwise)
{
    cleanup_free char *text = NULL;
    const char *path = selinux_enabled() ? selinux_lxc_contexts_path() : NULL;
    if (path && file_read(AT_FDCWD, path, CONTEXTS_MAX, &text, NULL, NULL) == 0)
        for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
            const char *value = line + strlen(key);
            if (strncmp(line, key, strlen(key)) != 0)
                continue;
            value += strspn(value, " =\"");
            return context_parse(value, strcspn(value, "\"\n"));
        }
    return context_parse(otherwise, strlen(otherwise));
}

static const char *
either(const char *first, const char *second)
{
    return str_empty(first) ? second : first;
}

/* A policy without levels has none in its defaults. */
static char *
join(const char *user, const char *role, const char *type, const char *level, const char *default_level)
{
    bool levels = *default_level;
    return str_printf("%s:%s:%s%s%s", user, role, type, levels ? ":" : "", levels ? level : "");
}

static char *
file_label(const struct selinux_options *asked, const char *level)
{
    cleanup(context_free) struct context base = default_context("file", "system_u:object_r:container_file_t:s0");
    return join(either(asked->user, base.user), base.role, base.type, either(level, base.level), base.level);
}

/* Nothing confines a privileged container, its level included. */
static char *
process_label(const struct selinux_options *asked, const char *level, bool privileged)
{
    cleanup(context_free) struct context base = default_context("process", "system_u:system_r:container_t:s0");
    const char *type = either(asked->type, privileged ? SPC_TYPE : base.type);
    return join(either(asked->user, base.user), either(asked->role, base.role), type,
                privileged ? either(asked->level, base.level) : either(level, base.level), base.level);
}

static bool
is_known(const char *label)
{
    return security_check_context(label) == 0;
}

int
selinux_labels(const struct container_config *config, const struct pod_config *pod, char **process, char **files, struct error *err)
{
    const struct selinux_options *options = selinux_asked(&config->selinux) ? &config->selinux : &pod->selinux;
    const char *level = either(config->selinux.level, pod->selinux_level);
    bool asked = selinux_asked(options);
    *process = str_dup("");
    *files = asked || selinux_enabled() ? file_label(options, level) : str_dup("");
    if (!selinux_enabled())
        return 0;
    free(*process);
    *process = process_label(options, level, config->privileged);
    const char *unknown = !is_known(*process) ? *process : !is_known(*files) ? *files : NULL;
    if (!unknown)
        return 0;
    if (asked)
        return error_set(err, ERR_INVALID, "selinux_options: the node's policy does not know the label %s", unknown);
    static atomic_flag told = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&told))
        log_warn("the node's SELinux policy knows no containers: they are not confined by it", "label", unknown);
    **process = **files = '\0';
    return 0;
}

char *
selinux_pod_label(const struct pod_config *pod)
{
    if (!selinux_enabled())
        return str_dup("");
    char *label = file_label(&pod->selinux, pod->selinux_level);
    if (!is_known(label))
        *label = '\0';
    return label;
}

/* ---- relabelling ---- */

/* Each alone would make the node unusable to itself. */
static bool
is_of_the_node(const char *path)
{
    static const char *const ours[] = {"/",     "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt",     "/proc",
                                       "/root", "/run", "/sbin", "/srv", "/sys", "/tmp",  "/usr", "/var",   "/var/lib", "/var/log"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (str_eq(path, ours[i]))
            return true;
    return false;
}

/* By an fd's own name, which is the file itself whatever stands at its path by now. */
static void
name_of(int fd, char out[64])
{
    (void)snprintf(out, 64, "/proc/self/fd/%d", fd);
}

static bool
has_label(int fd, const char *label)
{
    char own[64], now[LABEL_MAX];
    name_of(fd, own);
    ssize_t n = getxattr(own, XATTR_NAME_SELINUX, now, sizeof now - 1);
    now[n > 0 ? n : 0] = '\0';
    return str_eq(now, label);
}

static int
set_label(int fd, const char *label, struct error *err)
{
    char own[64];
    name_of(fd, own);
    if (has_label(fd, label) || setxattr(own, XATTR_NAME_SELINUX, label, strlen(label) + 1, 0) == 0 || errno == EOPNOTSUPP)
        return 0;
    return error_errno(err, errno, "label %s", label);
}

static int relabel(int fd, const char *label, int depth, struct error *err);

static int
relabel_entry(int dirfd, const char *name, const char *label, int depth, struct error *err)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    cleanup_close int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    if (fd < 0)
        return errno == ENOENT || errno == EXDEV ? 0 : error_errno(err, errno, "%s", name);
    return relabel(fd, label, depth, err) < 0 ? error_prefix(err, "%s", name) : 0;
}

static int
relabel_below(int fd, const char *label, int depth, struct error *err)
{
    if (depth == DEPTH_MAX)
        return error_set(err, ERR_INVALID, "directories nest deeper than %d", DEPTH_MAX);
    int list = TRY(file_open(fd, ".", O_RDONLY | O_DIRECTORY, 0, err));
    cleanup_closedir DIR *dir = fdopendir(list);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            TRY(relabel_entry(list, entry->d_name, label, depth + 1, err));
    return 0;
}

static int
relabel(int fd, const char *label, int depth, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        TRY(relabel_below(fd, label, depth, err));
    return set_label(fd, label, err);
}

int
selinux_relabel(const char *path, const char *label, struct error *err)
{
    char own[64], where[PATH_MAX];
    cleanup_close int top = TRY(file_open(AT_FDCWD, path, O_PATH, 0, err));
    name_of(top, own);
    ssize_t n = readlink(own, where, sizeof where - 1);
    where[n > 0 ? n : 0] = '\0';
    if (is_of_the_node(where))
        return error_set(err, ERR_INVALID, "%s: the node's own directories are not given a container's label", path);
    if (has_label(top, label))
        return 0;
    return relabel(top, label, 0, err) < 0 ? error_prefix(err, "%s", path) : 0;
}
