/* What speaks for an image that is here: whose signature was found good when it was pulled, or that root imported it. One file an image,
 * images/vouched/sha256-HEX, a word a line. By it a container is refused an image that came before the rule, without asking a registry. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "imageservice/digest.h"
#include "imageservice/images_inside.h"
#include "imageservice/reference.h"

#define IMPORTED "imported"

enum { VOUCHED_BYTES_MAX = 16 << 10 }; /* 200 keys, over the years */

static char *
path_of(const char *id)
{
    char name[DIGEST_SIZE];
    digest_as_name(id, name);
    return str_printf("vouched/%s", name);
}

static void
read_words(struct images *images, const char *id, struct strv *words)
{
    cleanup_free char *path = path_of(id), *text = NULL;
    struct error err = {0};
    if (file_read(images->images_dir, path, VOUCHED_BYTES_MAX, &text, NULL, &err) == 0)
        strv_split(words, text, '\n', true);
    else if (err.kind != ERR_NOT_FOUND)
        log_warn("what speaks for an image can't be read", "image", id, "error", err.message);
}

int
images_vouch(struct images *images, const char *id, const char *key_id, struct error *err)
{
    cleanup_strv struct strv words = {0};
    cleanup_buf struct buf text = BUF(VOUCHED_BYTES_MAX);
    const char *word = key_id ? key_id : IMPORTED;
    read_words(images, id, &words);
    if (strv_has(&words, word))
        return 0;
    (void)buf_addf(&text, "%s\n", word);
    for (size_t i = 0; i < words.count; i++)
        (void)buf_addf(&text, "%s\n", words.items[i]);
    cleanup_free char *path = path_of(id);
    if (mkdirat(images->images_dir, "vouched", 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make images/vouched");
    return file_replace(images->images_dir, path, text.data, text.length, 0600, true, err);
}

void
images_forget_vouched(struct images *images)
{
    cleanup_free char *path = str_printf("%s/images/vouched", images->root);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *id = str_dup(entry->d_name);
        char *dash = strchr(id, '-');
        if (dash)
            *dash = ':';
        if (digest_valid(id) && !index_find_id(images->index, id))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)unlinkat(images->images_dir, "vouched", AT_REMOVEDIR); /* with the last one */
}

/* Whether the rule for the name lets the image run; which rule that is. */
static bool
admits(struct images *images, const struct strv *vouched, const char *name, const char *pod_namespace, const struct trusted **rule)
{
    cleanup_reference struct reference parsed = {0};
    cleanup_free char *repository = reference_parse(name, &parsed, NULL) == 0 ? reference_name(&parsed) : str_dup("");
    *rule = trust_choose(&images->trust, repository, pod_namespace);
    if (!*rule || (*rule)->policy == TRUST_ACCEPT || strv_has(vouched, IMPORTED))
        return true;
    return (*rule)->policy == TRUST_SIGNED && strv_share(vouched, &(*rule)->key_ids);
}

/* Asked for by its id, an image may run if it may under one of its names. */
static int
check_trusted(struct images *images, const struct image_record *record, const char *asked_as, const char *pod_namespace, struct error *err)
{
    const struct trusted *rule = NULL;
    cleanup_strv struct strv vouched = {0};
    cleanup_free char *name = reference_normalize(asked_as, NULL);
    if (images->trust.count == 0)
        return 0;
    read_words(images, record->image.id, &vouched);
    bool named = name && strv_has(&record->names, name), admitted = false;
    if (named || record->names.count == 0)
        admitted = admits(images, &vouched, named ? name : "", pod_namespace, &rule);
    for (size_t i = 0; !named && i < record->names.count && !admitted; i++)
        admitted = admits(images, &vouched, record->names.items[i], pod_namespace, &rule);
    if (admitted)
        return 0;
    const char *why = rule->policy == TRUST_REJECT ? "no image is taken from there" : "no signature of it was checked: pull it again";
    return error_set(err, ERR_SIGNATURE, "image %s: %s: %s", asked_as, rule->words, why);
}

const struct image *
images_find_trusted(struct images *images, const char *reference, const char *asked_as, const char *pod_namespace, struct error *err)
{
    const struct image *image = TRY_PTR_OR_NULL(images_find(images, reference, err));
    const struct image_record *record = (const struct image_record *)(const void *)image;
    if (check_trusted(images, record, str_empty(asked_as) ? reference : asked_as, pod_namespace, err) == 0)
        return image;
    image_release(image);
    return NULL;
}
