/* Archives of images: which images are in them, and what is no archive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imageservice/pull/bundle.h"

enum { LAYER_BYTES = 3000 };

static char layer[LAYER_BYTES], layer_digest[DIGEST_SIZE];
static struct http_scope scope;
static struct error err;

static int
set_up(void **state)
{
    (void)state;
    memset(layer, 'x', sizeof layer);
    digest_of(NULL, layer, sizeof layer, layer_digest);
    return 0;
}

/* ---- An archive as a tool would write it ---- */

struct writing {
    int fd;
    struct archive *archive;
};

static struct writing
begin(void)
{
    struct writing w = {memfd_create("archive", MFD_CLOEXEC), archive_write_new()};
    assert_true(w.fd >= 0);
    archive_write_set_format_pax(w.archive);
    archive_write_open_fd(w.archive, w.fd);
    return w;
}

static void
add_entry(const struct writing *w, const char *name, mode_t type, const char *link, const void *data, size_t length)
{
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_mode(e, type | 0644);
    archive_entry_set_size(e, (int64_t)length);
    if (type == S_IFLNK)
        archive_entry_set_symlink(e, link);
    assert_int_equal(archive_write_header(w->archive, e), ARCHIVE_OK);
    archive_entry_free(e);
    if (length)
        assert_int_equal(archive_write_data(w->archive, data, length), (la_ssize_t)length);
}

static void
add(const struct writing *w, const char *name, const char *text)
{
    add_entry(w, name, S_IFREG, NULL, text, strlen(text));
}

static int
finish(const struct writing *w)
{
    archive_write_free(w->archive);
    return w->fd;
}

static struct bundle *
open_bundle(int fd)
{
    struct bundle *bundle = bundle_open(fd, AT_FDCWD, &scope, &err);
    (void)close(fd);
    return bundle;
}

/* ---- Stories ---- */

/* docker before 25 made a layer that is there twice into a symlink. */
static void
a_layer_that_is_a_link_is_the_one_it_points_to(void **state)
{
    (void)state;
    struct writing w = begin();
    cleanup_free char *config = str_printf("{\"rootfs\":{\"diff_ids\":[\"%s\",\"%s\"]}}", layer_digest, layer_digest);
    add_entry(&w, "aa/layer.tar", S_IFREG, NULL, layer, sizeof layer);
    add_entry(&w, "bb/layer.tar", S_IFLNK, "../aa/layer.tar", NULL, 0);
    add(&w, "./config.json", config);
    add(&w, "manifest.json", "[{\"Config\":\"config.json\",\"RepoTags\":null,\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}]");
    struct bundle *bundle = open_bundle(finish(&w));
    assert_non_null(bundle);
    struct bundle_images images = {0};
    if (bundle_read_images(bundle, &scope, &images, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(images.count, 1);
    assert_int_equal(images.items[0].names.count, 0);
    assert_string_equal(images.items[0].digest, "");
    cleanup_manifest struct manifest manifest;
    assert_int_equal(manifest_parse(images.items[0].manifest.text, images.items[0].manifest.length, "", &manifest, &err), 0);
    assert_int_equal(manifest.count, 2);
    assert_string_equal(manifest.layers[1].digest, layer_digest);
    assert_int_equal(manifest.layers[1].size, sizeof layer);
    bundle_images_free(&images);

    bool corrupt = true;
    struct ring *ring = ring_new(1 << 16);
    assert_int_equal(bundle_blob(bundle, &scope, &manifest.layers[1], ring, &corrupt, &err), 0);
    const char *data;
    size_t length;
    assert_int_equal(ring_take(ring, &data, &length, &err), 1);
    assert_int_equal(length, sizeof layer);
    assert_memory_equal(data, layer, length);
    assert_int_equal(ring_take(ring, &data, &length, &err), 0);
    ring_free(ring);
    bundle_unref(bundle);
}

static void
refuse(int fd, const char *words)
{
    struct bundle_images images = {0};
    struct bundle *bundle = open_bundle(fd);
    int result = bundle ? bundle_read_images(bundle, &scope, &images, &err) : -1;
    assert_int_equal(result, -1);
    if (!strstr(err.message, words))
        fail_msg("“%s” lacks “%s”", err.message, words);
    bundle_images_free(&images);
    if (bundle)
        bundle_unref(bundle);
}

/* Nothing outside of the archive can be named, nor a link without an end followed. */
static void
what_leads_out_of_the_archive_is_not_there(void **state)
{
    static const char *const links[] = {"../../etc/hostname", "/etc/hostname", "layer.tar", "nothing"};
    (void)state;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct writing w = begin();
        add_entry(&w, "aa/layer.tar", S_IFLNK, links[i], NULL, 0);
        add(&w, "config.json", "{\"rootfs\":{\"diff_ids\":[\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]}}");
        add(&w, "manifest.json", "[{\"Config\":\"config.json\",\"Layers\":[\"aa/layer.tar\"]}]");
        refuse(finish(&w), "aa/layer.tar, which is not in the archive");
    }
    struct writing w = begin();
    add(&w, "../manifest.json", "[]");
    refuse(finish(&w), "no sound name");
}

static void
what_contradicts_itself_is_refused(void **state)
{
    static const struct {
        const char *name, *text, *words;
    } cases[] = {
        {"manifest.json", "[]", "no list of 1 to"},
        {"manifest.json", "[1]", "which is not in the archive"},
        {"manifest.json", "]", "no valid JSON"},
        {"manifest.json", "[{\"Config\":7}]", "Config is not a string"},
        {"manifest.json", "[{\"Config\":\"manifest.json\",\"Layers\":[]}]", "no JSON object"},
        {"index.json", "{\"manifests\":[]}", "holds no image"},
        {"index.json", "{\"manifests\":[{\"digest\":\"sha256:1\",\"size\":1}]}", "is no digest"},
        {"index.json", "{\"layers\":[]}", "config is missing"},
        {"hello", "hello", "no archive of images"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct writing w = begin();
        add(&w, "oci-layout", "{}");
        add(&w, cases[i].name, cases[i].text);
        refuse(finish(&w), cases[i].words);
    }
}

/* Where several entries have one name, tar's last one holds. */
static void
the_last_entry_of_a_name_holds(void **state)
{
    (void)state;
    struct writing w = begin();
    add(&w, "manifest.json", "no JSON");
    add(&w, "manifest.json", "[]");
    refuse(finish(&w), "no list of 1 to");
}

static void
an_archive_that_is_cut_is_refused(void **state)
{
    (void)state;
    struct writing w = begin();
    add_entry(&w, "manifest.json", S_IFREG, NULL, layer, sizeof layer);
    int fd = finish(&w);
    assert_int_equal(ftruncate(fd, 2048), 0);
    refuse(fd, "cut short");
}

/* An import whose caller is gone lets go of a pipe that brings nothing. */
static void
a_cancelled_import_lets_go(void **state)
{
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    struct http_scope cancelled = {.cancelled = true};
    cleanup_close int incoming = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_null(bundle_open(ends[0], incoming, &cancelled, &err));
    assert_int_equal(err.kind, ERR_CANCELLED);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* What has many small parts is let go of between them. */
static void
a_cancelled_import_reads_no_more_images(void **state)
{
    static const char *const names[] = {"index.json", "manifest.json"};
    static const char *const texts[] = {
        "{\"manifests\":[{\"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":1}]}",
        "[{\"Config\":\"config.json\",\"Layers\":[]}]"};
    struct http_scope cancelled = {.cancelled = true};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct bundle_images images = {0};
        struct writing w = begin();
        add(&w, "oci-layout", "{}");
        add(&w, "config.json", "{\"rootfs\":{\"diff_ids\":[]}}");
        add(&w, names[i], texts[i]);
        struct bundle *bundle = open_bundle(finish(&w));
        assert_non_null(bundle);
        assert_int_equal(bundle_read_images(bundle, &cancelled, &images, &err), -1);
        assert_int_equal(err.kind, ERR_CANCELLED);
        bundle_images_free(&images);
        bundle_unref(bundle);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_that_is_a_link_is_the_one_it_points_to),
        cmocka_unit_test(what_leads_out_of_the_archive_is_not_there),
        cmocka_unit_test(what_contradicts_itself_is_refused),
        cmocka_unit_test(the_last_entry_of_a_name_holds),
        cmocka_unit_test(an_archive_that_is_cut_is_refused),
        cmocka_unit_test(a_cancelled_import_lets_go),
        cmocka_unit_test(a_cancelled_import_reads_no_more_images),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
