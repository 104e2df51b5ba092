#include "imageservice/pull/small_files.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"

enum {
    BATCH_FILES = 64,        /* enough that waking the other thread is nothing beside making them */
    BATCH_BYTES = 256 << 10, /* of contents, paths and names; times the layers unpacked at once, twice */
    WRITER_STACK = 64 << 10,
};

struct item {
    struct small_file file; /* all pointers lead into the batch */
    const char *contents;
    uint64_t key;
};

struct batch {
    struct item items[BATCH_FILES];
    size_t count, used;
    int parents[BATCH_FILES]; /* of the batch's own */
    size_t parent_count;
    char bytes[BATCH_BYTES];
};

struct small_files {
    struct batch *filling; /* by the caller */
    struct batch *handed;  /* to the other thread; emptied by the caller when that is no longer busy */
    pthread_t thread;
    bool started;         /* the other thread, or at least it was tried */
    bool alone;           /* it could not be */
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    bool busy, ending;
    struct error failure; /* the first one */
};

static uint64_t
key_of(ino_t directory, const char *name)
{
    uint64_t key = UINT64_C(14695981039346656037) ^ directory; /* FNV-1a */
    for (; *name; name++)
        key = (key ^ (unsigned char)*name) * UINT64_C(1099511628211);
    return key;
}

static void
batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->parent_count; i++)
        (void)close(batch->parents[i]);
    batch->count = batch->used = batch->parent_count = 0;
}

/* ---- making ---- */

/* Owner before mode: chown clears setuid. */
static int
fill(int fd, const struct item *item, struct error *err)
{
    const struct small_file *f = &item->file;
    struct timespec times[2] = {f->mtime, f->mtime};
    TRY(file_write_all(fd, f->name, item->contents, f->length, err));
    if (f->chown && fchown(fd, f->uid, f->gid) < 0)
        return error_errno(err, errno, "set owner");
    if (f->chmod && fchmod(fd, f->mode) < 0)
        return error_errno(err, errno, "set mode");
    return futimens(fd, times) < 0 ? error_errno(err, errno, "set time") : 0;
}

static int
make(const struct item *item, struct error *err)
{
    const struct small_file *f = &item->file;
    cleanup_close int fd = openat(f->parent, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->mode & 0777);
    int result = fd < 0 ? error_errno(err, errno, "make") : fill(fd, item, err);
    return result < 0 ? error_prefix(err, "entry %.256s", f->path) : 0;
}

static void
fail(struct small_files *files, const struct error *why)
{
    (void)pthread_mutex_lock(&files->lock);
    if (files->failure.kind == ERR_NONE)
        files->failure = *why;
    (void)pthread_mutex_unlock(&files->lock);
}

static void
make_batch(struct small_files *files, struct batch *batch)
{
    struct error err;
    for (size_t i = 0; i < batch->count; i++)
        if (make(&batch->items[i], &err) < 0) {
            fail(files, &err);
            return;
        }
}

/* ---- the other thread ---- */

static bool
await_batch(struct small_files *files)
{
    (void)pthread_mutex_lock(&files->lock);
    while (!files->busy && !files->ending)
        (void)pthread_cond_wait(&files->changed, &files->lock);
    bool busy = files->busy;
    (void)pthread_mutex_unlock(&files->lock);
    return busy;
}

static void
set_busy(struct small_files *files, bool busy)
{
    (void)pthread_mutex_lock(&files->lock);
    files->busy = busy;
    (void)pthread_cond_broadcast(&files->changed);
    (void)pthread_mutex_unlock(&files->lock);
}

static void *
work(void *arg)
{
    struct small_files *files = arg;
    while (await_batch(files)) {
        make_batch(files, files->handed);
        set_busy(files, false);
    }
    return NULL;
}

static void
start_thread(struct small_files *files)
{
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, WRITER_STACK);
    files->alone = pthread_create(&files->thread, &attributes, work, files) != 0;
    files->started = true;
    (void)pthread_attr_destroy(&attributes);
}

/* ---- the caller's thread ---- */

static bool
other_is_free(struct small_files *files)
{
    if (!files->started)
        start_thread(files);
    (void)pthread_mutex_lock(&files->lock);
    bool is_free = !files->alone && !files->busy;
    (void)pthread_mutex_unlock(&files->lock);
    return is_free;
}

static void
hand_over(struct small_files *files)
{
    if (!other_is_free(files)) {
        make_batch(files, files->filling);
        batch_clear(files->filling);
        return;
    }
    struct batch *full = files->filling;
    batch_clear(files->handed);
    files->filling = files->handed;
    files->handed = full;
    set_busy(files, true);
}

bool
small_files_failed(struct small_files *files)
{
    (void)pthread_mutex_lock(&files->lock);
    bool failed = files->failure.kind != ERR_NONE;
    (void)pthread_mutex_unlock(&files->lock);
    return failed;
}

char *
small_files_room(struct small_files *files, struct error *err)
{
    struct batch *batch = files->filling;
    if (batch->count == BATCH_FILES || BATCH_BYTES - batch->used < SMALL_FILE_BYTES + 2 * PATH_MAX)
        hand_over(files);
    if (small_files_failed(files)) {
        *err = files->failure;
        return NULL;
    }
    return files->filling->bytes + files->filling->used;
}

static const char *
keep(struct batch *batch, const char *text)
{
    size_t length = strlen(text) + 1;
    char *kept = memcpy(batch->bytes + batch->used, text, length);
    batch->used += length;
    return kept;
}

/* Of a directory that files stand in one after another there is one fd. */
static int
keep_parent(struct batch *batch, const struct small_file *file)
{
    const struct item *last = batch->count ? &batch->items[batch->count - 1] : NULL;
    if (!last || last->file.directory != file->directory)
        batch->parents[batch->parent_count++] = fcntl(file->parent, F_DUPFD_CLOEXEC, 0);
    return batch->parents[batch->parent_count - 1];
}

void
small_files_add(struct small_files *files, const struct small_file *file)
{
    struct batch *batch = files->filling;
    struct item *item = &batch->items[batch->count];
    *item = (struct item){*file, batch->bytes + batch->used, key_of(file->directory, file->name)};
    batch->used += file->length;
    item->file.parent = keep_parent(batch, file);
    item->file.path = keep(batch, file->path);
    item->file.name = keep(batch, file->name);
    batch->count++;
}

static bool
batch_has(const struct batch *batch, uint64_t key)
{
    for (size_t i = 0; i < batch->count; i++)
        if (batch->items[i].key == key)
            return true;
    return false;
}

bool
small_files_has(const struct small_files *files, ino_t directory, const char *name)
{
    uint64_t key = key_of(directory, name);
    return batch_has(files->filling, key) || batch_has(files->handed, key);
}

int
small_files_finish(struct small_files *files, struct error *err)
{
    make_batch(files, files->filling);
    batch_clear(files->filling);
    (void)pthread_mutex_lock(&files->lock);
    while (files->busy)
        (void)pthread_cond_wait(&files->changed, &files->lock);
    int result = files->failure.kind == ERR_NONE ? 0 : -1;
    if (result < 0)
        *err = files->failure;
    (void)pthread_mutex_unlock(&files->lock);
    batch_clear(files->handed);
    return result;
}

struct small_files *
small_files_new(void)
{
    struct small_files *files = mem_zalloc(1, sizeof *files);
    (void)pthread_mutex_init(&files->lock, NULL);
    (void)pthread_cond_init(&files->changed, NULL);
    files->filling = mem_zalloc(1, sizeof *files->filling);
    files->handed = mem_zalloc(1, sizeof *files->handed);
    return files;
}

void
small_files_free(struct small_files *files)
{
    (void)pthread_mutex_lock(&files->lock);
    files->ending = true;
    (void)pthread_cond_broadcast(&files->changed);
    (void)pthread_mutex_unlock(&files->lock);
    if (files->started && !files->alone)
        (void)pthread_join(files->thread, NULL);
    batch_clear(files->filling);
    batch_clear(files->handed);
    free(files->filling);
    free(files->handed);
    (void)pthread_cond_destroy(&files->changed);
    (void)pthread_mutex_destroy(&files->lock);
    free(files);
}
