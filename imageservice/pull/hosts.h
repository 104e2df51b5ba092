/* Where a registry's images are asked for: its mirrors in the operator's order, then the registry itself.
 *
 * That is said by hosts.toml files, as containerd reads them: below each certificate directory, "<host>_<port>_/hosts.toml" or
 * "<host:port>/hosts.toml", then
 * "_default/hosts.toml". Keys: `server`, and for it and each [host."URL"]: capabilities, ca, client, skip_verify, override_path, header,
 * dial_timeout. Any other key is an error with file and line. Read anew for each pull, so an edit needs no restart.
 *
 * A directory without that file may have certificates as Docker has them: every *.crt is a CA of the registry, and the first *.cert with its *.key is
 * our own. Without a directory: https, but http for a registry on loopback (unless its port is 443). */
#pragma once

#include "imageservice/pull/http.h"

struct host {
    char *name;    /* "mirror.example:5000", for people */
    char *base;    /* "https://mirror.example:5000/v2" */
    char *proxied; /* of a mirror: the registry it stands for (sent as ?ns=); NULL for the registry itself */
    bool resolves, pulls;
    struct strv headers; /* whole lines */
    struct http_peer peer;
};

struct hosts {
    struct host *items;
    size_t count;
    char *said_by; /* for people: the file or directory that says so; NULL: none does */
};

/* `registry` is a reference's. ERR_PRECONDITION naming file and line. */
int hosts_load(const struct strv *certs_dirs, const char *registry, struct hosts *out, struct error *err);
void hosts_free(struct hosts *hosts);
#define cleanup_hosts cleanup(hosts_free)

/* Append the files that certificate directories name and that lie elsewhere: `ca` and `client` with absolute paths, targets of symlinks. What can't
 * be read is left out: hosts_load tells. */
void hosts_files_elsewhere(const struct strv *certs_dirs, struct strv *out);
