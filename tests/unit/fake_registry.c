#include "fake_registry.h"

#include <archive.h>
#include <archive_entry.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "imageservice/digest.h"

enum { ARCHIVE_MAX = 80 << 20 };

struct document {
    char *path, *type;
    void *data;
    size_t length;
    struct document *next;
};

struct fake_registry {
    int listener;
    unsigned port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t left;
    bool stopping;
    struct document *documents;
    struct strv seen;
    unsigned open;
    fake_hook *hook;
    void *hook_arg;
};

struct connection {
    struct fake_registry *registry;
    int fd;
};

static void
sleep_ms(unsigned ms)
{
    (void)nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000L}, NULL);
}

static void
send_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        length -= (size_t)n;
    }
}

static bool
hung_up(int fd)
{
    char c;
    return recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void
send_reply(int fd, const struct fake_reply *reply, bool only_head)
{
    sleep_ms(reply->slow_ms);
    cleanup_free char *head = str_printf("HTTP/1.1 %d x\r\nContent-Length: %lld\r\nConnection: close\r\n%s\r\n", reply->status,
                                         (long long)(reply->declared >= 0 ? reply->declared : (int64_t)reply->length), reply->headers);
    send_all(fd, head, strlen(head));
    if (only_head)
        return;
    size_t length = reply->cut_at >= 0 && reply->cut_at < (int64_t)reply->length ? (size_t)reply->cut_at : reply->length;
    for (size_t at = 0; at < length && !hung_up(fd);) {
        size_t n = reply->slow_ms && length - at > 1000 ? 1000 : length - at;
        sleep_ms(reply->slow_ms);
        send_all(fd, (const char *)reply->body + at, n);
        at += n;
    }
}

/* The answer of a registry that tells the truth. */
static void
honest_reply(const struct fake_registry *registry, const struct fake_request *request, struct fake_reply *reply)
{
    static const char missing[] = "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"no such thing here\"}]}";
    *reply = (struct fake_reply){.status = 404, .body = missing, .length = sizeof missing - 1, .declared = -1, .cut_at = -1};
    for (const struct document *d = registry->documents; d; d = d->next) {
        if (!str_eq(d->path, request->path))
            continue;
        size_t start = request->range_start >= 0 && (size_t)request->range_start <= d->length ? (size_t)request->range_start : 0;
        reply->status = request->range_start >= 0 ? 206 : 200;
        reply->body = (const char *)d->data + start;
        reply->length = d->length - start;
        char digest[DIGEST_SIZE];
        digest_of(NULL, d->data, d->length, digest);
        int n = snprintf(reply->headers, sizeof reply->headers, "Content-Type: %s\r\nDocker-Content-Digest: %s\r\n", d->type, digest);
        if (reply->status == 206)
            (void)snprintf(reply->headers + n, sizeof reply->headers - (size_t)n, "Content-Range: bytes %zu-%zu/%zu\r\n", start, d->length - 1,
                           d->length);
        return;
    }
}

static void
answer(struct connection *c, char *text)
{
    struct fake_registry *registry = c->registry;
    struct fake_request request = {.range_start = -1, .authorization = "", .query = "", .body = ""};
    char *body = strstr(text, "\r\n\r\n"), *lines = strstr(text, "\r\n");
    *body = '\0';
    request.body = body + 4;
    *lines = '\0';
    request.method = strtok(text, " ");
    char *path = strtok(NULL, " ");
    char *query = strchr(path, '?');
    if (query) {
        *query = '\0';
        request.query = query + 1;
    }
    request.path = path;
    char *save;
    for (char *line = strtok_r(lines + 2, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        if (strncasecmp(line, "authorization: ", 15) == 0)
            request.authorization = line + 15;
        if (strncasecmp(line, "range: bytes=", 13) == 0)
            request.range_start = atoll(line + 13);
    }
    struct fake_reply reply;
    (void)pthread_mutex_lock(&registry->lock);
    strv_addf(&registry->seen, "%s %s", request.method, request.path);
    request.number = (unsigned)registry->seen.count;
    honest_reply(registry, &request, &reply);
    if (registry->hook)
        registry->hook(registry->hook_arg, &request, &reply);
    (void)pthread_mutex_unlock(&registry->lock);
    send_reply(c->fd, &reply, str_eq(request.method, "HEAD"));
}

static void *
serve(void *arg)
{
    struct connection *c = arg;
    char text[32768];
    size_t length = 0;
    for (ssize_t n; length < sizeof text - 1 && (n = recv(c->fd, text + length, sizeof text - 1 - length, 0)) > 0;) {
        length += (size_t)n;
        text[length] = '\0';
        char *body = strstr(text, "\r\n\r\n"), *declared = strcasestr(text, "content-length: ");
        if (body && (!declared || declared > body || text + length >= body + 4 + atoi(declared + 16))) {
            answer(c, text);
            break;
        }
    }
    (void)shutdown(c->fd, SHUT_RDWR);
    (void)close(c->fd);
    (void)pthread_mutex_lock(&c->registry->lock);
    c->registry->open--;
    (void)pthread_cond_broadcast(&c->registry->left);
    (void)pthread_mutex_unlock(&c->registry->lock);
    free(c);
    return NULL;
}

static void *
listen_on(void *arg)
{
    struct fake_registry *registry = arg;
    for (;;) {
        int fd = accept4(registry->listener, NULL, NULL, SOCK_CLOEXEC);
        (void)pthread_mutex_lock(&registry->lock);
        bool stopping = registry->stopping;
        registry->open += fd >= 0 && !stopping;
        (void)pthread_mutex_unlock(&registry->lock);
        if (stopping) {
            if (fd >= 0)
                (void)close(fd);
            return NULL;
        }
        if (fd < 0)
            continue;
        struct connection *c = mem_zalloc(1, sizeof *c);
        *c = (struct connection){registry, fd};
        pthread_t thread;
        (void)pthread_create(&thread, NULL, serve, c);
        (void)pthread_detach(thread);
    }
}

struct fake_registry *
fake_registry_start(void)
{
    struct fake_registry *registry = mem_zalloc(1, sizeof *registry);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    registry->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(registry->listener, (struct sockaddr *)&address, size) < 0 || listen(registry->listener, 64) < 0 ||
        getsockname(registry->listener, (struct sockaddr *)&address, &size) < 0)
        abort();
    registry->port = ntohs(address.sin_port);
    (void)pthread_mutex_init(&registry->lock, NULL);
    (void)pthread_cond_init(&registry->left, NULL);
    (void)pthread_create(&registry->thread, NULL, listen_on, registry);
    return registry;
}

void
fake_registry_stop(struct fake_registry *registry)
{
    (void)pthread_mutex_lock(&registry->lock);
    registry->stopping = true;
    (void)shutdown(registry->listener, SHUT_RDWR);
    while (registry->open)
        (void)pthread_cond_wait(&registry->left, &registry->lock);
    (void)pthread_mutex_unlock(&registry->lock);
    (void)pthread_join(registry->thread, NULL);
    (void)close(registry->listener);
    while (registry->documents) {
        struct document *d = registry->documents;
        registry->documents = d->next;
        free(d->path);
        free(d->type);
        free(d->data);
        free(d);
    }
    strv_free(&registry->seen);
    free(registry);
}

unsigned
fake_registry_port(const struct fake_registry *registry)
{
    return registry->port;
}

void
fake_registry_hook(struct fake_registry *registry, fake_hook *hook, void *arg)
{
    (void)pthread_mutex_lock(&registry->lock);
    registry->hook = hook;
    registry->hook_arg = arg;
    strv_free(&registry->seen);
    (void)pthread_mutex_unlock(&registry->lock);
}

unsigned
fake_registry_count(struct fake_registry *registry, const char *part)
{
    unsigned count = 0;
    (void)pthread_mutex_lock(&registry->lock);
    for (size_t i = 0; i < registry->seen.count; i++)
        count += !part || strstr(registry->seen.items[i], part) != NULL;
    (void)pthread_mutex_unlock(&registry->lock);
    return count;
}

unsigned
fake_registry_open(struct fake_registry *registry)
{
    (void)pthread_mutex_lock(&registry->lock);
    unsigned open = registry->open;
    (void)pthread_mutex_unlock(&registry->lock);
    return open;
}

/* ---- Images ---- */

static void
add_file(struct archive *archive, const struct fake_file *file)
{
    struct archive_entry *e = archive_entry_new();
    size_t length = file->filler ? file->filler : file->text ? strlen(file->text) : 0;
    cleanup_free char *filler = mem_zalloc(length + 1, 1);
    unsigned seed = (unsigned)length;
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1103515245 + 12345;
        filler[i] = (char)(seed >> 16);
    }
    archive_entry_set_pathname(e, file->path);
    archive_entry_set_mode(e, file->text || file->filler ? S_IFREG | 0644 : S_IFDIR | 0755);
    archive_entry_set_size(e, (la_int64_t)length);
    archive_entry_set_mtime(e, 1000000000, 0);
    (void)archive_write_header(archive, e);
    (void)archive_write_data(archive, file->filler ? filler : file->text ? file->text : "", length);
    archive_entry_free(e);
}

static size_t
make_archive(const struct fake_file *files, bool gzip, char *out)
{
    size_t length = 0;
    struct archive *archive = archive_write_new();
    (void)archive_write_set_format_pax_restricted(archive);
    if (gzip)
        (void)archive_write_add_filter_gzip(archive);
    (void)archive_write_set_options(archive, gzip ? "gzip:!timestamp" : "");
    (void)archive_write_open_memory(archive, out, ARCHIVE_MAX, &length);
    for (; files->path; files++)
        add_file(archive, files);
    (void)archive_write_close(archive);
    (void)archive_write_free(archive);
    return length;
}

struct fake_layer *
fake_layer_make(const struct fake_file *files)
{
    struct fake_layer *layer = mem_zalloc(1, sizeof *layer);
    cleanup_free char *plain = mem_alloc(ARCHIVE_MAX);
    char digest[DIGEST_SIZE];
    digest_of(NULL, plain, make_archive(files, false, plain), digest);
    (void)strcpy(layer->diff_id, digest);
    cleanup_free char *packed = mem_alloc(ARCHIVE_MAX);
    layer->length = make_archive(files, true, packed);
    layer->packed = mem_dup(packed, layer->length);
    digest_of(NULL, layer->packed, layer->length, digest);
    (void)strcpy(layer->digest, digest);
    return layer;
}

void
fake_layer_free(struct fake_layer *layer)
{
    free(layer->packed);
    free(layer);
}

static void
put_document(struct fake_registry *registry, char *path, const char *type, const void *data, size_t length)
{
    struct document *d = mem_zalloc(1, sizeof *d);
    *d = (struct document){.path = path, .type = str_dup(type), .data = mem_dup(data, length), .length = length};
    (void)pthread_mutex_lock(&registry->lock);
    d->next = registry->documents;
    registry->documents = d;
    (void)pthread_mutex_unlock(&registry->lock);
}

static void
put_blob(struct fake_registry *registry, const char *repository, const char *digest, const void *data, size_t length)
{
    put_document(registry, str_printf("/v2/%s/blobs/%s", repository, digest), "application/octet-stream", data, length);
}

void
fake_registry_put_text(struct fake_registry *registry, const char *repository, const char *path, const char *type, const char *text)
{
    put_document(registry, str_printf("/v2/%s/%s", repository, path), type, text, strlen(text));
}

void
fake_registry_put_manifest(struct fake_registry *registry, const char *repository, const char *name, const char *type, const char *text)
{
    put_document(registry, str_printf("/v2/%s/manifests/%s", repository, name), type, text, strlen(text));
}

char *
fake_registry_put(struct fake_registry *registry, const char *repository, const char *tag, const struct fake_layer *const layers[], size_t count,
                  const char *user, char *digest)
{
    char id[DIGEST_SIZE], manifest_digest[DIGEST_SIZE];
    cleanup_buf struct buf config = BUF(1 << 20), manifest = BUF(1 << 20);
    (void)buf_addf(&config,
                   "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"User\":\"%s\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[", user);
    for (size_t i = 0; i < count; i++)
        (void)buf_addf(&config, "%s\"%s\"", i ? "," : "", layers[i]->diff_id);
    (void)buf_adds(&config, "]}}");
    digest_of(NULL, config.data, config.length, id);
    put_blob(registry, repository, id, config.data, config.length);
    (void)buf_addf(&manifest,
                   "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
                   "\"annotations\":{\"made\":\"here\"},\"layers\":[",
                   id, config.length);
    for (size_t i = 0; i < count; i++) {
        (void)buf_addf(&manifest, "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"%s\",\"size\":%zu}", i ? "," : "",
                       layers[i]->digest, layers[i]->length);
        put_blob(registry, repository, layers[i]->digest, layers[i]->packed, layers[i]->length);
    }
    (void)buf_adds(&manifest, "]}");
    digest_of(NULL, manifest.data, manifest.length, manifest_digest);
    fake_registry_put_manifest(registry, repository, tag, "application/vnd.oci.image.manifest.v1+json", manifest.data);
    fake_registry_put_manifest(registry, repository, manifest_digest, "application/vnd.oci.image.manifest.v1+json", manifest.data);
    if (digest)
        (void)strcpy(digest, manifest_digest);
    return str_dup(id);
}
