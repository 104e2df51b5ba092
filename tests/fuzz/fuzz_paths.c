/* Paths in a container's root file system, which is an image's: whatever symlinks it has, what is opened and made for a path lies inside. As root.
 *
 * The bytes are a program of steps, whose paths and targets are put together from a few words that matter. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "program.h"
#include "runtime/monitor/launch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_MAX = 48 };

static char world[48];
static int home, outside;
static struct stat outside_before;

static const char *const words[] = {"a", "b", "c", "..", ".", "", "outside", "root"};
static const struct vocabulary vocabulary = {world, "/../../outside", words, sizeof words / sizeof *words};

static void
check_inside(int fd)
{
    char link[64], path[4096];
    cleanup_free char *root = str_printf("%s/root", world);
    if (fd < 0)
        return;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    (void)close(fd);
    if (n < (ssize_t)strlen(root) || memcmp(path, root, strlen(root)) != 0 || (path[strlen(root)] != '/' && n != (ssize_t)strlen(root)))
        abort();
}

static void
step(const struct launch *l, struct program *p)
{
    char path[512], target[512];
    const char *name;
    struct error err;
    uint8_t what = next(p);
    make_path(p, &vocabulary, path, sizeof path);
    switch (what % 6) {
    case 0:
    case 1: {
        make_path(p, &vocabulary, target, sizeof target);
        int parent = root_parent(l, path, &name);
        if (parent >= 0)
            (void)symlinkat(target, parent, name);
        check_inside(parent);
        break;
    }
    case 2:
        check_inside(root_mkdirs(l, path, 0755));
        break;
    case 3:
        check_inside(root_target(l, path, what & 0x80));
        break;
    case 4:
        check_inside(root_open(l, path, O_PATH));
        break;
    default:
        check_inside(file_mkdirs_beneath(l->root, path, 0755, &err));
    }
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
    (void)snprintf(world, sizeof world, "/dev/shm/crisp-fuzz.XXXXXX");
    home = mkdtemp(world) ? open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (home < 0 || mkdirat(home, "outside", 0700) < 0)
        abort();
    (void)atexit(take_down);
    outside = openat(home, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (outside < 0 || fstat(outside, &outside_before) < 0)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program p = {data, size};
    struct error err;
    struct stat now;
    if (!*world)
        set_up();
    if (mkdirat(home, "root", 0755) < 0)
        abort();
    struct launch launch = {.root = openat(home, "root", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    for (int steps = 0; p.size && steps < STEPS_MAX; steps++)
        step(&launch, &p);
    (void)close(launch.root);
    if (fstat(outside, &now) < 0 || memcmp(&now.st_mtim, &outside_before.st_mtim, sizeof now.st_mtim) != 0 || now.st_nlink != outside_before.st_nlink)
        abort();
    if (file_remove_tree(home, "root", &err) < 0)
        abort();
    return 0;
}
