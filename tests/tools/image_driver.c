/* Drives the image service without crispd, for measuring and for trying bad input by hand:
 *
 *   image-driver --pull-program PATH --root DIR [--certs DIR]… [--user NAME:PASSWORD] [--deadline SECONDS] COMMAND…
 *
 *   pull REF [REF…]   all at once; prints each id or error and the seconds
 *   list, find REF, remove REF, collect, usage, wait SECONDS */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "imageservice/imageservice.h"

struct job {
    struct images *images;
    const char *reference;
    const struct image_auth *auth;
    int64_t deadline_ns;
    pthread_t thread;
    int failed;
};

static void *
pull(void *arg)
{
    struct job *job = arg;
    struct error err = {0};
    struct cancel cancel = {.fd = -1};
    int64_t start = clock_monotonic_ns();
    (void)cancel_open(&cancel, job->deadline_ns, &err);
    cleanup_free char *id = images_pull(job->images, job->reference, job->auth, &cancel, &err);
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    cancel_close(&cancel);
    job->failed = !id;
    if (id)
        (void)printf("%s %s %.3f s\n", job->reference, id, seconds);
    else
        (void)printf("%s %s: %s (%.3f s)\n", job->reference, error_kind_name(err.kind), err.message, seconds);
    return NULL;
}

static int
pull_all(struct images *images, char **references, int count, const struct image_auth *auth, int64_t deadline_ns)
{
    int failed = 0;
    struct job *jobs = mem_zalloc((size_t)count, sizeof *jobs);
    for (int i = 0; i < count; i++) {
        jobs[i] = (struct job){.images = images, .reference = references[i], .auth = auth, .deadline_ns = deadline_ns};
        (void)pthread_create(&jobs[i].thread, NULL, pull, &jobs[i]);
    }
    for (int i = 0; i < count; i++) {
        (void)pthread_join(jobs[i].thread, NULL);
        failed |= jobs[i].failed;
    }
    free(jobs);
    return failed;
}

static void
print_image(const struct image *image)
{
    (void)printf("%s size %" PRIu64 " layers", image->id, image->size_bytes);
    for (size_t i = 0; i < image->layers.count; i++)
        (void)printf(" %s", image->layers.items[i]);
    for (size_t i = 0; i < image->repo_tags.count; i++)
        (void)printf("\n  %s", image->repo_tags.items[i]);
    for (size_t i = 0; i < image->repo_digests.count; i++)
        (void)printf("\n  %s", image->repo_digests.items[i]);
    (void)printf("\n  user %s workdir %s pinned %d\n", image->config.user, image->config.working_dir, image->pinned);
}

static int
command(struct images *images, char **argv, int argc, const struct image_auth *auth, int64_t deadline_ns)
{
    struct error err = {0};
    if (str_eq(argv[0], "pull"))
        return pull_all(images, argv + 1, argc - 1, auth, deadline_ns);
    if (str_eq(argv[0], "list")) {
        size_t count;
        const struct image **list = images_list(images, NULL, &count);
        for (size_t i = 0; i < count; i++)
            print_image(list[i]);
        images_list_free(list, count);
        return 0;
    }
    if (str_eq(argv[0], "find") && argc > 1) {
        const struct image *image = images_find(images, argv[1], &err);
        if (image)
            print_image(image);
        else
            (void)printf("%s: %s\n", error_kind_name(err.kind), err.message);
        image_release(image);
        return !image;
    }
    if (str_eq(argv[0], "remove") && argc > 1) {
        int result = images_remove(images, argv[1], &err);
        if (result < 0)
            (void)printf("%s: %s\n", error_kind_name(err.kind), err.message);
        return result < 0;
    }
    if (str_eq(argv[0], "usage")) {
        uint64_t bytes, inodes;
        images_usage(images, &bytes, &inodes);
        return printf("bytes %" PRIu64 " inodes %" PRIu64 "\n", bytes, inodes) < 0;
    }
    if (str_eq(argv[0], "collect")) {
        images_collect(images);
        return 0;
    }
    if (str_eq(argv[0], "wait") && argc > 1)
        return sleep((unsigned)atoi(argv[1])) != 0;
    (void)fprintf(stderr, "unknown command %s\n", argv[0]);
    return 2;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {
        {"pull-program", required_argument, NULL, 'p'}, {"root", required_argument, NULL, 'r'},
        {"certs", required_argument, NULL, 'c'},        {"user", required_argument, NULL, 'u'},
        {"deadline", required_argument, NULL, 'd'},     {"downloads", required_argument, NULL, 'n'},
        {"keep-blobs", no_argument, NULL, 'k'},         {NULL, 0, NULL, 0},
    };
    struct images_options o = {.parallel_downloads = 4, .parallel_downloads_per_pull = 4, .stall_seconds = 60, .state = "/run"};
    struct image_auth auth = {0};
    int64_t deadline_ns = INT64_MAX;
    for (int option; (option = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
        if (option == 'p')
            o.pull_program = optarg;
        else if (option == 'r')
            o.root = optarg;
        else if (option == 'c')
            strv_add(&o.certs_dirs, optarg);
        else if (option == 'd')
            deadline_ns = clock_monotonic_ns() + (int64_t)(atof(optarg) * 1e9);
        else if (option == 'n')
            o.parallel_downloads = o.parallel_downloads_per_pull = atoi(optarg);
        else if (option == 'k')
            o.keep_layer_blobs = true;
        else if (option == 'u') {
            auth.username = optarg;
            char *colon = strchr(optarg, ':');
            auth.password = colon ? colon + 1 : "";
            if (colon)
                *colon = '\0';
        } else
            return 2;
    }
    struct images *images;
    struct error err;
    log_open(LOG_INFO_);
    if (!o.root || !o.pull_program || optind == argc || images_open(&o, &images, &err) < 0) {
        (void)fprintf(stderr, "%s\n", o.root && o.pull_program && optind < argc ? err.message : "see the head of image_driver.c");
        return 2;
    }
    int result = command(images, argv + optind, argc - optind, auth.username ? &auth : NULL, deadline_ns);
    images_close(images);
    strv_free(&o.certs_dirs);
    return result;
}
