#include "runtime/network/cni_watch.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/network/worker.h"

enum { RESCAN_MS = 10000, EVENTS_BYTES = 16384 };

#define DIR_EVENTS    (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define PARENT_EVENTS (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct cni_watch {
    pthread_t thread;
    char *dir;
    void (*changed)(void *);
    void *data;
    int inotify;   /* -1: only the rescan */
    int dir_watch; /* watch descriptors; -1: none */
    int parent_watch;
    int stop; /* eventfd */
};

/* Watch what the path names now. A descriptor of another inode than before is of one that was replaced: it goes. */
static void
renew(struct cni_watch *w, int *watch, const char *path, uint32_t events)
{
    int now = inotify_add_watch(w->inotify, path, events);
    if (*watch >= 0 && *watch != now)
        (void)inotify_rm_watch(w->inotify, *watch);
    *watch = now;
}

/* The nearest parent that there is: where neither the directory nor its parent exists, they come from above. */
static void
renew_all(struct cni_watch *w)
{
    if (w->inotify < 0)
        return;
    renew(w, &w->dir_watch, w->dir, DIR_EVENTS);
    cleanup_free char *parent = str_dup(w->dir);
    for (char *slash; (slash = strrchr(parent, '/'));) {
        slash[slash == parent ? 1 : 0] = '\0';
        renew(w, &w->parent_watch, parent, PARENT_EVENTS);
        if (w->parent_watch >= 0 || slash == parent)
            return;
    }
}

static void
drop_events(int inotify)
{
    char events[EVENTS_BYTES];
    while (read(inotify, events, sizeof events) > 0)
        ;
}

/* First the watch, then the look: what changes in between is an event. */
static void *
run(void *data)
{
    struct cni_watch *w = data;
    for (;;) {
        renew_all(w);
        w->changed(w->data);
        struct pollfd p[] = {{.fd = w->stop, .events = POLLIN}, {.fd = w->inotify, .events = POLLIN}};
        (void)poll(p, 2, RESCAN_MS);
        if (p[0].revents)
            return NULL;
        if (p[1].revents)
            drop_events(w->inotify);
    }
}

static void
free_watch(struct cni_watch *w)
{
    if (w->inotify >= 0)
        (void)close(w->inotify);
    if (w->stop >= 0)
        (void)close(w->stop);
    free(w->dir);
    free(w);
}

int
cni_watch_open(const char *dir, void (*changed)(void *), void *data, struct cni_watch **out, struct error *err)
{
    struct cni_watch *w = mem_zalloc(1, sizeof *w);
    *w = (struct cni_watch){.dir = str_dup(dir), .changed = changed, .data = data, .dir_watch = -1, .parent_watch = -1};
    w->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->inotify < 0)
        log_warn("cannot watch the CNI directory; it is looked at every 10 s", "dir", dir, "error", strerror(errno));
    w->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->stop < 0 || worker_start(&w->thread, run, w, "cni-watch", err) < 0) {
        int result = w->stop < 0 ? error_errno(err, errno, "eventfd") : -1;
        free_watch(w);
        return result;
    }
    *out = w;
    return 0;
}

void
cni_watch_close(struct cni_watch *w)
{
    (void)eventfd_write(w->stop, 1);
    (void)pthread_join(w->thread, NULL);
    free_watch(w);
}
