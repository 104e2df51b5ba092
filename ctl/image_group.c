/* crispctl image …: what CRI has no words for, by crisp's own rpcs. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"

static int
tag(struct ctl *ctl, struct error *err)
{
    Crisp__V1__TagImageRequest request = CRISP__V1__TAG_IMAGE_REQUEST__INIT;
    request.source = ctl->args.operands[0];
    request.name = ctl->args.operands[1];
    cleanup_message Crisp__V1__TagImageResponse *answer = TRY_PTR(client_call(ctl->client, "TagImage", &request.base, CALL_SECONDS, err));
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        puts(answer->name);
    return 0;
}

static const struct command command_tag = {
    .name = "image tag",
    .operands = "IMAGE NAME",
    .summary = "Give an image one more name.",
    .details = "Whichever image had the name loses it.\n\n  crispctl image tag busybox:1.36 registry.example/tools/busybox:stable",
    .least = 2,
    .most = 2,
    .run = tag,
};

/* gRPC carries no fds: crispd opens what we have open. */
static void
describe_file(int fd, const struct stat *st, Crisp__V1__OpenFile *out)
{
    *out = (Crisp__V1__OpenFile)CRISP__V1__OPEN_FILE__INIT;
    out->pid = (uint32_t)getpid();
    out->fd = (uint32_t)fd;
    out->device = st->st_dev;
    out->inode = st->st_ino;
}

static void
print_imported(const Crisp__V1__ImportImagesResponse *answer)
{
    for (size_t i = 0; i < answer->n_images; i++) {
        const Crisp__V1__NamedImage *image = answer->images[i];
        for (size_t n = 0; n < image->n_names; n++)
            puts(image->names[n]);
        if (image->n_names == 0)
            puts(image->id);
    }
}

static int
import(struct ctl *ctl, struct error *err)
{
    const char *path = ctl->args.operands[0];
    struct stat st;
    bool from_stdin = str_eq(path, "-");
    cleanup_close int opened = from_stdin ? -1 : TRY(file_open(AT_FDCWD, path, O_RDONLY, 0, err));
    int fd = from_stdin ? STDIN_FILENO : opened;
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "%s", from_stdin ? "stdin" : path);
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
        return error_set(err, ERR_INVALID, "%s is no file or pipe that could hold an archive", from_stdin ? "stdin" : path);
    Crisp__V1__OpenFile file;
    Crisp__V1__ImportImagesRequest request = CRISP__V1__IMPORT_IMAGES_REQUEST__INIT;
    describe_file(fd, &st, &file);
    request.archive = &file;
    if (args_value(&ctl->args, "name"))
        request.name = args_value(&ctl->args, "name");
    request.digests = args_flag(&ctl->args, "digests");
    cleanup_message Crisp__V1__ImportImagesResponse *answer = client_call(ctl->client, "ImportImages", &request.base, CALL_FOREVER, err);
    if (!answer)
        return error_prefix(err, "%s", from_stdin ? "stdin" : path);
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        print_imported(answer);
    return 0;
}

static const struct command command_import = {
    .name = "image import",
    .operands = "FILE|-",
    .summary = "Import the images of an archive, and print their names.",
    .details = "FILE, or stdin, is what docker save, podman save, skopeo copy or crispctl image export writes: a\n"
               "docker-archive, or an OCI image layout as a tar; plain, gzip or zstd. Of an index this machine's\n"
               "platform is imported. All images of the archive come, or none.\n\n"
               "  crispctl image import app.tar.gz\n"
               "  docker save app:1 | ssh node crispctl image import -",
    .options = (const struct option_spec[]){{'n', "name", "NAME", "name the only image so, whatever the archive calls it"},
                                            {0, "digests", NULL, "name it by digest, too, where the archive knows none"},
                                            {0}},
    .least = 1,
    .most = 1,
    .run = import,
};

static char *half; /* of an archive: where it is written, to the process' end */

static void
give_up(int number)
{
    (void)unlink(half);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

/* In one piece or not at all: beside FILE, then renamed. */
static int
finish(const char *temporary, const char *path, int result, struct error *err)
{
    if (!path)
        return result;
    if (result == 0 && rename(temporary, path) == 0)
        return 0;
    if (result == 0)
        result = error_errno(err, errno, "rename %s to %s", temporary, path);
    (void)unlink(temporary);
    return result;
}

static int
export_to(struct ctl *ctl, int fd, struct error *err)
{
    struct stat st;
    Crisp__V1__OpenFile file;
    Crisp__V1__ExportImagesRequest request = CRISP__V1__EXPORT_IMAGES_REQUEST__INIT;
    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "stdout");
    if (isatty(fd))
        return error_set(err, ERR_INVALID, "an archive is nothing for a terminal: say --output FILE, or send stdout somewhere");
    describe_file(fd, &st, &file);
    request.archive = &file;
    request.images = (const char **)(uintptr_t)ctl->args.operands;
    request.n_images = ctl->args.count;
    cleanup_message Crisp__V1__ExportImagesResponse *answer = TRY_PTR(client_call(ctl->client, "ExportImages", &request.base, CALL_FOREVER, err));
    for (size_t i = 0; i < answer->n_notes; i++)
        fprintf(stderr, "%s\n", answer->notes[i]);
    return 0;
}

/* What the archive will be renamed over: another file at most, never a device, a pipe or a directory. */
static int
check_output(const char *path, struct error *err)
{
    struct stat st;
    bool taken = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    return !*path || taken ? error_set(err, ERR_INVALID, "--output wants the name of a file, which “%s” is not", path) : 0;
}

static int export(struct ctl *ctl, struct error *err)
{
    const char *path = args_value(&ctl->args, "output");
    if (!path)
        return export_to(ctl, STDOUT_FILENO, err);
    TRY(check_output(path, err));
    half = str_printf("%s.crispctl-%ld", path, (long)getpid());
    (void)signal(SIGINT, give_up);
    (void)signal(SIGTERM, give_up);
    cleanup_close int fd = TRY(file_open(AT_FDCWD, half, O_WRONLY | O_CREAT | O_EXCL, 0644, err));
    return finish(half, path, export_to(ctl, fd, err), err);
}

static const struct command command_export = {
    .name = "image export",
    .operands = "IMAGE...",
    .summary = "Write images into an archive that crisp, docker, podman and skopeo read.",
    .details = "An OCI image layout as a tar, with a manifest.json for docker beside, to stdout or FILE. An image that\n"
               "is named by a tag has that name in it, else all its tags. Where the layers as they came from the\n"
               "registry are not kept (images.keep_layer_blobs) they are made anew: the same files with new digests,\n"
               "which stderr then says.\n\n"
               "  crispctl image export busybox:1.36 > busybox.tar\n"
               "  crispctl image export -o two.tar app:1 app:2",
    .options = (const struct option_spec[]){{'o', "output", "FILE", "write there, instead of to stdout"}, {0}},
    .least = 1,
    .most = OPERANDS_ANY,
    .run = export,
};

static const struct command *const image_commands[] = {&command_image_check, &command_image_gc, &command_import,  &command_export,
                                                       &command_tag,         &command_inspect,  &command_history, NULL};

const struct command command_image = {
    .name = "image",
    .summary = "Work on the images of this machine.",
    .children = image_commands,
};
