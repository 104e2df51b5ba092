#include "imageservice/pull/challenge.h"

#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

static size_t
token_length(const char *s)
{
    return strcspn(s, " \t,=\"");
}

/* A quoted string, from behind its opening quote; *end is set behind the closing one. */
static char *
unquote(const char *s, const char **end)
{
    char *out = mem_alloc(strlen(s) + 1), *to = out;
    while (*s && *s != '"') {
        if (*s == '\\' && s[1])
            s++;
        *to++ = *s++;
    }
    *to = '\0';
    *end = *s ? s + 1 : s;
    return out;
}

static void
set_parameter(struct challenge *challenge, const char *key, size_t key_length, char *value)
{
    struct {
        const char *name;
        char **to;
    } known[] = {{"realm", &challenge->realm}, {"service", &challenge->service}, {"scope", &challenge->scope}};
    for (size_t i = 0; i < 3; i++)
        if (strlen(known[i].name) == key_length && strncasecmp(known[i].name, key, key_length) == 0 && !*known[i].to) {
            *known[i].to = value;
            return;
        }
    free(value);
}

/* "key=value" or "key=\"value\"" at s: into the challenge; returns behind it, or NULL when none stands there. */
static const char *
parse_parameter(const char *s, struct challenge *challenge)
{
    size_t key_length = token_length(s);
    const char *equals = s + key_length + strspn(s + key_length, " \t");
    if (key_length == 0 || *equals != '=')
        return NULL;
    const char *value = equals + 1 + strspn(equals + 1, " \t"), *end;
    if (*value == '"')
        set_parameter(challenge, s, key_length, unquote(value + 1, &end));
    else {
        end = value + strcspn(value, " \t,");
        set_parameter(challenge, s, key_length, str_ndup(value, (size_t)(end - value)));
    }
    return end;
}

static enum challenge_scheme
scheme_of(const char *s, size_t length)
{
    if (length == 6 && strncasecmp(s, "bearer", 6) == 0)
        return CHALLENGE_BEARER;
    return length == 5 && strncasecmp(s, "basic", 5) == 0 ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

static void
keep_better(struct challenge *best, struct challenge *found)
{
    bool usable = found->scheme == CHALLENGE_BASIC || (found->scheme == CHALLENGE_BEARER && found->realm);
    if (usable && found->scheme > best->scheme) {
        challenge_free(best);
        *best = *found;
        *found = (struct challenge){0};
    }
    challenge_free(found);
}

static void
parse_header(const char *s, struct challenge *best)
{
    struct challenge current = {0};
    while (*(s += strspn(s, " \t,"))) {
        const char *after = parse_parameter(s, &current);
        if (!after) {
            /* No parameter: the next challenge's scheme begins. */
            size_t length = token_length(s);
            keep_better(best, &current);
            current.scheme = scheme_of(s, length);
            after = s + (length ? length : 1);
        }
        s = after;
    }
    keep_better(best, &current);
}

void
challenge_choose(const struct strv *headers, struct challenge *out)
{
    *out = (struct challenge){0};
    for (size_t i = 0; i < headers->count; i++)
        parse_header(headers->items[i], out);
}

void
challenge_free(struct challenge *challenge)
{
    free(challenge->realm);
    free(challenge->service);
    free(challenge->scope);
    *challenge = (struct challenge){0};
}
