#include "imageservice/pull/spool.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/space.h"
#include "imageservice/pull/unpress.h"

enum { LOOK_MS = 200 }; /* how soon a cancelled import lets go of a pipe that brings nothing */

struct spool {
    int source;
    const struct http_scope *scope;
    struct ring *packed, *plain;
    struct digest *digest; /* nobody's, but unpress_run adds one up */
    struct error failure;  /* of reading the source */
};

const char *
spool_packed(int file, int64_t offset)
{
    unsigned char head[4] = {0};
    if (pread(file, head, sizeof head, offset) != (ssize_t)sizeof head)
        return NULL;
    if (head[0] == 0x1f && head[1] == 0x8b)
        return "gzip";
    bool skippable = (head[0] & 0xf0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0;
    return skippable || memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 ? "zstd" : NULL;
}

int
spool_file(int incoming, struct error *err)
{
    static atomic_uint counter;
    char name[32];
    (void)snprintf(name, sizeof name, "spool-%u", atomic_fetch_add(&counter, 1));
    int fd = TRY(file_open(incoming, name, O_RDWR | O_CREAT | O_EXCL, 0600, err));
    (void)unlinkat(incoming, name, 0);
    return fd;
}

int
spool_write(int file, const void *data, size_t length, struct error *err)
{
    off_t at = lseek(file, 0, SEEK_CUR);
    if (at / LIMIT_UNWATCHED_BYTES != (at + (off_t)length) / LIMIT_UNWATCHED_BYTES)
        TRY(space_check(file, 0, err));
    return file_write_all(file, "an archive beside the images", data, length, err);
}

/* Wait until there is something to read: whoever writes may never do it again, nor ever end. */
static int
wait_for_source(const struct spool *s, struct error *err)
{
    for (;;) {
        struct pollfd source = {.fd = s->source, .events = POLLIN};
        if (atomic_load(&s->scope->cancelled))
            return error_set(err, ERR_CANCELLED, "the import was cancelled");
        if (poll(&source, 1, LOOK_MS) > 0)
            return 0;
    }
}

static int
read_source(struct spool *s, struct error *err)
{
    for (;;) {
        size_t length;
        TRY(wait_for_source(s, err));
        char *room = ring_room(s->packed, &length);
        if (!room)
            return error_set(err, ERR_CANCELLED, "unpacking ended early");
        ssize_t n = read(s->source, room, length);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return error_errno(err, errno, "read the archive");
        if (n == 0)
            return 0;
        ring_push(s->packed, (size_t)n);
    }
}

static void *
feed(void *arg)
{
    struct spool *s = arg;
    if (read_source(s, &s->failure) < 0)
        ring_fail(s->packed, &s->failure);
    else
        ring_end(s->packed);
    return NULL;
}

static void *
unpress(void *arg)
{
    struct spool *s = arg;
    struct error err = {0}; /* reaches the writing side through the ring */
    (void)unpress_run(s->packed, s->plain, s->digest, -1, &err);
    return NULL;
}

static int
drain(struct spool *s, int file, struct error *err)
{
    const char *data;
    size_t length;
    while (TRY(ring_take(s->plain, &data, &length, err)) > 0)
        TRY(spool_write(file, data, length, err));
    return 0;
}

static int
run(struct spool *s, int file, struct error *err)
{
    pthread_t feeder, unpresser;
    int errnum = pthread_create(&feeder, NULL, feed, s);
    if (errnum)
        return error_errno(err, errnum, "start a thread");
    errnum = pthread_create(&unpresser, NULL, unpress, s);
    int result = errnum ? error_errno(err, errnum, "start a thread") : drain(s, file, err);
    if (result < 0) {
        ring_fail(s->packed, err);
        ring_fail(s->plain, err);
    }
    (void)pthread_join(feeder, NULL);
    if (!errnum)
        (void)pthread_join(unpresser, NULL);
    return result;
}

static int
copy(int source, int incoming, const struct http_scope *scope, struct error *err)
{
    cleanup_close int file = TRY(spool_file(incoming, err));
    struct spool s = {.source = source, .scope = scope, .packed = ring_new(RING_PACKED_BYTES), .plain = ring_new(RING_PLAIN_BYTES)};
    s.digest = digest_new(NULL);
    int result = run(&s, file, err);
    ring_free(s.packed);
    ring_free(s.plain);
    digest_free(s.digest);
    return result < 0 ? -1 : steal(file);
}

int
spool_open(int source, int incoming, const struct http_scope *scope, struct error *err)
{
    struct stat st;
    if (fstat(source, &st) < 0)
        return error_errno(err, errno, "look at the archive");
    if (!S_ISREG(st.st_mode) || spool_packed(source, 0))
        return copy(source, incoming, scope, err);
    int file = fcntl(source, F_DUPFD_CLOEXEC, 0);
    return file < 0 ? error_errno(err, errno, "keep the archive open") : file;
}
