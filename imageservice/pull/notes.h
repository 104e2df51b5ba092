/* Notes about a layer's entries that can be acted on only when the whole layer is there: kept in an unlinked file, so that a layer of a million
 * directories costs no memory. Written by one thread, then read back in order. */
#pragma once

#include <limits.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"

enum note_kind {
    NOTE_TIME,     /* a directory's time: set last, as every file made in it moves it */
    NOTE_IMPLIED,  /* a directory without an entry of its own: takes its attributes from the layer below */
    NOTE_WHITEOUT, /* not wanted where nothing below has the name */
    NOTE_LINK,     /* a hard link to a file of a layer below */
};

struct note {
    enum note_kind kind;
    struct timespec time;
    char path[PATH_MAX];
    char target[PATH_MAX]; /* NOTE_LINK; "" else */
};

struct notes;

struct notes *notes_open(int dirfd, const char *name, struct error *err);
void notes_close(struct notes *notes);
CLEANUP_DEFINE(notes_closep, struct notes *, notes_close)

int notes_add(struct notes *notes, enum note_kind kind, const char *path, const char *target, const struct timespec *time, struct error *err);
/* Start reading from the first one. */
int notes_rewind(struct notes *notes, struct error *err);
/* 1 with the next note, 0 at the end. */
int notes_next(struct notes *notes, struct note *out, struct error *err);
