#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
    [ERR_NONE] = "OK",
    [ERR_CANCELLED] = "CANCELLED",
    [ERR_UNKNOWN] = "UNKNOWN",
    [ERR_INVALID] = "INVALID_ARGUMENT",
    [ERR_DEADLINE] = "DEADLINE_EXCEEDED",
    [ERR_NOT_FOUND] = "NOT_FOUND",
    [ERR_EXISTS] = "ALREADY_EXISTS",
    [ERR_DENIED] = "PERMISSION_DENIED",
    [ERR_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [ERR_PRECONDITION] = "FAILED_PRECONDITION",
    [ERR_UNSUPPORTED] = "UNIMPLEMENTED",
    [ERR_INTERNAL] = "INTERNAL",
    [ERR_UNAVAILABLE] = "UNAVAILABLE",
    [ERR_AUTH] = "UNAUTHENTICATED",
    [ERR_SIGNATURE] = "UNKNOWN",
};

static enum error_kind
kind_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
        return ERR_EXHAUSTED;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
    case ENOTDIR:
    case EISDIR:
        return ERR_INVALID;
    case ETIMEDOUT:
        return ERR_DEADLINE;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    default:
        return ERR_INTERNAL;
    }
}

/* What is quoted from a request or a registry may hold line breaks and terminal escapes: an error stays one sentence on one line. */
static void
one_line(char *words)
{
    for (; *words; words++)
        if ((unsigned char)*words < ' ' || *words == '\x7f')
            *words = ' ';
}

/* By way of a copy: the new words may quote the old ones. */
__attribute__((format(printf, 2, 0))) static void
put_words(struct error *err, const char *format, va_list args)
{
    char words[ERROR_MESSAGE_MAX];
    (void)vsnprintf(words, sizeof words, format, args);
    one_line(words);
    memcpy(err->message, words, strlen(words) + 1);
}

int
error_set(struct error *err, enum error_kind kind, const char *format, ...)
{
    if (!err)
        return -1;
    va_list args;
    va_start(args, format);
    put_words(err, format, args);
    va_end(args);
    err->kind = kind;
    err->errnum = 0;
    return -1;
}

int
error_errno(struct error *err, int errnum, const char *format, ...)
{
    if (!err)
        return -1;
    va_list args;
    va_start(args, format);
    put_words(err, format, args);
    va_end(args);
    err->kind = kind_of_errno(errnum);
    err->errnum = errnum;
    size_t used = strlen(err->message);
    (void)snprintf(err->message + used, sizeof err->message - used, ": %s", strerrordesc_np(errnum) ? strerrordesc_np(errnum) : "unknown error");
    return -1;
}

int
error_prefix(struct error *err, const char *format, ...)
{
    if (!err)
        return -1;
    char front[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(front, sizeof front, format, args);
    va_end(args);
    one_line(front);
    size_t length = n < 0 ? 0 : (size_t)n;
    if (length + 3 > sizeof front)
        length = sizeof front - 3;
    memcpy(front + length, ": ", 3);
    length += 2;
    size_t room = sizeof err->message - length - 1;
    size_t kept = strnlen(err->message, room);
    memmove(err->message + length, err->message, kept);
    memcpy(err->message, front, length);
    err->message[length + kept] = '\0';
    return -1;
}

int
error_as(struct error *err, enum error_kind kind)
{
    if (err)
        err->kind = kind;
    return -1;
}

const char *
error_kind_name(enum error_kind kind)
{
    return kind_names[kind];
}
