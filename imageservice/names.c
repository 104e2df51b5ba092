/* Names move: from the image that has one to the image that gets it. */
#include <string.h>

#include "imageservice/images_inside.h"
#include "imageservice/reference.h"

void
images_take_names_away(struct images *images, struct index *next, const struct strv *names)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct image_record *owner = index_find_name(next, names->items[i]);
        if (!owner)
            continue;
        cleanup_strv struct strv left = {0};
        for (size_t n = 0; n < owner->names.count; n++)
            if (!str_eq(owner->names.items[n], names->items[i]))
                strv_add(&left, owner->names.items[n]);
        if (left.count)
            index_rename_image(next, owner, &left, &images->pinned);
        else {
            index_remove_image(next, owner);
            images_collect_soon(images); /* which waits for `writing` */
        }
    }
}

/* With `writing` held. */
static int
give_name(struct images *images, const char *reference, const char *name, struct error *err)
{
    const struct image *image = TRY_PTR(images_find(images, reference, err));
    cleanup_strv struct strv gained = {0}, names = {0};
    strv_add(&gained, name);
    struct index *next = index_copy(images->index);
    const struct image_record *record = index_find_id(next, image->id);
    image_release(image);
    if (strv_has(&record->names, name)) {
        index_unref(next);
        return 0;
    }
    strv_copy(&names, &record->names);
    strv_add(&names, name);
    images_take_names_away(images, next, &gained);
    index_rename_image(next, record, &names, &images->pinned);
    return images_publish(images, next, false, err);
}

char *
images_name_to_give(const char *name, struct error *err)
{
    char *normal = reference_normalize(name, err);
    if (!normal || !strchr(normal, '@'))
        return normal;
    (void)error_set(err, ERR_INVALID, "image reference %s: a name to give ends in a tag, not in a digest", name);
    free(normal);
    return NULL;
}

char *
images_tag(struct images *images, const char *reference, const char *name, struct error *err)
{
    cleanup_free char *normal = TRY_PTR_OR_NULL(images_name_to_give(name ? name : "", err));
    (void)pthread_mutex_lock(&images->writing);
    int result = give_name(images, reference, normal, err);
    (void)pthread_mutex_unlock(&images->writing);
    return result < 0 ? NULL : steal(normal);
}
