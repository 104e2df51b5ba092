/* What a function opens is closed by its declaration: `cleanup_close int fd = …`. Handing a resource on is `steal(fd)`, which leaves the
 * variable empty, so that the cleanup has nothing to do. A new type gets its own with CLEANUP_DEFINE beside its free function. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* unused: clang calls a variable so that only its cleanup reads. */
#define cleanup(function) __attribute__((cleanup(function), unused))

static inline void
cleanup_closep(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void
cleanup_freep(void *pointer)
{
    free(*(void **)pointer);
}

static inline void
cleanup_fclosep(FILE **file)
{
    if (*file)
        (void)fclose(*file);
}

static inline void
cleanup_closedirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

#define cleanup_close    cleanup(cleanup_closep)
#define cleanup_free     cleanup(cleanup_freep)
#define cleanup_fclose   cleanup(cleanup_fclosep)
#define cleanup_closedir cleanup(cleanup_closedirp)

/* CLEANUP_DEFINE(layer_closep, struct layer *, layer_close) makes layer_closep() for cleanup(layer_closep); NULL is skipped. */
#define CLEANUP_DEFINE(name, type, function) \
    static inline void name(type *value)     \
    {                                        \
        if (*value)                          \
            function(*value);                \
    }

#define steal(variable)                                           \
    __extension__({                                               \
        __typeof__(variable) stolen_ = (variable);                \
        (variable) = _Generic((variable), int : -1, default : 0); \
        stolen_;                                                  \
    })
