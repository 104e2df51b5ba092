/* The seccomp programs of this node's containers.
 *
 * A program is compiled once for each profile and set of capabilities, and stays until the next crispd finds no container with it: there are few, of
 * 2 KiB. It is kept under a name made from its content, in memory and in root/seccomp/NAME, and a container's record holds that name: its execs run
 * under the very program that its init has, also after the profile's file was changed and under a later crispd. Any thread may call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "runtime/spec.h"

struct seccomp_store;

/* Makes `directory` where it is missing. */
int seccomp_store_open(const char *directory, struct seccomp_store **out, struct error *err);
void seccomp_store_close(struct seccomp_store *store); /* NULL is fine */

/* Is `profile` one of "", "unconfined", "runtime/default", "localhost/PATH" with an absolute path? ERR_INVALID otherwise. */
int seccomp_check(const char *profile, struct error *err);

/* The name of the program for a container that may have `caps`; "" for "unconfined" (and ""). Caller frees. ERR_INVALID naming the file for one that
 * is missing or wrong; what seccomp_profile_read and seccomp_filter_compile say. */
int seccomp_prepare(struct seccomp_store *store, const char *profile, uint64_t caps, char **name, struct error *err);

/* The operation that sets it; none for "". Never a launch without: a program that is gone is ERR_INTERNAL. */
int seccomp_add(struct seccomp_store *store, const char *name, struct spec_builder *b, struct error *err);

/* Remove the files of programs that are not in `names`: at start, when all containers are known. */
void seccomp_store_keep(struct seccomp_store *store, const struct strv *names);
