/* Unpacking: what the entries of an archive become, and that none of them leaves its layer. Needs root (owners, devices, trusted.*). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/pull/layer.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/tar.h"

/* world/: incoming/1 … the layers; outside/secret what no layer may touch. */
static char world[64];
static int incoming = -1, layer_count;

#pragma GCC diagnostic ignored "-Wmissing-field-initializers" /* what a step does not say is nothing */

struct step {
    const char *path;
    mode_t mode;
    const char *text; /* of a file; of a symlink; of a hard link its target */
    bool hard_link;
};

#define DIR_  S_IFDIR | 0755
#define FILE_ S_IFREG | 0644
#define LINK_ S_IFLNK | 0777

static int
set_up(void **state)
{
    (void)state;
    struct error err = {0};
    (void)umask(0);
    (void)strcpy(world, "/var/tmp/crisp-layer.XXXXXX");
    assert_non_null(mkdtemp(world));
    cleanup_free char *in = str_printf("%s/incoming", world), *out = str_printf("%s/outside", world),
                      *secret = str_printf("%s/outside/secret", world);
    assert_int_equal(file_mkdirs(in, 0700, &err), 0);
    assert_int_equal(file_mkdirs(out, 0700, &err), 0);
    assert_int_equal(file_replace(AT_FDCWD, secret, "untouched", 9, 0600, false, &err), 0);
    incoming = open(in, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return incoming < 0;
}

static int
tear_down(void **state)
{
    (void)state;
    (void)close(incoming);
    return file_remove_tree(AT_FDCWD, world, NULL);
}

static struct layer *
begin(void)
{
    struct error err = {0};
    cleanup_free char *name = str_printf("%d", ++layer_count);
    struct layer *layer = layer_begin(incoming, name, &err);
    if (!layer)
        fail_msg("%s", err.message);
    return layer;
}

struct contents {
    const char *text;
};

static int
read_contents(void *arg, const void **data, size_t *length, int64_t *offset, struct error *err)
{
    struct contents *c = arg;
    (void)err;
    if (str_empty(c->text))
        return 0;
    *data = c->text;
    *length = strlen(c->text);
    *offset = 0;
    c->text = NULL;
    return 1;
}

static struct layer_entry
entry_of(const struct step *step)
{
    bool file = S_ISREG(step->mode) && !step->hard_link;
    return (struct layer_entry){.path = step->path,
                                .link = file ? NULL : step->text,
                                .hard_link = step->hard_link,
                                .mode = step->mode,
                                .mtime = {1234567890, 123456789},
                                .size = file && step->text ? (int64_t)strlen(step->text) : 0};
}

static int
try(struct layer *layer, const struct step *step, struct error *err)
{
    struct layer_entry entry = entry_of(step);
    struct contents contents = {S_ISREG(step->mode) && !step->hard_link ? step->text : NULL};
    return layer_apply(layer, &entry, read_contents, &contents, err);
}

static void
apply(struct layer *layer, const struct step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct error err = {0};
        if (try(layer, &steps[i], &err) < 0)
            fail_msg("%s", err.message);
    }
}
#define APPLY(layer, ...) apply(layer, (const struct step[]){__VA_ARGS__}, sizeof((const struct step[]){__VA_ARGS__}) / sizeof(struct step))

static void
settle(struct layer *layer, const int *lower, size_t count)
{
    struct error err = {0};
    if (layer_finish(layer, &err) < 0 || layer_settle(layer, lower, count, &err) < 0)
        fail_msg("%s", err.message);
}

static struct stat
stat_of(const struct layer *layer, const char *path)
{
    struct stat st;
    if (fstatat(layer_root(layer), path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("%s is missing", path);
    return st;
}

static bool
exists(const struct layer *layer, const char *path)
{
    struct stat st;
    return fstatat(layer_root(layer), path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void
assert_text(const struct layer *layer, const char *path, const char *text)
{
    struct error err = {0};
    cleanup_free char *got = NULL;
    if (file_read(layer_root(layer), path, 1 << 20, &got, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(got, text);
}

static bool
is_opaque(const struct layer *layer, const char *path)
{
    cleanup_close int fd = openat(layer_root(layer), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char value = 0;
    return fd >= 0 && fgetxattr(fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static bool
is_whiteout(const struct layer *layer, const char *path)
{
    struct stat st = stat_of(layer, path);
    return S_ISCHR(st.st_mode) && st.st_rdev == 0;
}

static void
assert_outside_untouched(void)
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/outside/secret", world), *dir = str_printf("%s/outside", world), *got = NULL;
    uint64_t bytes, inodes;
    struct stat st;
    assert_int_equal(file_read(AT_FDCWD, path, 100, &got, NULL, &err), 0);
    assert_string_equal(got, "untouched");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(file_usage(AT_FDCWD, dir, &bytes, &inodes, &err), 0);
    assert_int_equal(inodes, 2);
}

/* ---- What entries become ---- */

static void
owners_modes_times_and_types_are_kept(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    APPLY(layer, {"./", S_IFDIR | 0751}, {"./d/", S_IFDIR | 01777}, {"d/f", S_IFREG | 04755, "text"}, {"d/l", LINK_, "/etc/passwd"},
          {"d/p", S_IFIFO | 0600}, {"d/h", FILE_, "d/f", true});
    struct layer_entry entry = {.path = "d/owned", .mode = S_IFREG | 06711, .uid = 4000000000, .gid = 7, .mtime = {5, 9}};
    struct layer_entry node = {.path = "d/n", .mode = S_IFBLK | 0640, .device = makedev(7, 9), .gid = 6};
    struct error err = {0};
    struct contents none = {NULL};
    assert_int_equal(layer_apply(layer, &entry, read_contents, &none, &err), 0);
    assert_int_equal(layer_apply(layer, &node, read_contents, &none, &err), 0);
    settle(layer, NULL, 0);
    assert_int_equal(stat_of(layer, ".").st_mode, S_IFDIR | 0751);
    assert_int_equal(stat_of(layer, "d").st_mode, S_IFDIR | 01777);
    assert_int_equal(stat_of(layer, "d").st_mtim.tv_sec, 1234567890);
    assert_int_equal(stat_of(layer, ".").st_mtim.tv_nsec, 123456789);
    assert_int_equal(stat_of(layer, "d/f").st_mode, S_IFREG | 04755);
    assert_int_equal(stat_of(layer, "d/f").st_nlink, 2);
    assert_int_equal(stat_of(layer, "d/f").st_mtim.tv_nsec, 123456789);
    assert_int_equal(stat_of(layer, "d/h").st_ino, stat_of(layer, "d/f").st_ino);
    assert_int_equal(stat_of(layer, "d/l").st_mtim.tv_sec, 1234567890);
    assert_int_equal(stat_of(layer, "d/p").st_mode, S_IFIFO | 0600);
    assert_int_equal(stat_of(layer, "d/owned").st_mode, S_IFREG | 06711);
    assert_int_equal(stat_of(layer, "d/owned").st_uid, 4000000000);
    assert_int_equal(stat_of(layer, "d/owned").st_gid, 7);
    assert_int_equal(stat_of(layer, "d/n").st_mode, S_IFBLK | 0640);
    assert_true(stat_of(layer, "d/n").st_rdev == makedev(7, 9));
    assert_text(layer, "d/h", "text");
}

static void
files_in_a_setgid_directory_keep_their_own_group(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    struct layer_entry dir = {.path = "g", .mode = S_IFDIR | 02775, .gid = 50};
    struct error err = {0};
    assert_int_equal(layer_apply(layer, &dir, NULL, NULL, &err), 0);
    APPLY(layer, {"g/f", S_IFREG | 0644, "x"}, {"g/d", DIR_}, {"g/d/e", FILE_, "x"});
    settle(layer, NULL, 0);
    assert_int_equal(stat_of(layer, "g").st_mode, S_IFDIR | 02775);
    assert_int_equal(stat_of(layer, "g/f").st_gid, 0);
    assert_int_equal(stat_of(layer, "g/d").st_gid, 0);
    assert_int_equal(stat_of(layer, "g/d").st_mode, DIR_);
}

static void
attributes_are_kept_but_not_those_that_steer_the_overlay(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    /* vfs_cap_data revision 2: cap_net_raw+ep */
    static const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20};
    const struct layer_xattr xattrs[] = {
        {"user.colour", "blue", 4},         {"security.capability", capability, sizeof capability},
        {"trusted.overlay.opaque", "y", 1}, {"trusted.overlay.redirect", "/", 1},
        {"user.overlay.metacopy", "", 0},   {"security.selinux", "evil", 5},
    };
    struct layer_entry file = {.path = "ping", .mode = S_IFREG | 0755, .uid = 3, .xattrs = xattrs, .xattr_count = 6};
    struct layer_entry dir = {.path = "dir", .mode = DIR_, .xattrs = xattrs + 2, .xattr_count = 3};
    struct error err = {0};
    struct contents none = {NULL};
    assert_int_equal(layer_apply(layer, &file, read_contents, &none, &err), 0);
    assert_int_equal(layer_apply(layer, &dir, read_contents, &none, &err), 0);
    char value[64];
    cleanup_close int fd = openat(layer_root(layer), "ping", O_RDONLY | O_CLOEXEC), dir_fd = openat(layer_root(layer), "dir", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fgetxattr(fd, "user.colour", value, sizeof value), 4);
    assert_int_equal(fgetxattr(fd, "security.capability", value, sizeof value), 20);
    assert_int_equal(fgetxattr(fd, "user.overlay.metacopy", value, sizeof value), -1);
    assert_int_equal(fgetxattr(fd, "trusted.overlay.redirect", value, sizeof value), -1);
    assert_int_equal(fgetxattr(dir_fd, "trusted.overlay.opaque", value, sizeof value), -1);
}

static void
whiteouts_become_overlayfs_devices(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *lower = begin(), *layer = begin();
    APPLY(lower, {"a/", DIR_}, {"a/gone", FILE_, "x"}, {"a/deep/er", DIR_}, {"b/old", FILE_, "x"});
    settle(lower, NULL, 0);
    APPLY(layer, {"a/.wh.gone", FILE_, ""}, {"a/.wh.never", FILE_, ""}, {"a/.wh.deep", FILE_, ""}, {"b/", DIR_}, {"b/.wh..wh..opq", FILE_, ""},
          {"b/new", FILE_, "y"}, {".wh..wh.plnk/x", FILE_, ""}, {"new/.wh.nothing", FILE_, ""});
    settle(layer, (int[]){layer_root(lower)}, 1);
    assert_true(is_whiteout(layer, "a/gone"));
    assert_true(is_whiteout(layer, "a/deep"));
    assert_false(exists(layer, "a/never"));
    assert_false(exists(layer, "new/nothing"));
    assert_true(is_opaque(layer, "b"));
    assert_false(is_opaque(layer, "a"));
    assert_text(layer, "b/new", "y");
    assert_false(exists(layer, "b/.wh..wh..opq"));
}

static void
a_whiteout_and_a_file_of_one_name_leave_the_file(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        cleanup(layer_closep) struct layer *lower = begin(), *layer = begin();
        APPLY(lower, {"f", FILE_, "old"}, {"d/old", FILE_, "old"});
        settle(lower, NULL, 0);
        if (order == 0)
            APPLY(layer, {".wh.f", FILE_, ""}, {"f", FILE_, "new"}, {".wh.d", FILE_, ""}, {"d/", DIR_}, {"d/new", FILE_, "new"});
        else
            APPLY(layer, {"f", FILE_, "new"}, {".wh.f", FILE_, ""}, {"d/", DIR_}, {"d/new", FILE_, "new"}, {".wh.d", FILE_, ""});
        settle(layer, (int[]){layer_root(lower)}, 1);
        assert_text(layer, "f", "new");
        assert_text(layer, "d/new", "new");
        assert_true(is_opaque(layer, "d"));
    }
}

static void
a_later_entry_of_a_name_takes_the_place_of_the_earlier(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    APPLY(layer, {"x", FILE_, "1"}, {"x", FILE_, "2"}, {"y/", DIR_}, {"y/z/q", FILE_, "deep"}, {"y", FILE_, "file"}, {"y", DIR_},
          {"y/again", FILE_, "3"}, {"s", LINK_, "y"}, {"s", DIR_}, {"s/own", FILE_, "4"}, {"h", FILE_, "x", true}, {"h", FILE_, "x", true},
          {"l", LINK_, "a"}, {"l", LINK_, "b"});
    settle(layer, NULL, 0);
    assert_text(layer, "x", "2");
    assert_text(layer, "y/again", "3");
    assert_false(exists(layer, "y/z"));
    assert_true(is_opaque(layer, "y"));
    assert_text(layer, "s/own", "4");
    assert_false(exists(layer, "y/own"));
    assert_int_equal(stat_of(layer, "x").st_nlink, 2);
}

/* Small files are made by another thread: what comes after one and hangs on it finds it nevertheless. */
static void
small_files_are_there_for_the_entries_behind_them(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    for (unsigned i = 0; i < 2000; i++) {
        cleanup_free char *file = str_printf("d%u/f%u", i / 50, i);
        cleanup_free char *twice = str_printf("d%u/twice%u", i / 50, i);
        cleanup_free char *link = str_printf("links/%u", i);
        cleanup_free char *whiteout = str_printf("d%u/.wh.f%u", i / 50, i);
        cleanup_free char *over = str_printf("d%u/over%u", i / 50, i);
        cleanup_free char *under = str_printf("d%u/over%u/under", i / 50, i);
        APPLY(layer, {file, S_IFREG | 0640, file}, {twice, FILE_, "first"}, {under, FILE_, "x"});
        switch (i % 5) {
        case 0:
            APPLY(layer, {link, FILE_, file, true});
            break;
        case 1:
            APPLY(layer, {twice, FILE_, "second"});
            break;
        case 2:
            APPLY(layer, {whiteout, FILE_, ""});
            break;
        case 3:
            APPLY(layer, {over, FILE_, "a file now"});
            break;
        case 4:
            APPLY(layer, {twice, DIR_});
        }
    }
    settle(layer, NULL, 0);
    for (unsigned i = 0; i < 2000; i++) {
        cleanup_free char *file = str_printf("d%u/f%u", i / 50, i);
        cleanup_free char *twice = str_printf("d%u/twice%u", i / 50, i);
        cleanup_free char *over = str_printf("d%u/over%u", i / 50, i);
        assert_text(layer, file, file);
        assert_int_equal(stat_of(layer, file).st_mode, S_IFREG | 0640);
        assert_int_equal(stat_of(layer, file).st_nlink, i % 5 == 0 ? 2 : 1);
        if (i % 5 == 4)
            assert_int_equal(stat_of(layer, twice).st_mode, DIR_);
        else
            assert_text(layer, twice, i % 5 == 1 ? "second" : "first");
        assert_int_equal(stat_of(layer, over).st_mode, i % 5 == 3 ? FILE_ : S_IFDIR | 0755);
    }
    uint64_t bytes, inodes;
    layer_usage(layer, &bytes, &inodes);
    assert_true(inodes >= 2000 * 4);
}

static void
directories_without_an_entry_look_as_they_do_below(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *lower = begin(), *layer = begin();
    struct layer_entry tmp = {.path = "tmp", .mode = S_IFDIR | 01777, .uid = 5, .gid = 6, .mtime = {77, 88}};
    struct error err = {0};
    APPLY(lower, {"./", S_IFDIR | 0700});
    assert_int_equal(layer_apply(lower, &tmp, NULL, NULL, &err), 0);
    settle(lower, NULL, 0);
    APPLY(layer, {"tmp/f", FILE_, "x"}, {"fresh/sub/f", FILE_, "x"}, {"later/f", FILE_, "x"}, {"later/", S_IFDIR | 0711});
    settle(layer, (int[]){layer_root(lower)}, 1);
    assert_int_equal(stat_of(layer, ".").st_mode, S_IFDIR | 0700);
    assert_int_equal(stat_of(layer, "tmp").st_mode, S_IFDIR | 01777);
    assert_int_equal(stat_of(layer, "tmp").st_uid, 5);
    assert_int_equal(stat_of(layer, "tmp").st_mtim.tv_sec, 77);
    assert_int_equal(stat_of(layer, "fresh/sub").st_mode, DIR_);
    assert_int_equal(stat_of(layer, "later").st_mode, S_IFDIR | 0711);
    char value[8];
    cleanup_close int fd = openat(layer_root(layer), "fresh", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fgetxattr(fd, "trusted.crisp.implied", value, sizeof value), -1);
}

static void
a_hard_link_into_a_lower_layer_is_a_copy(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *lower = begin(), *layer = begin(), *broken = begin();
    APPLY(lower, {"bin/tool", S_IFREG | 04711, "elf"});
    settle(lower, NULL, 0);
    APPLY(layer, {"bin/alias", FILE_, "bin/tool", true});
    settle(layer, (int[]){layer_root(lower)}, 1);
    assert_text(layer, "bin/alias", "elf");
    assert_int_equal(stat_of(layer, "bin/alias").st_mode, S_IFREG | 04711);
    APPLY(broken, {"alias", FILE_, "nowhere", true});
    struct error err = {0};
    assert_int_equal(layer_settle(broken, NULL, 0, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

static void
hard_links_into_a_lower_layer_are_one_file(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *lower = begin(), *layer = begin();
    APPLY(lower, {"tool", S_IFREG | 04711, "elf"}, {"link", LINK_, "tool"}, {"gone", FILE_, "g"});
    settle(lower, NULL, 0);
    APPLY(layer, {"a", FILE_, "tool", true}, {"b", FILE_, "a", true}, {"c", FILE_, "b", true}, {"over", FILE_, "tool", true}, {"over", FILE_, "new"},
          {"tool", FILE_, "another"}, {"l", FILE_, "link", true}, {"m", FILE_, "l", true}, {"saved", FILE_, "gone", true}, {".wh.gone", FILE_, ""});
    settle(layer, (int[]){layer_root(lower)}, 1);
    assert_text(layer, "c", "elf");
    assert_int_equal(stat_of(layer, "a").st_nlink, 3);
    assert_int_equal(stat_of(layer, "b").st_mode, S_IFREG | 04711);
    assert_text(layer, "over", "new");
    assert_text(layer, "tool", "another");
    assert_true(S_ISLNK(stat_of(layer, "l").st_mode) && S_ISLNK(stat_of(layer, "m").st_mode));
    assert_text(layer, "saved", "g");
}

/* overlayfs lists such a device, and then can't find it. */
static void
no_whiteout_stays_in_an_opaque_directory(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *lower = begin(), *layer = begin();
    APPLY(lower, {"d/old", FILE_, "x"}, {"d/e/old", FILE_, "x"}, {"f/old", FILE_, "x"});
    settle(lower, NULL, 0);
    APPLY(layer, {"d/.wh..wh..opq", FILE_, ""}, {"d/.wh.old", FILE_, ""}, {"d/e/.wh.old", FILE_, ""}, {"f/.wh.old", FILE_, ""}, {".wh.f", FILE_, ""});
    settle(layer, (int[]){layer_root(lower)}, 1);
    assert_false(exists(layer, "d/old"));
    assert_false(exists(layer, "d/e/old"));
    assert_false(exists(layer, "f/old"));
}

static void
an_opaque_root_hides_all_that_is_below(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *first = begin(), *second = begin(), *layer = begin();
    APPLY(first, {"f", FILE_, "x"}, {"d/old", FILE_, "x"});
    settle(first, NULL, 0);
    APPLY(second, {"g", LINK_, "x"}, {"d/other", FILE_, "x"}, {"kept", FILE_, "old"});
    settle(second, (int[]){layer_root(first)}, 1);
    APPLY(layer, {".wh..wh..opq", FILE_, ""}, {"d/new", FILE_, "y"}, {"kept", FILE_, "new"});
    settle(layer, (int[]){layer_root(first), layer_root(second)}, 2);
    assert_true(is_whiteout(layer, "f"));
    assert_true(is_whiteout(layer, "g"));
    assert_true(is_opaque(layer, "d"));
    assert_text(layer, "kept", "new");
}

/* ---- Hostile entries ---- */

static void
a_layer_of_too_many_entries_is_refused(void **state)
{
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    struct error err = {0};
    unsigned taken = 0;
    while (taken <= LIMIT_ENTRIES && try(layer, &(struct step){".wh..wh.plnk", FILE_, ""}, &err) == 0)
        taken++;
    assert_int_equal(taken, LIMIT_ENTRIES);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
}

static void
paths_out_of_the_layer_are_refused(void **state)
{
    static const char *const paths[] = {"../x", "a/../../x", "/../x", "./../x", "../../../../../../etc/crisp-test", "..", "a/../.."};
    (void)state;
    cleanup(layer_closep) struct layer *layer = begin();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct error err = {0};
        assert_int_equal(try(layer, &(struct step){paths[i], FILE_, "x", false}, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        assert_non_null(strstr(err.message, paths[i]));
        assert_int_equal(try(layer, &(struct step){"link", FILE_, paths[i], true}, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
    APPLY(layer, {"/abs/./x//y", FILE_, "x"}, {"a/../b", FILE_, "y"});
    settle(layer, NULL, 0);
    assert_text(layer, "abs/x/y", "x");
    assert_text(layer, "b", "y");
    assert_outside_untouched();
}

/* Each symlink leads to outside/; whatever is then done through it must happen inside the layer or be refused. */
static void
symlinks_never_lead_out(void **state)
{
    (void)state;
    cleanup_free char *absolute = str_printf("%s/outside", world);
    cleanup_free char *secret = str_printf("%s/outside/secret", world);
    const char *const targets[] = {absolute, "../../outside", "../../../../../../../../var/tmp", "/", "..", "/proc/self/cwd", "/proc/1/root"};
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
        cleanup(layer_closep) struct layer *layer = begin();
        const struct step steps[] = {
            {"l", LINK_, targets[t]},
            {"l/new", FILE_, "x"},
            {"l/secret", FILE_, "overwritten"},
            {"l/dir/", DIR_},
            {"l/node", S_IFCHR | 0666},
            {"l/s", LINK_, "x"},
            {"stolen", FILE_, "l/secret", true},
            {"l/hard", FILE_, "l/secret", true},
            {"l/.wh.secret", FILE_, ""},
            {"l/.wh..wh..opq", FILE_, ""},
            {"m", LINK_, "l"},
            {"m/x/y/z", FILE_, "x"},
            {"l", FILE_, "over the link"},
            {"k", LINK_, secret},
            {"k", FILE_, "over the link"},
            {"k2", LINK_, secret},
            {"k2h", FILE_, "k2", true},
            {"k2h", FILE_, "over the hard link to the link"},
        };
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            struct error err = {0};
            (void)try(layer, &steps[i], &err);
            assert_outside_untouched();
        }
        struct error err = {0};
        (void)layer_finish(layer, &err);
        (void)layer_settle(layer, NULL, 0, &err);
        assert_outside_untouched();
        assert_text(layer, "l", "over the link");
        assert_text(layer, "k", "over the link");
    }
}

/* The directory whose time or attributes are set at the end has become a symlink out meanwhile. */
static void
what_is_done_at_the_end_does_not_follow_links_either(void **state)
{
    (void)state;
    cleanup_free char *absolute = str_printf("%s/outside", world);
    struct stat before, after;
    assert_int_equal(stat(absolute, &before), 0);
    cleanup(layer_closep) struct layer *layer = begin();
    APPLY(layer, {"d/", DIR_}, {"i/x/y", FILE_, "x"}, {"d", LINK_, absolute}, {"i", LINK_, absolute}, {"w/.wh.secret", FILE_, ""},
          {"w", LINK_, absolute}, {"h/link", FILE_, "nowhere/secret", true}, {"h", LINK_, absolute});
    struct error err = {0};
    (void)layer_finish(layer, &err);
    (void)layer_settle(layer, NULL, 0, &err);
    assert_int_equal(stat(absolute, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
    assert_outside_untouched();
}

static void
entries_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    static char long_name[400], deep[4000];
    memset(long_name, 'n', sizeof long_name - 1);
    for (size_t i = 0; i + 2 < sizeof deep; i += 2)
        memcpy(deep + i, "d/", 2);
    const struct step steps[] = {
        {".wh.", FILE_, ""},
        {".wh..", FILE_, ""},
        {".wh...", FILE_, ""},
        {long_name, FILE_, "x"},
        {deep, FILE_, "x"},
        {"", FILE_, "x"},
        {".", FILE_, "x"},
        {"t", 0644, "x"},
        {"empty", LINK_, ""},
        {"f/below-a-file", FILE_, "x"},
        {"dirlink", FILE_, "d", true},
    };
    cleanup(layer_closep) struct layer *layer = begin();
    APPLY(layer, {"f", FILE_, "x"}, {"d", DIR_});
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct error err = {0};
        if (try(layer, &steps[i], &err) == 0)
            fail_msg("step %zu was taken", i);
        assert_int_equal(err.kind, ERR_INVALID);
    }
    struct layer_entry owner = {.path = "o", .mode = FILE_, .uid = INT64_C(1) << 32};
    struct error err = {0};
    assert_int_equal(layer_apply(layer, &owner, NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
}

/* ---- Whole archives ---- */

struct archive_text {
    char data[256 << 10];
    size_t length;
};

static void
add_entry(struct archive *a, const char *path, mode_t mode, const char *text, size_t length)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, path);
    archive_entry_set_mode(e, mode);
    archive_entry_set_size(e, (la_int64_t)length);
    archive_entry_set_mtime(e, 99, 987654321);
    archive_entry_set_uid(e, 3000000000);
    archive_entry_xattr_add_entry(e, "user.k", "v", 1);
    assert_true(archive_write_header(a, e) >= ARCHIVE_WARN); /* about the byte that is no UTF-8 */
    assert_int_equal(archive_write_data(a, text, length), (la_ssize_t)length);
    archive_entry_free(e);
}

static struct archive_text *
make_archive(void)
{
    struct archive_text *out = mem_zalloc(1, sizeof *out);
    struct archive *a = archive_write_new();
    (void)archive_write_set_format_pax(a);
    (void)archive_write_open_memory(a, out->data, sizeof out->data, &out->length);
    add_entry(a, "dir", DIR_, "", 0);
    add_entry(a, "dir/\xc3\xa9\xe2\x82\xac-\xff.txt", FILE_, "bytes", 5);
    static char long_path[700];
    memset(long_path, 'p', sizeof long_path - 1);
    for (size_t i = 100; i < sizeof long_path - 1; i += 100)
        long_path[i] = '/';
    add_entry(a, long_path, FILE_, "long", 4);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    (void)archive_write_free(a);
    return out;
}

struct feeder {
    struct ring *ring;
    const char *data;
    size_t length;
};

static void *
feed(void *arg)
{
    struct feeder *f = arg;
    while (f->length) {
        size_t n;
        char *at = ring_room(f->ring, &n);
        if (!at)
            return NULL;
        n = n < f->length ? n : f->length;
        memcpy(at, f->data, n);
        ring_push(f->ring, n);
        f->data += n;
        f->length -= n;
    }
    ring_end(f->ring);
    return NULL;
}

static int
unpack(struct layer *layer, const char *data, size_t length, struct error *err)
{
    pthread_t thread;
    struct feeder f = {ring_new(1000), data, length};
    (void)pthread_create(&thread, NULL, feed, &f);
    int result = tar_unpack(f.ring, layer, err);
    (void)pthread_join(thread, NULL);
    ring_free(f.ring);
    return result;
}

static void
an_archive_is_unpacked_with_its_pax_attributes(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_free struct archive_text *archive = make_archive();
    cleanup(layer_closep) struct layer *layer = begin();
    if (unpack(layer, archive->data, archive->length, &err) < 0)
        fail_msg("%s", err.message);
    settle(layer, NULL, 0);
    struct stat st = stat_of(layer, "dir/\xc3\xa9\xe2\x82\xac-\xff.txt");
    assert_int_equal(st.st_size, 5);
    assert_int_equal(st.st_uid, 3000000000);
    assert_int_equal(st.st_mtim.tv_nsec, 987654321);
}

static void
a_cut_archive_is_refused_wherever_it_is_cut(void **state)
{
    (void)state;
    cleanup_free struct archive_text *archive = make_archive();
    for (size_t cut = 1; cut + 1024 < archive->length && cut < 6000; cut += 97) {
        struct error err = {0};
        cleanup(layer_closep) struct layer *layer = begin();
        /* On the border of an entry it is an archive without an end mark, which tar reads too. */
        if (unpack(layer, archive->data, cut, &err) < 0)
            assert_int_equal(err.kind, ERR_INVALID);
        else
            assert_int_equal(cut % 512, 0);
    }
}

static void
an_empty_layer_is_a_layer(void **state)
{
    (void)state;
    struct error err = {0};
    static const char zeros[1024];
    cleanup(layer_closep) struct layer *one = begin(), *two = begin();
    assert_int_equal(unpack(one, zeros, sizeof zeros, &err), 0);
    assert_int_equal(unpack(two, zeros, 0, &err), 0);
}

int
main(void)
{
    if (geteuid() != 0) {
        (void)puts("skipped: it needs root");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners_modes_times_and_types_are_kept),
        cmocka_unit_test(files_in_a_setgid_directory_keep_their_own_group),
        cmocka_unit_test(attributes_are_kept_but_not_those_that_steer_the_overlay),
        cmocka_unit_test(whiteouts_become_overlayfs_devices),
        cmocka_unit_test(a_whiteout_and_a_file_of_one_name_leave_the_file),
        cmocka_unit_test(a_later_entry_of_a_name_takes_the_place_of_the_earlier),
        cmocka_unit_test(small_files_are_there_for_the_entries_behind_them),
        cmocka_unit_test(directories_without_an_entry_look_as_they_do_below),
        cmocka_unit_test(a_hard_link_into_a_lower_layer_is_a_copy),
        cmocka_unit_test(hard_links_into_a_lower_layer_are_one_file),
        cmocka_unit_test(no_whiteout_stays_in_an_opaque_directory),
        cmocka_unit_test(an_opaque_root_hides_all_that_is_below),
        cmocka_unit_test(a_layer_of_too_many_entries_is_refused),
        cmocka_unit_test(paths_out_of_the_layer_are_refused),
        cmocka_unit_test(symlinks_never_lead_out),
        cmocka_unit_test(what_is_done_at_the_end_does_not_follow_links_either),
        cmocka_unit_test(entries_that_contradict_themselves_are_refused),
        cmocka_unit_test(an_archive_is_unpacked_with_its_pax_attributes),
        cmocka_unit_test(a_cut_archive_is_refused_wherever_it_is_cut),
        cmocka_unit_test(an_empty_layer_is_a_layer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
