/* The image store under what disks and deaths do to it, with a real crisp-pull and a registry of our own, on a file system of its own: a loop ext4.
 * Needs root. Run with a directory and a port as arguments it is a crispd that does nothing but pull and remove, for its parent to kill. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "count_in.h"
#include "fake_registry.h"
#include "imageservice/digest.h"
#include "imageservice/imageservice.h"
#include "imageservice/tree.h"

/* FS_IOC_SHUTDOWN (linux/fs.h is too old for it), without a last flush of the journal: what a power cut leaves. */
#define SHUTDOWN          _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_FLUSH 2

enum { DISK_MIB = 48, LAYERS = 3, FILES = 20, ROUNDS = 14 };

static char root[64], disk[80]; /* where the file system is mounted; the file it is in */
static char loop[32];
static int loop_fd; /* goes with its last user, also of a test that dies */
static struct images *images;
static struct fake_registry *registry;
static bool keep_layer_blobs;
static struct fake_layer *layers[LAYERS];

static void
open_store(const char *where)
{
    struct error err = {0};
    struct images_options options = {
        .root = where,
        .state = where,
        .pull_program = CRISP_PULL,
        .parallel_downloads = 4,
        .parallel_downloads_per_pull = 3,
        .stall_seconds = 10,
        .least_bytes_per_second = 1,
        .keep_layer_blobs = keep_layer_blobs,
    };
    if (images_open(&options, &images, &err) < 0)
        fail_msg("crispd does not start: %s", err.message);
}

static void
run(const char *command)
{
    if (system(command) != 0) /* NOLINT: the tests' own words */
        fail_msg("%s failed", command);
}

/* ---- The disk ---- */

static void
attach(void)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(disk, O_RDWR | O_CLOEXEC);
    assert_true(control >= 0 && file >= 0);
    for (int attempt = 0; attempt < 100; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        (void)snprintf(loop, sizeof loop, "/dev/loop%d", number);
        loop_fd = open(loop, O_RDWR | O_CLOEXEC);
        struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
        if (loop_fd >= 0 && ioctl(loop_fd, LOOP_CONFIGURE, &config) == 0) {
            (void)close(control);
            (void)close(file);
            return;
        }
        (void)close(loop_fd);
        (void)usleep(20000); /* somebody else took it */
    }
    fail_msg("no loop device");
}

static void
mount_disk(void)
{
    if (mount(loop, root, "ext4", 0, "errors=continue") < 0)
        fail_msg("mount %s: %s", loop, strerror(errno));
}

/* The mount is gone when the device can be had alone: a crisp-pull that is ending has it too. */
static void
unmount_disk(void)
{
    for (int attempt = 0; attempt < 600; attempt++) {
        (void)umount(root);
        cleanup_close int fd = open(loop, O_RDWR | O_EXCL | O_CLOEXEC);
        if (fd >= 0)
            return;
        (void)usleep(50000);
    }
    fail_msg("%s stays mounted", root);
}

static void
cut_the_power(void)
{
    uint32_t how = SHUTDOWN_NO_FLUSH;
    cleanup_close int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ioctl(fd, SHUTDOWN, &how) < 0)
        fail_msg("shutdown: %s", strerror(errno));
}

static int
make_disk(void **state)
{
    (void)state;
    log_open(LOG_ERROR_ + 1);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail_msg("a mount namespace: %s", strerror(errno));
    (void)strcpy(root, "/var/tmp/crisp-store.XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(disk, sizeof disk, "%s.disk", root);
    cleanup_close int fd = open(disk, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)DISK_MIB << 20), 0);
    cleanup_free char *make = str_printf("mkfs.ext4 -q -F -m 0 -O ^resize_inode %s", disk);
    run(make);
    attach();
    mount_disk();
    registry = fake_registry_start();
    return 0;
}

static int
drop_disk(void **state)
{
    (void)state;
    fake_registry_stop(registry);
    unmount_disk();
    (void)close(loop_fd);
    (void)unlink(disk);
    return rmdir(root);
}

static int
start(void **state)
{
    (void)state;
    open_store(root);
    images_collect(images);
    return 0;
}

static int
end(void **state)
{
    (void)state;
    if (images)
        images_close(images);
    images = NULL;
    fake_registry_hook(registry, NULL, NULL);
    static const char *const below[] = {"layers", "images"};
    struct error err = {0};
    for (size_t i = 0; i < 2; i++) {
        cleanup_free char *path = str_printf("%s/%s", root, below[i]);
        if (file_remove_tree(AT_FDCWD, path, &err) < 0)
            fail_msg("%s", err.message);
    }
    return 0;
}

/* ---- The images ---- */

static const char *
at(const char *repository)
{
    static char names[8][200];
    static unsigned next;
    char *name = names[next++ % 8];
    (void)snprintf(name, sizeof names[0], "127.0.0.1:%u/%s", fake_registry_port(registry), repository);
    return name;
}

/* Files of many sizes, small ones as well as some that the kernel writes out early. */
static struct fake_layer *
make_layer(int number)
{
    struct fake_file files[FILES + 3] = {{"./", NULL, 0}}; /* a directory without an entry would be of another time in each pull */
    char names[FILES + 1][32];
    (void)snprintf(names[FILES], sizeof names[0], "d%d/", number);
    files[1] = (struct fake_file){names[FILES], NULL, 0};
    for (int i = 0; i < FILES; i++) {
        (void)snprintf(names[i], sizeof names[i], "d%d/f%d", number, i);
        files[2 + i] = (struct fake_file){names[i], NULL, (size_t)(i % 5 == 4 ? 300000 : 700 * i + number + 1)};
    }
    return fake_layer_make(files);
}

static char *
must_pull(const char *reference)
{
    struct error err = {0};
    char *id = images_pull(images, reference, NULL, NULL, &err);
    if (!id)
        fail_msg("%s: %s", error_kind_name(err.kind), err.message);
    return id;
}

static void
digest_layer(const char *name, char out[TREE_DIGEST_SIZE])
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/layers/%s", root, name);
    cleanup_close int fd = file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &err);
    if (fd < 0 || tree_digest(fd, true, NULL, out, &err) < 0)
        fail_msg("layer %s: %s", name, err.message);
}

/* ---- Deaths ---- */

static char whole[LAYERS][TREE_DIGEST_SIZE]; /* what each layer is like when nothing happened */

/* Whatever is listed is whole: its layers are as they are when nothing happens. How many are. */
static size_t
check_all_that_is_listed(void)
{
    size_t count;
    const struct image **list = images_list(images, NULL, &count);
    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < list[i]->layers.count; n++) {
            char tree[TREE_DIGEST_SIZE];
            digest_layer(list[i]->layers.items[n], tree);
            assert_string_equal(tree, whole[n]);
        }
    images_list_free(list, count);
    return count;
}

/* A crispd of its own: pulls, removes, pulls, … until it is killed. */
static _Noreturn void
pull_for_ever(char *const argv[])
{
    log_open(LOG_ERROR_ + 1);
    open_store(argv[1]);
    images_collect(images);
    for (unsigned i = 0;; i++) {
        struct error err = {0};
        cleanup_free char *reference = str_printf("127.0.0.1:%s/app%u", argv[2], i % 2);
        cleanup_free char *id = images_pull(images, reference, NULL, NULL, &err);
        if (id && i % 3 == 2)
            (void)images_remove(images, id, &err);
    }
}

static pid_t
start_puller(void)
{
    cleanup_free char *port = str_printf("%u", fake_registry_port(registry));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)execl("/proc/self/exe", "test_store", root, port, NULL);
        _exit(127);
    }
    return pid;
}

/* Its crisp-pull, if one runs at that moment; crispd goes on. */
static void
kill_helper(pid_t pid)
{
    cleanup_free char *line = str_printf("cat /proc/%d/task/*/children | xargs -r kill -9 2>/dev/null; true", (int)pid);
    run(line);
    (void)usleep((useconds_t)(random() % 100000));
}

static void
kill_puller(pid_t pid)
{
    int status;
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status)); /* it was at work */
}

static void
put_images(void)
{
    for (int i = 0; i < LAYERS; i++)
        layers[i] = make_layer(i);
    free(fake_registry_put(registry, "app0", "latest", (const struct fake_layer *const *)layers, LAYERS, "", NULL));
    free(fake_registry_put(registry, "app1", "latest", (const struct fake_layer *const *)layers, LAYERS - 1, "", NULL));
}

static void
free_layers(void)
{
    for (int i = 0; i < LAYERS; i++)
        fake_layer_free(layers[i]);
}

static void
learn_what_is_whole(void)
{
    struct error err = {0};
    cleanup_free char *id = must_pull(at("app0"));
    const struct image *image = images_find(images, id, &err);
    for (size_t i = 0; i < LAYERS; i++)
        digest_layer(image->layers.items[i], whole[i]);
    image_release(image);
    assert_int_equal(images_remove(images, id, &err), 0);
}

/* crispd and crisp-pull are killed, or the power goes, at any moment of pulls and removals: the next crispd starts, lists nothing that is not whole,
 * and pulls. */
static void
deaths_at_any_moment_leave_only_whole_images(void **state)
{
    (void)state;
    size_t seen = 0;
    put_images();
    learn_what_is_whole();
    srandom((unsigned)clock_now_ns());
    for (int round = 0; round < ROUNDS; round++) {
        images_close(images);
        images = NULL;
        pid_t puller = start_puller();
        (void)usleep(60000 + (useconds_t)(random() % 400000));
        if (round % 2)
            kill_helper(puller);
        if (round % 3)
            cut_the_power();
        kill_puller(puller);
        unmount_disk();
        mount_disk();
        open_store(root);
        images_collect(images);
        seen += check_all_that_is_listed();
        free(must_pull(at("app0")));
        free(must_pull(at("app1")));
        assert_int_equal(check_all_that_is_listed(), 2);
        assert_int_equal(count_in(root, "layers"), LAYERS);
    }
    assert_true(seen > 0); /* else no death ever came after a pull */
    free_layers();
}

/* ---- A disk that is small ---- */

static void
a_pull_that_cannot_fit_fails_before_it_begins(void **state)
{
    (void)state;
    struct error err = {0};
    struct fake_layer *big = fake_layer_make((const struct fake_file[]){{"big", NULL, (DISK_MIB + 2) << 20}, {NULL, NULL, 0}});
    free(fake_registry_put(registry, "big", "latest", (const struct fake_layer *const[]){big}, 1, "", NULL));
    assert_null(images_pull(images, at("big"), NULL, NULL, &err));
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    assert_non_null(strstr(err.message, "it needs 101 MiB of disk at least; ")); /* packed as unpacked, as it can't be less */
    assert_int_equal(fake_registry_count(registry, big->digest), 0);
    assert_int_equal(count_in(root, "layers") + count_in(root, "images/partial") + count_in(root, "images/blobs/sha256"), 0);
    fake_layer_free(big);
}

static void
a_disk_that_fills_midway_fails_the_pull_and_is_as_empty_as_before(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free char *zeros = mem_zalloc(((DISK_MIB + 10) << 20) + 1, 1);
    memset(zeros, 'z', (DISK_MIB + 10) << 20);
    struct fake_layer *bomb = fake_layer_make((const struct fake_file[]){{"bomb", zeros, 0}, {NULL, NULL, 0}});
    struct fake_layer *other = fake_layer_make((const struct fake_file[]){{"other", NULL, 9 << 20}, {NULL, NULL, 0}});
    free(fake_registry_put(registry, "bomb", "latest", (const struct fake_layer *const[]){bomb, other}, 2, "", NULL));
    assert_null(images_pull(images, at("bomb"), NULL, NULL, &err));
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    assert_int_equal(err.errnum, ENOSPC);
    for (int i = 0; i < 100 && count_in(root, "images/partial"); i++)
        (void)usleep(50000);
    assert_int_equal(count_in(root, "layers") + count_in(root, "images/partial") + count_in(root, "images/blobs/sha256"), 0);
    fake_layer_free(bomb);
    fake_layer_free(other);
}

/* ---- Check ---- */

struct findings {
    unsigned count, mended;
    char text[4096];
};

static void
note(void *arg, const struct images_finding *finding)
{
    struct findings *f = arg;
    size_t length = strlen(f->text);
    f->count++;
    f->mended += finding->mended;
    (void)snprintf(f->text + length, sizeof f->text - length, "%s: %s: %s\n", finding->image, finding->object, finding->words);
}

static struct findings
check(const char *reference, bool mend)
{
    struct error err = {0};
    struct findings f = {0};
    struct images_checked checked;
    if (images_check(images, reference, mend, NULL, note, &f, &checked, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(checked.objects > 0 && checked.bytes > 0);
    return f;
}

static void
expect(struct findings got, unsigned count, unsigned mended, const char *words)
{
    if (got.count != count || got.mended != mended || (words && !strstr(got.text, words)))
        fail_msg("%u found, %u mended:\n%s", got.count, got.mended, got.text);
}

/* A shell's line in the store's directory; $L is `what`. */
static void
in_store(const char *line, const char *what)
{
    cleanup_free char *script = str_printf("cd %s && L=%s && %s", root, what, line);
    run(script);
}

static char *
pull_app(void)
{
    put_images();
    return must_pull(at("app0"));
}

static const struct image *
must_find(const char *reference)
{
    struct error err = {0};
    const struct image *image = images_find(images, reference, &err);
    if (!image)
        fail_msg("%s", err.message);
    return image;
}

static bool
is_there(const char *layer)
{
    cleanup_free char *path = str_printf("%s/layers/%s", root, layer);
    return access(path, F_OK) == 0;
}

/* A byte of a layer changes on the disk, its time doesn't: the check finds it, nothing new is started on it, that layer alone is pulled again, and
 * the container that runs on it keeps the one it has until it ends. */
static void
a_damaged_layer_is_pulled_again_beside_the_containers_on_it(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free char *id = pull_app(), *other = must_pull(at("app1"));
    const struct image *before = must_find(at("app0"));
    expect(check(NULL, true), 0, 0, NULL);
    assert_int_equal(images_hold(images, &before->layers, "container", &err), 0);
    in_store("touch -r layers/$L/d1/f4 time && printf X | dd of=layers/$L/d1/f4 bs=1 seek=200000 conv=notrunc status=none && "
             "touch -r time layers/$L/d1/f4 && rm time",
             before->layers.items[1]);
    expect(check(at("app0"), false), 1, 0, "it is not what was unpacked");
    assert_null(images_find(images, at("app0"), &err));
    assert_null(images_find(images, at("app1"), &err));
    assert_int_equal(check_all_that_is_listed(), 0);
    images_close(images);
    open_store(root);
    assert_int_equal(images_hold(images, &before->layers, "container", &err), 0);
    images_collect(images);
    assert_null(images_find(images, at("app1"), &err)); /* nor after a restart */
    fake_registry_hook(registry, NULL, NULL);
    expect(check(NULL, true), 1, 1, NULL);
    assert_int_equal(fake_registry_count(registry, layers[0]->digest) + fake_registry_count(registry, layers[2]->digest), 0);
    assert_int_equal(fake_registry_count(registry, layers[1]->digest), 1);
    const struct image *after = must_find(at("app0"));
    image_release(must_find(at("app1")));
    assert_string_equal(after->layers.items[0], before->layers.items[0]);
    assert_string_not_equal(after->layers.items[1], before->layers.items[1]);
    assert_true(is_there(before->layers.items[1]));
    images_collect(images);
    assert_true(is_there(before->layers.items[1]));
    images_unhold(images, "container");
    for (int i = 0; i < 100 && is_there(before->layers.items[1]); i++)
        (void)usleep(50000);
    assert_false(is_there(before->layers.items[1]));
    expect(check(NULL, true), 0, 0, NULL);
    assert_int_equal(count_in(root, "layers"), LAYERS);
    image_release(before);
    image_release(after);
    free_layers();
}

static void
documents_and_directories_are_mended_too(void **state)
{
    (void)state;
    cleanup_free char *id = pull_app();
    const struct image *image = must_find(at("app0"));
    in_store("for f in images/blobs/sha256/*; do echo >$f; done; rm -r layers/$L", image->layers.items[0]);
    fake_registry_hook(registry, NULL, NULL);
    expect(check(id, true), 3, 3, "configuration sha256:");
    assert_int_equal(fake_registry_count(registry, layers[1]->digest) + fake_registry_count(registry, layers[2]->digest), 0);
    expect(check(id, true), 0, 0, NULL);
    image_release(image);
    /* Found by crispd at its start, the same is mended by the next pull, and only that is pulled. */
    image = must_find(id);
    images_close(images);
    in_store("for f in images/blobs/sha256/*; do echo >$f; done; rm -r layers/$L", image->layers.items[2]);
    open_store(root);
    images_collect(images);
    assert_int_equal(check_all_that_is_listed(), 0);
    fake_registry_hook(registry, NULL, NULL);
    free(must_pull(at("app0")));
    assert_int_equal(fake_registry_count(registry, layers[1]->digest) + fake_registry_count(registry, layers[0]->digest), 0);
    expect(check(id, true), 0, 0, NULL);
    image_release(image);
    free_layers();
}

static void
no_registry(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    (void)request;
    *reply = (struct fake_reply){.status = 404, .body = "", .declared = -1, .cut_at = -1};
}

/* Where it can't be had again the image is gone from the list, but all that is good of it stays; and it can be removed by its name. */
static void
what_cannot_be_mended_is_kept_for_better_times(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free char *id = pull_app();
    const struct image *image = must_find(id);
    in_store("chmod 777 layers/$L/d2/f1", image->layers.items[2]);
    fake_registry_hook(registry, no_registry, NULL);
    expect(check(NULL, true), 1, 0, "404");
    images_collect(images);
    assert_int_equal(count_in(root, "layers"), LAYERS);
    assert_null(images_find(images, id, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    cleanup_free char *same = images_id(images, at("app0"), &err);
    assert_string_equal(same, id);
    assert_int_equal(images_remove(images, same, &err), 0);
    assert_int_equal(count_in(root, "layers"), 0);
    image_release(image);
    free_layers();
}

static void
a_damaged_packed_layer_goes(void **state)
{
    (void)state;
    keep_layer_blobs = true;
    images_close(images);
    open_store(root);
    images_collect(images);
    cleanup_free char *id = pull_app();
    in_store("printf X | dd of=images/blobs/sha256/$L bs=1 seek=99 conv=notrunc status=none", layers[0]->digest + 7);
    expect(check(NULL, true), 1, 1, "packed layer sha256:");
    expect(check(NULL, true), 0, 0, NULL);
    assert_int_equal(count_in(root, "images/blobs/sha256"), 2 + LAYERS - 1);
    keep_layer_blobs = false;
    free_layers();
}

/* ---- Garbage ---- */

struct garbage {
    unsigned count;
    uint64_t bytes;
    char text[1024];
};

static void
add_garbage(void *arg, const char *kind, const char *name, uint64_t bytes)
{
    struct garbage *g = arg;
    size_t length = strlen(g->text);
    g->count++;
    g->bytes += bytes;
    (void)snprintf(g->text + length, sizeof g->text - length, "%s %s %" PRIu64 "\n", kind, name, bytes);
}

static struct garbage
gc(bool dry_run)
{
    struct garbage g = {0};
    images_gc(images, dry_run, add_garbage, &g);
    return g;
}

static void
what_nobody_needs_is_shown_counted_and_collected(void **state)
{
    (void)state;
    char hex[65];
    memset(hex, 'a', 64);
    hex[64] = '\0';
    cleanup_free char *id = pull_app();
    (void)usleep(100000); /* crisp-pull clears up behind the pull */
    assert_int_equal(gc(true).count, 0);
    in_store("mkdir -p layers/zz/sub images/incoming/dead-1 && head -c 20000 /dev/zero | tee layers/zz/sub/file images/blobs/sha256/$L "
             "images/partial/sha256-$L images/partial/sha256-used >images/incoming/dead-1/file",
             hex);
    cleanup_free char *used = str_printf("%s/images/partial/sha256-used", root);
    cleanup_close int lock = open(used, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    struct garbage dry = gc(true);
    if (dry.count != 4 || dry.bytes < 80000 || !strstr(dry.text, "half download sha256-aaa") || !strstr(dry.text, "blob sha256:aaa"))
        fail_msg("%s", dry.text);
    assert_int_equal(images_garbage(images).items, 4);
    assert_int_equal(images_garbage(images).bytes, dry.bytes);
    struct garbage done = gc(false);
    assert_string_equal(done.text, dry.text);
    assert_int_equal(gc(true).count, 0);
    assert_int_equal(images_garbage(images).items, 0);
    assert_int_equal(count_in(root, "images/partial"), 1);
    expect(check(NULL, false), 0, 0, NULL);
    free_layers();
}

/* What somebody mounted into a layer is not ours to delete. */
static void
a_layer_is_deleted_up_to_what_is_mounted_in_it(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free char *id = pull_app();
    const struct image *image = must_find(id);
    cleanup_free char *foreign = str_printf("%s/foreign", root), *below = str_printf("%s/layers/%s/d1", root, image->layers.items[1]);
    in_store("mkdir foreign && echo data >foreign/$L", "file");
    if (mount(foreign, below, NULL, MS_BIND, NULL) < 0)
        fail_msg("mount: %s", strerror(errno));
    assert_int_equal(images_remove(images, id, &err), 0);
    images_collect(images);
    assert_int_equal(count_in(root, "layers"), 1);
    assert_int_equal(count_in(root, "foreign"), 1);
    assert_int_equal(gc(false).count, 0);
    assert_int_equal(umount(below), 0);
    assert_int_equal(gc(false).count, 1);
    assert_int_equal(count_in(root, "layers"), 0);
    assert_int_equal(count_in(root, "foreign"), 1);
    in_store("rm -r $L", "foreign");
    image_release(image);
    free_layers();
}

/* What lies beside the layers counts as well. */
static void
half_downloads_and_packed_layers_are_part_of_what_images_take(void **state)
{
    (void)state;
    uint64_t before, after, inodes_before, inodes_after;
    images_usage(images, &before, &inodes_before);
    in_store("head -c 1000000 /dev/zero | tee images/partial/half >images/blobs/sha256/$L", "kept");
    images_usage(images, &after, &inodes_after);
    assert_true(after >= before + 2000000 && after <= before + 2100000);
    assert_int_equal(inodes_after, inodes_before + 2);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, start, end)

int
main(int argc, char **argv)
{
    if (argc == 3)
        pull_for_ever(argv);
    if (geteuid() != 0 || access("/dev/loop-control", F_OK) < 0) {
        (void)puts("skipped: it needs root and loop devices");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        TEST(deaths_at_any_moment_leave_only_whole_images),
        TEST(a_pull_that_cannot_fit_fails_before_it_begins),
        TEST(a_damaged_layer_is_pulled_again_beside_the_containers_on_it),
        TEST(documents_and_directories_are_mended_too),
        TEST(what_cannot_be_mended_is_kept_for_better_times),
        TEST(a_damaged_packed_layer_goes),
        TEST(what_nobody_needs_is_shown_counted_and_collected),
        TEST(a_layer_is_deleted_up_to_what_is_mounted_in_it),
        TEST(half_downloads_and_packed_layers_are_part_of_what_images_take),
        TEST(a_disk_that_fills_midway_fails_the_pull_and_is_as_empty_as_before),
    };
    return cmocka_run_group_tests(tests, make_disk, drop_disk);
}
