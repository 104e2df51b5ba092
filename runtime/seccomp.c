#include "runtime/seccomp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/seccomp_filter.h"

enum { REMEMBERED_MAX = 64 /* of each kind; the oldest goes first */ };

#define LOCALHOST "localhost/"

/* What a program was made from: the profile's text and the capabilities. */
struct source {
    char *key;
    size_t key_length;
    char *name;
    UT_hash_handle hh;
};

struct program {
    char *name;
    struct seccomp_program program;
    UT_hash_handle hh;
};

struct seccomp_store {
    int directory;
    pthread_mutex_t lock; /* of what follows; compiling and files are done without it */
    struct source *sources;
    struct program *programs;
};

/* A program's file: its flags, then its instructions. */
struct stored {
    uint32_t flags;
    uint32_t reserved;
};

/* ---- what is remembered ---- */

static void
source_free(struct seccomp_store *store, struct source *source)
{
    HASH_DEL(store->sources, source);
    free(source->key);
    free(source->name);
    free(source);
}

static void
program_free(struct seccomp_store *store, struct program *program)
{
    HASH_DEL(store->programs, program);
    free(program->name);
    free(program->program.code);
    free(program);
}

static char *
name_for_source(struct seccomp_store *store, const char *key, size_t length)
{
    struct source *source;
    pthread_mutex_lock(&store->lock);
    HASH_FIND(hh, store->sources, key, length, source);
    char *name = source ? str_dup(source->name) : NULL;
    pthread_mutex_unlock(&store->lock);
    return name;
}

static void
remember_source(struct seccomp_store *store, const char *key, size_t length, const char *name)
{
    struct source *known;
    pthread_mutex_lock(&store->lock);
    HASH_FIND(hh, store->sources, key, length, known);
    if (!known) {
        struct source *source = mem_zalloc(1, sizeof *source);
        *source = (struct source){.key = mem_dup(key, length), .key_length = length, .name = str_dup(name)};
        if (HASH_COUNT(store->sources) >= REMEMBERED_MAX)
            source_free(store, store->sources);
        HASH_ADD_KEYPTR(hh, store->sources, source->key, source->key_length, source);
    }
    pthread_mutex_unlock(&store->lock);
}

/* With the lock held. */
static struct program *
find_program(struct seccomp_store *store, const char *name)
{
    struct program *program;
    HASH_FIND_STR(store->programs, name, program);
    return program;
}

/* Takes the program. */
static void
remember_program(struct seccomp_store *store, const char *name, struct seccomp_program *program)
{
    pthread_mutex_lock(&store->lock);
    if (find_program(store, name)) {
        free(program->code);
    } else {
        struct program *new = mem_zalloc(1, sizeof *new);
        *new = (struct program){.name = str_dup(name), .program = *program};
        if (HASH_COUNT(store->programs) >= REMEMBERED_MAX)
            program_free(store, store->programs);
        HASH_ADD_KEYPTR(hh, store->programs, new->name, strlen(new->name), new);
    }
    pthread_mutex_unlock(&store->lock);
}

/* ---- files ---- */

/* FNV-1a; a program of the same name is compared before it is taken for the same. */
static char *
name_of(const char *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return str_printf("%016" PRIx64 "-%zu", hash, length);
}

static int
store_bytes(struct seccomp_store *store, const char *name, const char *bytes, size_t length, struct error *err)
{
    cleanup_free char *there = NULL;
    size_t there_length = 0;
    /* Absent, or torn. */
    if (file_read(store->directory, name, length, &there, &there_length, NULL) < 0 || there_length != length)
        return file_replace(store->directory, name, bytes, length, 0600, false, err);
    return memcmp(there, bytes, length) == 0 ? 0 : error_set(err, ERR_INTERNAL, "two seccomp programs have the name %s", name);
}

static int
store_program(struct seccomp_store *store, const struct seccomp_program *program, char **name, struct error *err)
{
    const struct stored head = {.flags = program->flags};
    size_t code_bytes = program->length * sizeof *program->code, length = sizeof head + code_bytes;
    cleanup_free char *bytes = mem_alloc(length);
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, program->code, code_bytes);
    *name = name_of(bytes, length);
    if (store_bytes(store, *name, bytes, length, err) == 0)
        return 0;
    free(steal(*name));
    return -1;
}

static int
load_program(struct seccomp_store *store, const char *name, struct seccomp_program *out, struct error *err)
{
    struct stored head;
    size_t length, most = sizeof head + BPF_MAXINSNS * sizeof *out->code;
    cleanup_free char *bytes = NULL;
    TRY(file_read(store->directory, name, most, &bytes, &length, err));
    cleanup_free char *rightful = name_of(bytes, length);
    if (length <= sizeof head || (length - sizeof head) % sizeof *out->code || !str_eq(rightful, name))
        return error_set(err, ERR_INTERNAL, "it is damaged");
    memcpy(&head, bytes, sizeof head);
    *out = (struct seccomp_program){.length = (length - sizeof head) / sizeof *out->code, .flags = head.flags};
    out->code = mem_dup(bytes + sizeof head, length - sizeof head);
    return 0;
}

/* ---- profiles ---- */

int
seccomp_check(const char *profile, struct error *err)
{
    if (str_empty(profile) || str_eq(profile, "unconfined") || str_eq(profile, "runtime/default"))
        return 0;
    if (!str_starts(profile, LOCALHOST))
        return error_set(err, ERR_INVALID, "seccomp profile \"%.100s\": it is none of runtime/default, unconfined, localhost/PATH", profile);
    if (profile[strlen(LOCALHOST)] != '/')
        return error_set(err, ERR_INVALID, "seccomp profile \"%.100s\": the path is not absolute", profile + strlen(LOCALHOST));
    return 0;
}

static struct seccomp_subject
subject_for(uint64_t caps)
{
    struct seccomp_subject subject = {.caps = caps};
    struct utsname host;
    if (uname(&host) == 0)
        (void)sscanf(host.release, "%4u.%4u", &subject.kernel_major, &subject.kernel_minor);
    return subject;
}

/* `text` is NULL for RuntimeDefault. */
static int
compile(const char *text, size_t length, uint64_t caps, struct seccomp_program *out, struct error *err)
{
    const struct seccomp_subject subject = subject_for(caps);
    cleanup_seccomp_profile struct seccomp_profile profile = {0};
    if (text)
        TRY(seccomp_profile_read(text, length, &subject, &profile, err));
    else
        TRY(seccomp_profile_default(&subject, &profile, err));
    return seccomp_filter_compile(&profile, out, err);
}

static int
prepare(struct seccomp_store *store, const char *text, size_t length, uint64_t caps, char **name, struct error *err)
{
    size_t key_length = sizeof caps + length;
    cleanup_free char *key = mem_alloc(key_length);
    memcpy(key, &caps, sizeof caps);
    if (text)
        memcpy(key + sizeof caps, text, length);
    *name = name_for_source(store, key, key_length);
    if (*name)
        return 0;
    struct seccomp_program program;
    TRY(compile(text, length, caps, &program, err));
    if (store_program(store, &program, name, err) < 0) {
        free(program.code);
        return -1;
    }
    remember_program(store, *name, &program);
    remember_source(store, key, key_length, *name);
    return 0;
}

/* The path is the node administrator's, not the pod's: the kubelet puts its own directory in front. */
static int
prepare_file(struct seccomp_store *store, const char *path, uint64_t caps, char **name, struct error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    TRY(file_read(AT_FDCWD, path, SECCOMP_PROFILE_BYTES_MAX, &text, &length, err));
    return length ? prepare(store, text, length, caps, name, err) : error_set(err, ERR_INVALID, "it is empty");
}

int
seccomp_prepare(struct seccomp_store *store, const char *profile, uint64_t caps, char **name, struct error *err)
{
    *name = NULL;
    TRY(seccomp_check(profile, err));
    if (str_eq(profile, "runtime/default"))
        return prepare(store, NULL, 0, caps, name, err);
    if (!profile || !str_starts(profile, LOCALHOST)) {
        *name = str_dup("");
        return 0;
    }
    const char *path = profile + strlen(LOCALHOST);
    if (prepare_file(store, path, caps, name, err) == 0)
        return 0;
    if (err && (err->kind == ERR_NOT_FOUND || err->kind == ERR_DENIED))
        error_as(err, ERR_INVALID);
    return error_prefix(err, "seccomp profile %s", path);
}

static bool
add_remembered(struct seccomp_store *store, const char *name, struct spec_builder *b)
{
    pthread_mutex_lock(&store->lock);
    const struct program *known = find_program(store, name);
    if (known)
        spec_op(b, SPEC_SECCOMP, .number = {known->program.flags}, .list = known->program.code,
                .list_bytes = known->program.length * sizeof *known->program.code);
    pthread_mutex_unlock(&store->lock);
    return known != NULL;
}

int
seccomp_add(struct seccomp_store *store, const char *name, struct spec_builder *b, struct error *err)
{
    struct seccomp_program program;
    if (str_empty(name) || add_remembered(store, name, b))
        return 0;
    if (load_program(store, name, &program, err) < 0) {
        error_as(err, ERR_INTERNAL);
        return error_prefix(err, "the container's seccomp program %s", name);
    }
    remember_program(store, name, &program);
    return add_remembered(store, name, b) ? 0 : error_set(err, ERR_INTERNAL, "too many seccomp programs at once");
}

void
seccomp_store_keep(struct seccomp_store *store, const struct strv *names)
{
    int fd = openat(store->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && !strv_has(names, entry->d_name))
            (void)unlinkat(store->directory, entry->d_name, 0);
}

/* ---- life ---- */

int
seccomp_store_open(const char *directory, struct seccomp_store **out, struct error *err)
{
    TRY(file_mkdirs(directory, 0700, err));
    int fd = TRY(file_open(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0, err));
    *out = mem_zalloc(1, sizeof **out);
    (*out)->directory = fd;
    pthread_mutex_init(&(*out)->lock, NULL);
    return 0;
}

void
seccomp_store_close(struct seccomp_store *store)
{
    if (!store)
        return;
    while (store->sources)
        source_free(store, store->sources);
    while (store->programs)
        program_free(store, store->programs);
    (void)close(store->directory);
    pthread_mutex_destroy(&store->lock);
    free(store);
}
