#include "imageservice/index.h"

#include <stdio.h>
#include <string.h>

#include "imageservice/image_config.h"

struct index *
index_new(void)
{
    struct index *index = mem_zalloc(1, sizeof *index);
    atomic_init(&index->refs, 1);
    index->next_layer = 1;
    return index;
}

void
index_put_layer(struct index *index, const char *chain_id, const char *name, const struct layer_record *layer)
{
    index->layers = mem_realloc(index->layers, index->layer_count + 1, sizeof *index->layers);
    struct layer_record *added = &index->layers[index->layer_count++];
    *added = *layer;
    added->chain_id = str_dup(chain_id);
    added->name = str_dup(name);
}

struct index *
index_copy(const struct index *index)
{
    struct index *copy = index_new();
    copy->next_layer = index->next_layer;
    copy->lost = index->lost;
    for (size_t i = 0; i < index->layer_count; i++)
        index_put_layer(copy, index->layers[i].chain_id, index->layers[i].name, &index->layers[i]);
    for (size_t i = 0; i < index->image_count; i++)
        index_add_image(copy, image_record_ref(index->images[i]));
    return copy;
}

struct index *
index_ref(struct index *index)
{
    (void)atomic_fetch_add(&index->refs, 1);
    return index;
}

static void
layer_record_free(struct layer_record *record)
{
    free(record->chain_id);
    free(record->name);
}

void
index_unref(struct index *index)
{
    if (atomic_fetch_sub(&index->refs, 1) > 1)
        return;
    for (size_t i = 0; i < index->image_count; i++)
        image_record_unref(index->images[i]);
    for (size_t i = 0; i < index->layer_count; i++)
        layer_record_free(&index->layers[i]);
    free(index->images);
    free(index->layers);
    free(index);
}

const struct layer_record *
index_find_layer(const struct index *index, const char *chain_id)
{
    for (size_t i = 0; i < index->layer_count; i++)
        if (str_eq(index->layers[i].chain_id, chain_id))
            return &index->layers[i];
    return NULL;
}

bool
index_has_directory(const struct index *index, const char *name)
{
    for (size_t i = 0; i < index->layer_count; i++)
        if (str_eq(index->layers[i].name, name))
            return true;
    return false;
}

struct image_record *
index_find_name(const struct index *index, const char *name)
{
    for (size_t i = 0; i < index->image_count; i++)
        if (strv_has(&index->images[i]->names, name))
            return index->images[i];
    return NULL;
}

struct image_record *
index_find_id(const struct index *index, const char *id)
{
    for (size_t i = 0; i < index->image_count; i++)
        if (str_eq(index->images[i]->image.id, id))
            return index->images[i];
    return NULL;
}

/* Short, as 300 of them must fit into one page of mount options: a number in base 36. */
static char *
short_name(uint64_t number)
{
    char text[16], *at = text + sizeof text - 1;
    *at = '\0';
    do
        *--at = "0123456789abcdefghijklmnopqrstuvwxyz"[number % 36];
    while ((number /= 36) > 0);
    return str_dup(at);
}

const char *
index_add_layer(struct index *index, const struct layer_record *layer)
{
    cleanup_free char *name = short_name(index->next_layer++);
    const struct layer_record *old = index_find_layer(index, layer->chain_id);
    if (old)
        index_remove_layer(index, (size_t)(old - index->layers));
    index_put_layer(index, layer->chain_id, name, layer);
    return index->layers[index->layer_count - 1].name;
}

struct layer_record *
index_change_layer(struct index *index, const char *chain_id)
{
    for (size_t i = 0; i < index->layer_count; i++)
        if (str_eq(index->layers[i].chain_id, chain_id))
            return &index->layers[i];
    return NULL;
}

void
index_remove_layer(struct index *index, size_t at)
{
    layer_record_free(&index->layers[at]);
    index->layers[at] = index->layers[--index->layer_count];
}

void
index_add_image(struct index *index, struct image_record *image)
{
    index->images = mem_realloc(index->images, index->image_count + 1, sizeof *index->images);
    index->images[index->image_count++] = image;
}

void
index_remove_image(struct index *index, const struct image_record *image)
{
    for (size_t i = 0; i < index->image_count; i++)
        if (index->images[i] == image) {
            image_record_unref(index->images[i]);
            memmove(&index->images[i], &index->images[i + 1], (--index->image_count - i) * sizeof *index->images);
            return;
        }
}

void
index_rename_image(struct index *index, const struct image_record *image, const struct strv *names, const struct strv *pinned)
{
    struct image_source source = {
        .id = image->image.id,
        .manifest_digest = image->manifest_digest,
        .config_json = *image->image.config_json ? image->image.config_json : NULL,
        .config_length = strlen(image->image.config_json),
        .annotations = &image->image.annotations,
        .names = names,
        .chains = &image->chains,
        .blobs = &image->blobs,
        .pinned = pinned,
    };
    for (size_t i = 0; i < index->image_count; i++)
        if (index->images[i] == image) {
            struct image_record *renamed = image_record_new(index, &source, NULL);
            if (!renamed) /* can't be: it was made from the same before */
                return;
            image_record_unref(index->images[i]);
            index->images[i] = renamed;
            return;
        }
}

void
index_refresh_images(struct index *index, const struct strv *pinned)
{
    for (size_t i = 0; i < index->image_count; i++)
        index_rename_image(index, index->images[i], &index->images[i]->names, pinned);
}

static void
set_names(struct image_record *record, const struct strv *names, const struct strv *pinned)
{
    strv_copy(&record->names, names);
    for (size_t i = 0; i < names->count; i++) {
        strv_add(strchr(names->items[i], '@') ? &record->image.repo_digests : &record->image.repo_tags, names->items[i]);
        record->image.pinned = record->image.pinned || strv_has(pinned, names->items[i]);
    }
}

static int
set_layers(struct image_record *record, const struct index *index, const struct strv *chains, struct error *err)
{
    strv_copy(&record->chains, chains);
    record->image.layer_bytes = mem_zalloc(chains->count, sizeof *record->image.layer_bytes);
    for (size_t i = 0; i < chains->count; i++) {
        const struct layer_record *layer = index_find_layer(index, chains->items[i]);
        if (!layer)
            return error_set(err, ERR_NOT_FOUND, "image %s: its layer %s is not in the store", record->image.id, chains->items[i]);
        record->damaged = record->damaged || layer->damaged;
        strv_add(&record->image.layers, layer->name);
        record->image.layer_bytes[i] = layer->bytes;
        record->image.size_bytes += layer->bytes;
    }
    return 0;
}

struct image_record *
image_record_new(const struct index *index, const struct image_source *source, struct error *err)
{
    struct image_record *record = mem_zalloc(1, sizeof *record);
    atomic_init(&record->refs, 1);
    record->image.id = str_dup(source->id);
    record->manifest_digest = str_dup(source->manifest_digest);
    record->damaged = !source->config_json;
    record->image.config_json = str_ndup(source->config_json ? source->config_json : "", record->damaged ? 0 : source->config_length);
    strmap_copy(&record->image.annotations, source->annotations);
    strv_copy(&record->blobs, source->blobs);
    set_names(record, source->names, source->pinned);
    if ((record->damaged || image_config_parse(source->config_json, source->config_length, &record->image.config, NULL, err) == 0) &&
        set_layers(record, index, source->chains, err) == 0)
        return record;
    image_record_unref(record);
    return NULL;
}

struct image_record *
image_record_ref(struct image_record *record)
{
    (void)atomic_fetch_add(&record->refs, 1);
    return record;
}

void
image_record_unref(struct image_record *record)
{
    if (atomic_fetch_sub(&record->refs, 1) > 1)
        return;
    struct image *image = &record->image;
    free(image->id);
    strv_free(&image->repo_tags);
    strv_free(&image->repo_digests);
    strmap_free(&image->annotations);
    image_config_free(&image->config);
    free(image->config_json);
    strv_free(&image->layers);
    free(image->layer_bytes);
    free(record->manifest_digest);
    strv_free(&record->names);
    strv_free(&record->chains);
    strv_free(&record->blobs);
    free(record);
}
