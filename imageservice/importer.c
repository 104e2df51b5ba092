/* The directory of archives that are imported at start, each once: images/imported has a line for every file that was, with what tells whether it has
 * changed. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "imageservice/images_inside.h"

enum { RECORD_MAX = 4 << 20 };

struct importer {
    struct images *images;
    char *path;
    struct cancel cancel;
    pthread_t thread;
};

static char *
line_of(const char *name, const struct stat *st)
{
    return str_printf("%llu %llu %lld.%09ld %s", (unsigned long long)st->st_ino, (unsigned long long)st->st_size, (long long)st->st_mtim.tv_sec,
                      st->st_mtim.tv_nsec, name);
}

/* What begins with a dot is somebody's who is still writing it. */
static int
list_names(const char *path, struct strv *names, struct error *err)
{
    cleanup_closedir DIR *dir = opendir(path);
    if (!dir)
        return error_errno(err, errno, "open %s", path);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (*entry->d_name != '.' && !strchr(entry->d_name, '\n'))
            strv_add(names, entry->d_name);
    strv_sort(names);
    return 0;
}

/* With the index the images were lost, too. */
static void
load_record(struct images *images, struct strv *lines)
{
    cleanup(index_unrefp) struct index *index = images_index(images);
    cleanup_free char *text = NULL;
    if (!index->lost && file_read(images->images_dir, "imported", RECORD_MAX, &text, NULL, NULL) == 0)
        strv_split(lines, text, '\n', true);
}

static void
save_record(const struct images *images, const struct strv *lines)
{
    struct error err;
    cleanup_buf struct buf text = BUF(RECORD_MAX);
    for (size_t i = 0; i < lines->count; i++)
        (void)buf_addf(&text, "%s\n", lines->items[i]);
    if (file_replace(images->images_dir, "imported", text.data ? text.data : "", text.length, 0600, true, &err) < 0)
        log_warn("which archives were imported can't be recorded; they will be again", "error", err.message);
}

/* One file; its line when it is imported, also when it was before. A file that can't be is tried again at the next start. */
static char *
import_file(const struct importer *importer, const char *name, const struct strv *before)
{
    struct stat st;
    struct error err = {0};
    cleanup_strv struct strv ids = {0};
    cleanup_free char *path = str_printf("%s/%s", importer->path, name);
    cleanup_close int archive = file_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0, &err);
    if (archive < 0 || fstat(archive, &st) < 0 || !S_ISREG(st.st_mode)) {
        log_warn("what lies in the directory of archives is no file", "path", path, "error", *err.message ? err.message : NULL);
        return NULL;
    }
    char *line = line_of(name, &st);
    struct images_import import = {.archive = archive};
    if (strv_has(before, line))
        return line;
    if (images_import(importer->images, &import, &importer->cancel, &ids, &err) == 0) {
        log_info("an archive was imported", "path", path);
        return line;
    }
    if (!cancel_is_set(&importer->cancel))
        log_warn("an archive is skipped", "path", path, "error", err.message);
    free(line);
    return NULL;
}

static void *
import_all(void *arg)
{
    struct importer *importer = arg;
    struct error err;
    cleanup_strv struct strv names = {0}, before = {0}, now = {0};
    if (list_names(importer->path, &names, &err) < 0) {
        log_warn("the directory of archives can't be read (images.import_dir)", "error", err.message);
        return NULL;
    }
    load_record(importer->images, &before);
    for (size_t i = 0; i < names.count && !cancel_is_set(&importer->cancel); i++) {
        char *line = import_file(importer, names.items[i], &before);
        if (line)
            strv_take(&now, line);
    }
    if (!cancel_is_set(&importer->cancel))
        save_record(importer->images, &now);
    return NULL;
}

struct importer *
importer_start(struct images *images, const char *path, struct error *err)
{
    struct importer *importer = mem_zalloc(1, sizeof *importer);
    importer->images = images;
    importer->path = str_dup(path);
    int result = cancel_open(&importer->cancel, INT64_MAX, err);
    int errnum = result < 0 ? 0 : pthread_create(&importer->thread, NULL, import_all, importer);
    if (result == 0 && errnum == 0)
        return importer;
    if (errnum) {
        (void)error_errno(err, errnum, "start the thread that imports archives");
        cancel_close(&importer->cancel);
    }
    free(importer->path);
    free(importer);
    return NULL;
}

void
importer_stop(struct importer *importer)
{
    cancel_now(&importer->cancel);
    (void)pthread_join(importer->thread, NULL);
    cancel_close(&importer->cancel);
    free(importer->path);
    free(importer);
}
