#include "imageservice/pull/registry.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "imageservice/pull/limits.h"

struct registry {
    atomic_int refs;
    const struct registry_context *context;
    struct reference reference;
    struct credentials credentials;
    struct hosts hosts;
    pthread_mutex_t answering; /* held over a 401's answer, so that many layers that meet one ask for one token; taken before lock */
    pthread_mutex_t lock;      /* guards what follows */
    char **authorizations;     /* of each host: what it last accepted or was answered; NULL none */
    const char **as_whom;      /* of each: in words, where there is one */
    bool keeps_account;        /* set before all else */
    struct strv account;
};

/* A blob that streams into a ring, over as many requests as it takes. */
struct stream {
    struct ring *ring;
    struct digest *digest;
    int64_t size, offset; /* in all; passed on so far */
    int64_t skip;         /* of this answer: passed on already (the server ignored Range) */
    bool fresh;           /* nothing of this answer was seen yet */
    bool abandoned;       /* the reader has given up */
    struct error wrong;   /* what contradicts the manifest */
};

/* One thing to ask of hosts, one after the other. */
struct question {
    struct registry *registry;
    const struct http_scope *scope;
    const char *path; /* "manifests/latest" */
    const char *url;  /* in its place, and in that of the hosts: from a manifest */
    const char *accept;
    size_t body_limit;
    bool head;
    struct stream *stream; /* NULL: into the response */
};

struct registry *
registry_open(const struct registry_context *context, struct reference *reference, struct credentials *credentials, struct error *err)
{
    struct registry *registry = mem_zalloc(1, sizeof *registry);
    atomic_init(&registry->refs, 1);
    (void)pthread_mutex_init(&registry->answering, NULL);
    (void)pthread_mutex_init(&registry->lock, NULL);
    registry->context = context;
    registry->reference = *reference;
    registry->credentials = *credentials;
    *reference = (struct reference){0};
    *credentials = (struct credentials){0};
    if (hosts_load(&context->certs_dirs, registry->reference.registry, &registry->hosts, err) < 0) {
        (void)error_prefix(err, "registry %s", registry->reference.registry);
        registry_unref(registry);
        return NULL;
    }
    registry->authorizations = mem_zalloc(registry->hosts.count, sizeof *registry->authorizations);
    registry->as_whom = mem_zalloc(registry->hosts.count, sizeof *registry->as_whom);
    return registry;
}

struct registry *
registry_ref(struct registry *registry)
{
    (void)atomic_fetch_add(&registry->refs, 1);
    return registry;
}

void
registry_unref(struct registry *registry)
{
    if (atomic_fetch_sub(&registry->refs, 1) > 1)
        return;
    for (size_t i = 0; registry->authorizations && i < registry->hosts.count; i++)
        str_wipe_free(registry->authorizations[i]);
    free(registry->authorizations);
    free(registry->as_whom);
    strv_free(&registry->account);
    hosts_free(&registry->hosts);
    credentials_free(&registry->credentials);
    reference_free(&registry->reference);
    (void)pthread_mutex_destroy(&registry->answering);
    (void)pthread_mutex_destroy(&registry->lock);
    free(registry);
}

size_t
registry_host_count(const struct registry *registry)
{
    return registry->hosts.count;
}

void
document_free(struct document *document)
{
    free(document->text);
    free(document->content_type);
    *document = (struct document){0};
}

int
document_read(int blobs_dir, const char *digest, struct document *out, struct error *err)
{
    char path[DIGEST_SIZE];
    if (!digest_valid(digest))
        return error_set(err, ERR_INTERNAL, "%.80s is no digest", digest);
    digest_as_path(digest, path);
    TRY(file_read(blobs_dir, path, LIMIT_MANIFEST_BYTES, &out->text, &out->length, err));
    digest_of(digest, out->text, out->length, out->digest);
    if (str_eq(digest, out->digest))
        return 0;
    (void)error_set(err, ERR_INTERNAL, "%s is damaged on the disk: it has digest %s", digest, out->digest);
    document_free(out);
    return -1;
}

/* ---- The account ---- */

void
registry_keep_account(struct registry *registry)
{
    registry->keeps_account = true;
    const char *said_by = registry->hosts.said_by;
    registry_tell(registry, "registry %s: %s%s", registry->reference.registry,
                  said_by ? "its hosts and certificates are those of "
                          : "no directory of certs_dirs is about it: it is asked itself, the system's CAs are trusted",
                  said_by ? said_by : "");
}

void
registry_tell(struct registry *registry, const char *format, ...)
{
    char line[REGISTRY_LINE_BYTES_MAX];
    va_list list;
    if (!registry->keeps_account)
        return;
    va_start(list, format);
    (void)vsnprintf(line, sizeof line, format, list);
    va_end(list);
    (void)pthread_mutex_lock(&registry->lock);
    if (registry->account.count < REGISTRY_LINES_MAX)
        strv_add(&registry->account, line);
    (void)pthread_mutex_unlock(&registry->lock);
}

void
registry_account(struct registry *registry, struct strv *out)
{
    (void)pthread_mutex_lock(&registry->lock);
    strv_copy(out, &registry->account);
    (void)pthread_mutex_unlock(&registry->lock);
}

/* By whose word a host is trusted. */
static const char *
trusted_by(const struct host *host)
{
    if (!str_starts(host->base, "https://"))
        return "plain HTTP";
    if (host->peer.skip_verify)
        return "TLS, not verified (skip_verify)";
    return host->peer.ca_pem ? "TLS, by its own CA or the system's" : "TLS, by the system's CAs";
}

/* As whom a challenge is answered. */
static const char *
whom(const struct credentials *credentials, bool was_kept)
{
    if (!credentials || (!credentials->username && !credentials->identity_token && !credentials->registry_token))
        return was_kept ? "anonymously, by a token from before" : "anonymously, by a token";
    if (credentials->registry_token)
        return "by the pull's registry token";
    if (credentials->identity_token)
        return was_kept ? "by a token that the pull's identity token gave before" : "by a token for the pull's identity token";
    return was_kept ? "by a token that the pull's user and password gave before" : "by the pull's user and password";
}

static void
tell_attempt(const struct question *q, size_t at, bool authorized, int result, const struct http_response *response, const struct error *err)
{
    struct registry *registry = q->registry;
    const struct host *host = &registry->hosts.items[at];
    const char *certificate = host->peer.client_cert, *kind = host->proxied ? "mirror" : "the registry itself";
    char status[32];
    if (!registry->keeps_account)
        return;
    (void)pthread_mutex_lock(&registry->lock);
    const char *as = authorized ? registry->as_whom[at] : NULL;
    (void)pthread_mutex_unlock(&registry->lock);
    (void)snprintf(status, sizeof status, "%d", response->status);
    registry_tell(registry, "%s %.60s %.80s: %s, host %zu of %zu; %s%s%.100s; %s; it answers %.100s", q->head ? "HEAD" : "GET", host->name, q->path,
                  kind, at + 1, registry->hosts.count, trusted_by(host), certificate ? "; our certificate is " : "", certificate ? certificate : "",
                  as ? as : "without credentials", result < 0 ? err->message : status);
}

static int
wait_ms(const struct http_scope *scope, int64_t ms, struct error *err)
{
    for (; ms > 0 && !atomic_load(&scope->cancelled); ms -= 50)
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    return atomic_load(&scope->cancelled) ? error_set(err, ERR_CANCELLED, "the pull was cancelled") : 0;
}

static char *
authorization_of(struct registry *registry, size_t host)
{
    (void)pthread_mutex_lock(&registry->lock);
    char *copy = str_dup(registry->authorizations[host]);
    (void)pthread_mutex_unlock(&registry->lock);
    return copy;
}

static char *
token_for(struct registry *registry, const struct token_request *request, const char *refused, bool *was_kept, const struct http_scope *scope,
          struct error *err)
{
    char key[DIGEST_SIZE];
    int64_t seconds;
    credentials_token_key(request, key);
    char *value = tokens_find(registry->context->tokens, key, refused);
    *was_kept = value != NULL;
    if (value)
        return value;
    value = credentials_answer(request, registry->context->http, scope, &seconds, err);
    if (value && seconds > 0)
        tokens_keep(registry->context->tokens, key, value, seconds);
    return value;
}

/* Another thread may have answered meanwhile: `refused` is what the 401 was for. 1: by a token from an earlier pull, which may be refused in its
 * turn. */
static int
answer(const struct question *q, size_t at, const char *refused, const struct http_response *response, struct error *err)
{
    struct registry *registry = q->registry;
    const struct host *host = &registry->hosts.items[at];
    cleanup_free char *current = authorization_of(registry, at);
    if (!str_eq(current, refused))
        return 0;
    bool ours = credentials_are_for(&registry->credentials, registry->reference.registry, host);
    cleanup_challenge struct challenge challenge;
    challenge_choose(&response->challenges, &challenge);
    struct token_request request = {ours ? &registry->credentials : NULL, &challenge, host, registry->reference.repository};
    bool was_kept;
    char *value = token_for(registry, &request, refused, &was_kept, q->scope, err);
    if (!value)
        return -1;
    (void)pthread_mutex_lock(&registry->lock);
    str_wipe_free(registry->authorizations[at]);
    registry->authorizations[at] = value;
    registry->as_whom[at] = whom(request.credentials, was_kept);
    (void)pthread_mutex_unlock(&registry->lock);
    return was_kept;
}

/* The answer's bytes into the ring, as ring_offer; in the HTTP thread. */
static int
stream_sink(void *arg, const struct http_response *response, const void *data, size_t length)
{
    struct stream *s = arg;
    if (s->fresh) {
        int64_t start = response->status == 206 ? response->range_start : 0;
        s->fresh = false;
        s->skip = s->offset - start;
        if (start < 0 || s->skip < 0)
            return error_set(&s->wrong, ERR_UNAVAILABLE, "it answers another range than was asked for");
    }
    size_t skipped = s->skip < (int64_t)length ? (size_t)s->skip : length;
    const char *rest = (const char *)data + skipped;
    size_t left = length - skipped;
    if (s->offset + (int64_t)left > s->size)
        return error_set(&s->wrong, ERR_INTERNAL, "it is longer than the %lld bytes that the manifest says", (long long)s->size);
    int taken = left ? ring_offer(s->ring, rest, left) : 1;
    s->abandoned = taken < 0;
    if (taken <= 0)
        return taken;
    s->skip -= (int64_t)skipped;
    s->offset += (int64_t)left;
    digest_add(s->digest, rest, left);
    return 1;
}

static int
authorize(const struct question *q, size_t at, const char *refused, const struct http_response *response, struct error *err)
{
    (void)pthread_mutex_lock(&q->registry->answering);
    int result = answer(q, at, refused, response, err);
    (void)pthread_mutex_unlock(&q->registry->answering);
    return result;
}

static int
ask_once(const struct question *q, size_t at, const char *authorization, struct http_response *response, struct error *err)
{
    const struct host *host = &q->registry->hosts.items[at];
    cleanup_free char *ours = str_printf("%s/%s/%s%s%s", host->base, q->registry->reference.repository, q->path, host->proxied ? "?ns=" : "",
                                         host->proxied ? host->proxied : "");
    cleanup_strv struct strv headers = {0};
    if (q->accept)
        strv_add(&headers, q->accept);
    if (q->stream && q->stream->offset)
        strv_addf(&headers, "Range: bytes=%lld-", (long long)q->stream->offset);
    if (q->stream)
        q->stream->fresh = true;
    struct http_request request = {
        .url = q->url ? q->url : ours,
        .head = q->head,
        .authorization = q->url ? NULL : authorization,
        .headers = &headers,
        .private_headers = q->url ? NULL : &host->headers,
        .peer = q->url ? NULL : &host->peer,
        .scope = q->scope,
        .body_limit = q->body_limit,
        .sink = q->stream ? stream_sink : NULL,
        .sink_arg = q->stream,
        .ring = q->stream ? q->stream->ring : NULL,
    };
    int result = http_perform(q->registry->context->http, &request, response, err);
    tell_attempt(q, at, authorization != NULL, result, response, err);
    return result;
}

static bool
may_be_asked(const struct question *q, const struct host *host)
{
    return q->accept ? host->resolves : host->pulls;
}

static bool
has_another_host(const struct question *q, size_t at)
{
    while (++at < q->registry->hosts.count)
        if (may_be_asked(q, &q->registry->hosts.items[at]))
            return true;
    return false;
}

/* What to do after an answer. */
enum verdict { GOOD, AGAIN, GIVE_UP };

/* A host that can't be reached or stalls is left for the next one at once, where there is one; but one that has served us may only be starting anew.
 */
static enum verdict
judge_failure(const struct question *q, size_t at, const struct http_response *response, const struct error *err)
{
    bool served = q->stream && q->stream->offset;
    if (err->kind != ERR_UNAVAILABLE || response->failure == HTTP_NOT_TRUSTED)
        return GIVE_UP;
    bool elsewhere = response->failure == HTTP_STALLED || (response->failure == HTTP_NOT_CONNECTED && !served);
    return elsewhere && has_another_host(q, at) ? GIVE_UP : AGAIN;
}

static enum verdict
judge(const struct question *q, size_t at, struct http_response *response, int result, int tries, struct error *err)
{
    if (q->stream && q->stream->wrong.kind != ERR_NONE) {
        *err = q->stream->wrong;
        return GIVE_UP;
    }
    if (q->stream && q->stream->abandoned) {
        (void)error_set(err, ERR_CANCELLED, "unpacking ended early");
        return GIVE_UP;
    }
    if (result < 0)
        return judge_failure(q, at, response, err);
    if (response->status == 200 || response->status == 206)
        return GOOD;
    if (q->url)
        buf_consume(&response->body, response->body.length);
    (void)response_refused(response, err);
    if (response->status == 429)
        return response->retry_after_s >= 0 && response->retry_after_s <= LIMIT_WAIT_SECONDS && tries < 2 ? AGAIN : GIVE_UP;
    return response->status >= 500 ? AGAIN : GIVE_UP;
}

static int64_t
backoff_ms(const struct http_response *response, int tries)
{
    if (response->status == 429 || (response->status == 503 && response->retry_after_s > 0 && response->retry_after_s <= LIMIT_WAIT_SECONDS))
        return response->retry_after_s * 1000;
    return INT64_C(200) << tries;
}

/* An answer without a length, or with one that is too small, has no other sign of having been cut. One that brings nothing more is the host's last
 * word. */
static bool
ended_early(const struct question *q, int64_t reached, const struct http_response *response)
{
    bool good = response->status == 200 || response->status == 206;
    return good && q->stream && q->stream->wrong.kind == ERR_NONE && q->stream->offset > reached && q->stream->offset < q->stream->size;
}

static int
ask_host(const struct question *q, size_t at, struct http_response *response, struct error *err)
{
    bool authorized = false;
    int64_t reached = 0;
    for (int tries = 0;; tries++) {
        cleanup_free char *authorization = authorization_of(q->registry, at);
        int result = ask_once(q, at, authorization, response, err);
        if (result == 0 && response->status == 401 && !authorized && !q->url) {
            authorized = TRY(authorize(q, at, authorization, response, err)) == 0;
            tries--;
            continue;
        }
        if (result == 0 && ended_early(q, reached, response))
            result = error_set(err, ERR_UNAVAILABLE, "it ended after %lld of %lld bytes", (long long)q->stream->offset, (long long)q->stream->size);
        enum verdict verdict = judge(q, at, response, result, tries, err);
        if (verdict != AGAIN)
            return verdict == GOOD ? 0 : -1;
        if (q->stream && q->stream->offset > reached) {
            authorized = false; /* a token may have run out while the layer came in */
            if (q->stream->offset - reached >= http_progress_bytes(q->registry->context->http))
                tries = 0;
            reached = q->stream->offset;
        }
        if (tries + 1 >= (q->stream ? LIMIT_ATTEMPTS : 3))
            return -1;
        TRY(wait_ms(q->scope, backoff_ms(response, tries), err));
    }
}

static bool
ends_it(const struct question *q, const struct error *err)
{
    return err->kind == ERR_CANCELLED || (q->stream && q->stream->wrong.kind == ERR_INTERNAL);
}

/* Ask the hosts in their order, from *at, until one answers, which *at is then. */
static int
ask_from(const struct question *q, size_t *at, struct http_response *response, struct error *err)
{
    cleanup_buf struct buf earlier = BUF(512);
    struct error why = {0};
    (void)error_set(&why, ERR_PRECONDITION, "hosts.toml leaves no host that may be asked for this");
    for (; *at < q->registry->hosts.count; ++*at) {
        const struct host *host = &q->registry->hosts.items[*at];
        if (!may_be_asked(q, host))
            continue;
        if (ask_host(q, *at, response, &why) == 0)
            return 0;
        if (!str_eq(host->name, q->registry->reference.registry))
            (void)error_prefix(&why, "%s %s", host->proxied ? "mirror" : "server", host->name);
        if (ends_it(q, &why))
            break;
        if (q->stream)
            q->stream->wrong = (struct error){0};
        if (*at + 1 < q->registry->hosts.count)
            (void)buf_addf(&earlier, "%s%.160s", earlier.length ? "; " : "", why.message);
    }
    if (err)
        *err = why;
    if (earlier.length && why.kind != ERR_CANCELLED)
        (void)error_set(err, why.kind, "%.900s (before: %s)", why.message, earlier.data);
    return error_prefix(err, "registry %s, repository %s", q->registry->reference.registry, q->registry->reference.repository);
}

/* What none of the hosts has. */
static int
ask_elsewhere(struct question *q, const struct strv *urls, struct http_response *response, struct error *err)
{
    const struct error refused = *err;
    for (size_t i = 0; i < urls->count && i < LIMIT_URLS && !ends_it(q, err); i++) {
        struct error why = {0};
        q->url = urls->items[i];
        q->stream->wrong = (struct error){0};
        if (!str_starts(q->url, "http://") && !str_starts(q->url, "https://"))
            (void)error_set(&why, ERR_INVALID, "it is not of http");
        else if (ask_host(q, 0, response, &why) == 0)
            return 0;
        if (why.kind == ERR_CANCELLED)
            *err = why;
        else
            (void)error_set(err, refused.kind, "%.700s; %.200s: %.300s", refused.message, q->url, why.message);
    }
    return -1;
}

static int
ask(const struct question *q, size_t first, struct http_response *response, struct error *err)
{
    return ask_from(q, &first, response, err);
}

static void
take_document(struct http_response *response, const char *like, struct document *out)
{
    out->length = response->body.length;
    out->text = response->body.data ? steal(response->body.data) : str_dup("");
    out->content_type = steal(response->content_type);
    digest_of(like, out->text, out->length, out->digest);
}

static int
wrong_digest(const struct registry *registry, const char *what, const char *wanted, const char *got, struct error *err)
{
    return error_set(err, ERR_INTERNAL, "registry %s, repository %s: %s: what came has digest %s, not %s", registry->reference.registry,
                     registry->reference.repository, what, got, wanted);
}

/* A document by its path, of whatever digest is known to be its. */
static int
take_verified(const struct registry *registry, const char *step, const char *digest, struct http_response *response, struct document *out,
              struct error *err)
{
    const char *said = response->content_digest && digest_valid(response->content_digest) ? response->content_digest : NULL;
    cleanup_free char *wanted = str_dup(digest ? digest : said);
    take_document(response, wanted, out);
    if (!wanted || str_eq(wanted, out->digest))
        return 0;
    (void)wrong_digest(registry, step, wanted, out->digest, err);
    document_free(out);
    return -1;
}

int
registry_manifest(struct registry *registry, const struct http_scope *scope, const char *which, struct document *out, struct error *err)
{
    cleanup_free char *path = str_printf("manifests/%s", which);
    cleanup_free char *step = str_printf("fetch manifest %s", which);
    struct question q = {.registry = registry, .scope = scope, .path = path, .accept = manifest_accept, .body_limit = LIMIT_MANIFEST_BYTES};
    cleanup_response struct http_response response = {0};
    if (ask(&q, 0, &response, err) < 0)
        return error_prefix(err, "%s", step);
    return take_verified(registry, step, digest_valid(which) ? which : NULL, &response, out, err);
}

/* Registries that have no such tag, or no such API, say so with one of these. */
static bool
says_no(const struct http_response *response, const struct error *why)
{
    int status = response->status;
    return why->kind == ERR_NOT_FOUND || (why->kind == ERR_INTERNAL && (status == 400 || status == 405 || status == 406));
}

int
registry_find(struct registry *registry, const struct http_scope *scope, const char *path, size_t *host, struct document *out, struct error *err)
{
    struct question q = {.registry = registry, .scope = scope, .path = path, .accept = manifest_accept, .body_limit = LIMIT_MANIFEST_BYTES};
    cleanup_response struct http_response response = {0};
    struct error why = {0};
    while (*host < registry->hosts.count && !registry->hosts.items[*host].resolves)
        ++*host;
    if (*host == registry->hosts.count)
        return 0;
    if (ask_from(&q, host, &response, &why) < 0) {
        if (says_no(&response, &why))
            return 0;
        *err = why;
        return error_prefix(err, "fetch %s", path);
    }
    return TRY(take_verified(registry, path, NULL, &response, out, err)) == 0;
}

int
registry_digest(struct registry *registry, const struct http_scope *scope, const char *which, char out[DIGEST_SIZE], struct error *err)
{
    cleanup_free char *path = str_printf("manifests/%s", which);
    struct question q = {.registry = registry, .scope = scope, .path = path, .accept = manifest_accept, .head = true};
    cleanup_response struct http_response response = {0};
    if (ask(&q, 0, &response, err) < 0)
        return error_prefix(err, "look up manifest %s", which);
    if (!response.content_digest || !digest_valid(response.content_digest))
        return 0;
    (void)strcpy(out, response.content_digest);
    return 1;
}

static int
fetch_small(struct registry *registry, const struct http_scope *scope, const char *what, const struct descriptor *descriptor, int64_t limit,
            struct document *out, struct error *err)
{
    cleanup_free char *path = str_printf("blobs/%s", descriptor->digest);
    cleanup_free char *step = str_printf("fetch %s %s", what, descriptor->digest);
    struct question q = {.registry = registry, .scope = scope, .path = path, .body_limit = (size_t)limit};
    cleanup_response struct http_response response = {0};
    if (descriptor->size > limit)
        return error_set(err, ERR_INVALID, "%s %s: larger than %lld MiB", what, descriptor->digest, (long long)(limit >> 20));
    if (ask(&q, 0, &response, err) < 0)
        return error_prefix(err, "%s", step);
    return take_verified(registry, step, descriptor->digest, &response, out, err);
}

int
registry_config(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, struct document *out,
                struct error *err)
{
    return fetch_small(registry, scope, "configuration", descriptor, LIMIT_MANIFEST_BYTES, out, err);
}

int
registry_signature(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, struct document *out,
                   struct error *err)
{
    return fetch_small(registry, scope, "signature", descriptor, LIMIT_SIGNATURE_BYTES, out, err);
}

static int
check_blob(const struct registry *registry, const struct descriptor *descriptor, struct stream *stream, bool *corrupt, struct error *err)
{
    char got[DIGEST_SIZE];
    digest_finish(stream->digest, got);
    *corrupt = true;
    if (stream->offset != descriptor->size)
        return error_set(err, ERR_INTERNAL, "registry %s, repository %s: fetch layer %s: %lld bytes came; the manifest says %lld",
                         registry->reference.registry, registry->reference.repository, descriptor->digest, (long long)stream->offset,
                         (long long)descriptor->size);
    if (!str_eq(got, descriptor->digest))
        return wrong_digest(registry, "fetch layer", descriptor->digest, got, err);
    *corrupt = false;
    return 0;
}

static int
replay(int partial, const struct http_scope *scope, struct stream *stream, struct error *err)
{
    while (stream->offset < stream->size) {
        size_t length;
        char *room = ring_room(stream->ring, &length);
        if (!room || atomic_load(&scope->cancelled))
            return error_set(err, ERR_CANCELLED, room ? "the pull was cancelled" : "unpacking ended early");
        size_t left = (size_t)(stream->size - stream->offset);
        ssize_t n = pread(partial, room, length < left ? length : left, stream->offset);
        if (n <= 0)
            return n < 0 ? error_errno(err, errno, "read what came of it before") : 0;
        digest_add(stream->digest, room, (size_t)n);
        ring_push(stream->ring, (size_t)n);
        stream->offset += n;
    }
    return 0;
}

static int
fetch_blob(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, size_t first, int partial,
           struct ring *ring, bool *corrupt, struct error *err)
{
    cleanup(digest_freep) struct digest *digest = digest_new(descriptor->digest);
    cleanup_free char *path = str_printf("blobs/%s", descriptor->digest);
    struct stream stream = {.ring = ring, .digest = digest, .size = descriptor->size};
    struct question q = {.registry = registry, .scope = scope, .path = path, .body_limit = LIMIT_ERROR_BODY_BYTES, .stream = &stream};
    cleanup_response struct http_response response = {0};
    if (partial >= 0 && replay(partial, scope, &stream, err) < 0)
        return error_prefix(err, "layer %s", descriptor->digest);
    bool whole = partial >= 0 && stream.offset == stream.size;
    if (!whole && ask(&q, first, &response, err) < 0 && ask_elsewhere(&q, &descriptor->urls, &response, err) < 0) {
        *corrupt = stream.wrong.kind == ERR_INTERNAL;
        return error_prefix(err, "fetch layer %s", descriptor->digest);
    }
    return check_blob(registry, descriptor, &stream, corrupt, err);
}

int
registry_blob(struct registry *registry, const struct http_scope *scope, const struct descriptor *descriptor, size_t first, int partial,
              struct ring *ring, bool *corrupt, struct error *err)
{
    *corrupt = false;
    if (fetch_blob(registry, scope, descriptor, first, partial, ring, corrupt, err) < 0) {
        ring_fail(ring, err);
        return -1;
    }
    ring_end(ring);
    return 0;
}
