/* The small files of a layer, made by two threads: making a file costs many times what reading its entry does, and most files of most images are
 * small.
 *
 *   small_files_room → the caller puts the contents there → small_files_add … small_files_finish
 *
 * Files gather in batches. A full batch goes to the second thread, which is started for the first one; while that thread is busy the caller's makes
 * its batch itself. So what was added may not be there yet: whoever looks at a name, or makes something of that name, asks small_files_has first.
 *
 * One thread calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"

enum { SMALL_FILE_BYTES = 64 << 10 };

struct small_files;

struct small_file {
    int parent;        /* an O_PATH fd; borrowed for the call */
    ino_t directory;   /* its inode number */
    const char *path;  /* for errors */
    const char *name;  /* in the directory, where nothing is of that name */
    size_t length;     /* of the contents */
    mode_t mode;       /* without S_IFMT */
    bool chmod, chown; /* where creating it leaves another mode or owner than these */
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
};

struct small_files *small_files_new(void);
/* What was not made yet never is. */
void small_files_free(struct small_files *files);
CLEANUP_DEFINE(small_files_freep, struct small_files *, small_files_free)

/* The place for the next file's contents, of at most SMALL_FILE_BYTES, valid until small_files_add. NULL when an earlier one could not be made. */
char *small_files_room(struct small_files *files, struct error *err);
/* Its contents are in the room. */
void small_files_add(struct small_files *files, const struct small_file *file);
/* Was such a file added that may not be there yet? */
bool small_files_has(const struct small_files *files, ino_t directory, const char *name);
/* Wait until all are made. The error names the file's entry; it is the same from then on. */
int small_files_finish(struct small_files *files, struct error *err);
bool small_files_failed(struct small_files *files);
