#include "imageservice/pull/hosts.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/toml.h"

enum { HOSTS_MAX = 32, CA_FILE_MAX = 1 << 20 };

/* A file being read. */
struct source {
    const char *path;
    const char *dir; /* relative paths are taken from here */
};

static int
wrong(const struct source *source, const struct toml_node *at, const char *what, struct error *err)
{
    return error_set(err, ERR_PRECONDITION, "%s:%d: %s: %s", source->path, at->line, at->key ? at->key : "(element)", what);
}

static int
want_string(const struct source *source, const struct toml_node *node, struct error *err)
{
    return node->type == TOML_STRING ? 0 : wrong(source, node, "must be a string", err);
}

static int
want_boolean(const struct source *source, const struct toml_node *node, bool *out, struct error *err)
{
    *out = node->integer != 0;
    return node->type == TOML_BOOLEAN ? 0 : wrong(source, node, "must be true or false", err);
}

static int
read_capabilities(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    if (node->type != TOML_ARRAY)
        return wrong(source, node, "must be a list of \"pull\", \"resolve\", \"push\"", err);
    host->pulls = host->resolves = false;
    for (size_t i = 0; i < node->count; i++) {
        TRY(want_string(source, &node->children[i], err));
        const char *name = node->children[i].string;
        host->pulls = host->pulls || str_eq(name, "pull");
        host->resolves = host->resolves || str_eq(name, "resolve");
        if (!str_eq(name, "pull") && !str_eq(name, "resolve") && !str_eq(name, "push"))
            return wrong(source, node, "must be a list of \"pull\", \"resolve\", \"push\"", err);
    }
    return 0;
}

static char *
absolute(const struct source *source, const char *path)
{
    return *path == '/' ? str_dup(path) : str_printf("%s/%s", source->dir, path);
}

static int
add_ca_file(const char *path, struct host *host, struct error *err)
{
    cleanup_free char *pem = NULL;
    TRY(file_read(AT_FDCWD, path, CA_FILE_MAX, &pem, NULL, err));
    char *all = str_printf("%s%s\n", host->peer.ca_pem ? host->peer.ca_pem : "", pem ? pem : "");
    free(host->peer.ca_pem);
    host->peer.ca_pem = all;
    return 0;
}

static int
add_ca(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    TRY(want_string(source, node, err));
    cleanup_free char *path = absolute(source, node->string);
    struct error why;
    return add_ca_file(path, host, &why) < 0 ? wrong(source, node, why.message, err) : 0;
}

/* A string or a list of strings. */
static int
read_ca(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    if (node->type != TOML_ARRAY)
        return add_ca(source, node, host, err);
    for (size_t i = 0; i < node->count; i++)
        TRY(add_ca(source, &node->children[i], host, err));
    return 0;
}

/* "cert-and-key.pem", ["cert", …] or [["cert", "key"], …]; of several, the first is used. */
static int
read_client(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    const struct toml_node *cert = node, *key = NULL;
    if (node->type == TOML_ARRAY) {
        if (node->count == 0)
            return wrong(source, node, "must name a certificate", err);
        cert = &node->children[0];
    }
    if (cert->type == TOML_ARRAY) {
        if (cert->count != 2)
            return wrong(source, node, "a pair must be [\"certificate\", \"key\"]", err);
        key = &cert->children[1];
        cert = &cert->children[0];
    }
    TRY(want_string(source, cert, err));
    if (key)
        TRY(want_string(source, key, err));
    host->peer.client_cert = absolute(source, cert->string);
    host->peer.client_key = absolute(source, key && *key->string ? key->string : cert->string);
    return 0;
}

static int
read_skip_verify(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    return want_boolean(source, node, &host->peer.skip_verify, err);
}

static int
add_header(const struct source *source, const struct toml_node *node, const char *name, struct host *host, struct error *err)
{
    TRY(want_string(source, node, err));
    if (strpbrk(node->string, "\r\n") || strpbrk(name, "\r\n: "))
        return wrong(source, node, "is no header", err);
    strv_addf(&host->headers, "%s: %s", name, node->string);
    return 0;
}

/* A table of name to value, or to a list of values. */
static int
read_header(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    if (node->type != TOML_TABLE)
        return wrong(source, node, "must be a table", err);
    for (size_t i = 0; i < node->count; i++) {
        const struct toml_node *value = &node->children[i];
        if (value->type != TOML_ARRAY)
            TRY(add_header(source, value, value->key, host, err));
        for (size_t j = 0; value->type == TOML_ARRAY && j < value->count; j++)
            TRY(add_header(source, &value->children[j], value->key, host, err));
    }
    return 0;
}

/* A Go duration of one unit ("10s", "500ms", "1m") or a number of nanoseconds, as containerd takes it. */
static int
read_dial_timeout(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}};
    if (node->type == TOML_INTEGER && node->integer > 0) {
        host->peer.dial_timeout_ms = node->integer / 1000000 + 1;
        return 0;
    }
    TRY(want_string(source, node, err));
    size_t digits = strspn(node->string, "0123456789");
    cleanup_free char *number = str_ndup(node->string, digits);
    uint64_t value;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (str_eq(node->string + digits, units[i].unit) && str_to_u64(number, 3600000, "dial_timeout", &value, NULL) == 0 && value > 0) {
            host->peer.dial_timeout_ms = (int64_t)value * units[i].ms;
            return 0;
        }
    return wrong(source, node, "must be a time like \"10s\"", err);
}

static int
read_override_path(const struct source *source, const struct toml_node *node, struct host *host, struct error *err)
{
    (void)host; /* host_url reads it, before the others */
    bool ignored;
    return want_boolean(source, node, &ignored, err);
}

static const struct host_key {
    const char *name;
    int (*read)(const struct source *source, const struct toml_node *node, struct host *host, struct error *err);
} host_keys[] = {
    {"capabilities", read_capabilities},   {"ca", read_ca},         {"client", read_client},
    {"skip_verify", read_skip_verify},     {"header", read_header}, {"dial_timeout", read_dial_timeout},
    {"override_path", read_override_path},
};

static const struct host_key *
find_key(const char *name)
{
    for (size_t i = 0; i < sizeof host_keys / sizeof *host_keys; i++)
        if (str_eq(host_keys[i].name, name))
            return &host_keys[i];
    return NULL;
}

static const char *
default_scheme(const char *host)
{
    return http_host_is_loopback(host) && !str_ends(host, ":443") ? "http" : "https";
}

/* Takes "https://host:port/path" or "host:port" apart: host->name and host->base. */
static int
host_url(const char *url, bool override_path, struct host *host, struct error *err)
{
    const char *separator = strstr(url, "://");
    const char *rest = separator ? separator + 3 : url;
    cleanup_free char *name = str_ndup(rest, strcspn(rest, "/"));
    cleanup_free char *scheme = separator ? str_ndup(url, (size_t)(separator - url)) : str_dup(default_scheme(name));
    cleanup_free char *path = str_dup(rest + strlen(name));
    while (str_ends(path, "/"))
        path[strlen(path) - 1] = '\0';
    if (!*name || strpbrk(name, "@?# \"\\") || strpbrk(path, "?#\" \\") || (!str_eq(scheme, "http") && !str_eq(scheme, "https")))
        return error_set(err, ERR_PRECONDITION, "%.200s is no http or https URL of a host", url);
    bool add_v2 = !override_path && !str_ends(path, "/v2");
    host->base = str_printf("%s://%s%s%s", scheme, name, path, add_v2 ? "/v2" : "");
    host->name = steal(name);
    return 0;
}

static struct host *
hosts_add(struct hosts *hosts)
{
    hosts->items = mem_realloc(hosts->items, hosts->count + 1, sizeof *hosts->items);
    struct host *host = &hosts->items[hosts->count++];
    *host = (struct host){.resolves = true, .pulls = true};
    return host;
}

static bool
overrides_path(const struct toml_node *table)
{
    const struct toml_node *node = toml_get(table, "override_path");
    return node && node->type == TOML_BOOLEAN && node->integer;
}

static int
read_host(const struct source *source, const struct toml_node *table, const char *registry, struct hosts *out, struct error *err)
{
    struct host *host = hosts_add(out);
    struct error why;
    if (table->type != TOML_TABLE)
        return wrong(source, table, "must be a table", err);
    if (out->count > HOSTS_MAX)
        return wrong(source, table, "too many hosts", err);
    if (host_url(table->key, overrides_path(table), host, &why) < 0)
        return wrong(source, table, why.message, err);
    bool itself = str_eq(host->name, registry) || (str_eq(registry, "docker.io") && str_eq(host->name, "registry-1.docker.io"));
    host->proxied = itself ? NULL : str_dup(registry);
    for (size_t i = 0; i < table->count; i++) {
        const struct host_key *key = find_key(table->children[i].key);
        if (!key)
            return wrong(source, &table->children[i], "unknown key", err);
        TRY(key->read(source, &table->children[i], host, err));
    }
    return 0;
}

static const char *
upstream_of(const char *registry)
{
    return str_eq(registry, "docker.io") || str_eq(registry, "https://docker.io") ? "https://registry-1.docker.io" : registry;
}

/* The registry itself, asked last; the file's keys outside [host] are about it. */
static int
read_server(const struct source *source, const struct toml_node *root, const char *registry, struct hosts *out, struct error *err)
{
    struct host *host = hosts_add(out);
    const struct toml_node *server = toml_get(root, "server");
    struct error why;
    if (server)
        TRY(want_string(source, server, err));
    if (host_url(server && *server->string ? upstream_of(server->string) : upstream_of(registry), overrides_path(root), host, &why) < 0)
        return server ? wrong(source, server, why.message, err) : error_set(err, ERR_PRECONDITION, "%s", why.message);
    for (size_t i = 0; root && i < root->count; i++) {
        const struct toml_node *child = &root->children[i];
        const struct host_key *key = find_key(child->key);
        if (key)
            TRY(key->read(source, child, host, err));
        else if (!str_eq(child->key, "server") && !str_eq(child->key, "host"))
            return wrong(source, child, "unknown key", err);
    }
    return 0;
}

CLEANUP_DEFINE(toml_freep, struct toml_node *, toml_free)

static int
read_file(const char *dir, const char *registry, struct hosts *out, struct error *err)
{
    cleanup_free char *path = str_printf("%s/hosts.toml", dir);
    struct source source = {path, dir};
    cleanup(toml_freep) struct toml_node *root = toml_load(path, err);
    if (!root)
        return error_as(err, ERR_PRECONDITION);
    const struct toml_node *hosts = toml_get(root, "host");
    if (hosts && hosts->type != TOML_TABLE)
        return wrong(&source, hosts, "must be a table of URLs", err);
    for (size_t i = 0; hosts && i < hosts->count; i++)
        TRY(read_host(&source, &hosts->children[i], registry, out, err));
    return read_server(&source, root, registry, out, err);
}

static char *
hosts_file(const char *dir)
{
    char *path = str_printf("%s/hosts.toml", dir);
    if (access(path, F_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* The names in a directory that end so, sorted. */
static void
names_ending(const char *dir, const char *suffix, struct strv *out)
{
    struct dirent **entries;
    int count = scandir(dir, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (*entries[i]->d_name != '.' && str_ends(entries[i]->d_name, suffix))
            strv_add(out, entries[i]->d_name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static bool
has_certificates(const char *dir)
{
    cleanup_strv struct strv names = {0};
    names_ending(dir, ".crt", &names);
    names_ending(dir, ".cert", &names);
    return names.count > 0;
}

/* As Docker has them: a registry with certificates is asked by https, also on loopback. */
static int
read_certificates(const char *dir, const char *registry, struct hosts *out, struct error *err)
{
    cleanup_strv struct strv authorities = {0}, certificates = {0};
    cleanup_free char *url = str_printf("https://%s", registry);
    struct host *host = hosts_add(out);
    TRY(host_url(upstream_of(url), false, host, err));
    names_ending(dir, ".crt", &authorities);
    names_ending(dir, ".cert", &certificates);
    for (size_t i = 0; i < authorities.count; i++) {
        cleanup_free char *path = str_printf("%s/%s", dir, authorities.items[i]);
        if (add_ca_file(path, host, err) < 0)
            return error_as(err, ERR_PRECONDITION);
    }
    if (certificates.count == 0)
        return 0;
    const char *certificate = certificates.items[0];
    host->peer.client_cert = str_printf("%s/%s", dir, certificate);
    host->peer.client_key = str_printf("%s/%.*s.key", dir, (int)(strlen(certificate) - strlen(".cert")), certificate);
    if (access(host->peer.client_key, F_OK) == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION, "%s: its key %s is not there", host->peer.client_cert, host->peer.client_key);
}

/* The directory that speaks about the registry, or NULL. */
static char *
find_dir(const struct strv *certs_dirs, const char *registry)
{
    const char *port = strrchr(registry, ':');
    if (port && strchr(port, ']'))
        port = NULL; /* of an IPv6 literal */
    cleanup_strv struct strv names = {0};
    if (port)
        strv_addf(&names, "%.*s_%s_", (int)(port - registry), registry, port + 1);
    strv_add(&names, registry);
    strv_add(&names, "_default");
    for (size_t n = 0; n < names.count; n++)
        for (size_t d = 0; d < certs_dirs->count; d++) {
            char *dir = str_printf("%s/%s", certs_dirs->items[d], names.items[n]);
            cleanup_free char *file = hosts_file(dir);
            if (file || has_certificates(dir))
                return dir;
            free(dir);
        }
    return NULL;
}

int
hosts_load(const struct strv *certs_dirs, const char *registry, struct hosts *out, struct error *err)
{
    *out = (struct hosts){0};
    cleanup_free char *dir = find_dir(certs_dirs, registry);
    cleanup_free char *file = dir ? hosts_file(dir) : NULL;
    struct source none = {"", ""};
    int result = file  ? read_file(dir, registry, out, err)
                 : dir ? read_certificates(dir, registry, out, err)
                       : read_server(&none, NULL, registry, out, err);
    if (result < 0)
        hosts_free(out);
    else
        out->said_by = str_dup(file ? file : dir);
    return result;
}

/* Strings that are absolute paths, under `ca` and `client` wherever they stand. */
static void
add_absolute(const struct toml_node *node, bool named, struct strv *out)
{
    named = named || str_eq(node->key, "ca") || str_eq(node->key, "client");
    if (named && node->type == TOML_STRING && *node->string == '/')
        strv_add(out, node->string);
    for (size_t i = 0; i < node->count; i++)
        add_absolute(&node->children[i], named, out);
}

/* What stands in `dir` as a symlink that leads out of it: its target. */
static void
add_link_targets(const char *dir, struct strv *out)
{
    char home[PATH_MAX], target[PATH_MAX];
    cleanup_strv struct strv names = {0};
    names_ending(dir, "", &names);
    for (size_t i = 0; i < names.count && realpath(dir, home); i++) {
        cleanup_free char *path = str_printf("%s/%s", dir, names.items[i]);
        size_t length = strlen(home);
        if (realpath(path, target) && !(strncmp(target, home, length) == 0 && target[length] == '/'))
            strv_add(out, target);
    }
}

void
hosts_files_elsewhere(const struct strv *certs_dirs, struct strv *out)
{
    for (size_t d = 0; d < certs_dirs->count; d++) {
        cleanup_strv struct strv names = {0};
        names_ending(certs_dirs->items[d], "", &names);
        add_link_targets(certs_dirs->items[d], out);
        for (size_t i = 0; i < names.count; i++) {
            cleanup_free char *dir = str_printf("%s/%s", certs_dirs->items[d], names.items[i]);
            cleanup_free char *file = str_printf("%s/hosts.toml", dir);
            add_link_targets(dir, out);
            cleanup(toml_freep) struct toml_node *root = toml_load(file, NULL);
            if (root)
                add_absolute(root, false, out);
        }
    }
}

static void
host_free(struct host *host)
{
    free(host->name);
    free(host->base);
    free(host->proxied);
    strv_free(&host->headers);
    free(host->peer.ca_pem);
    free(host->peer.client_cert);
    free(host->peer.client_key);
}

void
hosts_free(struct hosts *hosts)
{
    for (size_t i = 0; i < hosts->count; i++)
        host_free(&hosts->items[i]);
    free(hosts->items);
    free(hosts->said_by);
    *hosts = (struct hosts){0};
}
