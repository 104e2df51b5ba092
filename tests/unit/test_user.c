/* Names become numbers by the image's own files, looked through its layers as overlayfs would show them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/layers.h"
#include "runtime/user.h"

static char dir[] = "/var/tmp/crisp-user.XXXXXX";
static const char *const names[] = {"low", "middle", "top"};

static int
set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    return file_remove_tree(AT_FDCWD, dir, NULL);
}

/* Fresh layers for each story. */
static int
fresh(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        cleanup_free char *layer = str_printf("%s/%s", dir, names[i]);
        cleanup_free char *etc = str_printf("%s/etc", layer);
        if (file_remove_tree(AT_FDCWD, layer, NULL) < 0 || file_mkdirs(etc, 0755, NULL) < 0)
            return -1;
    }
    return 0;
}

static void
put(const char *layer, const char *path, const char *text)
{
    cleanup_free char *whole = str_printf("%s/%s/%s", dir, layer, path);
    FILE *file = fopen(whole, "we");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static char *
in_layer(const char *layer, const char *path)
{
    return str_printf("%s/%s/%s", dir, layer, path);
}

static struct strv
all_layers(void)
{
    struct strv layers = {0};
    for (size_t i = 0; i < 3; i++)
        strv_add(&layers, names[i]);
    return layers;
}

static void
expect(const char *path, const char *content)
{
    cleanup_strv struct strv layers = all_layers();
    cleanup_free char *text = NULL;
    struct error err;
    int found = layers_read(dir, &layers, path, 65536, &text, &err);
    if (found < 0)
        fail_msg("%s", err.message);
    assert_int_equal(found, content != NULL);
    if (content)
        assert_string_equal(text, content);
}

static void
test_the_topmost_layer_wins(void **state)
{
    (void)state;
    put("low", "etc/passwd", "low");
    expect("/etc/passwd", "low");
    put("top", "etc/passwd", "top");
    expect("/etc/passwd", "top");
    expect("/etc/group", NULL);
}

static void
test_whiteouts_and_opaque_directories_hide(void **state)
{
    (void)state;
    put("low", "etc/passwd", "low");
    cleanup_free char *whiteout = in_layer("middle", "etc/passwd"), *etc = in_layer("top", "etc");
    if (mknod(whiteout, S_IFCHR, makedev(0, 0)) < 0)
        skip();
    expect("/etc/passwd", NULL);
    assert_int_equal(unlink(whiteout), 0);
    expect("/etc/passwd", "low");
    if (setxattr(etc, "trusted.overlay.opaque", "y", 1, 0) < 0)
        skip();
    expect("/etc/passwd", NULL);
    put("top", "etc/passwd", "top");
    expect("/etc/passwd", "top");
}

static void
test_a_file_in_place_of_a_directory_hides_what_is_below(void **state)
{
    (void)state;
    put("low", "etc/passwd", "low");
    cleanup_free char *etc = in_layer("top", "etc");
    assert_int_equal(rmdir(etc), 0);
    put("top", "etc", "a file");
    expect("/etc/passwd", NULL);
}

static void
test_symlinks_stay_in_the_image(void **state)
{
    (void)state;
    cleanup_free char *link = in_layer("top", "etc/passwd"), *usr = in_layer("low", "usr");
    assert_int_equal(mkdir(usr, 0755), 0);
    put("low", "usr/passwd", "linked");
    assert_int_equal(symlink("../../../usr/./passwd", link), 0);
    expect("/etc/passwd", "linked");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    cleanup_strv struct strv layers = all_layers();
    char *text = NULL;
    assert_int_equal(layers_read(dir, &layers, "/etc/passwd", 65536, &text, NULL), -1);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("/proc/self/status", link), 0);
    expect("/etc/passwd", NULL);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0644), 0);
    assert_int_equal(layers_read(dir, &layers, "/etc/passwd", 65536, &text, NULL), -1);
}

static struct credentials
resolve(const char *user, int64_t group, enum error_kind *kind)
{
    struct credentials out = {0};
    struct error err = {0};
    struct container_config *config = container_config_new();
    config->layers = all_layers();
    config->user = str_dup(user);
    config->run_as_group = group;
    strv_add(&config->supplemental_groups, "7");
    (void)user_resolve(dir, config, &out, &err);
    *kind = err.kind;
    container_config_free(config);
    return out;
}

static void
expect_user(const char *user, int64_t group, int64_t uid, int64_t gid, const char *groups, const char *home)
{
    enum error_kind kind;
    struct credentials who = resolve(user, group, &kind);
    assert_int_equal(kind, ERR_NONE);
    assert_int_equal(who.uid, uid);
    assert_int_equal(who.gid, gid);
    cleanup_buf struct buf text = BUF(1024);
    for (size_t i = 0; i < who.groups.count; i++)
        (void)buf_addf(&text, "%s%s", i ? " " : "", who.groups.items[i]);
    assert_string_equal(text.data, groups);
    assert_string_equal(who.home, home);
    strv_free(&who.groups);
    free(who.home);
}

static void
refuse_user(const char *user)
{
    enum error_kind kind;
    struct credentials who = resolve(user, NO_ID, &kind);
    assert_int_equal(kind, ERR_INVALID);
    strv_free(&who.groups);
    free(who.home);
}

static void
test_users_and_groups(void **state)
{
    (void)state;
    put("low", "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:1000:1001:Web:/home/web:/bin/sh\nodd:x:-5:abc::/x:/y\nbare:x:1002:1003\n");
    put("low", "etc/group", "root:x:0:\nweb:x:1001:\nstaff:x:50:root,web,other\nmore:x:51:other\nhuge:x:99999999999:web\n");
    expect_user("", NO_ID, 0, 0, "0 50 7", "/root");
    expect_user("web", NO_ID, 1000, 1001, "1001 50 7", "/home/web");
    expect_user("1000", NO_ID, 1000, 1001, "1001 50 7", "/home/web");
    expect_user("web:more", NO_ID, 1000, 51, "51 50 7", "/home/web");
    expect_user("web", 4000, 1000, 4000, "4000 50 7", "/home/web");
    expect_user("9:8", NO_ID, 9, 8, "8 7", "/");
    expect_user("bare", NO_ID, 1002, 1003, "1003 7", "/");
    refuse_user("odd");
    refuse_user("nobody");
    refuse_user("web:nobody");
    refuse_user("4294967295");
    refuse_user("-1");
    refuse_user("1000:99999999999");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_topmost_layer_wins, fresh),
        cmocka_unit_test_setup(test_whiteouts_and_opaque_directories_hide, fresh),
        cmocka_unit_test_setup(test_a_file_in_place_of_a_directory_hides_what_is_below, fresh),
        cmocka_unit_test_setup(test_symlinks_stay_in_the_image, fresh),
        cmocka_unit_test_setup(test_users_and_groups, fresh),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
