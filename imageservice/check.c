/* images_check: is the store as it was when it was filled? What is not is marked, so that nothing is started on it, and brought again by a pull,
 * which puts it aside of the old one: see place_layer. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "imageservice/digest.h"
#include "imageservice/images_inside.h"
#include "imageservice/json.h"

enum {
    READ_BYTES = 64 << 10,
    /* linux/ioprio.h of the least kernel lacks the names */
    PRIORITY_OF_THREAD = 1,
    PRIORITY_IDLE = 3 << 13,
    PRIORITY_NONE = 0,
};

/* One thing that is amiss; strings are its own. */
struct damage {
    char *image, *chain; /* ids; no chain: a manifest or configuration */
    char *object, *digest;
    char *words;
};

struct check {
    struct images *images;
    const struct cancel *cancel;
    struct index *index;
    struct strv seen; /* chains */
    struct damage *damages;
    size_t damage_count;
    struct images_checked *checked;
    char holder[32];
};

static void
add_damage(struct check *c, const struct image_record *record, const char *kind, const char *digest, bool layer, const struct error *why)
{
    c->damages = mem_realloc(c->damages, c->damage_count + 1, sizeof *c->damages);
    c->damages[c->damage_count++] = (struct damage){
        .image = str_dup(record->image.id),
        .chain = layer ? str_dup(digest) : NULL,
        .object = str_printf("%s %s", kind, digest),
        .digest = str_dup(digest),
        .words = str_dup(why->message),
    };
}

/* The caller's impatience, and a want of fds or memory, are no damage. */
static bool
is_ours(const struct error *why)
{
    return why->kind == ERR_CANCELLED || why->kind == ERR_DEADLINE || why->errnum == EMFILE || why->errnum == ENFILE || why->errnum == ENOMEM;
}

static int
digest_file(const struct check *c, int fd, const char *like, char out[DIGEST_SIZE], struct error *err)
{
    cleanup(digest_freep) struct digest *digest = digest_new(like);
    cleanup_free char *data = mem_alloc(READ_BYTES);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* so that the disk is what is read */
    for (;;) {
        TRY(cancel_check(c->cancel, "reading a blob", err));
        ssize_t n = read(fd, data, READ_BYTES);
        if (n < 0)
            return error_errno(err, errno, "read");
        if (n == 0)
            break;
        digest_add(digest, data, (size_t)n);
        c->checked->bytes += (uint64_t)n;
    }
    digest_finish(digest, out);
    return 0;
}

static int
verify_blob(const struct check *c, const char *digest, struct error *err)
{
    char got[DIGEST_SIZE];
    cleanup_free char *path = blob_path(digest);
    cleanup_close int fd = TRY(file_open(c->images->images_dir, path, O_RDONLY | O_NOFOLLOW, 0, err));
    TRY(digest_file(c, fd, digest, got, err));
    return str_eq(got, digest) ? 0 : error_set(err, ERR_INTERNAL, "it has digest %s", got);
}

/* An image that was removed since we began is not damaged, and shall not be pulled again. */
static bool
is_gone(const struct check *c, const struct image_record *record)
{
    cleanup(index_unrefp) struct index *now = images_index(c->images);
    return !index_find_id(now, record->image.id);
}

static int
check_document(struct check *c, const struct image_record *record, const char *kind, const char *digest, struct error *err)
{
    struct error why = {0};
    c->checked->objects++;
    if (verify_blob(c, digest, &why) == 0)
        return 0;
    if (is_ours(&why)) {
        *err = why;
        return -1;
    }
    if (!is_gone(c, record))
        add_damage(c, record, kind, digest, false, &why);
    return 0;
}

/* A packed layer that was kept: nothing needs it, so that a damaged one just goes. */
static int
check_kept(struct check *c, const struct image_record *record, const char *digest, struct error *err)
{
    struct error why = {0};
    if (verify_blob(c, digest, &why) == 0) {
        c->checked->objects++;
        return 0;
    }
    if (why.errnum == ENOENT)
        return 0; /* was not kept */
    if (is_ours(&why)) {
        *err = why;
        return -1;
    }
    cleanup_free char *path = blob_path(digest);
    (void)unlinkat(c->images->images_dir, path, 0);
    add_damage(c, record, "packed layer", digest, false, &why);
    return 0;
}

static int
read_tree(const struct check *c, const struct layer_record *layer, char out[TREE_DIGEST_SIZE], struct error *err)
{
    cleanup_close int fd = TRY(file_open(c->images->layers_dir, layer->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, err));
    TRY(tree_digest(fd, true, c->cancel, out, err));
    c->checked->bytes += layer->bytes;
    return *layer->tree && !str_eq(out, layer->tree) ? error_set(err, ERR_INTERNAL, "it is not what was unpacked") : 0;
}

/* With `writing` held, on the layer as it is by now. */
static int
change_layer(struct check *c, const struct layer_record *layer, const char *tree, struct error *err)
{
    struct index *next = index_copy(c->images->index);
    struct layer_record *now = index_change_layer(next, layer->chain_id);
    if (!now || !str_eq(now->name, layer->name)) {
        index_unref(next);
        return 0; /* gone or mended meanwhile */
    }
    now->damaged = tree == NULL;
    if (tree)
        memcpy(now->tree, tree, TREE_DIGEST_SIZE);
    index_refresh_images(next, &c->images->pinned);
    return images_publish(c->images, next, false, err);
}

static int
record_layer(struct check *c, const struct layer_record *layer, const char *tree, struct error *err)
{
    (void)pthread_mutex_lock(&c->images->writing);
    int result = change_layer(c, layer, tree, err);
    (void)pthread_mutex_unlock(&c->images->writing);
    return result;
}

static int
judge_layer(struct check *c, const struct image_record *record, const struct layer_record *layer, struct error *err)
{
    char tree[TREE_DIGEST_SIZE];
    struct error why = {0};
    if (layer->damaged)
        (void)error_set(&why, ERR_INTERNAL, "it was found damaged before, or gone");
    else if (read_tree(c, layer, tree, &why) == 0)
        return *layer->tree ? 0 : record_layer(c, layer, tree, err); /* of a crisp that took no digest: from now on there is one */
    if (is_ours(&why)) {
        *err = why;
        return -1;
    }
    add_damage(c, record, "layer", layer->chain_id, true, &why);
    return layer->damaged ? 0 : record_layer(c, layer, NULL, err);
}

static bool
is_known(const struct check *c, const char *directory)
{
    cleanup(index_unrefp) struct index *now = images_index(c->images);
    return index_has_directory(now, directory);
}

/* Held meanwhile: what goes away while it is read looks damaged. */
static int
check_layer(struct check *c, const struct image_record *record, const struct layer_record *layer, struct error *err)
{
    cleanup_strv struct strv held = {0};
    struct error gone;
    strv_add(&held, layer->name);
    c->checked->objects++;
    if (!layer->damaged && images_hold(c->images, &held, c->holder, &gone) < 0 && !is_known(c, layer->name))
        return 0; /* removed with its image since we began */
    int result = judge_layer(c, record, layer, err);
    images_unhold(c->images, c->holder);
    return result;
}

static int
check_image(struct check *c, const struct image_record *record, struct error *err)
{
    TRY(check_document(c, record, "manifest", record->manifest_digest, err));
    TRY(check_document(c, record, "configuration", record->image.id, err));
    for (size_t i = 0; i < record->blobs.count; i++)
        TRY(check_kept(c, record, record->blobs.items[i], err));
    for (size_t i = 0; i < record->chains.count; i++) {
        if (strv_has(&c->seen, record->chains.items[i]))
            continue;
        strv_add(&c->seen, record->chains.items[i]);
        TRY(check_layer(c, record, index_find_layer(c->index, record->chains.items[i]), err));
    }
    return 0;
}

static int
check_images(struct check *c, const char *reference, struct error *err)
{
    cleanup_free char *id = str_empty(reference) ? NULL : TRY_PTR(images_id(c->images, reference, err));
    for (size_t i = 0; i < c->index->image_count; i++)
        if (!id || str_eq(id, c->index->images[i]->image.id))
            TRY(check_image(c, c->index->images[i], err));
    return 0;
}

/* ---- Mending ---- */

static bool
is_mended(const struct check *c, const struct damage *damage)
{
    cleanup(index_unrefp) struct index *now = images_index(c->images);
    const struct layer_record *layer = damage->chain ? index_find_layer(now, damage->chain) : NULL;
    if (damage->chain)
        return !layer || !layer->damaged;
    return str_starts(damage->object, "packed") || verify_blob(c, damage->digest, NULL) == 0;
}

/* By digest, as a tag may mean another image by now. */
static int
pull_again(const struct check *c, const char *id, struct error *err)
{
    const struct image_record *record = index_find_id(c->index, id);
    (void)error_set(err, ERR_PRECONDITION, "the image has no digest of a registry to pull it by; import it again");
    for (size_t i = 0; i < record->image.repo_digests.count; i++) {
        cleanup_free char *pulled = images_pull(c->images, record->image.repo_digests.items[i], NULL, c->cancel, err);
        if (pulled)
            return 0;
    }
    return -1;
}

static int
mend(struct check *c, struct error *err)
{
    for (size_t i = 0; i < c->damage_count; i++) {
        struct damage *damage = &c->damages[i];
        struct error why = {0};
        if (is_mended(c, damage) || pull_again(c, damage->image, &why) == 0)
            continue;
        if (cancel_check(c->cancel, "mending", err) < 0)
            return -1;
        char *words = str_printf("%s; %s", damage->words, why.message);
        free(damage->words);
        damage->words = words;
    }
    return 0;
}

static void
report(const struct check *c, images_found *found, void *arg)
{
    for (size_t i = 0; i < c->damage_count; i++) {
        const struct damage *damage = &c->damages[i];
        const struct image_record *record = index_find_id(c->index, damage->image);
        struct images_finding finding = {
            .image = record->names.count ? record->names.items[0] : damage->image,
            .object = damage->object,
            .words = damage->words,
            .mended = is_mended(c, damage),
        };
        found(arg, &finding);
    }
}

static void
check_free(struct check *c)
{
    for (size_t i = 0; i < c->damage_count; i++) {
        free(c->damages[i].image);
        free(c->damages[i].chain);
        free(c->damages[i].object);
        free(c->damages[i].digest);
        free(c->damages[i].words);
    }
    free(c->damages);
    strv_free(&c->seen);
    index_unref(c->index);
}

int
images_check(struct images *images, const char *reference, bool mending, const struct cancel *cancel, images_found *found, void *arg,
             struct images_checked *checked, struct error *err)
{
    *checked = (struct images_checked){0};
    cleanup(check_free) struct check c = {.images = images, .cancel = cancel, .index = images_index(images), .checked = checked};
    (void)snprintf(c.holder, sizeof c.holder, "check/%p", (void *)&c);
    /* Whoever waits for the disk goes first. */
    (void)syscall(SYS_ioprio_set, PRIORITY_OF_THREAD, 0, PRIORITY_IDLE);
    int result = check_images(&c, reference, err);
    (void)syscall(SYS_ioprio_set, PRIORITY_OF_THREAD, 0, PRIORITY_NONE);
    if (result == 0 && mending)
        result = mend(&c, err);
    report(&c, found, arg);
    return result;
}
