#include "imageservice/pull/credentials.h"

#include <fnmatch.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/cleanup.h"
#include "imageservice/json.h"
#include "imageservice/pull/limits.h"

static char *
given(const char *s)
{
    return str_empty(s) ? NULL : str_dup(s);
}

static int
read_auth(const char *auth, struct credentials *out, struct error *err)
{
    size_t length = strlen(auth);
    char *text = mem_zalloc(length + 4, 1);
    int n = length % 4 == 0 ? EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)auth, (int)length) : -1;
    char *colon = n > 0 ? strchr(text, ':') : NULL;
    if (colon) {
        out->username = str_ndup(text, (size_t)(colon - text));
        out->password = str_dup(colon + 1);
    }
    OPENSSL_cleanse(text, length);
    free(text);
    return colon ? 0 : error_set(err, ERR_INVALID, "credentials: `auth` is not \"user:password\" in base64");
}

int
credentials_read(const struct image_auth *auth, struct credentials *out, struct error *err)
{
    *out = (struct credentials){0};
    if (!auth)
        return 0;
    out->identity_token = given(auth->identity_token);
    out->registry_token = given(auth->registry_token);
    out->server_address = given(auth->server_address);
    if (str_empty(auth->username) && !str_empty(auth->auth))
        return read_auth(auth->auth, out, err);
    out->username = given(auth->username);
    out->password = given(auth->password);
    return 0;
}

void
credentials_free(struct credentials *credentials)
{
    str_wipe_free(credentials->username);
    str_wipe_free(credentials->password);
    str_wipe_free(credentials->identity_token);
    str_wipe_free(credentials->registry_token);
    free(credentials->server_address);
    *credentials = (struct credentials){0};
}

static bool
is_docker_hub(const char *host)
{
    return str_eq(host, "docker.io") || str_eq(host, "index.docker.io") || str_eq(host, "registry-1.docker.io");
}

/* "https://registry.example/v1/" → does it mean `host`? A port that it doesn't name is any. */
static bool
address_means(const char *address, const char *host)
{
    const char *separator = strstr(address, "://");
    const char *start = separator ? separator + 3 : address;
    cleanup_free char *pattern = str_ndup(start, strcspn(start, "/"));
    if (is_docker_hub(pattern) && is_docker_hub(host))
        return true;
    if (fnmatch(pattern, host, 0) == 0)
        return true;
    const char *port = strrchr(host, ':');
    cleanup_free char *bare = str_ndup(host, port && !strchr(port, ']') ? (size_t)(port - host) : strlen(host));
    return fnmatch(pattern, bare, 0) == 0;
}

bool
credentials_are_for(const struct credentials *credentials, const char *registry, const struct host *host)
{
    if (!credentials->username && !credentials->identity_token && !credentials->registry_token)
        return false;
    if (host->proxied)
        return credentials->server_address && address_means(credentials->server_address, host->name);
    return !credentials->server_address || address_means(credentials->server_address, registry) ||
           address_means(credentials->server_address, host->name);
}

static char *
basic(const struct credentials *credentials)
{
    char *pair = str_printf("%s:%s", credentials->username, credentials->password ? credentials->password : "");
    size_t length = strlen(pair);
    char *out = mem_zalloc(6 + (length + 2) / 3 * 4 + 1, 1);
    memcpy(out, "Basic ", 6);
    (void)EVP_EncodeBlock((unsigned char *)out + 6, (const unsigned char *)pair, (int)length);
    str_wipe_free(pair);
    return out;
}

/* A person reads it, in a terminal perhaps: no control characters, not too long. */
static void
printable(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            *s = ' ';
}

/* {"errors":[{"code","message"}]} (distribution spec), {"details"} (token servers), or the body's first bytes. */
static char *
server_words(const struct http_response *response)
{
    const char *body = response->body.data ? response->body.data : "";
    cleanup_json json_t *root = json_parse(body, response->body.length, "", NULL);
    const json_t *first = json_array_get(json_object_get(root, "errors"), 0);
    const char *code = json_string_value(json_object_get(first, "code")), *message = json_string_value(json_object_get(first, "message"));
    const char *details = json_string_value(json_object_get(root, "details"));
    char *words;
    if (code || message)
        words = str_printf("%.64s%s%.300s", code ? code : "", code && message ? ": " : "", message ? message : "");
    else
        words = str_printf("%.300s", details ? details : str_starts(response->content_type ? response->content_type : "", "text/plain") ? body : "");
    printable(words);
    return words;
}

static const struct {
    int status;
    enum error_kind kind;
    const char *name;
} statuses[] = {
    {400, ERR_INTERNAL, "Bad Request"},
    {401, ERR_AUTH, "Unauthorized"},
    {403, ERR_DENIED, "Forbidden"},
    {404, ERR_NOT_FOUND, "Not Found"},
    {408, ERR_UNAVAILABLE, "Request Timeout"},
    {429, ERR_EXHAUSTED, "Too Many Requests"},
    {500, ERR_UNAVAILABLE, "Internal Server Error"},
    {502, ERR_UNAVAILABLE, "Bad Gateway"},
    {503, ERR_UNAVAILABLE, "Service Unavailable"},
    {504, ERR_UNAVAILABLE, "Gateway Timeout"},
};

int
response_refused(const struct http_response *response, struct error *err)
{
    cleanup_free char *words = server_words(response);
    enum error_kind kind = response->status >= 500 ? ERR_UNAVAILABLE : ERR_INTERNAL;
    const char *name = "";
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == response->status) {
            kind = statuses[i].kind;
            name = statuses[i].name;
        }
    return error_set(err, kind, "%d%s%s%s%s", response->status, *name ? " " : "", name, *words ? ": " : "", words);
}

/* application/x-www-form-urlencoded, for queries too. */
static void
add_escaped(struct buf *out, const char *key, const char *value)
{
    (void)buf_addf(out, "%s%s=", out->length && !strchr("?&", out->data[out->length - 1]) ? "&" : "", key);
    for (; *value; value++) {
        bool plain = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~", *value) != NULL;
        (void)(plain ? buf_add(out, value, 1) : buf_addf(out, "%%%02X", (unsigned char)*value));
    }
}

static void
add_scope(struct buf *out, const struct challenge *challenge, const char *repository)
{
    cleanup_free char *pull = str_printf("repository:%s:pull", repository);
    if (challenge->service)
        add_escaped(out, "service", challenge->service);
    add_escaped(out, "scope", challenge->scope ? challenge->scope : pull);
}

static char *
bearer_of(const struct http_response *response, int64_t *seconds, struct error *err)
{
    cleanup_json json_t *root = json_parse(response->body.data ? response->body.data : "", response->body.length, "its answer", err);
    if (!root)
        return NULL;
    const char *token = json_string_value(json_object_get(root, "token"));
    const json_t *lifetime = json_object_get(root, "expires_in");
    if (!token)
        token = json_string_value(json_object_get(root, "access_token"));
    if (str_empty(token) || strpbrk(token, "\r\n")) {
        (void)error_set(err, ERR_UNAVAILABLE, "its answer has no token");
        return NULL;
    }
    *seconds = json_is_integer(lifetime) ? json_integer_value(lifetime) : LIMIT_TOKEN_SECONDS;
    return str_printf("Bearer %s", token);
}

static void
set_query(const struct token_request *r, struct buf *url)
{
    (void)buf_adds(url, r->challenge->realm);
    (void)buf_adds(url, strchr(r->challenge->realm, '?') ? "&" : "?");
    add_scope(url, r->challenge, r->repository);
}

/* OAuth2 at the token server (distribution's "oauth" page): the refresh token travels in the body only. */
static void
set_form(const struct token_request *r, struct buf *form)
{
    add_escaped(form, "grant_type", "refresh_token");
    add_escaped(form, "client_id", "crisp");
    add_scope(form, r->challenge, r->repository);
    add_escaped(form, "refresh_token", r->credentials->identity_token);
}

static void
wipe(struct buf *secrets)
{
    if (secrets->data)
        OPENSSL_cleanse(secrets->data, secrets->length);
}

static char *
fetch_token(const struct token_request *r, struct http *http, const struct http_scope *scope, int64_t *seconds, struct error *err)
{
    cleanup_buf struct buf url = BUF(16 << 10), form = BUF(128 << 10);
    bool refreshes = r->credentials && r->credentials->identity_token;
    if (refreshes)
        set_form(r, &form);
    else
        set_query(r, &url);
    char *authorization = !refreshes && r->credentials && r->credentials->username ? basic(r->credentials) : NULL;
    /* skip_verify and client certificates are for the token server only where it is the registry itself. */
    struct http_peer only_ca = {.ca_pem = r->host->peer.ca_pem};
    struct http_request request = {
        .url = refreshes ? r->challenge->realm : url.data,
        .form = refreshes ? form.data : NULL,
        .authorization = authorization,
        .peer = http_same_machine(r->challenge->realm, r->host->base) ? &r->host->peer : &only_ca,
        .scope = scope,
        .body_limit = LIMIT_TOKEN_BYTES,
    };
    cleanup_response struct http_response response = {0};
    int result = http_perform(http, &request, &response, err);
    str_wipe_free(authorization);
    wipe(&form);
    if (result == 0 && response.status != 200)
        result = response_refused(&response, err);
    char *bearer = result < 0 ? NULL : bearer_of(&response, seconds, err);
    wipe(&response.body);
    return bearer;
}

char *
credentials_answer(const struct token_request *request, struct http *http, const struct http_scope *scope, int64_t *seconds, struct error *err)
{
    const struct credentials *credentials = request->credentials;
    const struct challenge *challenge = request->challenge;
    *seconds = 0;
    if (credentials && credentials->registry_token)
        return str_printf("Bearer %s", credentials->registry_token);
    if (challenge->scheme == CHALLENGE_BASIC && credentials && credentials->username)
        return basic(credentials);
    if (challenge->scheme != CHALLENGE_BEARER) {
        (void)error_set(err, ERR_AUTH, "401 Unauthorized: it wants credentials, and none were given for it");
        return NULL;
    }
    bool secure = str_starts(challenge->realm, "https://");
    if (!secure && (!str_starts(challenge->realm, "http://") || (credentials && str_starts(request->host->base, "https://")))) {
        (void)error_set(err, ERR_AUTH, "its token server %.200s is not reached by https: no credentials are sent there", challenge->realm);
        return NULL;
    }
    char *answer = fetch_token(request, http, scope, seconds, err);
    if (!answer)
        (void)error_prefix(err, "token server %.200s", challenge->realm);
    return answer;
}

void
credentials_token_key(const struct token_request *request, char out[DIGEST_SIZE])
{
    static const struct credentials nobody;
    const struct credentials *who = request->credentials ? request->credentials : &nobody;
    const struct challenge *challenge = request->challenge;
    const char *const parts[] = {request->host->base, challenge->realm, challenge->service, challenge->scope,   who->registry_token,
                                 request->repository, who->username,    who->password,      who->identity_token};
    cleanup(digest_freep) struct digest *digest = digest_new(NULL);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *part = parts[i] ? parts[i] : "";
        digest_add(digest, part, strlen(part) + 1);
    }
    digest_finish(digest, out);
}
