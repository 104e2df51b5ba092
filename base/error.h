/* An error: what kind it is, the errno behind it, and one sentence for the person who will read it.
 *
 * The struct is owned by whoever declares it, holds no pointers and needs no freeing. A function that can fail takes it as its last
 * argument, fills it exactly when it fails, and says so by returning -1 (or NULL). Whoever knows more (which pod, which step) puts it in
 * front with error_prefix. Nobody logs an error and returns it as well.
 *
 * The kinds map to gRPC status codes (grpc/status.h); cri/ holds that table. */
#pragma once

#include <errno.h>
#include <stdarg.h>

enum error_kind {
    ERR_NONE,
    ERR_CANCELLED,    /* the caller went away */
    ERR_UNKNOWN,      /* only where the kubelet wants code UNKNOWN to the letter */
    ERR_INVALID,      /* the request contradicts itself or the spec: INVALID_ARGUMENT */
    ERR_DEADLINE,     /* the time ran out: DEADLINE_EXCEEDED */
    ERR_NOT_FOUND,    /* no such pod, container, image, file: NOT_FOUND */
    ERR_EXISTS,       /* the name is taken with another configuration: ALREADY_EXISTS */
    ERR_DENIED,       /* PERMISSION_DENIED */
    ERR_EXHAUSTED,    /* a limit of ours or of the kernel, disk full: RESOURCE_EXHAUSTED */
    ERR_PRECONDITION, /* the object is in the wrong state: FAILED_PRECONDITION */
    ERR_UNSUPPORTED,  /* this kernel, host or crisp cannot: UNIMPLEMENTED */
    ERR_INTERNAL,     /* INTERNAL */
    ERR_UNAVAILABLE,  /* try again later: UNAVAILABLE */
    ERR_AUTH,         /* UNAUTHENTICATED */
    ERR_SIGNATURE,    /* an image that the operator's rules of trust refuse: UNKNOWN, as the kubelet wants it with its word for that */
};

enum { ERROR_MESSAGE_MAX = 1536 };

struct error {
    enum error_kind kind;
    int errnum; /* 0 where no errno is behind it */
    char message[ERROR_MESSAGE_MAX];
};

/* Fill err with a kind and a sentence (cut at ERROR_MESSAGE_MAX, control characters made blanks). Always returns -1. `err` may be NULL: nothing is
 * filled. */
int error_set(struct error *err, enum error_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Fill err from an errno: the sentence, ": ", strerror. The kind follows from the errno (ENOENT → NOT_FOUND, EEXIST → EXISTS,
 * EACCES/EPERM → DENIED, ENOSPC/EDQUOT/EMFILE/ENFILE/ENOMEM/EAGAIN → EXHAUSTED, EINVAL/ENAMETOOLONG/ELOOP/ENOTDIR/EISDIR → INVALID, ETIMEDOUT →
 * DEADLINE, ENOSYS/EOPNOTSUPP → UNSUPPORTED, else INTERNAL). Always returns -1. */
int error_errno(struct error *err, int errnum, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Put "TEXT: " in front of err's sentence; kind and errno stay. Always returns -1, so `return error_prefix(err, …)`. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Change the kind, keep the words: for a caller who knows better what an errno means here. Always returns -1. */
int error_as(struct error *err, enum error_kind kind);

/* The kind's name in the words of grpc/status.h ("NOT_FOUND"). Static. */
const char *error_kind_name(enum error_kind kind);

/* The steps of a function that fails with -1 stand under one another: TRY evaluates to the int result or leaves with -1, TRY_PTR to the
 * pointer or leaves with -1 on NULL. In a function that returns a pointer: TRY_OR_NULL, TRY_PTR_OR_NULL. */
#define TRY_LEAVING(expr, failed, result)     \
    __extension__({                           \
        __typeof__(expr) try_value_ = (expr); \
        if (failed(try_value_))               \
            return result;                    \
        try_value_;                           \
    })
#define TRY_NEGATIVE_(v)      ((v) < 0)
#define TRY_NULL_(v)          ((v) == NULL)
#define TRY(expr)             TRY_LEAVING(expr, TRY_NEGATIVE_, -1)
#define TRY_PTR(expr)         TRY_LEAVING(expr, TRY_NULL_, -1)
#define TRY_OR_NULL(expr)     TRY_LEAVING(expr, TRY_NEGATIVE_, NULL)
#define TRY_PTR_OR_NULL(expr) TRY_LEAVING(expr, TRY_NULL_, NULL)
