/* The rpcs of crisp's own Admin service. */
#include <fcntl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin.pb-c.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "imageservice/imageservice.h"

int
admin_tag_image(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__TagImageRequest *in = request;
    Crisp__V1__TagImageResponse *out = response;
    call_about(call, in->source);
    char *name = TRY_PTR(images_tag(call->services->images, in->source, in->name, err));
    call_defer(call, free, name);
    out->name = name;
    return 0;
}

/* Sockets can't be opened by name. */
static int
copy_fd(const Crisp__V1__OpenFile *file)
{
    cleanup_close int process = pidfd_open((pid_t)file->pid, 0);
    return process < 0 ? -1 : pidfd_getfd(process, (int)file->fd, 0);
}

/* The caller's file. Who may speak here is root's equal (cri/listener.h), so it is no question whether he may see that process. Never waits for the
 * other end of a pipe. */
static int
open_file(const Crisp__V1__OpenFile *file, int flags, struct error *err)
{
    struct stat st;
    if (!file)
        return error_set(err, ERR_INVALID, "the file is missing");
    cleanup_free char *path = str_printf("/proc/%u/fd/%u", file->pid, file->fd);
    cleanup_close int fd = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENXIO)
        fd = copy_fd(file);
    if (fd < 0)
        return error_errno(err, errno, "open the file that fd %u of process %u is", file->fd, file->pid);
    if (fstat(fd, &st) < 0 || st.st_dev != file->device || st.st_ino != file->inode)
        return error_set(err, ERR_INVALID, "fd %u of process %u is another file here: the caller must be of crispd's process namespace", file->fd,
                         file->pid);
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
        return error_set(err, ERR_INVALID, "what the archive shall be is no file, pipe or socket");
    return steal(fd);
}

static void
release_image(void *image)
{
    image_release(image);
}

static Crisp__V1__NamedImage *
named_image_write(struct call *call, const struct image *image)
{
    Crisp__V1__NamedImage *out = answer_new(call, &crisp__v1__named_image__descriptor);
    const struct strv *names = image->repo_tags.count ? &image->repo_tags : &image->repo_digests;
    out->id = image->id;
    out->n_names = names->count;
    out->names = (const char **)names->items;
    return out;
}

int
admin_import_images(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__ImportImagesRequest *in = request;
    Crisp__V1__ImportImagesResponse *out = response;
    cleanup_close int archive = TRY(open_file(in->archive, O_RDONLY, err));
    cleanup_strv struct strv ids = {0};
    struct images_import import = {.archive = archive, .name = in->name, .digests = in->digests};
    TRY(images_import(call->services->images, &import, call->cancel, &ids, err));
    out->images = answer_list(call, ids.count);
    for (size_t i = 0; i < ids.count; i++) {
        const struct image *image = images_find(call->services->images, ids.items[i], NULL);
        if (!image)
            continue; /* removed since, or its only name went to a later one of the archive */
        call_defer(call, release_image, (void *)(uintptr_t)image);
        out->images[out->n_images++] = named_image_write(call, image);
    }
    return 0;
}

static void
free_strings(void *list)
{
    strv_free(list);
}

/* A list that lives as long as the answer. */
static struct strv *
strings_new(struct call *call)
{
    struct strv *list = call_alloc(call, sizeof *list);
    *list = (struct strv){0};
    call_defer(call, free_strings, list);
    return list;
}

int
admin_export_images(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__ExportImagesRequest *in = request;
    Crisp__V1__ExportImagesResponse *out = response;
    cleanup_close int archive = TRY(open_file(in->archive, O_WRONLY, err));
    (void)lseek(archive, 0, SEEK_END);
    cleanup_strv struct strv references = {0};
    TRY(list_read(&references, in->images, in->n_images, "images", err));
    struct strv *notes = strings_new(call);
    TRY(images_export(call->services->images, &references, archive, call->cancel, notes, err));
    out->n_notes = notes->count;
    out->notes = (const char **)notes->items;
    return 0;
}

int
admin_explain_pull(struct call *call, const void *request, void *response, struct error *err)
{
    const Crisp__V1__ExplainPullRequest *in = request;
    Crisp__V1__ExplainPullResponse *out = response;
    struct strv *account = strings_new(call);
    struct error why = {0};
    if (!in->pull)
        return error_set(err, ERR_INVALID, "the pull is missing");
    char *id = images_rpc_pull_for(call, in->pull, account, &why);
    call_defer(call, free, id);
    if (id)
        out->image_ref = id;
    else
        out->error = arena_printf(&call->arena, "%s", why.message);
    out->n_account = account->count;
    out->account = (const char **)account->items;
    return 0;
}
