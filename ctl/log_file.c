#include "ctl/log_file.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/str.h"
#include "ctl/json.h"

enum {
    READ_BYTES = 64 << 10,
    RECORD_MAX_BYTES = 1 << 20, /* the runtime writes 16 KiB a record; others may write more */
};

struct log_file {
    const char *path;
    struct log_format format;
    int fd;
    int inotify;
    bool in_line[2];    /* stdout, stderr: the last record was partial */
    struct buf pending; /* the beginning of a record whose end is not written yet */
};

struct record {
    const char *time, *stream, *text;
    size_t time_length, stream_length, text_length;
    bool partial;
};

/* One word and the blank behind it; false where there is no blank. */
static bool
take_word(const char **at, const char *end, const char **word, size_t *length)
{
    const char *blank = memchr(*at, ' ', (size_t)(end - *at));
    if (!blank)
        return false;
    *word = *at;
    *length = (size_t)(blank - *at);
    *at = blank + 1;
    return true;
}

/* `line` is without its newline. A line in another format is taken as text of stdout, so that nothing is hidden. */
static void
parse_record(const char *line, size_t length, struct record *r)
{
    const char *at = line;
    const char *end = line + length;
    const char *tag;
    size_t tag_length;
    *r = (struct record){0};
    if (take_word(&at, end, &r->time, &r->time_length) && take_word(&at, end, &r->stream, &r->stream_length) &&
        take_word(&at, end, &tag, &tag_length)) {
        r->partial = tag_length > 0 && tag[0] == 'P';
        r->text = at;
        r->text_length = (size_t)(end - at);
    } else {
        *r = (struct record){.time = "", .stream = "stdout", .stream_length = 6, .text = line, .text_length = length};
    }
}

static void
print_json(const struct record *r)
{
    cleanup_json json_t *object = json_object();
    json_object_set_new(object, "time", json_of_text(r->time, r->time_length));
    json_object_set_new(object, "stream", json_of_text(r->stream, r->stream_length));
    json_object_set_new(object, "partial", json_boolean(r->partial));
    json_object_set_new(object, "text", json_of_text(r->text, r->text_length));
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
}

static void
print_record(struct log_file *log, const char *line, size_t length)
{
    struct record r;
    parse_record(line, length, &r);
    if (log->format.json) {
        print_json(&r);
        return;
    }
    bool is_stderr = r.stream_length == 6 && memcmp(r.stream, "stderr", 6) == 0;
    FILE *out = is_stderr ? stderr : stdout;
    if (log->format.timestamps && !log->in_line[is_stderr])
        fprintf(out, "%.*s ", (int)r.time_length, r.time);
    fwrite(r.text, 1, r.text_length, out);
    if (!r.partial)
        putc('\n', out);
    log->in_line[is_stderr] = r.partial;
}

static int
print_whole_records(struct log_file *log, struct error *err)
{
    size_t used = 0;
    for (const char *end; (end = memchr(log->pending.data + used, '\n', log->pending.length - used)) != NULL;) {
        const char *line = log->pending.data + used;
        print_record(log, line, (size_t)(end - line));
        used = (size_t)(end + 1 - log->pending.data);
    }
    buf_consume(&log->pending, used);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_set(err, ERR_INTERNAL, "the log cannot be written to stdout");
    return 0;
}

static int
copy_to_end(struct log_file *log, struct error *err)
{
    char chunk[READ_BYTES];
    for (ssize_t n; (n = read(log->fd, chunk, sizeof chunk)) != 0;) {
        if (n < 0)
            return error_errno(err, errno, "reading %s", log->path);
        if (!buf_add(&log->pending, chunk, (size_t)n))
            return error_set(err, ERR_INVALID, "%s has a record longer than %d bytes", log->path, RECORD_MAX_BYTES);
        TRY(print_whole_records(log, err));
    }
    return 0;
}

static void
watch(struct log_file *log)
{
    (void)inotify_add_watch(log->inotify, log->path, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF);
}

/* An fd of the file that the path now names, where it is another one than ours; else -1. */
static int
open_successor(const struct log_file *log)
{
    struct stat ours, theirs;
    cleanup_close int fd = open(log->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &theirs) < 0 || fstat(log->fd, &ours) < 0)
        return -1;
    return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev ? -1 : steal(fd);
}

int
log_file_copy(struct log_file *log, struct error *err)
{
    TRY(copy_to_end(log, err));
    for (int next; (next = open_successor(log)) >= 0;) {
        /* Nobody writes to the old file once there is a new one, but what came before that is still to be read. */
        int copied = copy_to_end(log, err);
        (void)close(log->fd);
        log->fd = next;
        watch(log);
        TRY(copied);
        TRY(copy_to_end(log, err));
    }
    return 0;
}

int
log_file_wait(struct log_file *log, int interrupt, int timeout_ms)
{
    struct pollfd fds[] = {{.fd = log->inotify, .events = POLLIN}, {.fd = interrupt, .events = POLLIN}};
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    (void)poll(fds, 2, timeout_ms);
    if (fds[0].revents)
        (void)!read(log->inotify, events, sizeof events);
    return fds[1].revents ? 1 : 0;
}

/* Where the last `tail` lines begin: the offsets of that many beginnings are kept in a ring. */
static int
seek_tail(struct log_file *log, int64_t tail, struct error *err)
{
    size_t size = (size_t)tail + 1;
    cleanup_free off_t *starts = mem_zalloc(size, sizeof *starts);
    char chunk[READ_BYTES];
    size_t lines = 1;
    off_t offset = 0;
    for (ssize_t n; (n = read(log->fd, chunk, sizeof chunk)) != 0; offset += n) {
        if (n < 0)
            return error_errno(err, errno, "reading %s", log->path);
        for (ssize_t i = 0; i < n; i++) {
            if (chunk[i] == '\n')
                starts[lines++ % size] = offset + i + 1;
        }
    }
    /* The last beginning is that of the line after the last one. */
    off_t start = lines > size ? starts[lines % size] : 0;
    if (lseek(log->fd, start, SEEK_SET) < 0)
        return error_errno(err, errno, "reading %s", log->path);
    return 0;
}

struct log_file *
log_file_open(const char *path, const struct log_format *format, int64_t tail, struct error *err)
{
    cleanup(log_file_closep) struct log_file *log = mem_zalloc(1, sizeof *log);
    *log = (struct log_file){.path = path, .format = *format, .pending = BUF(RECORD_MAX_BYTES + READ_BYTES), .inotify = -1};
    log->fd = TRY_OR_NULL(file_open(AT_FDCWD, path, O_RDONLY, 0, err));
    log->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    watch(log);
    if (tail >= 0)
        TRY_OR_NULL(seek_tail(log, tail, err));
    return steal(log);
}

void
log_file_close(struct log_file *log)
{
    cleanup_closep(&log->fd);
    cleanup_closep(&log->inotify);
    buf_free(&log->pending);
    free(log);
}
