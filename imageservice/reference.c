#include "imageservice/reference.h"

#include <ctype.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "imageservice/digest.h"
#include "imageservice/imageservice.h"

enum { NAME_MAX_LENGTH = 255, TAG_MAX_LENGTH = 128 };

static bool
is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool
is_alnum(char c)
{
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* One of ".", "_", "__", or dashes; 0 where none stands. */
static size_t
separator_length(const char *s)
{
    if (*s == '.')
        return 1;
    if (*s == '_')
        return s[1] == '_' ? 2 : 1;
    return strspn(s, "-");
}

/* path-component := [a-z0-9]+ (separator [a-z0-9]+)* */
static bool
component_valid(const char *s, size_t length)
{
    const char *end = s + length;
    while (s < end) {
        const char *word = s;
        while (s < end && is_lower_alnum(*s))
            s++;
        if (s == word)
            return false;
        if (s == end)
            return true;
        s += separator_length(s);
    }
    return false;
}

static bool
repository_valid(const char *s)
{
    for (;;) {
        const char *end = strchrnul(s, '/');
        if (!component_valid(s, (size_t)(end - s)))
            return false;
        if (!*end)
            return true;
        s = end + 1;
    }
}

static bool
port_valid(const char *s)
{
    size_t digits = strspn(s, "0123456789");
    return digits > 0 && digits <= 5 && s[digits] == '\0';
}

/* Labels of letters, digits and inner dashes, joined by dots. */
static bool
host_name_valid(const char *s, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bool edge = i == 0 || i + 1 == length || s[i - 1] == '.' || s[i + 1] == '.';
        if (s[i] == '.' ? i == 0 || i + 1 == length || s[i - 1] == '.' : s[i] == '-' ? edge : !is_alnum(s[i]))
            return false;
    }
    return length > 0;
}

static bool
registry_valid(const char *s)
{
    if (*s == '[') {
        size_t inside = strspn(s + 1, "0123456789abcdefABCDEF:.");
        const char *after = s + 1 + inside;
        return inside >= 2 && *after == ']' && (after[1] == '\0' || (after[1] == ':' && port_valid(after + 2)));
    }
    const char *colon = strchrnul(s, ':');
    return host_name_valid(s, (size_t)(colon - s)) && (!*colon || port_valid(colon + 1));
}

static bool
tag_valid(const char *s)
{
    size_t length = strlen(s);
    if (length == 0 || length > TAG_MAX_LENGTH || !(is_alnum(*s) || *s == '_'))
        return false;
    for (; *s; s++)
        if (!is_alnum(*s) && !strchr("_.-", *s))
            return false;
    return true;
}

/* Is what stands before the first slash a registry, not the first part of a repository at docker.io? */
static bool
looks_like_registry(const char *s, size_t length)
{
    bool upper = false;
    for (size_t i = 0; i < length; i++) {
        if (s[i] == '.' || s[i] == ':')
            return true;
        upper = upper || isupper((unsigned char)s[i]);
    }
    return upper || (length == strlen("localhost") && strncmp(s, "localhost", length) == 0);
}

static void
split_registry(const char *name, struct reference *out)
{
    const char *slash = strchr(name, '/');
    if (slash && looks_like_registry(name, (size_t)(slash - name))) {
        out->registry = str_ndup(name, (size_t)(slash - name));
        out->repository = str_dup(slash + 1);
    } else {
        out->registry = str_dup("docker.io");
        out->repository = str_dup(name);
    }
    if (str_eq(out->registry, "index.docker.io")) {
        free(out->registry);
        out->registry = str_dup("docker.io");
    }
    if (str_eq(out->registry, "docker.io") && !strchr(out->repository, '/')) {
        char *bare = out->repository;
        out->repository = str_printf("library/%s", bare);
        free(bare);
    }
}

/* Cuts "@digest" and ":tag" off `name` (a tag's colon stands after the last slash). */
static int
split_version(char *name, struct reference *out, struct error *err)
{
    char *at = strchr(name, '@');
    if (at) {
        *at = '\0';
        if (!digest_valid(at + 1))
            return error_set(err, ERR_INVALID, "its digest is not sha256: with 64 or sha512: with 128 lower-case hex digits");
        out->digest = str_dup(at + 1);
    }
    char *slash = strrchr(name, '/');
    char *colon = strchr(slash ? slash : name, ':');
    if (colon) {
        *colon = '\0';
        if (!tag_valid(colon + 1))
            return error_set(err, ERR_INVALID, "its tag is not 1 to 128 letters, digits, '_', '.' or '-'");
        if (!out->digest)
            out->tag = str_dup(colon + 1);
    } else if (!out->digest)
        out->tag = str_dup("latest");
    return 0;
}

static bool
is_bare_id(const char *name)
{
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

static int
parse(const char *text, struct reference *out, struct error *err)
{
    cleanup_free char *name = str_dup(text);
    TRY(split_version(name, out, err));
    if (is_bare_id(name))
        return error_set(err, ERR_INVALID, "64 hex digits are an image's id, not a name");
    split_registry(name, out);
    if (strlen(out->registry) + 1 + strlen(out->repository) > NAME_MAX_LENGTH)
        return error_set(err, ERR_INVALID, "its name is longer than %d characters", NAME_MAX_LENGTH);
    if (!registry_valid(out->registry))
        return error_set(err, ERR_INVALID, "%s is no registry host", out->registry);
    if (!repository_valid(out->repository))
        return error_set(err, ERR_INVALID, "the repository must be lower-case letters, digits and single separators");
    return 0;
}

int
reference_parse(const char *text, struct reference *out, struct error *err)
{
    *out = (struct reference){0};
    if (str_empty(text))
        return error_set(err, ERR_INVALID, "image reference is empty");
    if (strlen(text) > 1024)
        return error_set(err, ERR_INVALID, "image reference %.64s…: longer than 1024 characters", text);
    if (parse(text, out, err) == 0)
        return 0;
    reference_free(out);
    return error_prefix(err, "image reference %s", text);
}

void
reference_free(struct reference *reference)
{
    free(reference->registry);
    free(reference->repository);
    free(reference->tag);
    free(reference->digest);
    *reference = (struct reference){0};
}

char *
reference_text(const struct reference *reference)
{
    return str_printf("%s/%s%s%s", reference->registry, reference->repository, reference->digest ? "@" : ":",
                      reference->digest ? reference->digest : reference->tag);
}

char *
reference_name(const struct reference *reference)
{
    return str_printf("%s/%s", reference->registry, reference->repository);
}

char *
reference_normalize(const char *text, struct error *err)
{
    cleanup_reference struct reference reference;
    return reference_parse(text, &reference, err) < 0 ? NULL : reference_text(&reference);
}
