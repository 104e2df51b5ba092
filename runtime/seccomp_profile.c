#include "runtime/seccomp_profile.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "runtime/caps.h"

enum { ERRNO_MAX = 4095 /* what the kernel passes on */, COMPARISONS_MAX = 64 };

struct seccomp_rule *
seccomp_profile_add(struct seccomp_profile *profile, uint32_t action)
{
    profile->rules = mem_realloc(profile->rules, profile->rule_count + 1, sizeof *profile->rules);
    struct seccomp_rule *rule = &profile->rules[profile->rule_count++];
    *rule = (struct seccomp_rule){.action = action};
    return rule;
}

void
seccomp_profile_free(struct seccomp_profile *profile)
{
    for (size_t i = 0; i < profile->rule_count; i++) {
        strv_free(&profile->rules[i].names);
        free(profile->rules[i].comparisons);
    }
    free(profile->rules);
    *profile = (struct seccomp_profile){0};
}

/* ---- words ---- */

enum errno_use { NO_ERRNO, AS_ERRNO, AS_TRACE };

static const struct {
    const char *name;
    uint32_t action;
    enum errno_use use; /* of errnoRet */
} actions[] = {
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD, NO_ERRNO},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD, NO_ERRNO},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS, NO_ERRNO},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP, NO_ERRNO},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0), AS_ERRNO},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0), AS_TRACE},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG, NO_ERRNO},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW, NO_ERRNO},
};

static const struct {
    const char *name;
    int operator;
} operators[] = {
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
};

/* The OCI's name, and Go's, which includes and excludes use. */
static const struct {
    const char *name, *go_name;
    uint32_t arch;
} arches[] = {
    {"SCMP_ARCH_X86_64", "amd64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X86", "386", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86", "x86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X32", "x32", SCMP_ARCH_X32},
    {"SCMP_ARCH_AARCH64", "arm64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_ARM", "arm", SCMP_ARCH_ARM},
    {"SCMP_ARCH_MIPS", "mips", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", "mips64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", "mips64n32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", "mipsel", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", "mipsel64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", "mipsel64n32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", "ppc", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", "ppc64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", "ppc64le", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", "s390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", "s390x", SCMP_ARCH_S390X},
    {"SCMP_ARCH_RISCV64", "riscv64", SCMP_ARCH_RISCV64},
    {"SCMP_ARCH_PARISC", "parisc", SCMP_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", "parisc64", SCMP_ARCH_PARISC64},
};

/* TSYNC is what a process with one thread has anyway; WAIT_KILLABLE_RECV belongs to SCMP_ACT_NOTIFY, which is refused where it stands. */
static const struct {
    const char *name;
    unsigned flag;
} filter_flags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", 0},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- members ---- */

/* "" where it is absent. */
static int
read_string(const json_t *object, const char *key, const char **out, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    *out = value && !json_is_null(value) ? json_string_value(value) : "";
    return *out ? 0 : error_set(err, ERR_INVALID, "%s: it is no string", key);
}

static int
read_list(const json_t *object, const char *key, size_t most, const json_t **out, struct error *err)
{
    *out = json_object_get(object, key);
    if (json_is_null(*out))
        *out = NULL;
    if (*out && !json_is_array(*out))
        return error_set(err, ERR_INVALID, "%s: it is no array", key);
    return json_array_size(*out) <= most ? 0 : error_set(err, ERR_INVALID, "%s: %zu are more than %zu", key, json_array_size(*out), most);
}

static int
read_strings(const json_t *object, const char *key, size_t most, struct strv *out, struct error *err)
{
    const json_t *list;
    size_t i;
    json_t *item;
    TRY(read_list(object, key, most, &list, err));
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return error_set(err, ERR_INVALID, "%s: item %zu is no string", key, i);
        strv_add(out, json_string_value(item));
    }
    return 0;
}

/* `out` stays where it is absent. */
static int
read_number(const json_t *object, const char *key, uint64_t most, uint64_t *out, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > most)
        return error_set(err, ERR_INVALID, "%s: it is no number from 0 to %" PRIu64, key, most);
    *out = (uint64_t)json_integer_value(value);
    return 0;
}

static int
read_action(const json_t *object, const char *key, const char *errno_key, uint64_t errno_default, uint32_t *out, struct error *err)
{
    const char *name;
    uint64_t number = errno_default;
    TRY(read_string(object, key, &name, err));
    TRY(read_number(object, errno_key, ERRNO_MAX, &number, err));
    for (size_t i = 0; i < COUNT(actions); i++)
        if (str_eq(actions[i].name, name)) {
            *out = actions[i].action | (actions[i].use != NO_ERRNO ? (uint32_t)number : 0);
            return 0;
        }
    if (str_eq(name, "SCMP_ACT_NOTIFY"))
        return error_set(err, ERR_UNSUPPORTED, "%s SCMP_ACT_NOTIFY: crisp has no agent that would be asked", key);
    return error_set(err, ERR_INVALID, "%s \"%.40s\": there is no such action", key, name);
}

/* ---- architectures ---- */

static void
add_arch(struct seccomp_profile *out, const char *name)
{
    for (size_t i = 0; i < COUNT(arches); i++) {
        if (!str_eq(arches[i].name, name) || out->arch_count == SECCOMP_ARCHES_MAX)
            continue;
        for (size_t n = 0; n < out->arch_count; n++)
            if (out->arches[n] == arches[i].arch)
                return;
        out->arches[out->arch_count++] = arches[i].arch;
        return;
    }
}

static bool
is_arch(const char *name)
{
    for (size_t i = 0; i < COUNT(arches); i++)
        if (str_eq(arches[i].name, name))
            return true;
    return false;
}

static int
read_architectures(const json_t *root, struct seccomp_profile *out, struct error *err)
{
    cleanup_strv struct strv names = {0};
    TRY(read_strings(root, "architectures", COUNT(arches), &names, err));
    for (size_t i = 0; i < names.count; i++) {
        /* Named by later versions of the spec, and none of this machine's. */
        if (!is_arch(names.items[i]) && !str_starts(names.items[i], "SCMP_ARCH_"))
            return error_set(err, ERR_INVALID, "architectures: \"%.40s\" is none", names.items[i]);
        add_arch(out, names.items[i]);
    }
    return 0;
}

/* The line of this machine: what it runs besides its own. */
static int
read_arch_map(const json_t *root, struct seccomp_profile *out, struct error *err)
{
    const json_t *map;
    size_t i;
    json_t *entry;
    TRY(read_list(root, "archMap", COUNT(arches), &map, err));
    json_array_foreach(map, i, entry)
    {
        const char *name;
        cleanup_strv struct strv others = {0};
        TRY(read_string(entry, "architecture", &name, err));
        TRY(read_strings(entry, "subArchitectures", COUNT(arches), &others, err));
        for (size_t a = 0; a < COUNT(arches); a++) {
            if (!str_eq(arches[a].name, name) || arches[a].arch != seccomp_arch_native())
                continue;
            for (size_t n = 0; n < others.count; n++)
                add_arch(out, others.items[n]);
        }
    }
    return 0;
}

/* ---- includes and excludes ---- */

struct condition {
    struct strv caps, arches;
    bool has_kernel;
    unsigned major, minor;
};

static void
condition_free(struct condition *condition)
{
    strv_free(&condition->caps);
    strv_free(&condition->arches);
}

static int
read_condition(const json_t *rule, const char *key, struct condition *out, struct error *err)
{
    const char *kernel;
    const json_t *object = json_object_get(rule, key);
    if (!object || json_is_null(object))
        return 0;
    if (!json_is_object(object))
        return error_set(err, ERR_INVALID, "%s: it is no object", key);
    TRY(read_strings(object, "caps", 64, &out->caps, err));
    TRY(read_strings(object, "arches", 64, &out->arches, err));
    TRY(read_string(object, "minKernel", &kernel, err));
    out->has_kernel = *kernel;
    if (*kernel && sscanf(kernel, "%4u.%4u", &out->major, &out->minor) != 2)
        return error_set(err, ERR_INVALID, "%s: minKernel \"%.20s\" is not of the form 4.8", key, kernel);
    return 0;
}

static bool
holds_cap(const struct seccomp_subject *subject, const char *name)
{
    uint64_t mask = 0;
    return caps_parse(name, UINT64_MAX, &mask, NULL) == 0 && (subject->caps & mask) == mask;
}

static bool
is_native(const char *go_name)
{
    for (size_t i = 0; i < COUNT(arches); i++)
        if (str_eq(arches[i].go_name, go_name))
            return arches[i].arch == seccomp_arch_native();
    return false;
}

static bool
has_kernel(const struct seccomp_subject *subject, const struct condition *condition)
{
    return subject->kernel_major != condition->major ? subject->kernel_major > condition->major : subject->kernel_minor >= condition->minor;
}

/* All that it asks for. */
static bool
includes(const struct condition *condition, const struct seccomp_subject *subject)
{
    bool native = condition->arches.count == 0;
    for (size_t i = 0; i < condition->caps.count; i++)
        if (!holds_cap(subject, condition->caps.items[i]))
            return false;
    for (size_t i = 0; i < condition->arches.count; i++)
        native = native || is_native(condition->arches.items[i]);
    return native && (!condition->has_kernel || has_kernel(subject, condition));
}

/* Any of what it asks for. */
static bool
excludes(const struct condition *condition, const struct seccomp_subject *subject)
{
    for (size_t i = 0; i < condition->caps.count; i++)
        if (holds_cap(subject, condition->caps.items[i]))
            return true;
    for (size_t i = 0; i < condition->arches.count; i++)
        if (is_native(condition->arches.items[i]))
            return true;
    return condition->has_kernel && has_kernel(subject, condition);
}

static int
applies(const json_t *rule, const struct seccomp_subject *subject, bool *out, struct error *err)
{
    cleanup(condition_free) struct condition include = {0}, exclude = {0};
    TRY(read_condition(rule, "includes", &include, err));
    TRY(read_condition(rule, "excludes", &exclude, err));
    *out = includes(&include, subject) && !excludes(&exclude, subject);
    return 0;
}

/* ---- rules ---- */

static int
read_comparison(const json_t *json, struct seccomp_comparison *out, struct error *err)
{
    const char *name;
    uint64_t index = 0;
    if (!json_is_object(json))
        return error_set(err, ERR_INVALID, "it is no object");
    TRY(read_number(json, "index", SECCOMP_ARGS - 1, &index, err));
    TRY(read_number(json, "value", INT64_MAX, &out->value, err));
    TRY(read_number(json, "valueTwo", INT64_MAX, &out->value_two, err));
    TRY(read_string(json, "op", &name, err));
    out->index = (unsigned)index;
    for (size_t i = 0; i < COUNT(operators); i++)
        if (str_eq(operators[i].name, name)) {
            out->operator= operators[i].operator;
            return 0;
        }
    return error_set(err, ERR_INVALID, "op \"%.40s\": there is no such comparison", name);
}

static int
read_comparisons(const json_t *json, struct seccomp_rule *rule, struct error *err)
{
    const json_t *list;
    TRY(read_list(json, "args", COMPARISONS_MAX, &list, err));
    rule->comparisons = mem_zalloc(json_array_size(list), sizeof *rule->comparisons);
    for (; rule->comparison_count < json_array_size(list); rule->comparison_count++)
        if (read_comparison(json_array_get(list, rule->comparison_count), &rule->comparisons[rule->comparison_count], err) < 0)
            return error_prefix(err, "args: item %zu", rule->comparison_count);
    return 0;
}

static int
read_rule(const json_t *json, const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err)
{
    bool wanted;
    uint32_t action = 0;
    const char *name;
    if (!json_is_object(json))
        return error_set(err, ERR_INVALID, "it is no object");
    TRY(applies(json, subject, &wanted, err));
    if (!wanted)
        return 0;
    TRY(read_action(json, "action", "errnoRet", EPERM, &action, err));
    struct seccomp_rule *rule = seccomp_profile_add(out, action);
    TRY(read_strings(json, "names", SECCOMP_NAMES_MAX, &rule->names, err));
    TRY(read_string(json, "name", &name, err)); /* as Docker wrote it before there were `names` */
    if (*name)
        strv_add(&rule->names, name);
    if (rule->names.count == 0)
        return error_set(err, ERR_INVALID, "names: none is given");
    return read_comparisons(json, rule, err);
}

static int
read_rules(const json_t *root, const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err)
{
    const json_t *list;
    size_t i;
    json_t *rule;
    TRY(read_list(root, "syscalls", SECCOMP_RULES_MAX, &list, err));
    json_array_foreach(list, i, rule) if (read_rule(rule, subject, out, err) < 0) return error_prefix(err, "syscalls: item %zu", i);
    return 0;
}

static int
read_flags(const json_t *root, struct seccomp_profile *out, struct error *err)
{
    cleanup_strv struct strv names = {0};
    TRY(read_strings(root, "flags", 64, &names, err));
    for (size_t n = 0; n < names.count; n++) {
        size_t i = 0;
        while (i < COUNT(filter_flags) && !str_eq(filter_flags[i].name, names.items[n]))
            i++;
        if (i == COUNT(filter_flags))
            return error_set(err, ERR_INVALID, "flags: \"%.60s\" is none", names.items[n]);
        out->filter_flags |= filter_flags[i].flag;
    }
    return 0;
}

static int
read_profile(const json_t *root, const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err)
{
    if (!json_is_object(root))
        return error_set(err, ERR_INVALID, "it is no JSON object");
    TRY(read_action(root, "defaultAction", "defaultErrnoRet", EPERM, &out->default_action, err));
    TRY(read_architectures(root, out, err));
    TRY(read_arch_map(root, out, err));
    TRY(read_flags(root, out, err));
    return read_rules(root, subject, out, err);
}

int
seccomp_profile_read(const char *json, size_t length, const struct seccomp_subject *subject, struct seccomp_profile *out, struct error *err)
{
    json_error_t where;
    *out = (struct seccomp_profile){0};
    cleanup_json json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(err, ERR_INVALID, "line %d: %s", where.line, where.text);
    return read_profile(root, subject, out, err);
}
