/* Watches the CNI configuration directory: by inotify on it and on its parent (the directory may be replaced, or come later), and by looking again
 * every ten seconds, which alone is enough where inotify is exhausted. */
#pragma once

#include "base/error.h"

struct cni_watch;

/* `changed` is called on the watch's thread, once at its start and at every event or tenth second: it must be idempotent and must not wait. */
int cni_watch_open(const char *dir, void (*changed)(void *), void *data, struct cni_watch **out, struct error *err);
void cni_watch_close(struct cni_watch *watch);
