#include "imageservice/pull/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "imageservice/pull/limits.h"

/* One request on its way; lives on the stack of the thread that waits for it. */
struct transfer {
    const struct http_request *request;
    struct http_response *response;
    struct http *http;
    CURL *easy;
    struct curl_slist *header_list;
    char words[CURL_ERROR_SIZE];
    char *redirect;     /* where the answer leads */
    atomic_bool resume; /* the ring has room again */
    bool paused;        /* for want of room */
    int64_t received;   /* in the stretch that began then: */
    int64_t since_ns;
    bool stalled;
    bool done;
    CURLcode result;
    struct transfer *next;
};

struct http {
    struct http_options options;
    CURLM *multi;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows and transfer.done */
    pthread_cond_t ended;
    struct transfer *submitted;
    bool stopping;
    struct transfer *running; /* the thread's own */
};

/* Seconds from now; what a stranger writes there that is neither a number nor a date is later than we wait. */
static int64_t
retry_after(const char *value)
{
    int64_t seconds;
    if (str_to_i64(value, "Retry-After", &seconds, NULL) == 0)
        return seconds;
    time_t date = curl_getdate(value, NULL), now = time(NULL);
    return date < 0 ? LIMIT_WAIT_SECONDS + 1 : date > now ? date - now : 0;
}

static size_t
on_header(char *line, size_t one, size_t length, void *arg)
{
    struct transfer *t = arg;
    struct http_response *r = t->response;
    t->received += (int64_t)(length * one);
    cleanup_free char *text = str_ndup(line, length * one);
    text[strcspn(text, "\r\n")] = '\0';
    char *colon = strchr(text, ':');
    if (str_starts(text, "HTTP/")) {
        http_response_free(r);
        r->body = BUF(t->request->body_limit);
        return length * one;
    }
    if (!colon)
        return length * one;
    *colon = '\0';
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(text, "content-type") == 0) {
        free(r->content_type);
        r->content_type = str_ndup(value, strcspn(value, "; \t"));
    } else if (strcasecmp(text, "docker-content-digest") == 0) {
        free(r->content_digest);
        r->content_digest = str_dup(value);
    } else if (strcasecmp(text, "www-authenticate") == 0 && r->challenges.count < 8)
        strv_add(&r->challenges, value);
    else if (strcasecmp(text, "retry-after") == 0)
        r->retry_after_s = retry_after(value);
    else if (strcasecmp(text, "content-range") == 0 && str_starts(value, "bytes ")) {
        cleanup_free char *start = str_ndup(value + 6, strcspn(value + 6, "-"));
        if (str_to_i64(start, "Content-Range", &r->range_start, NULL) < 0)
            r->range_start = -1;
    }
    return length * one;
}

static size_t
on_body(char *data, size_t one, size_t length, void *arg)
{
    struct transfer *t = arg;
    long status = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    t->response->status = (int)status;
    if (t->request->sink && (status == 200 || status == 206)) {
        int taken = t->request->sink(t->request->sink_arg, t->response, data, length * one);
        t->paused = taken == 0;
        t->received += taken > 0 ? (int64_t)(length * one) : 0;
        return taken > 0 ? length * one : taken == 0 ? CURL_WRITEFUNC_PAUSE : 0;
    }
    t->received += (int64_t)(length * one);
    if (buf_add(&t->response->body, data, length * one))
        return length * one;
    t->response->body_too_large = true;
    return 0;
}

/* Called by the ring with its lock held: only wakes the thread. */
static void
on_room(void *arg)
{
    struct transfer *t = arg;
    atomic_store(&t->resume, true);
    (void)curl_multi_wakeup(t->http->multi);
}

static void
end_transfer(struct http *http, struct transfer *t, CURLcode result)
{
    char *url = NULL;
    long status = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &url);
    t->response->status = (int)status;
    t->redirect = str_dup(url);
    (void)curl_multi_remove_handle(http->multi, t->easy);
    (void)pthread_mutex_lock(&http->lock);
    t->result = result;
    t->done = true;
    (void)pthread_cond_broadcast(&http->ended);
    (void)pthread_mutex_unlock(&http->lock);
}

static void
start_submitted(struct http *http)
{
    (void)pthread_mutex_lock(&http->lock);
    struct transfer *list = http->submitted;
    http->submitted = NULL;
    (void)pthread_mutex_unlock(&http->lock);
    while (list) {
        struct transfer *t = list;
        list = t->next;
        (void)curl_multi_add_handle(http->multi, t->easy);
        t->since_ns = clock_monotonic_ns();
        t->next = http->running;
        http->running = t;
    }
}

/* Not libcurl's CURLOPT_LOW_SPEED_LIMIT, which looks at the last seconds only: a burst now and then would pass. */
static bool
is_too_slow(const struct http_options *options, struct transfer *t, int64_t now)
{
    if (!t->paused && now - t->since_ns < options->stall_seconds * NS_PER_SECOND)
        return false;
    t->stalled = !t->paused && t->received < options->least_rate * options->stall_seconds;
    t->received = 0;
    t->since_ns = now;
    return t->stalled;
}

static void
serve_running(struct http *http)
{
    int64_t now = clock_monotonic_ns();
    for (struct transfer **link = &http->running; *link;) {
        struct transfer *t = *link;
        if (atomic_load(&t->request->scope->cancelled) || is_too_slow(&http->options, t, now)) {
            *link = t->next;
            end_transfer(http, t, CURLE_ABORTED_BY_CALLBACK);
            continue;
        }
        if (atomic_exchange(&t->resume, false))
            (void)curl_easy_pause(t->easy, CURLPAUSE_CONT);
        link = &t->next;
    }
}

static void
collect_ended(struct http *http)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(http->multi, &left));) {
        struct transfer **link = &http->running;
        while (*link && (*link)->easy != m->easy_handle)
            link = &(*link)->next;
        struct transfer *t = *link;
        if (m->msg != CURLMSG_DONE || !t)
            continue;
        *link = t->next;
        end_transfer(http, t, m->data.result);
    }
}

static void *
drive(void *arg)
{
    struct http *http = arg;
    for (;;) {
        (void)pthread_mutex_lock(&http->lock);
        bool stopping = http->stopping;
        (void)pthread_mutex_unlock(&http->lock);
        if (stopping)
            return NULL;
        int running, events;
        start_submitted(http);
        serve_running(http);
        (void)curl_multi_perform(http->multi, &running);
        collect_ended(http);
        (void)curl_multi_poll(http->multi, NULL, 0, 1000, &events);
    }
}

struct http *
http_start(const struct http_options *options, struct error *err)
{
    struct http *http = mem_zalloc(1, sizeof *http);
    http->options = *options;
    (void)pthread_mutex_init(&http->lock, NULL);
    (void)pthread_cond_init(&http->ended, NULL);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(http->multi = curl_multi_init())) {
        (void)error_set(err, ERR_INTERNAL, "libcurl does not start");
        return NULL;
    }
    int errnum = pthread_create(&http->thread, NULL, drive, http);
    if (errnum) {
        (void)error_errno(err, errnum, "start the HTTP thread");
        return NULL;
    }
    return http;
}

void
http_stop(struct http *http)
{
    (void)pthread_mutex_lock(&http->lock);
    http->stopping = true;
    (void)pthread_mutex_unlock(&http->lock);
    (void)curl_multi_wakeup(http->multi);
    (void)pthread_join(http->thread, NULL);
    (void)curl_multi_cleanup(http->multi);
    (void)pthread_cond_destroy(&http->ended);
    (void)pthread_mutex_destroy(&http->lock);
    free(http);
}

bool
http_host_is_loopback(const char *host)
{
    cleanup_free char *name = *host == '[' ? str_ndup(host + 1, strcspn(host + 1, "]")) : str_ndup(host, strcspn(host, ":"));
    unsigned a, b, c, d;
    char end;
    if (str_eq(name, "localhost") || str_ends(name, ".localhost") || str_eq(name, "::1"))
        return true;
    return sscanf(name, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &end) == 4 && a == 127 && b < 256 && c < 256 && d < 256;
}

int64_t
http_progress_bytes(const struct http *http)
{
    return http->options.least_rate * http->options.stall_seconds;
}

void
http_cancel(struct http *http, struct http_scope *scope)
{
    atomic_store(&scope->cancelled, true);
    (void)curl_multi_wakeup(http->multi);
}

void
http_response_free(struct http_response *response)
{
    buf_free(&response->body);
    free(response->content_type);
    free(response->content_digest);
    strv_free(&response->challenges);
    *response = (struct http_response){.retry_after_s = -1, .range_start = -1};
}

static void
add_headers(struct transfer *t, const struct strv *lines)
{
    for (size_t i = 0; lines && i < lines->count; i++)
        t->header_list = curl_slist_append(t->header_list, lines->items[i]);
}

static void
set_peer(CURL *easy, const struct http_peer *peer, bool same_origin)
{
    if (peer->ca_pem) {
        /* In place of the default bundle; the system's directory of certificates (CURLOPT_CAPATH) stays in use beside it. */
        struct curl_blob blob = {.data = peer->ca_pem, .len = strlen(peer->ca_pem), .flags = CURL_BLOB_COPY};
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (same_origin && peer->client_cert)
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, peer->client_cert);
    if (same_origin && peer->client_key)
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, peer->client_key);
    if (peer->skip_verify) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (peer->dial_timeout_ms)
        (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)peer->dial_timeout_ms);
}

/* NULL where the URL is none. The caller frees. */
static char *
part_of(const char *url, CURLUPart which)
{
    CURLU *parsed = curl_url();
    char *text = NULL;
    if (parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK)
        (void)curl_url_get(parsed, which, &text, CURLU_DEFAULT_PORT);
    char *part = str_dup(text);
    curl_free(text);
    curl_url_cleanup(parsed);
    return part;
}

static bool
same_part(const char *a, const char *b, CURLUPart which)
{
    cleanup_free char *part_a = part_of(a, which), *part_b = part_of(b, which);
    return part_a && part_b && strcasecmp(part_a, part_b) == 0;
}

bool
http_same_machine(const char *url_a, const char *url_b)
{
    return same_part(url_a, url_b, CURLUPART_HOST);
}

static bool
is_on_loopback(const char *url)
{
    cleanup_free char *host = part_of(url, CURLUPART_HOST);
    return host && http_host_is_loopback(host);
}

static void
set_options(struct transfer *t, const char *url, bool same_origin)
{
    const struct http_request *r = t->request;
    CURL *easy = t->easy;
    add_headers(t, r->headers);
    if (same_origin)
        add_headers(t, r->private_headers);
    if (same_origin && r->authorization) {
        char *line = str_printf("Authorization: %s", r->authorization);
        t->header_list = curl_slist_append(t->header_list, line);
        str_wipe_free(line);
    }
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->header_list);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "crisp/" CRISP_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L << 10);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 30000L);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->words);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(easy, CURLOPT_NOBODY, (long)r->head);
    if (r->form)
        (void)curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, r->form);
    if (is_on_loopback(url))
        (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    if (r->peer)
        set_peer(easy, r->peer, same_origin);
}

static void
run(struct http *http, struct transfer *t)
{
    if (t->request->ring)
        ring_on_room(t->request->ring, on_room, t);
    (void)pthread_mutex_lock(&http->lock);
    t->next = http->submitted;
    http->submitted = t;
    (void)curl_multi_wakeup(http->multi);
    while (!t->done)
        (void)pthread_cond_wait(&http->ended, &http->lock);
    (void)pthread_mutex_unlock(&http->lock);
    if (t->request->ring)
        ring_on_room(t->request->ring, NULL, NULL);
}

static enum http_failure
kind_of_failure(CURLcode code)
{
    static const struct {
        CURLcode code;
        enum http_failure failure;
    } kinds[] = {
        {CURLE_COULDNT_CONNECT, HTTP_NOT_CONNECTED},        {CURLE_COULDNT_RESOLVE_HOST, HTTP_NOT_CONNECTED},
        {CURLE_COULDNT_RESOLVE_PROXY, HTTP_NOT_CONNECTED},  {CURLE_OPERATION_TIMEDOUT, HTTP_NOT_CONNECTED},
        {CURLE_PEER_FAILED_VERIFICATION, HTTP_NOT_TRUSTED}, {CURLE_SSL_CERTPROBLEM, HTTP_NOT_TRUSTED},
        {CURLE_SSL_CACERT_BADFILE, HTTP_NOT_TRUSTED},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].code == code)
            return kinds[i].failure;
    return HTTP_BROKE_OFF;
}

static int
failure(const struct transfer *t, struct error *err)
{
    if (atomic_load(&t->request->scope->cancelled))
        return error_set(err, ERR_CANCELLED, "the pull was cancelled");
    if (t->response->body_too_large)
        return error_set(err, ERR_INVALID, "the answer is larger than %zu bytes", t->request->body_limit);
    t->response->failure = t->stalled ? HTTP_STALLED : kind_of_failure(t->result);
    if (t->stalled)
        return error_set(err, ERR_UNAVAILABLE, "it stalls: less than %lld bytes per second came for %lld seconds",
                         (long long)t->http->options.least_rate, (long long)t->http->options.stall_seconds);
    return error_set(err, ERR_UNAVAILABLE, "%s", *t->words ? t->words : curl_easy_strerror(t->result));
}

/* One request to one place; *redirect says where to go on, if anywhere. */
static int
perform_once(struct http *http, const struct http_request *request, const char *url, bool same_origin, struct http_response *response,
             char **redirect, struct error *err)
{
    struct transfer t = {.request = request, .response = response, .http = http, .easy = curl_easy_init()};
    http_response_free(response);
    response->body = BUF(request->body_limit);
    if (!t.easy)
        return error_set(err, ERR_EXHAUSTED, "no memory for a transfer");
    set_options(&t, url, same_origin);
    run(http, &t);
    int result = t.result == CURLE_OK ? 0 : failure(&t, err);
    *redirect = result == 0 && response->status >= 301 && response->status <= 308 ? steal(t.redirect) : NULL;
    free(t.redirect);
    curl_easy_cleanup(t.easy);
    curl_slist_free_all(t.header_list);
    return result;
}

static bool
same_origin(const char *a, const char *b)
{
    return same_part(a, b, CURLUPART_SCHEME) && same_part(a, b, CURLUPART_HOST) && same_part(a, b, CURLUPART_PORT);
}

int
http_perform(struct http *http, const struct http_request *request, struct http_response *response, struct error *err)
{
    cleanup_free char *url = str_dup(request->url);
    bool trusted = true; /* once another origin was met, nothing private is sent any more */
    for (int hops = 0;; hops++) {
        char *redirect = NULL;
        TRY(perform_once(http, request, url, trusted, response, &redirect, err));
        if (!redirect || request->form) {
            free(redirect);
            return 0;
        }
        free(url);
        url = redirect;
        trusted = trusted && same_origin(request->url, url);
        if (hops == LIMIT_REDIRECTS)
            return error_set(err, ERR_UNAVAILABLE, "more than %d redirects", LIMIT_REDIRECTS);
    }
}
