/* A registry on loopback that lies as a test wants it to: it serves images made on the spot, and asks the test about every request first. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_registry;

struct fake_request {
    const char *method, *path; /* without the query */
    const char *query;
    const char *authorization; /* "" when not sent */
    const char *body;          /* of a POST */
    int64_t range_start;       /* -1: no Range */
    unsigned number;           /* counts from 1 */
};

struct fake_reply {
    int status;
    char headers[512]; /* whole lines, each with \r\n */
    const void *body;
    size_t length;
    int64_t declared; /* Content-Length; -1: length */
    int64_t cut_at;   /* close after so many bytes of the body; -1: all */
    unsigned slow_ms; /* before the reply, and before every 1,000 bytes of it */
};

/* Change what would be replied. Called in the connection's thread, one at a time. */
typedef void fake_hook(void *arg, const struct fake_request *request, struct fake_reply *reply);

struct fake_registry *fake_registry_start(void);
void fake_registry_stop(struct fake_registry *registry);
unsigned fake_registry_port(const struct fake_registry *registry);
void fake_registry_hook(struct fake_registry *registry, fake_hook *hook, void *arg);
/* Requests so far that contain `part` ("GET /v2/…"; NULL: all). */
unsigned fake_registry_count(struct fake_registry *registry, const char *part);
/* Connections that are open now. */
unsigned fake_registry_open(struct fake_registry *registry);

/* A file or directory of a layer; a list ends with path NULL. */
struct fake_file {
    const char *path;
    const char *text; /* NULL: a directory */
    size_t filler;    /* so many pseudo-random bytes in place of text */
};

/* A layer, made from files and packed with gzip. */
struct fake_layer {
    char *packed;
    size_t length;
    char digest[80], diff_id[80];
};

struct fake_layer *fake_layer_make(const struct fake_file *files);
void fake_layer_free(struct fake_layer *layer);

/* Put an image of these layers under repository:tag (and its digest). Returns the image id; digest[80] gets the manifest's. The layers' bytes are
 * copied. */
char *fake_registry_put(struct fake_registry *registry, const char *repository, const char *tag, const struct fake_layer *const layers[],
                        size_t count, const char *user, char *digest);
/* Put any document under REPOSITORY/PATH ("blobs/DIGEST"). */
void fake_registry_put_text(struct fake_registry *registry, const char *repository, const char *path, const char *type, const char *text);
/* … under manifests/NAME. */
void fake_registry_put_manifest(struct fake_registry *registry, const char *repository, const char *name, const char *type, const char *text);
