/* What lies in the store and is nobody's: which, how much, and away with it. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "imageservice/images_inside.h"

struct item {
    const char *kind; /* static */
    char *name;
    char *path; /* below images/; NULL: a layer or blob, which images_collect sees to */
    uint64_t bytes;
};

struct garbage {
    struct item *items;
    size_t count;
};

static void
garbage_free(struct garbage *garbage)
{
    for (size_t i = 0; i < garbage->count; i++) {
        free(garbage->items[i].name);
        free(garbage->items[i].path);
    }
    free(garbage->items);
}

static void
add(struct garbage *garbage, const char *kind, const char *name, char *path, uint64_t bytes)
{
    garbage->items = mem_realloc(garbage->items, garbage->count + 1, sizeof *garbage->items);
    garbage->items[garbage->count++] = (struct item){kind, str_dup(name), path, bytes};
}

static uint64_t
bytes_of(int dirfd, const char *path)
{
    struct stat st;
    uint64_t bytes = 0, inodes;
    if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (S_ISDIR(st.st_mode))
        (void)file_usage(dirfd, path, &bytes, &inodes, NULL);
    else
        bytes = (uint64_t)st.st_blocks * 512;
    return bytes;
}

/* What the index knows, or had replaced. */
static void
find_layers(struct images *images, struct garbage *garbage)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    cleanup_strv struct strv strays = {0};
    for (size_t i = 0; i < index->layer_count; i++)
        if (images_layer_is_unneeded(images, &index->layers[i]))
            add(garbage, "layer", index->layers[i].chain_id, NULL, index->layers[i].bytes);
    images_find_strays(images, &strays);
    for (size_t i = 0; i < strays.count; i++)
        add(garbage, "directory of a layer", strays.items[i], NULL, bytes_of(images->layers_dir, strays.items[i]));
}

/* Call each(path below images/, name) for what is in a directory there. */
static void
each_in(struct images *images, const char *below, void (*each)(struct images *images, struct garbage *garbage, const char *path, const char *name),
        struct garbage *garbage)
{
    int fd = openat(images->images_dir, below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *path = str_printf("%s/%s", below, entry->d_name);
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            each(images, garbage, path, entry->d_name);
    }
}

static void
see_blob(struct images *images, struct garbage *garbage, const char *path, const char *name)
{
    cleanup_free char *digest = str_printf("%.6s:%s", path + strlen("blobs/"), name);
    if (!images_blob_is_needed(images, digest))
        add(garbage, "blob", digest, NULL, bytes_of(images->images_dir, path));
}

/* Whoever downloads holds its lock: see partial_open. */
static bool
is_downloaded_now(const struct images *images, const char *path)
{
    cleanup_close int fd = openat(images->images_dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static void
see_partial(struct images *images, struct garbage *garbage, const char *path, const char *name)
{
    if (!is_downloaded_now(images, path))
        add(garbage, "half download", name, str_dup(path), bytes_of(images->images_dir, path));
}

static void
see_incoming(struct images *images, struct garbage *garbage, const char *path, const char *name)
{
    if (!pulls_own(images->pulls, name))
        add(garbage, "half unpacked layers", name, str_dup(path), bytes_of(images->images_dir, path));
}

/* With `writing` held: a commit under way has blobs that no index names yet. */
static void
find_garbage(struct images *images, struct garbage *garbage)
{
    find_layers(images, garbage);
    each_in(images, "blobs/sha256", see_blob, garbage);
    each_in(images, "blobs/sha512", see_blob, garbage);
    each_in(images, "partial", see_partial, garbage);
    each_in(images, "incoming", see_incoming, garbage);
    struct images_garbage sum = {.items = garbage->count};
    for (size_t i = 0; i < garbage->count; i++)
        sum.bytes += garbage->items[i].bytes;
    (void)pthread_mutex_lock(&images->lock);
    images->garbage = sum;
    (void)pthread_mutex_unlock(&images->lock);
}

static void
look(struct images *images, struct garbage *garbage)
{
    (void)pthread_mutex_lock(&images->writing);
    find_garbage(images, garbage);
    (void)pthread_mutex_unlock(&images->writing);
}

void
images_count_garbage(struct images *images)
{
    cleanup(garbage_free) struct garbage garbage = {0};
    look(images, &garbage);
}

struct images_garbage
images_garbage(struct images *images)
{
    (void)pthread_mutex_lock(&images->lock);
    struct images_garbage garbage = images->garbage;
    (void)pthread_mutex_unlock(&images->lock);
    return garbage;
}

static bool
has(const struct garbage *garbage, const struct item *item)
{
    for (size_t i = 0; i < garbage->count; i++)
        if (str_eq(garbage->items[i].kind, item->kind) && str_eq(garbage->items[i].name, item->name))
            return true;
    return false;
}

static void
delete_all(struct images *images, const struct garbage *garbage)
{
    struct error err;
    images_forget_the_lost(images);
    images_collect(images);
    for (size_t i = 0; i < garbage->count; i++) {
        const struct item *item = &garbage->items[i];
        bool ours = item->path && !(str_eq(item->kind, "half download") && is_downloaded_now(images, item->path));
        if (ours && file_remove_tree(images->images_dir, item->path, &err) < 0)
            log_warn("what nobody needs can't be deleted", "path", item->path, "error", err.message);
    }
}

void
images_gc(struct images *images, bool dry_run, images_garbage_found *found, void *arg)
{
    cleanup(garbage_free) struct garbage before = {0}, after = {0};
    look(images, &before);
    if (!dry_run) {
        delete_all(images, &before);
        look(images, &after);
    }
    for (size_t i = 0; i < before.count; i++)
        if (!has(&after, &before.items[i]))
            found(arg, before.items[i].kind, before.items[i].name, before.items[i].bytes);
}
