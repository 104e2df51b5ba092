#include "runtime/etc_files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "runtime/idmap.h"

enum { HOST_FILE_MAX = 1 << 20 };

static int
put(int dir, const char *name, const char *text, struct error *err)
{
    cleanup_close int fd = TRY(file_open(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, err));
    return file_write_all(fd, name, text, strlen(text), err);
}

/* A file of the host; "" where it has none. */
static char *
host_file(const char *path)
{
    char *text = NULL;
    return file_read(AT_FDCWD, path, HOST_FILE_MAX, &text, NULL, NULL) == 0 && text ? text : str_dup("");
}

static int
write_hosts(int dir, const struct pod_config *config, const char *hostname, const struct strv *ips, struct error *err)
{
    if (config->network == NAMESPACE_NODE) {
        cleanup_free char *hosts = host_file("/etc/hosts");
        return put(dir, "hosts", hosts, err);
    }
    cleanup_buf struct buf text = BUF(HOST_FILE_MAX);
    (void)buf_adds(
        &text,
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    for (size_t i = 0; i < ips->count; i++)
        (void)buf_addf(&text, "%s\t%s\n", ips->items[i], hostname);
    return put(dir, "hosts", text.data, err);
}

static void
add_words(struct buf *text, const char *keyword, const struct strv *words)
{
    if (words->count == 0)
        return;
    (void)buf_adds(text, keyword);
    for (size_t i = 0; i < words->count; i++)
        (void)buf_addf(text, " %s", words->items[i]);
    (void)buf_adds(text, "\n");
}

/* Where the host's resolver is systemd-resolved's stub on its own loopback, a pod with a network of its own needs the servers behind it. */
static char *
host_resolver(const struct pod_config *config)
{
    char *text = host_file("/etc/resolv.conf");
    if (config->network == NAMESPACE_NODE || !strstr(text, "nameserver 127.0.0.53"))
        return text;
    char *behind = host_file("/run/systemd/resolve/resolv.conf");
    if (!*behind) {
        free(behind);
        return text;
    }
    free(text);
    return behind;
}

static int
write_resolv_conf(int dir, const struct pod_config *config, struct error *err)
{
    if (config->dns_servers.count + config->dns_searches.count + config->dns_options.count == 0) {
        cleanup_free char *text = host_resolver(config);
        return put(dir, "resolv.conf", text, err);
    }
    cleanup_buf struct buf text = BUF(HOST_FILE_MAX);
    add_words(&text, "search", &config->dns_searches);
    for (size_t i = 0; i < config->dns_servers.count; i++)
        (void)buf_addf(&text, "nameserver %s\n", config->dns_servers.items[i]);
    add_words(&text, "options", &config->dns_options);
    return put(dir, "resolv.conf", text.data, err);
}

static int
write_all(int dir, const struct pod_config *config, const char *hostname, const struct strv *ips, struct error *err)
{
    cleanup_free char *line = str_printf("%s\n", hostname);
    TRY(write_hosts(dir, config, hostname, ips, err));
    TRY(put(dir, "hostname", line, err));
    return write_resolv_conf(dir, config, err);
}

/* To the pod's root, who may write there. */
static int
give(int dir, const struct pod_config *config, struct error *err)
{
    static const char *const names[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; idmap_is_set(&config->userns) && i < sizeof names / sizeof *names; i++)
        if (fchownat(dir, names[i], (uid_t)idmap_uid(&config->userns, 0), (gid_t)idmap_gid(&config->userns, 0), AT_SYMLINK_NOFOLLOW) < 0)
            return error_errno(err, errno, "give %s to the pod's root", names[i]);
    return 0;
}

int
etc_files_make(const char *etc_dir, const char *id, const struct pod_config *config, const char *hostname, const struct strv *ips, struct error *err)
{
    cleanup_free char *path = str_printf("%s/%s", etc_dir, id);
    if (mkdir(path, 0755) < 0)
        return error_errno(err, errno, "make directory %s", path);
    cleanup_close int dir = file_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, err);
    if (dir >= 0 && write_all(dir, config, hostname, ips, err) == 0 && give(dir, config, err) == 0)
        return 0;
    etc_files_remove(etc_dir, id);
    return -1;
}

void
etc_files_remove(const char *etc_dir, const char *id)
{
    cleanup_free char *path = str_printf("%s/%s", etc_dir, id);
    (void)file_remove_tree(AT_FDCWD, path, NULL);
}
