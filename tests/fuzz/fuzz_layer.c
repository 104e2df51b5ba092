/* Unpacking, with a check that nothing outside the layer has changed. As root, on a file system with extended attributes.
 *
 * An even first byte: the rest is a program of entries, whose paths and targets are put together from a few words that matter. An odd one: a tar
 * stream. */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/layer.h"
#include "imageservice/pull/tar.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char world[48];
static int home, incoming;
static struct layer *below;

/* What no layer may change: below the world, all but the layer itself. */
static const char *const watched[] = {
    ".", "outside", "outside/secret", "incoming/below", "incoming/below/a", "incoming/below/a/b", "incoming/below/b", "incoming/below/c"};
enum { WATCHED = sizeof watched / sizeof *watched };
static struct stat before[WATCHED];

static const char *const words[] = {"a",    "b",      "c",       "..",       ".",    "",     ".wh.a", ".wh.b", ".wh..wh..opq",
                                    ".wh.", "secret", "outside", "incoming", "proc", "self", "cwd"};
static const struct vocabulary vocabulary = {world, "../../outside", words, sizeof words / sizeof *words};
static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFREG, S_IFDIR, S_IFCHR, S_IFIFO, S_IFBLK};

static int
read_some(void *arg, const void **data, size_t *length, int64_t *offset, struct error *err)
{
    int *left = arg;
    (void)err;
    if (!*left)
        return 0;
    *data = "text";
    *length = 4;
    *offset = (int64_t)(--*left) * 10;
    return 1;
}

static void
run_program(struct layer *layer, struct program *p)
{
    char path[512], link[512];
    for (int steps = 0; p->size && steps < 64; steps++) {
        uint8_t what = next(p);
        struct error err;
        int blocks = what >> 6;
        make_path(p, &vocabulary, path, sizeof path);
        make_path(p, &vocabulary, link, sizeof link);
        struct layer_xattr xattr = {what & 16 ? "trusted.overlay.redirect" : "user.x", "v", 1};
        struct layer_entry entry = {
            .path = path,
            .link = link,
            .hard_link = (what & 15) == 15,
            .mode = types[what & 7] | 0755,
            .uid = what & 32 ? 1000 : 0,
            .size = blocks * 10,
            .xattrs = &xattr,
            .xattr_count = what & 8 ? 1 : 0,
        };
        (void)layer_apply(layer, &entry, read_some, &blocks, &err);
    }
}

static void *
feed(void *arg)
{
    void **args = arg;
    struct ring *ring = args[0];
    struct program *p = args[1];
    while (p->size) {
        size_t n;
        char *at = ring_room(ring, &n);
        if (!at)
            return NULL;
        n = n < p->size ? n : p->size;
        memcpy(at, p->data, n);
        ring_push(ring, n);
        p->data += n;
        p->size -= n;
    }
    ring_end(ring);
    return NULL;
}

static void
run_tar(struct layer *layer, struct program *p)
{
    pthread_t feeder;
    struct error err;
    struct ring *ring = ring_new(4096);
    (void)pthread_create(&feeder, NULL, feed, (void *[]){ring, p});
    (void)tar_unpack(ring, layer, &err);
    (void)pthread_join(feeder, NULL);
    ring_free(ring);
}

static void
take_down(void)
{
    struct error err;
    (void)file_remove_tree(AT_FDCWD, world, &err);
}

static void
set_up(void)
{
    struct error err = {0};
    (void)umask(0);
    (void)snprintf(world, sizeof world, "/var/tmp/crisp-fuzz.XXXXXX");
    if (!mkdtemp(world))
        abort();
    (void)atexit(take_down);
    cleanup_free char *in = str_printf("%s/incoming", world), *out = str_printf("%s/outside", world);
    if (mkdir(in, 0700) < 0 || mkdir(out, 0700) < 0)
        abort();
    incoming = open(in, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    home = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    below = layer_begin(incoming, "below", &err);
    struct layer_entry entries[] = {
        {.path = "a/b", .mode = S_IFDIR | 01777}, {.path = "b", .mode = S_IFREG | 0644}, {.path = "c", .mode = S_IFLNK, .link = "/a"}};
    for (size_t i = 0; below && i < 3; i++)
        if (layer_apply(below, &entries[i], read_some, &(int){1}, &err) < 0)
            abort();
    if (!below || layer_settle(below, NULL, 0, &err) < 0 || file_replace(home, "outside/secret", "untouched", 9, 0600, false, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.message);
        abort();
    }
    for (size_t i = 0; i < WATCHED; i++)
        if (fstatat(home, watched[i], &before[i], AT_SYMLINK_NOFOLLOW) < 0)
            abort();
}

/* Reading moves atime only. */
static bool
same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode && a->st_nlink == b->st_nlink && a->st_uid == b->st_uid && a->st_size == b->st_size &&
           memcmp(&a->st_ctim, &b->st_ctim, sizeof a->st_ctim) == 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!*world)
        set_up();
    if (size < 2)
        return 0;
    struct error err;
    struct program p = {data + 1, size - 1};
    struct layer *layer = layer_begin(incoming, "layer", &err);
    if (!layer)
        abort();
    if (data[0] & 1)
        run_tar(layer, &p);
    else
        run_program(layer, &p);
    (void)layer_finish(layer, &err);
    (void)layer_settle(layer, (int[]){layer_root(below)}, 1, &err);
    layer_close(layer);
    for (size_t i = 0; i < WATCHED; i++) {
        struct stat now;
        if (fstatat(home, watched[i], &now, AT_SYMLINK_NOFOLLOW) < 0 || !same(&now, &before[i]))
            abort();
    }
    if (file_remove_tree(incoming, "layer", &err) < 0)
        abort();
    return 0;
}
