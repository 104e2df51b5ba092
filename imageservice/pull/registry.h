/* A registry as one pull sees it: a reference's hosts (mirrors first), the credentials, the tokens got so far. Asks by the distribution spec
 * ("pull").
 *
 * Every function tries the hosts in their order, each a few times, and moves on after any failure; the error is the last host's and names the
 * registry, the repository, the step, and what the hosts before said. Reference-counted and safe in any thread: a layer's download outlives the pull
 * that began it when another pull waits for that layer. */
#pragma once

#include "imageservice/digest.h"
#include "imageservice/manifest.h"
#include "imageservice/pull/credentials.h"
#include "imageservice/pull/tokens.h"
#include "imageservice/reference.h"

struct registry;

/* What was fetched whole. */
struct document {
    char *text;
    size_t length;
    char *content_type; /* NULL when not given */
    char digest[DIGEST_SIZE];
};

/* What registries need and share; outlives them. */
struct registry_context {
    struct http *http;
    struct tokens *tokens;
    struct strv certs_dirs;
};

/* Takes over `reference` and `credentials` in any case. */
struct registry *registry_open(const struct registry_context *context, struct reference *reference, struct credentials *credentials,
                               struct error *err);
struct registry *registry_ref(struct registry *registry);
void registry_unref(struct registry *registry);
CLEANUP_DEFINE(registry_unrefp, struct registry *, registry_unref)
size_t registry_host_count(const struct registry *registry);

/* From now on keep account of every request: which host was asked and why, by whose word it is trusted, as whom, and what it answered; never a
 * secret. At most REGISTRY_LINES_MAX lines. Before any other use. */
enum { REGISTRY_LINES_MAX = 128, REGISTRY_LINE_BYTES_MAX = 480 };
void registry_keep_account(struct registry *registry);
/* One more line, where account is kept. */
void registry_tell(struct registry *registry, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The lines so far, appended. */
void registry_account(struct registry *registry, struct strv *out);

/* The manifest or index of a tag or digest, its digest verified where one is known. */
int registry_manifest(struct registry *registry, const struct http_scope *scope, const char *which, struct document *out, struct error *err);
/* The digest of what `which` names there, by HEAD, which registries' limits on pulls don't count. 1, or 0 where the registry doesn't say. */
int registry_digest(struct registry *registry, const struct http_scope *scope, const char *which, char out[DIGEST_SIZE], struct error *err);
/* A configuration: a small blob of known digest and size. */
int registry_config(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, struct document *out,
                    struct error *err);
/* A signature's payload or bundle, likewise. */
int registry_signature(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, struct document *out,
                       struct error *err);
/* A document that may be missing ("manifests/TAG", "referrers/DIGEST"), from host number *host or the first after it that has it, which *host is
 * then. 1, or 0: the last of the hosts says that there is none. */
int registry_find(struct registry *registry, const struct http_scope *scope, const char *path, size_t *host, struct document *out, struct error *err);
/* A layer's blob into `ring`, ended when all of it is there and has the descriptor's size and digest; else failed. Begins with what the file
 * `partial` has of it (-1: there is none), then with host `first`. A broken transfer goes on where it broke off, if need be from the next host,
 * and in the end from the descriptor's urls, which get no credentials and whose words nobody is told.
 * ERR_INTERNAL with `corrupt` set: the content is not what the manifest says. */
int registry_blob(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, size_t first, int partial,
                  struct ring *ring, bool *corrupt, struct error *err);

/* A manifest or configuration of the store, from its directory of blobs, into an empty `out`. ERR_INTERNAL when it is damaged. */
int document_read(int blobs_dir, const char *digest, struct document *out, struct error *err);
void document_free(struct document *document);
#define cleanup_document cleanup(document_free)
