/* Archives: what crisp-pull is asked to read or to write. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "imageservice/images_inside.h"

int
images_import(struct images *images, const struct images_import *import, const struct cancel *cancel, struct strv *ids, struct error *err)
{
    cleanup_free char *name = NULL;
    if (!str_empty(import->name))
        name = TRY_PTR(reference_normalize(import->name, err));
    struct archive_work work = {.archive = import->archive, .request = -1, .name = name, .digests = import->digests};
    return pulls_work(images->pulls, &work, cancel, ids, err) < 0 ? error_prefix(err, "import the archive") : 0;
}

static json_t *
strings(const struct strv *list)
{
    json_t *out = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(out, json_string(list->items[i]));
    return out;
}

/* An image that is named by its name has only that one in the archive. */
static json_t *
describe(struct images *images, const char *reference, struct strv *held, struct error *err)
{
    const struct image *image = images_find(images, reference, err);
    if (!image)
        return NULL;
    if (image->config.is_artifact) {
        image_release(image);
        (void)error_set(err, ERR_UNSUPPORTED, "image %s is an artifact: its blobs were unpacked into files, of which an archive can't be made",
                        reference);
        return NULL;
    }
    cleanup_free char *name = reference_normalize(reference, NULL);
    cleanup_strv struct strv one = {0};
    bool by_tag = name && strv_has(&image->repo_tags, name);
    if (by_tag)
        strv_add(&one, name);
    strv_copy(held, &image->layers);
    /* The service hands out the image that its record begins with (index.h). */
    json_t *out = json_pack("{s:s, s:o, s:o}", "manifest", ((const struct image_record *)(const void *)image)->manifest_digest, "names",
                            strings(by_tag ? &one : &image->repo_tags), "layers", strings(&image->layers));
    image_release(image);
    return out;
}

static int
describe_all(struct images *images, const struct strv *references, struct strv *held, json_t *list, struct error *err)
{
    for (size_t i = 0; i < references->count; i++)
        json_array_append_new(list, TRY_PTR(describe(images, references->items[i], held, err)));
    return 0;
}

/* The layers are held, as an image may be removed while it is written. */
static int
export_held(struct images *images, const struct strv *held, const json_t *list, int archive, const struct cancel *cancel, struct strv *notes,
            struct error *err)
{
    static atomic_uint counter;
    char holder[32];
    cleanup_free char *text = json_dumps(list, JSON_COMPACT), *whole = str_printf("{\"images\":%s}", text);
    cleanup_close int request = TRY(file_sealed_memfd("crisp-export", whole, strlen(whole), err));
    struct archive_work work = {.archive = archive, .request = request};
    (void)snprintf(holder, sizeof holder, "export/%u", atomic_fetch_add(&counter, 1));
    TRY(images_hold(images, held, holder, err));
    int result = pulls_work(images->pulls, &work, cancel, notes, err);
    images_unhold(images, holder);
    return result;
}

int
images_export(struct images *images, const struct strv *references, int archive, const struct cancel *cancel, struct strv *notes, struct error *err)
{
    cleanup_strv struct strv held = {0};
    cleanup_json json_t *list = json_array();
    TRY(describe_all(images, references, &held, list, err));
    return export_held(images, &held, list, archive, cancel, notes, err) < 0 ? error_prefix(err, "export") : 0;
}
