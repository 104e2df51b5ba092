/* The image service with a real crisp-pull, against a registry that answers as each test wants. Needs root (the sandbox, trusted.*). */
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
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "count_in.h"
#include "fake_registry.h"
#include "imageservice/digest.h"
#include "imageservice/imageservice.h"

static char root[64];
static struct images *images;
static struct fake_registry *registry;
static struct strv certs_dirs;
static bool keep_layer_blobs;

static void
open_images(void)
{
    struct error err = {0};
    struct images_options options = {
        .root = root,
        .state = root,
        .pull_program = CRISP_PULL,
        .certs_dirs = certs_dirs,
        .parallel_downloads = 4,
        .parallel_downloads_per_pull = 2,
        .stall_seconds = 2,
        .least_bytes_per_second = 1000,
        .keep_layer_blobs = keep_layer_blobs,
    };
    strv_add(&options.pinned, "pinned.example/it:1");
    if (images_open(&options, &images, &err) < 0)
        fail_msg("%s", err.message);
    strv_free(&options.pinned);
}

static int
set_up(void **state)
{
    (void)state;
    log_open(LOG_ERROR_);
    (void)strcpy(root, "/var/tmp/crisp-pull.XXXXXX");
    assert_non_null(mkdtemp(root));
    strv_addf(&certs_dirs, "%s/certs.d", root);
    registry = fake_registry_start();
    open_images();
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    images_close(images);
    fake_registry_stop(registry);
    strv_free(&certs_dirs);
    return file_remove_tree(AT_FDCWD, root, NULL);
}

/* "127.0.0.1:PORT/repository", in a buffer that the next but 7 calls use again. */
static const char *
at(const char *repository)
{
    static char names[8][200];
    static unsigned next;
    char *name = names[next++ % 8];
    (void)snprintf(name, sizeof names[0], "127.0.0.1:%u/%s", fake_registry_port(registry), repository);
    return name;
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

static struct error
must_fail(const char *reference, const struct image_auth *auth)
{
    struct error err = {0};
    cleanup_free char *id = images_pull(images, reference, auth, NULL, &err);
    if (id)
        fail_msg("%s was pulled", reference);
    return err;
}

/* Half a download, as crisp-pull sees it: in its session's directory. Deleting may come a moment after the answer. */
static unsigned
count_incoming(void)
{
    unsigned count = 0;
    cleanup_free char *path = str_printf("%s/images/incoming", root);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *session = str_printf("images/incoming/%s", entry->d_name);
        if (*entry->d_name != '.')
            count += count_in(root, session);
    }
    return count;
}

static void
assert_nothing_is_left(void)
{
    size_t count;
    for (int i = 0; i < 40 && count_incoming(); i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_int_equal(count_incoming(), 0);
    assert_int_equal(count_in(root, "layers"), 0);
    const struct image **list = images_list(images, NULL, &count);
    images_list_free(list, count);
    assert_int_equal(count, 0);
}

static void
remove_all(void)
{
    size_t count;
    struct error err = {0};
    const struct image **list = images_list(images, NULL, &count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(images_remove(images, list[i]->id, &err), 0);
    images_list_free(list, count);
    fake_registry_hook(registry, NULL, NULL);
    assert_nothing_is_left();
}

static int
after_each(void **state)
{
    (void)state;
    remove_all();
    return 0;
}

/* Layers that most tests use. */
static struct fake_layer *
base_layer(void)
{
    return fake_layer_make((const struct fake_file[]){{"bin/", NULL, 0}, {"bin/sh", "#!", 0}, {"etc/passwd", "root", 0}, {NULL, NULL, 0}});
}

static struct fake_layer *
big_layer(size_t bytes)
{
    return fake_layer_make((const struct fake_file[]){{"big", NULL, bytes}, {NULL, NULL, 0}});
}

CLEANUP_DEFINE(layer_freep, struct fake_layer *, fake_layer_free)
#define cleanup_layer cleanup(layer_freep)

static char *
put(const char *repository, const struct fake_layer *one, const struct fake_layer *two)
{
    return fake_registry_put(registry, repository, "latest", (const struct fake_layer *const[]){one, two}, two ? 2 : 1, "", NULL);
}

/* ---- The good way ---- */

static void
a_pulled_image_is_found_by_every_name(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(100000);
    char digest[80];
    cleanup_free char *id = fake_registry_put(registry, "app", "v1", (const struct fake_layer *const[]){one, two}, 2, "web", digest);
    cleanup_free char *pulled = must_pull(at("app:v1"));
    assert_string_equal(pulled, id);
    cleanup_free char *by_digest = str_printf("%s@%s", at("app"), digest), *both = str_printf("%s@%s", at("app:v1"), digest);
    cleanup_free char *prefix = str_ndup(id, 20), *hex = str_ndup(id + 7, 12);
    const char *const names[] = {at("app:v1"), by_digest, both, id, id + 7, prefix, hex};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct error err = {0};
        const struct image *image = images_find(images, names[i], &err);
        if (!image)
            fail_msg("%s", err.message);
        assert_string_equal(image->id, id);
        assert_int_equal(image->layers.count, 2);
        assert_string_equal(image->config.user, "web");
        assert_string_equal(image->repo_tags.items[0], at("app:v1"));
        assert_string_equal(image->repo_digests.items[0], by_digest);
        assert_string_equal(strmap_get(&image->annotations, "made"), "here");
        assert_true(image->size_bytes >= 100000);
        image_release(image);
    }
    uint64_t bytes, inodes, on_disk, files, more_bytes, more_files;
    struct error err = {0};
    cleanup_free char *store = str_printf("%s/images", root);
    images_usage(images, &bytes, &inodes);
    assert_int_equal(file_usage(AT_FDCWD, images_layers_dir(images), &on_disk, &files, &err), 0);
    assert_int_equal(file_usage(AT_FDCWD, store, &more_bytes, &more_files, &err), 0);
    on_disk += more_bytes;
    assert_int_equal(inodes + 6, files + more_files); /* but layers/ itself, images/ with its index and its copy, and incoming/SESSION */
    assert_true(bytes + 32768 >= on_disk && bytes <= on_disk + 8192);
}

static void
what_is_here_is_not_fetched_again(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(1000);
    cleanup_free char *id = put("again", one, two), *other = put("other", one, NULL);
    cleanup_free char *first = must_pull(at("again"));
    fake_registry_hook(registry, NULL, NULL);
    cleanup_free char *second = must_pull(at("again"));
    assert_string_equal(first, second);
    assert_int_equal(fake_registry_count(registry, NULL), 1);
    assert_int_equal(fake_registry_count(registry, "HEAD /v2/again/manifests/latest"), 1); /* which counts as no pull */
    cleanup_free char *third = must_pull(at("other"));
    assert_string_equal(third, other);
    assert_int_equal(fake_registry_count(registry, "other/blobs"), 1); /* its configuration */
    assert_int_equal(count_in(root, "layers"), 2);
    assert_non_null(id);
}

struct puller {
    const char *reference;
    const struct cancel *cancel;
    char *id;
    struct error err;
    pthread_t thread;
};

static void *
pull_thread(void *arg)
{
    struct puller *p = arg;
    p->id = images_pull(images, p->reference, NULL, p->cancel, &p->err);
    return NULL;
}

static void
slow_layers(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (strstr(request->path, "/blobs/") && reply->length > 1000)
        reply->slow_ms = 20;
}

static void
pulls_of_one_image_at_once_are_one_and_share_layers_with_others(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *shared = big_layer(30000), *own = base_layer();
    cleanup_free char *a = put("twin-a", shared, NULL), *b = put("twin-b", shared, own);
    fake_registry_hook(registry, slow_layers, NULL);
    struct puller pullers[6] = {{.reference = at("twin-a")}, {.reference = at("twin-a")}, {.reference = at("twin-a")},
                                {.reference = at("twin-b")}, {.reference = at("twin-b")}, {.reference = at("twin-a")}};
    for (size_t i = 0; i < 6; i++)
        (void)pthread_create(&pullers[i].thread, NULL, pull_thread, &pullers[i]);
    for (size_t i = 0; i < 6; i++) {
        (void)pthread_join(pullers[i].thread, NULL);
        if (!pullers[i].id)
            fail_msg("%s", pullers[i].err.message);
        assert_string_equal(pullers[i].id, i == 3 || i == 4 ? b : a);
        free(pullers[i].id);
    }
    assert_int_equal(fake_registry_count(registry, shared->digest), 1);
    assert_int_equal(fake_registry_count(registry, "twin-a/manifests"), 1);
    assert_int_equal(count_in(root, "layers"), 2);
}

struct fault {
    const char *part; /* of the path */
    int status;
    const char *headers;
    int64_t declared, cut_at;
    const char *body;
};

static void
faulty(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    const struct fault *fault = arg;
    if (!strstr(request->path, fault->part))
        return;
    if (fault->status) {
        *reply = (struct fake_reply){.status = fault->status, .declared = -1, .cut_at = -1};
        reply->body = fault->body ? fault->body : "";
        reply->length = strlen(reply->body);
    }
    if (fault->headers)
        (void)strcpy(reply->headers, fault->headers);
    if (fault->declared)
        reply->declared = fault->declared;
    if (fault->cut_at)
        reply->cut_at = fault->cut_at;
}

static void
a_pull_has_its_share_of_the_downloads_and_leaves_the_rest_to_others(void **state)
{
    (void)state;
    struct fake_layer *layers[6];
    for (size_t i = 0; i < 6; i++)
        layers[i] = big_layer(20000 + i);
    cleanup_free char *a = fake_registry_put(registry, "many-a", "latest", (const struct fake_layer *const *)layers, 3, "", NULL);
    cleanup_free char *b = fake_registry_put(registry, "many-b", "latest", (const struct fake_layer *const *)layers + 3, 3, "", NULL);
    fake_registry_hook(registry, slow_layers, NULL);
    for (unsigned pulls = 1; pulls <= 2; pulls++) {
        struct puller pullers[2] = {{.reference = at("many-a")}, {.reference = at("many-b")}};
        unsigned most = 0;
        for (size_t i = 0; i < pulls; i++)
            (void)pthread_create(&pullers[i].thread, NULL, pull_thread, &pullers[i]);
        for (int i = 0, reached = 0; i < 500 && reached < 30; i++) {
            unsigned open = fake_registry_open(registry);
            most = open > most ? open : most;
            reached += most >= 2 * pulls;
            (void)usleep(10000);
        }
        for (size_t i = 0; i < pulls; i++) {
            (void)pthread_join(pullers[i].thread, NULL);
            assert_non_null(pullers[i].id);
            free(pullers[i].id);
        }
        assert_int_equal(most, 2 * pulls);
        remove_all();
        fake_registry_hook(registry, slow_layers, NULL);
    }
    for (size_t i = 0; i < 6; i++)
        fake_layer_free(layers[i]);
    assert_string_not_equal(a, b);
}

/* Of a manifest that is in the registry. */
static long long
length_of(const char *name, const char *digest)
{
    struct stat st;
    struct error err = {0};
    cleanup_free char *id = must_pull(at(name));
    cleanup_free char *path = str_printf("%s/images/blobs/sha256/%s", root, digest + strlen("sha256:"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(images_remove(images, id, &err), 0);
    return st.st_size;
}

static void
an_index_leads_to_the_manifest_for_this_machine(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    char digest[80], index_digest[DIGEST_SIZE];
    cleanup_free char *id = fake_registry_put(registry, "multi", "inner", (const struct fake_layer *const[]){one}, 1, "", digest);
    cleanup_free char *index =
        str_printf("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.list.v2+json\",\"manifests\":["
                   "{\"digest\":\"sha256:%064d\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}},"
                   "{\"digest\":\"%s\",\"size\":%lld,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
                   0, digest, length_of("multi:inner", digest));
    digest_of(NULL, index, strlen(index), index_digest);
    fake_registry_put_manifest(registry, "multi", "latest", "application/vnd.docker.distribution.manifest.list.v2+json", index);
    cleanup_free char *pulled = must_pull(at("multi"));
    assert_string_equal(pulled, id);
    struct error err = {0};
    const struct image *image = images_find(images, at("multi"), &err);
    assert_non_null(strstr(image->repo_digests.items[0], index_digest));
    image_release(image);
    /* Once more: the index is not even looked at, as long as the registry says that it is the same. */
    fake_registry_hook(registry, NULL, NULL);
    free(must_pull(at("multi")));
    assert_int_equal(fake_registry_count(registry, "GET"), 0);
    struct fault without_digest = {.part = "/manifests/latest",
                                   .headers = "Content-Type: application/vnd.docker.distribution.manifest.list.v2+json\r\n"};
    fake_registry_hook(registry, faulty, &without_digest);
    free(must_pull(at("multi")));
    assert_int_equal(fake_registry_count(registry, "GET"), 1);
}

/* ---- Errors ---- */

static void
each_refusal_has_its_kind_and_the_registrys_words(void **state)
{
    static const char said[] = "{\"errors\":[{\"code\":\"CODE\",\"message\":\"its own words\"}]}";
    static const struct {
        struct fault fault;
        enum error_kind kind;
        const char *words;
    } cases[] = {
        {{"/manifests/", 401, NULL, 0, 0, said}, ERR_AUTH, "401"},
        {{"/manifests/", 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", 0, 0, said}, ERR_AUTH, "credentials"},
        {{"/manifests/", 403, NULL, 0, 0, said}, ERR_DENIED, "CODE: its own words"},
        {{"/manifests/", 404, NULL, 0, 0, said}, ERR_NOT_FOUND, "CODE: its own words"},
        {{"/manifests/", 429, NULL, 0, 0, said}, ERR_EXHAUSTED, "429 Too Many Requests: CODE: its own words"},
        {{"/manifests/", 500, NULL, 0, 0, NULL}, ERR_UNAVAILABLE, "500"},
        {{"/manifests/", 302, "Location: /v2/loop\r\n", 0, 0, NULL}, ERR_NOT_FOUND, "404"},
        {{"/manifests/", 200, NULL, 0, 0, "{}"}, ERR_INVALID, "manifest"},
        {{"/manifests/", 200, NULL, 0, 0, "<html>"}, ERR_INVALID, "JSON"},
        {{"/manifests/", 200, "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n", 0, 0, "{\"schemaVersion\":1}"},
         ERR_UNSUPPORTED,
         "schema 1"},
        {{"/manifests/", 200, NULL, 5 << 20, 0, NULL}, ERR_UNAVAILABLE, NULL},
        {{"/blobs/", 404, NULL, 0, 0, said}, ERR_NOT_FOUND, "its own words"},
        {{"/blobs/", 200, NULL, 0, 0, "not what was asked for"}, ERR_INTERNAL, "digest"},
    };
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("refused", one, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_registry_hook(registry, faulty, (void *)(uintptr_t)&cases[i].fault);
        struct error err = must_fail(at("refused"), NULL);
        if (err.kind != cases[i].kind || (cases[i].words && !strstr(err.message, cases[i].words)))
            fail_msg("case %zu: %s: %s", i, error_kind_name(err.kind), err.message);
        assert_non_null(strstr(err.message, "refused"));
        assert_nothing_is_left();
    }
    assert_non_null(id);
}

/* Faults of the layer's blob only: the configuration comes whole. */
struct layer_fault {
    const struct fake_layer *layer;
    int64_t declared, cut_at;
    const char *body;
    size_t length;
};

static void
faulty_layer(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    const struct layer_fault *fault = arg;
    if (!strstr(request->path, fault->layer->digest))
        return;
    if (fault->body) {
        reply->body = fault->body;
        reply->length = fault->length;
    }
    if (fault->declared)
        reply->declared = fault->declared;
    if (fault->cut_at)
        reply->cut_at = fault->cut_at;
}

static void
a_layer_that_is_not_what_the_manifest_says_is_refused_and_named(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer(), *other = fake_layer_make((const struct fake_file[]){{"bin/", NULL, 0}, {NULL, NULL, 0}});
    cleanup_free char *id = put("lies", one, NULL);
    cleanup_free char *flipped = mem_dup(one->packed, one->length), *longer = mem_zalloc(one->length + 50, 1);
    flipped[5] ^= 1; /* the gzip header's time: the same content, another digest */
    memcpy(longer, one->packed, one->length);
    struct {
        struct layer_fault fault;
        const char *words;
    } cases[] = {
        {{one, 0, 0, flipped, one->length}, "digest sha256:"},
        {{one, 0, 0, longer, one->length + 50}, "longer than"},
        {{one, 0, 0, one->packed, one->length - 5}, NULL},
        {{one, 0, 0, other->packed, other->length}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fake_registry_hook(registry, faulty_layer, &cases[i].fault);
        struct error err = must_fail(at("lies"), NULL);
        if (err.kind != ERR_INTERNAL || (cases[i].words && !strstr(err.message, cases[i].words)))
            fail_msg("case %zu: %s: %s", i, error_kind_name(err.kind), err.message);
        assert_non_null(strstr(err.message, one->digest));
        assert_nothing_is_left();
    }
    fake_registry_hook(registry, NULL, NULL);
    cleanup_free char *pulled = must_pull(at("lies"));
    assert_string_equal(pulled, id);
}

static void
a_layer_that_always_breaks_off_at_one_place_fails_in_the_end(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(50000);
    cleanup_free char *id = put("cut", one, NULL);
    struct layer_fault fault = {one, (int64_t)one->length, -1, NULL, 0};
    fault.cut_at = 0;
    fault.body = "";
    fault.length = 0;
    fake_registry_hook(registry, faulty_layer, &fault);
    struct error err = must_fail(at("cut"), NULL);
    assert_int_equal(err.kind, ERR_UNAVAILABLE);
    assert_nothing_is_left();
    assert_non_null(id);
}

static void
a_diff_id_of_other_content_is_refused(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    char right[80];
    (void)strcpy(right, one->diff_id);
    (void)memset(one->diff_id + 7, 'a', 64);
    cleanup_free char *id = put("wrong-diff", one, NULL);
    struct error err = must_fail(at("wrong-diff"), NULL);
    assert_int_equal(err.kind, ERR_INTERNAL);
    assert_non_null(strstr(err.message, right));
    assert_non_null(strstr(err.message, one->diff_id));
    assert_nothing_is_left();
    assert_non_null(id);
}

static void
a_hostile_layer_fails_the_pull_and_leaves_nothing(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer(),
                                    *two = fake_layer_make((const struct fake_file[]){{"ok", "x", 0}, {"../../../escape", "x", 0}, {NULL, NULL, 0}});
    cleanup_free char *id = put("hostile", one, two);
    struct error err = must_fail(at("hostile"), NULL);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_non_null(strstr(err.message, "../../../escape"));
    assert_nothing_is_left();
    assert_non_null(id);
}

static void
no_registry_no_repository_no_reference(void **state)
{
    (void)state;
    struct error err = must_fail("127.0.0.1:1/nobody/listens", NULL);
    assert_int_equal(err.kind, ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
    assert_non_null(strstr(err.message, "nobody/listens"));
    err = must_fail(at("never/was"), NULL);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    err = must_fail("not a reference", NULL);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_nothing_is_left();
}

/* ---- Going on after trouble ---- */

static void
cut_every_time(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    const bool *honours_range = arg;
    if (!strstr(request->path, "/blobs/") || reply->length < 5000)
        return;
    if (reply->status == 206 && !*honours_range) {
        reply->body = (const char *)reply->body - request->range_start;
        reply->length += (size_t)request->range_start;
        reply->status = 200;
        reply->headers[0] = '\0';
    }
    reply->cut_at = (reply->status == 200 ? (request->range_start > 0 ? request->range_start : 0) : 0) + 40000;
}

static void
a_broken_transfer_goes_on_where_it_broke(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(150000);
    cleanup_free char *id = put("broken", one, NULL);
    for (int i = 0; i < 2; i++) {
        bool honours_range = i == 0;
        fake_registry_hook(registry, cut_every_time, &honours_range);
        cleanup_free char *pulled = must_pull(at("broken"));
        assert_string_equal(pulled, id);
        assert_int_equal(fake_registry_count(registry, one->digest), 4);
        remove_all();
    }
}

/* A connection that breaks near the end, and then hardly gets on. */
struct nearly {
    const char *digest;
    bool hardly;
    unsigned whole, rests; /* requests: for all of it, for the rest */
};

static void
nearly_all(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    struct nearly *n = arg;
    if (!strstr(request->path, n->digest))
        return;
    n->whole += request->range_start < 0;
    n->rests += request->range_start > 8000000;
    reply->cut_at = request->range_start < 0 && n->hardly ? 9000000 : -1;
    reply->slow_ms = request->range_start > 0 && n->hardly ? 300 : 0;
}

static void
break_off_nearly_at_the_end(struct nearly *n, const char *reference)
{
    fake_registry_hook(registry, nearly_all, n);
    struct puller p = {.reference = reference};
    (void)pthread_create(&p.thread, NULL, pull_thread, &p);
    for (int i = 0; i < 200 && !fake_registry_open(registry); i++)
        (void)usleep(50000);
    for (int i = 0; i < 200 && fake_registry_count(registry, n->digest) < 2; i++)
        (void)usleep(50000);
    images_close(images);
    (void)pthread_join(p.thread, NULL);
    assert_null(p.id);
    assert_int_equal(p.err.kind, ERR_CANCELLED);
    assert_int_equal(count_in(root, "images/partial"), 1);
    open_images();
    *n = (struct nearly){.digest = n->digest};
}

static void
damage_what_came(const struct fake_layer *layer)
{
    char name[DIGEST_SIZE];
    digest_as_name(layer->digest, name);
    cleanup_free char *path = str_printf("%s/images/partial/%s", root, name);
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "damage", 6, 5000000), 6);
}

static void
what_came_before_a_restart_is_not_fetched_again(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(10000000);
    cleanup_free char *id = put("nearly", one, NULL);
    for (int damaged = 0; damaged < 2; damaged++) {
        struct nearly n = {.digest = one->digest, .hardly = true};
        break_off_nearly_at_the_end(&n, at("nearly"));
        if (damaged)
            damage_what_came(one);
        cleanup_free char *pulled = must_pull(at("nearly"));
        assert_string_equal(pulled, id);
        assert_int_equal(n.whole, damaged); /* once more from the beginning */
        assert_int_equal(n.rests, 1);
        assert_int_equal(count_in(root, "images/partial"), 0);
        remove_all();
    }
}

static void
half_downloads_that_nobody_goes_on_with_are_deleted(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(10000000);
    cleanup_free char *id = put("nearly", one, NULL);
    struct nearly n = {.digest = one->digest, .hardly = true};
    break_off_nearly_at_the_end(&n, at("nearly"));
    images_close(images);
    char name[DIGEST_SIZE];
    digest_as_name(one->digest, name);
    cleanup_free char *path = str_printf("%s/images/partial/%s", root, name);
    struct timespec long_ago[2] = {{.tv_sec = time(NULL) - 7200}, {.tv_sec = time(NULL) - 7200}};
    assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    open_images();
    for (int i = 0; i < 40 && count_in(root, "images/partial"); i++)
        (void)usleep(50000);
    assert_int_equal(count_in(root, "images/partial"), 0);
    assert_non_null(id);
}

static void
packed_layers_are_kept_where_that_is_wanted(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("packed", one, NULL);
    images_close(images);
    keep_layer_blobs = true;
    open_images();
    free(must_pull(at("packed")));
    cleanup_free char *path = str_printf("%s/images/blobs/sha256/%s", root, one->digest + 7), *kept = NULL;
    size_t length;
    struct error err = {0};
    assert_int_equal(file_read(AT_FDCWD, path, one->length + 1, &kept, &length, &err), 0);
    assert_int_equal(length, one->length);
    assert_memory_equal(kept, one->packed, length);
    assert_int_equal(count_in(root, "images/partial"), 0);
    assert_int_equal(images_remove(images, id, &err), 0);
    assert_int_equal(count_in(root, "images/blobs/sha256"), 0);
    images_close(images);
    keep_layer_blobs = false;
    open_images();
}

static void
busy_at_first(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (request->number > 2)
        return;
    *reply = (struct fake_reply){.status = request->number == 1 ? 503 : 429, .body = "", .declared = -1, .cut_at = -1};
    if (request->number == 2)
        (void)strcpy(reply->headers, "Retry-After: 1\r\n");
}

static void
a_busy_registry_is_asked_again(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("busy", one, NULL);
    fake_registry_hook(registry, busy_at_first, NULL);
    int64_t start = clock_monotonic_ns();
    cleanup_free char *pulled = must_pull(at("busy"));
    assert_string_equal(pulled, id);
    assert_true(clock_monotonic_ns() - start >= NS_PER_SECOND);
}

/* A mirror that breaks off, lies or knows nothing. */
static void
bad_mirror(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    const int *how = arg;
    if (*how == 0)
        reply->status = 500;
    if (*how == 1 && strstr(request->path, "/blobs/") && reply->length > 2000)
        reply->cut_at = 3000 + request->range_start;
    if (*how >= 2 && *how <= 3 && strstr(request->path, "/blobs/") && reply->length > 2000)
        reply->body = (const char *)reply->body + 1, reply->length--;
    if (*how == 3 && strstr(request->path, "/blobs/") && reply->length > 2000)
        reply->slow_ms = 5; /* unpacking meets the nonsense before the digest can tell whose it is */
    assert_string_equal(request->authorization, "");
    assert_non_null(strstr(request->query, "ns="));
}

static void
the_next_host_is_asked_when_a_mirror_fails(void **state)
{
    (void)state;
    struct error err = {0};
    struct fake_registry *mirror = fake_registry_start();
    cleanup_layer struct fake_layer *one = big_layer(80000);
    cleanup_free char *id = put("mirrored", one, NULL);
    cleanup_free char *same = fake_registry_put(mirror, "mirrored", "latest", (const struct fake_layer *const[]){one}, 1, "", NULL);
    cleanup_free char *dir = str_printf("%s/certs.d/made.up.example", root), *path = str_printf("%s/hosts.toml", dir);
    cleanup_free char *text =
        str_printf("server = \"http://127.0.0.1:%u\"\n[host.\"http://127.0.0.1:%u\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
                   fake_registry_port(registry), fake_registry_port(mirror));
    /* crisp-pull sees the certificate directories that were there when it started. */
    images_close(images);
    assert_int_equal(file_mkdirs(dir, 0755, &err), 0);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err), 0);
    open_images();
    for (int how = 0; how < 5; how++) {
        fake_registry_hook(mirror, bad_mirror, &how);
        fake_registry_hook(registry, NULL, NULL);
        cleanup_free char *pulled = must_pull("made.up.example/mirrored");
        assert_string_equal(pulled, id);
        assert_true(fake_registry_count(mirror, NULL) > 0);
        if (how == 4)
            assert_int_equal(fake_registry_count(registry, NULL), 0);
        remove_all();
    }
    fake_registry_stop(mirror);
    assert_non_null(same);
}

/* ---- Credentials ---- */

struct guard {
    unsigned port; /* of the token server: the registry itself */
    unsigned tokens, expire_after, uses;
    int64_t lifetime;
    bool wants_user;
};

static void
guarded(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    static char body[100];
    struct guard *g = arg;
    if (str_eq(request->path, "/token")) {
        bool known = str_eq(request->authorization, "Basic dXNlcjpzZWNyZXQ=");
        *reply = (struct fake_reply){.status = !g->wants_user || known ? 200 : 401, .declared = -1, .cut_at = -1, .body = body};
        assert_non_null(strstr(request->query, "scope=repository%3Aguarded%3Apull"));
        assert_non_null(strstr(request->query, "service=the%20service"));
        reply->length =
            (size_t)snprintf(body, sizeof body, "{\"token\":\"t%u\",\"expires_in\":%" PRId64 "}", ++g->tokens, g->lifetime ? g->lifetime : 60);
        g->uses = 0;
        return;
    }
    cleanup_free char *wanted = str_printf("Bearer t%u", g->tokens);
    if (g->tokens && str_eq(request->authorization, wanted) && (!g->expire_after || g->uses++ < g->expire_after))
        return;
    *reply = (struct fake_reply){.status = 401, .body = "", .declared = -1, .cut_at = -1};
    (void)snprintf(reply->headers, sizeof reply->headers,
                   "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token\",service=\"the service\",scope=\"repository:guarded:pull\"\r\n",
                   g->port);
}

static void
a_token_is_fetched_kept_and_renewed(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(20000);
    cleanup_free char *id = put("guarded", one, two);
    struct guard g = {.port = fake_registry_port(registry)};
    fake_registry_hook(registry, guarded, &g);
    cleanup_free char *pulled = must_pull(at("guarded"));
    assert_string_equal(pulled, id);
    assert_int_equal(g.tokens, 1);
    remove_all();
    /* A later pull has it still, */
    fake_registry_hook(registry, guarded, &g);
    free(must_pull(at("guarded")));
    assert_int_equal(g.tokens, 1);
    remove_all();
    /* also where its server thinks that it is good for longer than there are numbers, */
    g = (struct guard){.port = fake_registry_port(registry), .tokens = 5, .lifetime = INT64_MAX};
    for (int i = 0; i < 2; i++) {
        fake_registry_hook(registry, guarded, &g);
        free(must_pull(at("guarded")));
        assert_int_equal(g.tokens, 6);
        remove_all();
    }
    /* and gets another when that is refused before its time. */
    g = (struct guard){.port = fake_registry_port(registry), .expire_after = 2};
    fake_registry_hook(registry, guarded, &g);
    cleanup_free char *again = must_pull(at("guarded"));
    assert_string_equal(again, id);
    assert_true(g.tokens >= 2 && g.tokens <= 4);
}

static void
the_token_server_gets_the_users_name_and_its_refusal_is_told(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("guarded", one, NULL);
    struct guard g = {.port = fake_registry_port(registry), .wants_user = true};
    fake_registry_hook(registry, guarded, &g);
    struct error err = must_fail(at("guarded"), NULL);
    assert_int_equal(err.kind, ERR_AUTH);
    struct image_auth wrong = {.username = "user", .password = "wr0ngsecret"}, right = {.auth = "dXNlcjpzZWNyZXQ="};
    err = must_fail(at("guarded"), &wrong);
    assert_int_equal(err.kind, ERR_AUTH);
    assert_null(strstr(err.message, "wr0ngsecret"));
    cleanup_free char *pulled = images_pull(images, at("guarded"), &right, NULL, &err);
    assert_string_equal(pulled, id);
}

static void
wants_basic(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)arg;
    if (str_eq(request->authorization, "Basic dXNlcjpzZWNyZXQ="))
        return;
    *reply = (struct fake_reply){.status = 401, .body = "", .declared = -1, .cut_at = -1};
    (void)strcpy(reply->headers, "WWW-Authenticate: Basic realm=\"r\"\r\n");
}

static void
moved_elsewhere(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    wants_basic(NULL, request, reply);
    if (reply->status != 401 && strstr(request->path, "/blobs/")) {
        reply->status = 307;
        (void)snprintf(reply->headers, sizeof reply->headers, "Location: http://127.0.0.1:%u%s\r\n", *(const unsigned *)arg, request->path);
        reply->length = 0;
    }
}

static void
never_authorized(void *arg, const struct fake_request *request, struct fake_reply *reply)
{
    (void)reply;
    *(bool *)arg = *(bool *)arg || *request->authorization;
}

static void
credentials_do_not_follow_a_redirect_to_another_host(void **state)
{
    (void)state;
    struct fake_registry *storage = fake_registry_start();
    unsigned port = fake_registry_port(storage);
    bool leaked = false;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("moved", one, NULL);
    cleanup_free char *same = fake_registry_put(storage, "moved", "latest", (const struct fake_layer *const[]){one}, 1, "", NULL);
    fake_registry_hook(registry, moved_elsewhere, &port);
    fake_registry_hook(storage, never_authorized, &leaked);
    struct image_auth auth = {.username = "user", .password = "secret"};
    struct error err = {0};
    cleanup_free char *pulled = images_pull(images, at("moved"), &auth, NULL, &err);
    if (!pulled)
        fail_msg("%s", err.message);
    assert_string_equal(pulled, id);
    assert_int_equal(fake_registry_count(storage, NULL), 2);
    assert_false(leaked);
    fake_registry_stop(storage);
    assert_non_null(same);
}

static void
wrong_credentials_do_not_spoil_a_pull_with_right_ones(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("basic", one, NULL);
    fake_registry_hook(registry, wants_basic, NULL);
    struct image_auth right = {.username = "user", .password = "secret"}, wrong = {.username = "user", .password = "other"};
    struct error err = must_fail(at("basic"), &wrong);
    assert_int_equal(err.kind, ERR_AUTH);
    cleanup_free char *pulled = images_pull(images, at("basic"), &right, NULL, &err);
    assert_string_equal(pulled, id);
    /* Not even now that the image is here. */
    err = must_fail(at("basic"), NULL);
    assert_int_equal(err.kind, ERR_AUTH);
}

/* ---- Ends ---- */

static void
a_pull_nobody_waits_for_stops(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(1 << 20);
    cleanup_free char *id = put("slow", one, NULL);
    struct error err = {0};
    struct cancel soon, later;
    fake_registry_hook(registry, slow_layers, NULL);
    assert_int_equal(cancel_open(&soon, clock_monotonic_ns() + 300 * NS_PER_MS, &err), 0);
    assert_int_equal(cancel_open(&later, INT64_MAX, &err), 0);
    struct puller one_waits = {.reference = at("slow"), .cancel = &soon}, other_waits = {.reference = at("slow"), .cancel = &later};
    (void)pthread_create(&one_waits.thread, NULL, pull_thread, &one_waits);
    (void)pthread_create(&other_waits.thread, NULL, pull_thread, &other_waits);
    (void)pthread_join(one_waits.thread, NULL);
    assert_int_equal(one_waits.err.kind, ERR_DEADLINE);
    for (int i = 0; i < 100 && !fake_registry_open(registry); i++) /* on a busy machine */
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_true(fake_registry_open(registry) > 0);
    cancel_now(&later);
    (void)pthread_join(other_waits.thread, NULL);
    assert_int_equal(other_waits.err.kind, ERR_CANCELLED);
    for (int i = 0; i < 40 && fake_registry_open(registry); i++)
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    assert_int_equal(fake_registry_open(registry), 0);
    assert_nothing_is_left();
    cancel_close(&soon);
    cancel_close(&later);
    assert_non_null(id);
}

/* This process' one child that is crisp-pull. */
static pid_t
find_crisp_pull(void)
{
    cleanup_free char *path = str_printf("/proc/self/task/%d/children", getpid());
    cleanup_closedir DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
        cleanup_free char *children = str_printf("/proc/self/task/%s/children", entry->d_name), *text = NULL;
        if (*entry->d_name != '.' && file_read(AT_FDCWD, children, 1000, &text, NULL, NULL) == 0 && text && atoi(text) > 0)
            return atoi(text);
    }
    return 0;
}

static void
kill_crisp_pull_in_mid_pull(void)
{
    static pid_t last;
    pid_t pid = 0;
    for (int i = 0; i < 200 && (pid <= 0 || pid == last || !fake_registry_open(registry)); i++) {
        (void)usleep(50000);
        pid = find_crisp_pull();
    }
    assert_true(pid > 0 && pid != last);
    assert_int_equal(kill(pid, SIGKILL), 0);
    last = pid;
}

static void
a_crash_of_crisp_pull_costs_the_pull_a_second_try(void **state)
{
    (void)state;
    cleanup_layer struct fake_layer *one = big_layer(1 << 20);
    cleanup_free char *id = put("crash-once", one, NULL);
    fake_registry_hook(registry, slow_layers, NULL);
    struct puller p = {.reference = at("crash-once")};
    (void)pthread_create(&p.thread, NULL, pull_thread, &p);
    kill_crisp_pull_in_mid_pull();
    fake_registry_hook(registry, NULL, NULL);
    (void)pthread_join(p.thread, NULL);
    cleanup_free char *pulled = p.id;
    assert_string_equal(pulled, id);
    assert_int_equal(images_remove(images, at("crash-once"), &p.err), 0);
}

static void
a_second_crash_of_crisp_pull_fails_the_pull_and_nothing_else(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = big_layer(1 << 20);
    cleanup_free char *id = put("crash", one, NULL);
    fake_registry_hook(registry, slow_layers, NULL);
    struct puller p = {.reference = at("crash")};
    (void)pthread_create(&p.thread, NULL, pull_thread, &p);
    kill_crisp_pull_in_mid_pull();
    kill_crisp_pull_in_mid_pull();
    (void)pthread_join(p.thread, NULL);
    assert_null(p.id);
    assert_int_equal(p.err.kind, ERR_INTERNAL);
    assert_nothing_is_left();
    assert_int_equal(count_in(root, "images/incoming"), 0);
    fake_registry_hook(registry, NULL, NULL);
    cleanup_free char *pulled = must_pull(at("crash"));
    assert_string_equal(pulled, id);
    assert_int_equal(images_remove(images, id, &err), 0);
}

/* ---- The store ---- */

static void
removing_a_name_removes_the_image_with_its_last_one(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = base_layer();
    const struct fake_layer *const layers[] = {one};
    cleanup_free char *a = fake_registry_put(registry, "names", "a", layers, 1, "", NULL),
                      *b = fake_registry_put(registry, "names", "b", layers, 1, "", NULL);
    cleanup_free char *pulled_a = must_pull(at("names:a")), *pulled_b = must_pull(at("names:b"));
    assert_string_equal(a, b);
    size_t count;
    images_list_free(images_list(images, NULL, &count), 1);
    assert_int_equal(count, 1);
    assert_int_equal(images_remove(images, at("names:a"), &err), 0);
    const struct image *image = images_find(images, at("names:b"), &err);
    assert_int_equal(image->repo_tags.count, 1);
    assert_int_equal(image->repo_digests.count, 1);
    image_release(image);
    assert_null(images_find(images, at("names:a"), &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_int_equal(images_remove(images, at("names:b"), &err), 0);
    assert_nothing_is_left();
    assert_int_equal(images_remove(images, at("names:b"), &err), 0);
    assert_int_equal(images_remove(images, "sha256:0123", &err), 0);
}

static void
a_tag_that_moves_leaves_the_old_image_its_digest(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(10);
    char old_digest[80];
    cleanup_free char *old = fake_registry_put(registry, "moving", "latest", (const struct fake_layer *const[]){one}, 1, "", old_digest);
    cleanup_free char *pulled_old = must_pull(at("moving"));
    cleanup_free char *new = put("moving", two, NULL);
    cleanup_free char *pulled_new = must_pull(at("moving"));
    assert_string_not_equal(pulled_old, pulled_new);
    const struct image *image = images_find(images, at("moving"), &err);
    assert_string_equal(image->id, new);
    image_release(image);
    image = images_find(images, old, &err);
    assert_int_equal(image->repo_tags.count, 0);
    assert_non_null(strstr(image->repo_digests.items[0], old_digest));
    image_release(image);
}

static void
a_container_keeps_the_layers_it_runs_on(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_free char *id = put("held", one, NULL), *pulled = must_pull(at("held"));
    const struct image *image = images_find(images, id, &err);
    assert_int_equal(images_hold(images, &image->layers, "container", &err), 0);
    assert_int_equal(images_hold(images, &image->layers, "container", &err), 0);
    assert_int_equal(images_remove(images, id, &err), 0);
    assert_int_equal(count_in(root, "layers"), 1);
    /* A pull finds the layer again. */
    fake_registry_hook(registry, NULL, NULL);
    cleanup_free char *again = must_pull(at("held"));
    assert_int_equal(fake_registry_count(registry, one->digest), 0);
    assert_int_equal(images_remove(images, id, &err), 0);
    /* And a crispd that starts anew finds it too: held again before the collection, it stays. */
    images_close(images);
    open_images();
    assert_int_equal(images_hold(images, &image->layers, "container", &err), 0);
    images_collect(images);
    assert_int_equal(count_in(root, "layers"), 1);
    images_unhold(images, "container");
    for (int tenths = 0; tenths < 50 && count_in(root, "layers") > 0; tenths++)
        (void)usleep(100000);
    assert_nothing_is_left();
    assert_int_equal(images_hold(images, &image->layers, "container", &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    image_release(image);
    assert_non_null(again);
}

static void
replace_file(const char *below, const char *text)
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/%s", root, below);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600, false, &err), 0);
}

static void
delete_the_layer_with_a_shell(void)
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/layers", root);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        cleanup_free char *shell = str_printf("%s/bin/sh", entry->d_name);
        if (*entry->d_name != '.' && faccessat(dirfd(dir), shell, F_OK, 0) == 0)
            assert_int_equal(file_remove_tree(dirfd(dir), entry->d_name, &err), 0);
    }
}

static void
ignore_garbage(void *arg, const char *kind, const char *name, uint64_t bytes)
{
    (void)arg;
    (void)kind;
    (void)name;
    (void)bytes;
}

static void
the_index_survives_a_restart_and_what_is_damaged_is_set_aside(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(10);
    cleanup_free char *a = put("keeps-a", one, NULL), *b = put("keeps-b", two, NULL);
    cleanup_free char *pulled_a = must_pull(at("keeps-a")), *pulled_b = must_pull(at("keeps-b"));
    images_close(images);
    open_images();
    const struct image *image = images_find(images, at("keeps-a"), &err);
    assert_string_equal(image->id, a);
    image_release(image);
    /* One configuration is damaged: that image is gone, the other stays; a pull repairs. */
    images_close(images);
    cleanup_free char *blob = str_printf("images/blobs/sha256/%s", b + 7);
    replace_file(blob, "{}");
    log_open(LOG_ERROR_ + 1);
    open_images();
    assert_null(images_find(images, at("keeps-b"), &err));
    image_release(images_find(images, at("keeps-a"), &err));
    fake_registry_hook(registry, NULL, NULL);
    cleanup_free char *repaired = must_pull(at("keeps-b"));
    assert_string_equal(repaired, b);
    assert_int_equal(fake_registry_count(registry, two->digest), 0);
    /* A layer's directory is gone: its image too, until it is pulled again. */
    images_close(images);
    delete_the_layer_with_a_shell();
    open_images();
    assert_null(images_find(images, at("keeps-a"), &err));
    cleanup_free char *made_good = must_pull(at("keeps-a"));
    assert_string_equal(made_good, a);
    /* The index is torn: its copy tells the same. */
    images_close(images);
    replace_file("images/index.json", "{\"version\": 1, \"ima");
    open_images();
    images_collect(images);
    image = images_find(images, at("keeps-a"), &err);
    assert_string_equal(image->id, a);
    image_release(image);
    image_release(images_find(images, at("keeps-b"), &err));
    /* Both are: crispd starts, and pulls work. */
    images_close(images);
    replace_file("images/index.json", "");
    replace_file("images/index.json.copy", "{}");
    open_images();
    images_collect(images);
    assert_int_equal(count_in(root, "layers"), 2); /* not all at once, by itself */
    images_gc(images, false, ignore_garbage, NULL);
    assert_nothing_is_left();
    cleanup_free char *again = must_pull(at("keeps-a"));
    assert_string_equal(again, a);
    log_open(LOG_ERROR_);
}

static void
odd_lookups_are_told_apart(void **state)
{
    (void)state;
    struct error err = {0};
    assert_null(images_find(images, "", &err));
    assert_int_equal(err.kind, ERR_INVALID);
    assert_null(images_find(images, "UPPER case", &err));
    assert_int_equal(err.kind, ERR_INVALID);
    assert_null(images_find(images, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_null(images_find(images, "sha256:12", &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_null(images_find(images, "nothing/here:1", &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static int
archive_file(const char *name)
{
    struct error err = {0};
    cleanup_free char *path = str_printf("%s/%s", root, name);
    int fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600, &err);
    assert_true(fd >= 0);
    return fd;
}

static void
export_to(int archive, const char *reference)
{
    struct error err = {0};
    cleanup_strv struct strv references = {0}, notes = {0};
    strv_add(&references, reference);
    if (images_export(images, &references, archive, NULL, &notes, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(notes.count, 1); /* the layers are made anew */
}

/* 0 imported, with the first id in `id`. */
static int
import_from(int archive, const struct cancel *cancel, char **id, struct error *err)
{
    cleanup_strv struct strv ids = {0};
    struct images_import import = {.archive = archive};
    int result = images_import(images, &import, cancel, &ids, err);
    *id = result == 0 ? str_dup(ids.items[0]) : NULL;
    return result;
}

static void
an_exported_image_is_imported_and_no_piece_of_it(void **state)
{
    (void)state;
    struct error err = {0};
    struct stat st, again;
    cleanup_layer struct fake_layer *one = base_layer(), *two = big_layer(300000);
    cleanup_free char *id = put("exported", one, two), *pulled = must_pull(at("exported")), *imported = NULL;
    cleanup_close int archive = archive_file("first.tar"), second = archive_file("second.tar");
    export_to(archive, at("exported"));
    remove_all();
    if (import_from(archive, NULL, &imported, &err) < 0)
        fail_msg("%s", err.message);
    const struct image *image = images_find(images, at("exported"), &err);
    assert_non_null(image);
    assert_string_equal(image->id, imported);
    assert_string_not_equal(imported, id);
    assert_int_equal(image->layers.count, 2);
    assert_string_equal(strmap_get(&image->annotations, "made"), "here");
    image_release(image);
    export_to(second, imported);
    assert_int_equal(fstat(archive, &st) | fstat(second, &again), 0);
    assert_int_equal(st.st_size, again.st_size);
    remove_all();
    for (off_t length = st.st_size - 2000; length > 0; length -= 37777) {
        assert_int_equal(ftruncate(archive, length), 0);
        char *none;
        assert_int_equal(import_from(archive, NULL, &none, &err), -1);
        assert_true(err.kind == ERR_INVALID || err.kind == ERR_NOT_FOUND);
    }
    assert_non_null(pulled);
}

static void
an_artifact_is_not_exported(void **state)
{
    static const char text[] = "weights";
    char digest[DIGEST_SIZE];
    (void)state;
    struct error err = {0};
    cleanup_strv struct strv references = {0}, notes = {0};
    digest_of(NULL, text, strlen(text), digest);
    cleanup_free char *blob = str_printf("blobs/%s", digest);
    cleanup_free char *manifest =
        str_printf("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"artifactType\":\"application/x-model\","
                   "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"%s\",\"size\":7},"
                   "\"layers\":[{\"mediaType\":\"application/x-model\",\"digest\":\"%s\",\"size\":7}]}",
                   digest, digest);
    fake_registry_put_text(registry, "model", blob, "application/octet-stream", text);
    fake_registry_put_manifest(registry, "model", "v1", "application/vnd.oci.image.manifest.v1+json", manifest);
    cleanup_free char *id = must_pull(at("model:v1"));
    cleanup_close int archive = archive_file("model.tar");
    strv_add(&references, id);
    assert_int_equal(images_export(images, &references, archive, NULL, &notes, &err), -1);
    assert_int_equal(err.kind, ERR_PRECONDITION);
    assert_non_null(strstr(err.message, "is an artifact"));
    assert_int_equal(lseek(archive, 0, SEEK_END), 0);
}

/* A mount that comes late must not bring back, at the start after, what was removed since. */
static void
a_directory_of_archives_that_is_away_is_not_an_empty_one(void **state)
{
    (void)state;
    struct error err = {0};
    struct stat before, after;
    cleanup_free char *record = str_printf("%s/images/imported", root), *absent = str_printf("%s/absent", root);
    replace_file("images/imported", "1 2 3.000000000 a.tar\n");
    assert_int_equal(stat(record, &before), 0);
    struct importer *importer = importer_start(images, absent, &err);
    assert_non_null(importer);
    (void)usleep(200000); /* it would have written the record long since */
    importer_stop(importer);
    assert_int_equal(stat(record, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    assert_int_equal(after.st_size, before.st_size);
}

static void
an_import_nobody_waits_for_lets_go_of_its_pipe(void **state)
{
    (void)state;
    int ends[2];
    char *id;
    struct error err = {0};
    struct cancel patience;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(cancel_open(&patience, clock_monotonic_ns() + NS_PER_SECOND / 2, &err), 0);
    assert_int_equal(import_from(ends[0], &patience, &id, &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    cancel_close(&patience);
    (void)close(ends[0]);
    struct pollfd writer = {.fd = ends[1]};
    assert_int_equal(poll(&writer, 1, 5000), 1); /* no reader is left */
    assert_true(writer.revents & POLLERR);
    (void)close(ends[1]);
}

static void
an_explained_pull_tells_of_every_request(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_layer struct fake_layer *one = base_layer();
    cleanup_strv struct strv account = {0}, failed = {0};
    cleanup_free char *id = put("told", one, NULL), *pulled = images_pull_explained(images, at("told"), NULL, NULL, &account, &err);
    assert_string_equal(pulled, id);
    assert_int_equal(account.count, 6); /* the registry, manifest, configuration, what is here, layer, policy */
    assert_non_null(strstr(account.items[1], "manifests/latest: the registry itself, host 1 of 1; plain HTTP; without credentials; it answers 200"));
    assert_null(images_pull_explained(images, at("nothing"), NULL, NULL, &failed, &err));
    assert_int_equal(failed.count, 3);
    assert_non_null(strstr(failed.items[1], "it answers 404"));
}

#define TEST(function) cmocka_unit_test_teardown(function, after_each)

int
main(void)
{
    if (geteuid() != 0) {
        (void)puts("skipped: it needs root");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_pulled_image_is_found_by_every_name),
        TEST(what_is_here_is_not_fetched_again),
        TEST(pulls_of_one_image_at_once_are_one_and_share_layers_with_others),
        TEST(a_pull_has_its_share_of_the_downloads_and_leaves_the_rest_to_others),
        TEST(an_index_leads_to_the_manifest_for_this_machine),
        TEST(each_refusal_has_its_kind_and_the_registrys_words),
        TEST(a_layer_that_is_not_what_the_manifest_says_is_refused_and_named),
        TEST(a_layer_that_always_breaks_off_at_one_place_fails_in_the_end),
        TEST(a_diff_id_of_other_content_is_refused),
        TEST(a_hostile_layer_fails_the_pull_and_leaves_nothing),
        TEST(no_registry_no_repository_no_reference),
        TEST(a_broken_transfer_goes_on_where_it_broke),
        TEST(what_came_before_a_restart_is_not_fetched_again),
        TEST(half_downloads_that_nobody_goes_on_with_are_deleted),
        TEST(packed_layers_are_kept_where_that_is_wanted),
        TEST(a_busy_registry_is_asked_again),
        TEST(the_next_host_is_asked_when_a_mirror_fails),
        TEST(a_token_is_fetched_kept_and_renewed),
        TEST(the_token_server_gets_the_users_name_and_its_refusal_is_told),
        TEST(credentials_do_not_follow_a_redirect_to_another_host),
        TEST(wrong_credentials_do_not_spoil_a_pull_with_right_ones),
        TEST(a_pull_nobody_waits_for_stops),
        TEST(a_crash_of_crisp_pull_costs_the_pull_a_second_try),
        cmocka_unit_test(a_second_crash_of_crisp_pull_fails_the_pull_and_nothing_else),
        TEST(removing_a_name_removes_the_image_with_its_last_one),
        TEST(a_tag_that_moves_leaves_the_old_image_its_digest),
        TEST(a_container_keeps_the_layers_it_runs_on),
        TEST(the_index_survives_a_restart_and_what_is_damaged_is_set_aside),
        TEST(odd_lookups_are_told_apart),
        TEST(an_exported_image_is_imported_and_no_piece_of_it),
        TEST(an_artifact_is_not_exported),
        TEST(a_directory_of_archives_that_is_away_is_not_an_empty_one),
        TEST(an_import_nobody_waits_for_lets_go_of_its_pipe),
        TEST(an_explained_pull_tells_of_every_request),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
