#include "runtime/user.h"

#include <ctype.h>
#include <string.h>

#include "runtime/layers.h"

enum { ACCOUNTS_MAX = 16 << 20, ID_LARGEST = 0xfffffffe };

/* A line of passwd(5) or group(5), cut at its colons in place. */
struct account {
    char *field[7];
    size_t count;
};

/* The next line of *rest that has at least `fields` fields; false at the end. */
static bool
next_account(char **rest, size_t fields, struct account *out)
{
    for (char *line; (line = strsep(rest, "\n"));) {
        out->count = 0;
        for (char *field; out->count < 7 && (field = strsep(&line, ":"));)
            out->field[out->count++] = field;
        if (out->count >= fields && out->field[0][0] && out->field[0][0] != '#')
            return true;
    }
    return false;
}

static bool
is_number(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

static bool
number(const char *s, int64_t *out)
{
    uint64_t value;
    if (str_to_u64(s, ID_LARGEST, "id", &value, NULL) < 0)
        return false;
    *out = (int64_t)value;
    return true;
}

struct lookup {
    const char *layers_dir;
    const struct container_config *config;
    struct credentials *out;
    char *name; /* of the user, where known */
};

static int
read_accounts(const struct lookup *lookup, const char *path, char **out, struct error *err)
{
    *out = NULL;
    TRY(layers_read(lookup->layers_dir, &lookup->config->layers, path, ACCOUNTS_MAX, out, err));
    return 0;
}

/* name:password:uid:gid:gecos:home:shell. A uid that the image does not know is fine; a name is not. */
static int
find_user(struct lookup *lookup, const char *user, struct error *err)
{
    cleanup_free char *text = NULL;
    TRY(read_accounts(lookup, "/etc/passwd", &text, err));
    bool by_uid = is_number(user);
    int64_t wanted = 0, uid, gid;
    if (by_uid && !number(user, &wanted))
        return error_set(err, ERR_INVALID, "user %s: it is no user id", user);
    lookup->out->uid = wanted;
    struct account a;
    for (char *rest = text; text && next_account(&rest, 4, &a);) {
        if (!number(a.field[2], &uid) || !number(a.field[3], &gid) || (by_uid ? uid != wanted : !str_eq(a.field[0], user)))
            continue;
        lookup->out->uid = uid;
        lookup->out->gid = gid;
        lookup->out->home = str_dup(a.count > 5 && a.field[5][0] ? a.field[5] : "/");
        lookup->name = str_dup(a.field[0]);
        return 0;
    }
    return by_uid ? 0 : error_set(err, ERR_INVALID, "user %s: the image's /etc/passwd has no such name", user);
}

static void
add_group(struct credentials *out, int64_t gid)
{
    cleanup_free char *text = str_printf("%lld", (long long)gid);
    if (!strv_has(&out->groups, text))
        strv_add(&out->groups, text);
}

static bool
lists_member(char *members, const char *name)
{
    for (char *member; (member = strsep(&members, ","));)
        if (str_eq(member, name))
            return true;
    return false;
}

/* name:password:gid:members. The primary group first (CVE-2022-2995: without it setgroups drops a denial by group), then the user's, then the
 * request's. */
static int
find_groups(struct lookup *lookup, const char *group, struct error *err)
{
    cleanup_free char *text = NULL;
    TRY(read_accounts(lookup, "/etc/group", &text, err));
    struct credentials *out = lookup->out;
    cleanup_strv struct strv memberships = {0};
    bool found = str_empty(group) || is_number(group);
    if (group && is_number(group) && !number(group, &out->gid))
        return error_set(err, ERR_INVALID, "group %s: it is no group id", group);
    struct account a;
    int64_t gid;
    for (char *rest = text; text && next_account(&rest, 3, &a);) {
        if (!number(a.field[2], &gid))
            continue;
        if (!found && str_eq(a.field[0], group)) {
            out->gid = gid;
            found = true;
        }
        if (lookup->name && a.count > 3 && lists_member(a.field[3], lookup->name))
            strv_add(&memberships, a.field[2]);
    }
    if (!found)
        return error_set(err, ERR_INVALID, "group %s: the image's /etc/group has no such name", group);
    if (lookup->config->run_as_group != NO_ID)
        out->gid = lookup->config->run_as_group;
    add_group(out, out->gid);
    for (size_t i = 0; i < memberships.count && !lookup->config->strict_groups; i++)
        if (number(memberships.items[i], &gid))
            add_group(out, gid);
    for (size_t i = 0; i < lookup->config->supplemental_groups.count; i++)
        if (number(lookup->config->supplemental_groups.items[i], &gid))
            add_group(out, gid);
    return 0;
}

int
user_resolve(const char *layers_dir, const struct container_config *config, struct credentials *out, struct error *err)
{
    cleanup_free char *user = str_dup(config->user);
    char *group = user;
    (void)strsep(&group, ":");
    struct lookup lookup = {layers_dir, config, out, NULL};
    int result = find_user(&lookup, *user ? user : "0", err);
    if (result == 0)
        result = find_groups(&lookup, group, err);
    free(lookup.name);
    if (!out->home)
        out->home = str_dup("/");
    return result;
}
