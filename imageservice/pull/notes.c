#include "imageservice/pull/notes.h"

#include <fcntl.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"

struct notes {
    FILE *file;
};

struct note_head {
    enum note_kind kind;
    uint16_t path_length, target_length;
    struct timespec time;
};

struct notes *
notes_open(int dirfd, const char *name, struct error *err)
{
    cleanup_close int fd = file_open(dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    if (fd < 0)
        return NULL;
    (void)unlinkat(dirfd, name, 0);
    FILE *file = fdopen(fd, "w+");
    if (!file) {
        (void)error_errno(err, errno, "open %s", name);
        return NULL;
    }
    (void)steal(fd);
    struct notes *notes = mem_zalloc(1, sizeof *notes);
    notes->file = file;
    return notes;
}

void
notes_close(struct notes *notes)
{
    (void)fclose(notes->file);
    free(notes);
}

int
notes_add(struct notes *notes, enum note_kind kind, const char *path, const char *target, const struct timespec *time, struct error *err)
{
    struct note_head head = {kind, (uint16_t)strlen(path), (uint16_t)strlen(target), time ? *time : (struct timespec){0}};
    if (fwrite(&head, sizeof head, 1, notes->file) != 1 || fwrite(path, 1, head.path_length, notes->file) != head.path_length ||
        fwrite(target, 1, head.target_length, notes->file) != head.target_length)
        return error_errno(err, errno, "write the layer's notes");
    return 0;
}

int
notes_rewind(struct notes *notes, struct error *err)
{
    return fflush(notes->file) != 0 || fseek(notes->file, 0, SEEK_SET) != 0 ? error_errno(err, errno, "write the layer's notes") : 0;
}

int
notes_next(struct notes *notes, struct note *out, struct error *err)
{
    struct note_head head;
    if (fread(&head, sizeof head, 1, notes->file) != 1)
        return ferror(notes->file) ? error_errno(err, errno, "read the layer's notes") : 0;
    if (fread(out->path, 1, head.path_length, notes->file) != head.path_length ||
        fread(out->target, 1, head.target_length, notes->file) != head.target_length)
        return error_errno(err, EIO, "read the layer's notes");
    out->kind = head.kind;
    out->time = head.time;
    out->path[head.path_length] = '\0';
    out->target[head.target_length] = '\0';
    return 1;
}
