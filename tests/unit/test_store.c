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
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
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
        cleanup_close int fd = open(loop, O_RDWR | O_CLOEXEC);
        struct loop_config config = {.fd = (uint32_t)file};
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            (void)close(control);
            (void)close(file);
            return;
        }
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
    for (int attempt = 0; attempt < 200; attempt++) {
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
    cleanup_close int fd = open(loop, O_RDWR | O_CLOEXEC);
    (void)ioctl(fd, LOOP_CLR_FD, 0);
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

static unsigned
count_in(const char *below)
{
    unsigned count = 0;
    cleanup_free char *path = str_printf("%s/%s", root, below);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += *entry->d_name != '.';
    return count;
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
        pid_t puller = start_puller();
        (void)usleep(60000 + (useconds_t)(random() % 400000));
        if (round % 3 > 0)
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
        assert_int_equal(count_in("layers"), LAYERS);
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
    assert_non_null(strstr(err.message, "it needs 64 MiB of disk at least; ")); /* packed as unpacked, as it can't be less */
    assert_int_equal(fake_registry_count(registry, big->digest), 0);
    assert_int_equal(count_in("layers") + count_in("images/partial") + count_in("images/blobs/sha256"), 0);
    fake_layer_free(big);
}

static void
a_disk_that_fills_midway_fails_the_pull_and_is_as_empty_as_before(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free char *zeros = mem_zalloc((DISK_MIB + 10) << 20, 1);
    memset(zeros, 'z', (DISK_MIB + 10) << 20);
    struct fake_layer *bomb = fake_layer_make((const struct fake_file[]){{"bomb", zeros, 0}, {NULL, NULL, 0}});
    struct fake_layer *other = fake_layer_make((const struct fake_file[]){{"other", NULL, 9 << 20}, {NULL, NULL, 0}});
    free(fake_registry_put(registry, "bomb", "latest", (const struct fake_layer *const[]){bomb, other}, 2, "", NULL));
    assert_null(images_pull(images, at("bomb"), NULL, NULL, &err));
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    assert_int_equal(err.errnum, ENOSPC);
    for (int i = 0; i < 100 && count_in("images/partial"); i++)
        (void)usleep(50000);
    assert_int_equal(count_in("layers") + count_in("images/partial") + count_in("images/blobs/sha256"), 0);
    fake_layer_free(bomb);
    fake_layer_free(other);
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
        TEST(a_disk_that_fills_midway_fails_the_pull_and_is_as_empty_as_before),
    };
    return cmocka_run_group_tests(tests, make_disk, drop_disk);
}
