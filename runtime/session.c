/* Exec, Attach and PortForward: what the runtime does for the streaming server. It runs a command or takes part in a container's stdio with the
 * streams it was handed; the bytes are the server's. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "runtime/exec.h"
#include "runtime/pod_steps.h"

static void
close_fds(struct stream_fds *fds)
{
    int *all[] = {&fds->stdio[0], &fds->stdio[1], &fds->stdio[2], &fds->console};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (*all[i] >= 0)
            (void)close(*all[i]);
        *all[i] = -1;
    }
}

static int
exec_stream(struct exec *e, struct stream_fds *fds, int *status, struct error *err)
{
    TRY(exec_begin(e, err));
    struct link_exec order = {.stdio = {fds->stdio[0], fds->stdio[1], fds->stdio[2]}, .console = fds->console, .take_fds = true};
    int result = exec_run(e, &order, status, err);
    *fds = (struct stream_fds){{order.stdio[0], order.stdio[1], order.stdio[2]}, order.console};
    return result;
}

/* The end of a call on a container, or on none that was found. */
static int
put_back(struct runtime *rt, struct container *c, struct stream_fds *fds, int result, struct error *err)
{
    close_fds(fds);
    if (!c)
        return result;
    if (result < 0)
        container_error(c, err);
    container_put(rt, c);
    return result;
}

int
container_exec_stream(struct runtime *rt, const char *id, const struct strv *command, bool tty, struct stream_fds *fds, const struct cancel *cancel,
                      int *status, struct error *err)
{
    struct container *c = container_get(rt, id, err);
    struct exec e = {.rt = rt, .container = c, .command = command, .tty = tty, .cancel = cancel};
    return put_back(rt, c, fds, c ? exec_stream(&e, fds, status, err) : -1, err);
}

static int
attach(struct runtime *rt, const struct container *c, struct link *link, struct stream_fds *fds, struct error *err)
{
    pthread_mutex_lock(&rt->lock);
    bool runs = c->phase == CONTAINER_PHASE_RUNNING;
    pthread_mutex_unlock(&rt->lock);
    if (!runs)
        return error_set(err, ERR_PRECONDITION, "attach: it is not running");
    struct link_attach order = {.container_id = c->id, .stdio = {fds->stdio[0], fds->stdio[1], fds->stdio[2]}, .console = fds->console};
    *fds = (struct stream_fds){{-1, -1, -1}, -1};
    return link_attach(link, &order, err);
}

int
container_attach(struct runtime *rt, const char *id, struct stream_fds *fds, struct error *err)
{
    struct container *c = container_get(rt, id, err);
    struct link *link = c ? pod_take_link(rt, c->pod, err) : NULL;
    int result = link ? attach(rt, c, link, fds, err) : -1;
    if (link)
        pod_release_link(rt, c->pod);
    return put_back(rt, c, fds, result, err);
}

int
pod_open_netns(struct runtime *rt, const char *id, struct error *err)
{
    struct pod *pod = TRY_PTR(pod_get(rt, id, err));
    pthread_mutex_lock(&rt->lock);
    bool ready = pod->phase == POD_PHASE_READY && !pod->stopping;
    pthread_mutex_unlock(&rt->lock);
    cleanup_free char *path = pod_netns_path(rt, pod);
    int fd = ready ? file_open(AT_FDCWD, str_empty(path) ? "/proc/self/ns/net" : path, O_RDONLY, 0, err)
                   : error_set(err, ERR_PRECONDITION, "it is not ready");
    if (fd < 0)
        (void)pod_error(pod, err);
    pod_put(rt, pod);
    return fd;
}
