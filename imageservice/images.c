#include "imageservice/imageservice.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "imageservice/images_inside.h"
#include "imageservice/reference.h"

enum { LOOK_SECONDS = 600 }; /* between two looks at what nobody needs */

/* ---- Opening and closing ---- */

static int
open_directories(struct images *images, struct error *err)
{
    static const char *const below[] = {"images/incoming", "images/partial", "images/blobs/sha256", "images/blobs/sha512", "layers"};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        cleanup_free char *path = str_printf("%s/%s", images->root, below[i]);
        TRY(file_mkdirs(path, 0700, err));
    }
    cleanup_free char *images_path = str_printf("%s/images", images->root);
    images->layers_path = str_printf("%s/layers", images->root);
    images->images_dir = TRY(file_open(AT_FDCWD, images_path, O_RDONLY | O_DIRECTORY, 0, err));
    images->layers_dir = TRY(file_open(AT_FDCWD, images->layers_path, O_RDONLY | O_DIRECTORY, 0, err));
    file_sweep_replaced(images->images_dir);
    return 0;
}

static void
copy_options(struct images *images, const struct images_options *options)
{
    images->root = str_dup(options->root);
    images->pull_program = str_dup(options->pull_program);
    strv_copy(&images->certs_dirs, &options->certs_dirs);
    images->parallel_downloads = options->parallel_downloads;
    images->parallel_downloads_per_pull = options->parallel_downloads_per_pull;
    images->stall_seconds = options->stall_seconds;
    images->least_bytes_per_second = options->least_bytes_per_second;
    images->keep_layer_blobs = options->keep_layer_blobs;
    for (size_t i = 0; i < options->pinned.count; i++) {
        struct error err;
        char *name = reference_normalize(options->pinned.items[i], &err);
        if (name)
            strv_take(&images->pinned, name);
        else
            log_warn("a pinned image is ignored", "error", err.message);
    }
}

/* Short names are never used twice, not even after the index that counted them was lost. */
static void
count_above_directories(struct images *images)
{
    cleanup_closedir DIR *dir = opendir(images->layers_path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 36);
        if (*entry->d_name != '.' && !*end && number < UINT64_MAX / 2 && number >= images->index->next_layer)
            images->index->next_layer = number + 1;
    }
}

/* With `lock` held: wait until there is something to delete, or it is time to look again. Is there? */
static bool
wait_for_unneeded(struct images *images)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_SECONDS;
    int status = 0;
    while (!images->unneeded && !images->closing && status == 0)
        status = pthread_cond_clockwait(&images->changed, &images->lock, CLOCK_MONOTONIC, &until);
    bool unneeded = images->unneeded;
    images->unneeded = false;
    return unneeded;
}

/* Deleting a tree takes time that no RemoveContainer shall wait for. */
static void *
collect_unneeded(void *arg)
{
    struct images *images = arg;
    (void)pthread_mutex_lock(&images->lock);
    while (!images->closing) {
        bool unneeded = wait_for_unneeded(images);
        if (images->closing)
            break;
        (void)pthread_mutex_unlock(&images->lock);
        if (unneeded)
            images_collect(images);
        images_count_garbage(images);
        (void)pthread_mutex_lock(&images->lock);
    }
    (void)pthread_mutex_unlock(&images->lock);
    return NULL;
}

static int
start_collector(struct images *images, struct error *err)
{
    int errnum = pthread_create(&images->collector, NULL, collect_unneeded, images);
    if (errnum)
        return error_errno(err, errnum, "start the collector of layers");
    images->has_collector = true;
    return 0;
}

static void
stop_collector(struct images *images)
{
    if (!images->has_collector)
        return;
    (void)pthread_mutex_lock(&images->lock);
    images->closing = true;
    (void)pthread_cond_signal(&images->changed);
    (void)pthread_mutex_unlock(&images->lock);
    (void)pthread_join(images->collector, NULL);
}

static int
open_store(struct images *images, struct error *err)
{
    TRY(open_directories(images, err));
    images->index = TRY_PTR(index_load(images->images_dir, images->layers_dir, &images->pinned, err));
    count_above_directories(images);
    images->pulls = TRY_PTR(pulls_start(images, err));
    return start_collector(images, err);
}

int
images_open(const struct images_options *options, struct images **out, struct error *err)
{
    struct images *images = mem_zalloc(1, sizeof *images);
    images->images_dir = images->layers_dir = -1;
    (void)pthread_mutex_init(&images->writing, NULL);
    (void)pthread_mutex_init(&images->lock, NULL);
    (void)pthread_cond_init(&images->changed, NULL);
    copy_options(images, options);
    if (trust_load(options->trust, options->trust_count, &images->trust, err) < 0 || open_store(images, err) < 0) {
        images_close(images);
        return error_prefix(err, "image store %s", options->root);
    }
    *out = images;
    return 0;
}

static void
hold_free(struct hold *hold)
{
    free(hold->holder);
    strv_free(&hold->layers);
    strv_free(&hold->chains);
    free(hold);
}

void
images_close(struct images *images)
{
    if (images->pulls)
        pulls_stop(images->pulls);
    stop_collector(images);
    if (images->index)
        index_unref(images->index);
    while (images->holds) {
        struct hold *hold = images->holds;
        images->holds = hold->next;
        hold_free(hold);
    }
    if (images->images_dir >= 0)
        (void)close(images->images_dir);
    if (images->layers_dir >= 0)
        (void)close(images->layers_dir);
    strv_free(&images->certs_dirs);
    strv_free(&images->pinned);
    strv_free(&images->dying);
    trust_free(&images->trust);
    (void)pthread_mutex_destroy(&images->writing);
    (void)pthread_mutex_destroy(&images->lock);
    (void)pthread_cond_destroy(&images->changed);
    free(images->root);
    free(images->pull_program);
    free(images->layers_path);
    free(images);
}

/* ---- Looking up ---- */

struct index *
images_index(struct images *images)
{
    (void)pthread_mutex_lock(&images->lock);
    struct index *index = index_ref(images->index);
    (void)pthread_mutex_unlock(&images->lock);
    return index;
}

static int
not_here(const char *reference, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND, "image %s is not here", reference);
}

/* "sha256:HEX", bare hex, or a unique beginning of it. 1 found, 0 it is none, -1 ambiguous. */
static int
find_by_id(const struct index *index, const char *reference, struct image_record **out, struct error *err)
{
    const char *hex = str_starts(reference, "sha256:") ? reference + strlen("sha256:") : reference;
    if ((*out = index_find_id(index, reference)))
        return 1;
    if (!id_prefix_valid(hex))
        return 0;
    for (size_t i = 0; i < index->image_count; i++) {
        const char *colon = strchr(index->images[i]->image.id, ':');
        if (!str_starts(colon + 1, hex))
            continue;
        if (*out)
            return error_set(err, ERR_INVALID, "image id %s is ambiguous: it begins the ids of several images", reference);
        *out = index->images[i];
    }
    return *out != NULL;
}

/* A name goes before an id: "cafe" may be both. */
static struct image_record *
find(const struct index *index, const char *reference, char **name, struct error *err)
{
    struct error malformed;
    struct image_record *record = NULL;
    *name = reference_normalize(reference, &malformed);
    if (*name && (record = index_find_name(index, *name)))
        return record;
    int by_id = find_by_id(index, reference, &record, err);
    if (by_id < 0)
        return NULL;
    if (by_id > 0) {
        free(*name);
        *name = NULL;
        return record;
    }
    if (*name || id_prefix_valid(reference) || str_starts(reference, "sha256:"))
        (void)not_here(reference, err);
    else if (err)
        *err = malformed;
    return NULL;
}

const struct image *
images_find(struct images *images, const char *reference, struct error *err)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    cleanup_free char *name = NULL;
    const char *wanted = reference ? reference : "";
    struct image_record *record = find(index, wanted, &name, err);
    if (record && record->damaged) {
        (void)error_set(err, ERR_NOT_FOUND, "image %s is damaged; pull it again", wanted);
        return NULL;
    }
    return record ? &image_record_ref(record)->image : NULL;
}

char *
images_id(struct images *images, const char *reference, struct error *err)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    cleanup_free char *name = NULL;
    const struct image_record *record = find(index, reference, &name, err);
    return record ? str_dup(record->image.id) : NULL;
}

void
image_release(const struct image *image)
{
    if (image)
        image_record_unref((struct image_record *)(uintptr_t)image);
}

const struct image **
images_list(struct images *images, const char *reference, size_t *count)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    const struct image **list = mem_zalloc(index->image_count + 1, sizeof *list);
    *count = 0;
    if (!str_empty(reference)) {
        cleanup_free char *name = NULL;
        struct image_record *record = find(index, reference, &name, NULL);
        if (record && !record->damaged)
            list[(*count)++] = &image_record_ref(record)->image;
        return list;
    }
    for (size_t i = 0; i < index->image_count; i++)
        if (!index->images[i]->damaged)
            list[(*count)++] = &image_record_ref(index->images[i])->image;
    return list;
}

void
images_list_free(const struct image **list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        image_release(list[i]);
    free(list);
}

const char *
images_layers_dir(const struct images *images)
{
    return images->layers_path;
}

void
images_usage(struct images *images, uint64_t *bytes, uint64_t *inodes)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    static const char *const beside[] = {"blobs", "partial"};
    *bytes = *inodes = 0;
    for (size_t i = 0; i < index->layer_count; i++) {
        *bytes += index->layers[i].bytes;
        *inodes += index->layers[i].inodes;
    }
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        uint64_t more_bytes = 0, more_inodes = 0;
        (void)file_usage(images->images_dir, beside[i], &more_bytes, &more_inodes, NULL);
        *bytes += more_bytes;
        *inodes += more_inodes;
    }
}

/* ---- Holding ---- */

/* With `lock` held: the holder's hold, made where it has none. */
static struct hold *
hold_of(struct images *images, const char *holder)
{
    struct hold *hold = images->holds;
    while (hold && !str_eq(hold->holder, holder))
        hold = hold->next;
    if (!hold) {
        hold = mem_zalloc(1, sizeof *hold);
        hold->holder = str_dup(holder);
        hold->next = images->holds;
        images->holds = hold;
    }
    return hold;
}

static int
check_here(const struct images *images, const struct strv *layers, struct error *err)
{
    struct stat st;
    for (size_t i = 0; i < layers->count; i++)
        if (strchr(layers->items[i], '/') || fstatat(images->layers_dir, layers->items[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
            return error_set(err, ERR_NOT_FOUND, "layer %s is not here", layers->items[i]);
    return 0;
}

/* Looked for once they are held: before, they could go between the look and the hold. */
int
images_hold(struct images *images, const struct strv *layers, const char *holder, struct error *err)
{
    int result = 0;
    (void)pthread_mutex_lock(&images->lock);
    for (size_t i = 0; i < layers->count && result == 0; i++)
        if (strv_has(&images->dying, layers->items[i]))
            result = error_set(err, ERR_NOT_FOUND, "layer %s is being removed with its image", layers->items[i]);
    if (result == 0) {
        struct hold *hold = hold_of(images, holder);
        strv_free(&hold->layers);
        strv_copy(&hold->layers, layers);
    }
    (void)pthread_mutex_unlock(&images->lock);
    TRY(result);
    if (check_here(images, layers, err) == 0)
        return 0;
    images_unhold(images, holder);
    return -1;
}

void
images_claim(struct images *images, const char *holder, const struct strv *chains, struct strv *names)
{
    (void)pthread_mutex_lock(&images->lock);
    for (size_t i = 0; i < chains->count; i++) {
        const struct layer_record *layer = index_find_layer(images->index, chains->items[i]);
        strv_add(names, layer && !layer->damaged && !strv_has(&images->dying, layer->name) ? layer->name : "");
    }
    strv_copy(&hold_of(images, holder)->chains, chains);
    (void)pthread_mutex_unlock(&images->lock);
}

/* With `lock` held. */
static bool
is_held(const struct images *images, const char *name, const char *chain)
{
    for (const struct hold *hold = images->holds; hold; hold = hold->next)
        if (strv_has(&hold->layers, name) || (chain && strv_has(&hold->chains, chain)))
            return true;
    return false;
}

static bool
image_needs(const struct index *index, const char *chain)
{
    for (size_t i = 0; i < index->image_count; i++)
        if (strv_has(&index->images[i]->chains, chain))
            return true;
    return false;
}

/* With `lock` held: was a directory held just now that has been replaced meanwhile? */
static bool
is_replaced(const struct images *images, const struct hold *hold)
{
    for (size_t i = 0; i < hold->layers.count; i++)
        if (!index_has_directory(images->index, hold->layers.items[i]) && !is_held(images, hold->layers.items[i], NULL))
            return true;
    return false;
}

/* With `lock` held: whether a layer that was held just now can go. A chain that a pull claimed and that is not here is none. */
static bool
is_unneeded(const struct images *images, const struct hold *hold)
{
    if (is_replaced(images, hold))
        return true;
    for (size_t i = 0; i < images->index->layer_count; i++) {
        const struct layer_record *layer = &images->index->layers[i];
        bool was_held = strv_has(&hold->layers, layer->name) || strv_has(&hold->chains, layer->chain_id);
        if (was_held && !image_needs(images->index, layer->chain_id) && !is_held(images, layer->name, layer->chain_id))
            return true;
    }
    return false;
}

/* With `lock` held. Before images_collect was called nobody knows what is needed. */
static void
wake_collector(struct images *images)
{
    images->unneeded = images->settled;
    (void)pthread_cond_signal(&images->changed);
}

void
images_collect_soon(struct images *images)
{
    (void)pthread_mutex_lock(&images->lock);
    wake_collector(images);
    (void)pthread_mutex_unlock(&images->lock);
}

void
images_unhold(struct images *images, const char *holder)
{
    struct hold *found = NULL;
    (void)pthread_mutex_lock(&images->lock);
    for (struct hold **link = &images->holds; *link && !found; link = &(*link)->next)
        if (str_eq((*link)->holder, holder)) {
            found = *link;
            *link = found->next;
            break;
        }
    if (found && is_unneeded(images, found))
        wake_collector(images);
    (void)pthread_mutex_unlock(&images->lock);
    if (found)
        hold_free(found);
}

/* ---- Changing ---- */

/* Take the layers that nobody needs out of `next`; they are dying from now on. */
static void
doom_layers(struct images *images, struct index *next, struct strv *doomed)
{
    (void)pthread_mutex_lock(&images->lock);
    for (size_t i = next->layer_count; i-- > 0;) {
        const struct layer_record *layer = &next->layers[i];
        if (image_needs(next, layer->chain_id) || is_held(images, layer->name, layer->chain_id))
            continue;
        strv_add(doomed, layer->name);
        strv_add(&images->dying, layer->name);
        index_remove_layer(next, i);
    }
    (void)pthread_mutex_unlock(&images->lock);
}

static void
undoom(struct images *images, const struct strv *doomed)
{
    struct strv left = {0};
    (void)pthread_mutex_lock(&images->lock);
    for (size_t i = 0; i < images->dying.count; i++)
        if (!strv_has(doomed, images->dying.items[i]))
            strv_add(&left, images->dying.items[i]);
    strv_free(&images->dying);
    images->dying = left;
    (void)pthread_mutex_unlock(&images->lock);
}

static void
delete_layers(struct images *images, const struct strv *doomed)
{
    struct error err;
    for (size_t i = 0; i < doomed->count; i++)
        if (file_remove_tree(images->layers_dir, doomed->items[i], &err) < 0)
            log_warn("a layer that nobody needs can't be deleted; the next collection tries again", "layer", doomed->items[i], "error", err.message);
}

static bool
blob_is_needed(const struct index *index, const char *digest)
{
    for (size_t i = 0; i < index->image_count; i++)
        if (str_eq(index->images[i]->image.id, digest) || str_eq(index->images[i]->manifest_digest, digest) ||
            strv_has(&index->images[i]->blobs, digest))
            return true;
    return false;
}

/* Manifests, configurations and kept layers of images that are no more. */
static void
delete_blobs(struct images *images, const char *algorithm)
{
    cleanup_free char *path = str_printf("%s/images/blobs/%s", images->root, algorithm);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *digest = str_printf("%s:%s", algorithm, entry->d_name);
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") && !blob_is_needed(images->index, digest))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
}

void
images_drop_blob(struct images *images, const char *digest)
{
    cleanup_free char *path = blob_path(digest);
    if (!blob_is_needed(images->index, digest))
        (void)unlinkat(images->images_dir, path, 0);
}

static void
swap_index(struct images *images, struct index *next)
{
    (void)pthread_mutex_lock(&images->lock);
    struct index *old = images->index;
    images->index = next;
    (void)pthread_mutex_unlock(&images->lock);
    index_unref(old);
}

/* On a full disk the layers must go before the index can be written. Each goes by a rename, for an index that lists a layer which is not there is
 * mended when it is read, one that lists a half of it is not; what is then left of it in incoming/ goes at the next start at the latest. */
static void
make_room(struct images *images, const struct strv *doomed)
{
    struct error err;
    for (size_t i = 0; i < doomed->count; i++) {
        cleanup_free char *dead = str_printf("incoming/dead-%s", doomed->items[i]);
        if (renameat(images->layers_dir, doomed->items[i], images->images_dir, dead) == 0 && file_remove_tree(images->images_dir, dead, &err) < 0)
            log_warn("a layer that nobody needs can't be deleted", "layer", doomed->items[i], "error", err.message);
    }
}

static int
save_index(struct images *images, const struct index *next, const struct strv *doomed, struct error *err)
{
    struct error failed = {0};
    if (index_save(images->images_dir, next, &failed) == 0)
        return 0;
    if (failed.kind == ERR_EXHAUSTED && doomed->count > 0) {
        make_room(images, doomed);
        if (index_save(images->images_dir, next, &failed) < 0)
            log_warn("the image index on disk lists layers that are deleted", "error", failed.message);
        return 0;
    }
    if (err)
        *err = failed;
    return -1;
}

int
images_publish(struct images *images, struct index *next, bool sweep, struct error *err)
{
    cleanup_strv struct strv doomed = {0};
    if (sweep)
        doom_layers(images, next, &doomed);
    if (save_index(images, next, &doomed, err) < 0) {
        undoom(images, &doomed);
        index_unref(next);
        return -1;
    }
    swap_index(images, next);
    delete_layers(images, &doomed);
    undoom(images, &doomed);
    if (sweep && !next->lost) {
        delete_blobs(images, "sha256");
        delete_blobs(images, "sha512");
        images_forget_vouched(images);
    }
    return 0;
}

/* What is left of the image's names without `gone`. As Docker does: with a repository's last tag go the digests that came along with its tags. */
static void
remaining_names(const struct image_record *image, const char *gone, struct strv *left)
{
    cleanup_reference struct reference reference = {0};
    if (reference_parse(gone, &reference, NULL) < 0)
        return;
    cleanup_free char *repository = reference_name(&reference);
    cleanup_free char *tag_prefix = str_printf("%s:", repository), *digest_prefix = str_printf("%s@", repository);
    bool tags_left = false;
    for (size_t i = 0; i < image->names.count; i++)
        tags_left = tags_left || (str_starts(image->names.items[i], tag_prefix) && !str_eq(image->names.items[i], gone));
    for (size_t i = 0; i < image->names.count; i++) {
        const char *name = image->names.items[i];
        bool orphan = reference.tag && !tags_left && str_starts(name, digest_prefix);
        if (!str_eq(name, gone) && !orphan)
            strv_add(left, name);
    }
}

static int
remove_from(struct images *images, const char *reference, struct error *err)
{
    cleanup_free char *name = NULL;
    cleanup_strv struct strv left = {0};
    struct error why = {0};
    const struct image_record *found = find(images->index, reference, &name, &why);
    if (!found && why.kind == ERR_NOT_FOUND)
        return 0;
    if (!found) {
        if (err)
            *err = why;
        return -1;
    }
    struct index *next = index_copy(images->index);
    if (name)
        remaining_names(found, name, &left);
    if (left.count)
        index_rename_image(next, found, &left, &images->pinned);
    else
        index_remove_image(next, found);
    return images_publish(images, next, true, err);
}

int
images_remove(struct images *images, const char *reference, struct error *err)
{
    (void)pthread_mutex_lock(&images->writing);
    int result = remove_from(images, reference ? reference : "", err);
    (void)pthread_mutex_unlock(&images->writing);
    return result;
}

bool
images_layer_is_unneeded(struct images *images, const struct layer_record *layer)
{
    (void)pthread_mutex_lock(&images->lock);
    bool needed = image_needs(images->index, layer->chain_id) || is_held(images, layer->name, layer->chain_id);
    (void)pthread_mutex_unlock(&images->lock);
    return !needed;
}

bool
images_blob_is_needed(const struct images *images, const char *digest)
{
    return blob_is_needed(images->index, digest);
}

/* With `lock` held. Of a crispd that died between a rename and its record, of an index that was lost, of a layer that was damaged. */
static void
list_strays(struct images *images, struct strv *strays)
{
    cleanup_closedir DIR *dir = opendir(images->layers_path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        bool known = *entry->d_name == '.' || is_held(images, entry->d_name, NULL) || strv_has(&images->dying, entry->d_name) ||
                     index_has_directory(images->index, entry->d_name);
        if (!known)
            strv_add(strays, entry->d_name);
    }
}

void
images_find_strays(struct images *images, struct strv *strays)
{
    (void)pthread_mutex_lock(&images->lock);
    list_strays(images, strays);
    (void)pthread_mutex_unlock(&images->lock);
}

/* Nobody takes hold of them any more. */
static void
doom_strays(struct images *images, struct strv *strays)
{
    (void)pthread_mutex_lock(&images->lock);
    list_strays(images, strays);
    strv_copy(&images->dying, strays);
    (void)pthread_mutex_unlock(&images->lock);
}

void
images_forget_the_lost(struct images *images)
{
    (void)pthread_mutex_lock(&images->writing);
    struct index *next = index_copy(images->index);
    next->lost = false;
    swap_index(images, next);
    (void)pthread_mutex_unlock(&images->writing);
}

void
images_collect(struct images *images)
{
    struct error err;
    cleanup_strv struct strv strays = {0};
    (void)pthread_mutex_lock(&images->writing);
    if (images_publish(images, index_copy(images->index), true, &err) < 0)
        log_warn("collecting layers failed", "error", err.message);
    (void)pthread_mutex_lock(&images->lock);
    images->settled = true;
    (void)pthread_mutex_unlock(&images->lock);
    if (!images->index->lost)
        doom_strays(images, &strays);
    delete_layers(images, &strays);
    undoom(images, &strays);
    (void)pthread_mutex_unlock(&images->writing);
}

char *
images_pull_explained(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel, struct strv *account,
                      struct error *err)
{
    cleanup_reference struct reference parsed = {0};
    TRY_OR_NULL(reference_parse(reference, &parsed, err));
    cleanup_free char *name = reference_text(&parsed), *repository = reference_name(&parsed), *id = NULL;
    const struct trusted *rule = trust_choose(&images->trust, repository, auth ? auth->pod_namespace : NULL);
    if (rule && rule->policy == TRUST_REJECT)
        (void)error_set(err, ERR_SIGNATURE, "%s: no image is taken from there", rule->words);
    else
        id = pulls_pull(images->pulls, name, auth, rule, cancel, account, err);
    if (account)
        strv_take(account, str_printf("policy: %s", rule ? rule->words : "accept, as no rule of trust is about it"));
    if (!id)
        (void)error_prefix(err, "pull %s", name);
    return steal(id);
}

char *
images_pull(struct images *images, const char *reference, const struct image_auth *auth, const struct cancel *cancel, struct error *err)
{
    return images_pull_explained(images, reference, auth, cancel, NULL, err);
}
