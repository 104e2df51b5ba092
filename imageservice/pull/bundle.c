#include "imageservice/pull/bundle.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/pull/bundle_inside.h"
#include "imageservice/pull/layer_inside.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/spool.h"

enum { READ_BYTES = 64 << 10 };

/* ---- Where things lie ---- */

/* "a/b" with the link "../c/d" → "c/d"; "", which nothing is called, for what leads out of the archive. */
static char *
resolve_link(const char *name, const char *link)
{
    char clean[PATH_MAX];
    const char *slash = strrchr(name, '/');
    cleanup_free char *path = *link == '/' || !slash ? str_dup(link) : str_printf("%.*s/%s", (int)(slash - name), name, link);
    return str_dup(layer_clean_path(path, clean, NULL) < 0 ? "" : clean);
}

static int
add_entry(struct bundle *bundle, struct archive *archive, struct archive_entry *e, struct error *err)
{
    char name[PATH_MAX];
    const char *path = archive_entry_pathname(e), *hard_link = archive_entry_hardlink(e), *symlink = archive_entry_symlink(e);
    if (!path || layer_clean_path(path, name, err) < 0)
        return error_set(err, ERR_INVALID, "an entry of the archive has no sound name");
    if (!hard_link && archive_entry_filetype(e) != AE_IFREG && archive_entry_filetype(e) != AE_IFLNK)
        return 0;
    bundle->names_bytes += strlen(name) + 1;
    if (bundle->count == LIMIT_BUNDLE_ENTRIES || bundle->names_bytes > LIMIT_BUNDLE_NAMES_BYTES)
        return error_set(err, ERR_EXHAUSTED, "the archive has more than %d files, or names above %d MiB in all", LIMIT_BUNDLE_ENTRIES,
                         LIMIT_BUNDLE_NAMES_BYTES >> 20);
    if ((bundle->count & (bundle->count - 1)) == 0)
        bundle->entries = mem_realloc(bundle->entries, bundle->count ? 2 * bundle->count : 1, sizeof *bundle->entries);
    struct bundle_entry *entry = &bundle->entries[bundle->count++];
    *entry = (struct bundle_entry){.name = str_dup(name), .offset = archive_filter_bytes(archive, 0), .size = archive_entry_size(e)};
    if (hard_link || symlink)
        entry->link = hard_link ? resolve_link("", hard_link) : resolve_link(name, symlink);
    return 0;
}

/* libarchive skips over contents by lseek, which doesn't notice the end of the file. */
static int
check_end(const struct bundle *bundle, struct error *err)
{
    struct stat st;
    if (fstat(bundle->file, &st) < 0)
        return error_errno(err, errno, "look at the archive");
    for (size_t i = 0; i < bundle->count; i++)
        if (bundle->entries[i].size < 0 || bundle->entries[i].size > st.st_size - bundle->entries[i].offset)
            return error_set(err, ERR_INVALID, "it is cut short: %.200s ends behind its end", bundle->entries[i].name);
    return bundle->count ? 0 : error_set(err, ERR_INVALID, "it is no tar archive, or an empty one");
}

static int
damaged(struct archive *archive, struct error *err)
{
    const char *words = archive_error_string(archive);
    return error_set(err, ERR_INVALID, "it is damaged or no tar archive: %s", words ? words : "no reason given");
}

static int
read_entries(struct bundle *bundle, struct archive *archive, const struct http_scope *scope, struct error *err)
{
    (void)archive_read_support_format_tar(archive);
    if (lseek(bundle->file, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "go to the archive's beginning");
    if (archive_read_open_fd(archive, bundle->file, READ_BYTES) != ARCHIVE_OK)
        return damaged(archive, err);
    for (;;) {
        struct archive_entry *e;
        int status = archive_read_next_header(archive, &e);
        if (status == ARCHIVE_EOF)
            return check_end(bundle, err);
        if (status < ARCHIVE_WARN)
            return check_end(bundle, err) < 0 ? -1 : damaged(archive, err);
        if (atomic_load(&scope->cancelled))
            return error_set(err, ERR_CANCELLED, "the import was cancelled");
        TRY(add_entry(bundle, archive, e, err));
    }
}

struct bundle *
bundle_open(int source, int incoming, const struct http_scope *scope, struct error *err)
{
    int file = TRY_OR_NULL(spool_open(source, incoming, scope, err));
    struct bundle *bundle = mem_zalloc(1, sizeof *bundle);
    atomic_init(&bundle->refs, 1);
    bundle->file = file;
    struct archive *archive = archive_read_new();
    int result = archive ? read_entries(bundle, archive, scope, err) : error_set(err, ERR_EXHAUSTED, "no memory for the archive's reader");
    (void)archive_read_free(archive);
    if (result == 0)
        return bundle;
    bundle_unref(bundle);
    return NULL;
}

struct bundle *
bundle_ref(struct bundle *bundle)
{
    (void)atomic_fetch_add(&bundle->refs, 1);
    return bundle;
}

void
bundle_unref(struct bundle *bundle)
{
    if (atomic_fetch_sub(&bundle->refs, 1) > 1)
        return;
    for (size_t i = 0; i < bundle->count; i++) {
        free(bundle->entries[i].name);
        free(bundle->entries[i].link);
    }
    free(bundle->entries);
    free(bundle->aliases);
    (void)close(bundle->file);
    free(bundle);
}

static const struct bundle_entry *
find(const struct bundle *bundle, const char *name)
{
    for (size_t i = bundle->count; i-- > 0;)
        if (str_eq(bundle->entries[i].name, name))
            return &bundle->entries[i];
    return NULL;
}

/* docker save made layers that are there twice into links, one deep. */
const struct bundle_entry *
bundle_find(const struct bundle *bundle, const char *name)
{
    const struct bundle_entry *entry = find(bundle, name);
    if (entry && entry->link)
        entry = find(bundle, entry->link);
    return entry && !entry->link ? entry : NULL;
}

const struct bundle_entry *
bundle_find_blob(const struct bundle *bundle, const char *digest)
{
    for (size_t i = 0; i < bundle->alias_count; i++)
        if (str_eq(bundle->aliases[i].digest, digest))
            return bundle->aliases[i].entry;
    cleanup_free char *name = blob_path(digest);
    return bundle_find(bundle, name);
}

void
bundle_add_alias(struct bundle *bundle, const char *digest, const struct bundle_entry *entry)
{
    bundle->aliases = mem_realloc(bundle->aliases, bundle->alias_count + 1, sizeof *bundle->aliases);
    struct bundle_alias *alias = &bundle->aliases[bundle->alias_count++];
    (void)strcpy(alias->digest, digest);
    alias->entry = entry;
}

/* ---- Reading ---- */

static int
changed(const struct bundle_entry *entry, ssize_t n, struct error *err)
{
    if (n < 0)
        return error_errno(err, errno, "read %.200s of the archive", entry->name);
    return error_set(err, ERR_INVALID, "%.200s: the archive became shorter while it was read", entry->name);
}

int
bundle_read(const struct bundle *bundle, const struct bundle_entry *entry, char **text, size_t *length, struct error *err)
{
    if (entry->size > LIMIT_MANIFEST_BYTES)
        return error_set(err, ERR_INVALID, "%.200s of the archive is larger than %d MiB", entry->name, LIMIT_MANIFEST_BYTES >> 20);
    cleanup_free char *data = mem_alloc((size_t)entry->size + 1);
    for (size_t at = 0; at < (size_t)entry->size;) {
        ssize_t n = pread(bundle->file, data + at, (size_t)entry->size - at, entry->offset + (int64_t)at);
        if (n <= 0)
            return changed(entry, n, err);
        at += (size_t)n;
    }
    data[entry->size] = '\0';
    *length = (size_t)entry->size;
    *text = steal(data);
    return 0;
}

int
bundle_digest(const struct bundle *bundle, const struct bundle_entry *entry, const struct http_scope *scope, char out[DIGEST_SIZE], struct error *err)
{
    cleanup(digest_freep) struct digest *digest = digest_new(NULL);
    cleanup_free char *data = mem_alloc(READ_BYTES);
    for (int64_t at = 0; at < entry->size;) {
        int64_t left = entry->size - at;
        ssize_t n = pread(bundle->file, data, left < READ_BYTES ? (size_t)left : READ_BYTES, entry->offset + at);
        if (n <= 0)
            return changed(entry, n, err);
        if (atomic_load(&scope->cancelled))
            return error_set(err, ERR_CANCELLED, "the import was cancelled");
        digest_add(digest, data, (size_t)n);
        at += n;
    }
    digest_finish(digest, out);
    return 0;
}

int
bundle_document(const struct bundle *bundle, const char *digest, struct document *out, struct error *err)
{
    const struct bundle_entry *entry = bundle_find_blob(bundle, digest);
    if (!entry)
        return error_set(err, ERR_NOT_FOUND, "%s is not in the archive", digest);
    TRY(bundle_read(bundle, entry, &out->text, &out->length, err));
    digest_of(digest, out->text, out->length, out->digest);
    if (str_eq(digest, out->digest))
        return 0;
    (void)error_set(err, ERR_INTERNAL, "%s: what the archive has under this digest has digest %s", digest, out->digest);
    document_free(out);
    return -1;
}

static int
copy_blob(const struct bundle *bundle, const struct bundle_entry *entry, const struct http_scope *scope, struct digest *digest, struct ring *ring,
          struct error *err)
{
    for (int64_t at = 0; at < entry->size;) {
        size_t length;
        char *room = ring_room(ring, &length);
        if (!room || atomic_load(&scope->cancelled))
            return error_set(err, ERR_CANCELLED, room ? "the import was cancelled" : "unpacking ended early");
        int64_t left = entry->size - at;
        ssize_t n = pread(bundle->file, room, (int64_t)length < left ? length : (size_t)left, entry->offset + at);
        if (n <= 0)
            return changed(entry, n, err);
        digest_add(digest, room, (size_t)n);
        ring_push(ring, (size_t)n);
        at += n;
    }
    return 0;
}

static int
send_blob(const struct bundle *bundle, const struct http_scope *scope, const struct descriptor *descriptor, struct ring *ring, bool *corrupt,
          struct error *err)
{
    char got[DIGEST_SIZE];
    const struct bundle_entry *entry = bundle_find_blob(bundle, descriptor->digest);
    if (!entry)
        return error_set(err, ERR_NOT_FOUND, "layer %s is not in the archive", descriptor->digest);
    cleanup(digest_freep) struct digest *digest = digest_new(descriptor->digest);
    TRY(copy_blob(bundle, entry, scope, digest, ring, err));
    digest_finish(digest, got);
    *corrupt = !str_eq(got, descriptor->digest) || entry->size != descriptor->size;
    if (*corrupt)
        return error_set(err, ERR_INTERNAL, "layer %s: what the archive has under this digest has digest %s and %lld bytes, not %lld",
                         descriptor->digest, got, (long long)entry->size, (long long)descriptor->size);
    return 0;
}

int
bundle_blob(const struct bundle *bundle, const struct http_scope *scope, const struct descriptor *descriptor, struct ring *ring, bool *corrupt,
            struct error *err)
{
    *corrupt = false;
    if (send_blob(bundle, scope, descriptor, ring, corrupt, err) < 0) {
        ring_fail(ring, err);
        return -1;
    }
    ring_end(ring);
    return 0;
}
