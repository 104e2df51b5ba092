#include "cri/daemon.h"

#include <locale.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cri/call.h"
#include "cri/events.h"
#include "cri/listener.h"
#include "cri/server.h"
#include "cri/service_manager.h"
#include "cri/streaming/server.h"
#include "imageservice/imageservice.h"
#include "runtime/runtime.h"

enum { FILES_WANTED = 1 << 20, GIVE_UP_AFTER_SECONDS = 2, ACCEPT_PAUSE_MS = 100 };

/* What the process is, before it has threads: they inherit the signal mask and find the limits set. */
static int
prepare_process(const struct configuration *c, struct error *err)
{
    enum log_level level;
    TRY(log_level_parse(c->log_level, &level, err));
    log_open(level);
    (void)umask(022);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    (void)mallopt(M_ARENA_MAX, 2);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        rlim_t most = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
        files.rlim_cur = files.rlim_cur < most ? most : files.rlim_cur;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ours, NULL);
    int fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_errno(err, errno, "signalfd") : fd;
}

/* Held until the process ends, however it ends. */
static int
lock_directory(const char *directory, mode_t mode, struct error *err)
{
    TRY(file_mkdirs(directory, mode, err));
    cleanup_free char *path = str_printf("%s/crispd.lock", directory);
    return listener_lock(path, err);
}

static int
open_images(const struct configuration *c, struct images **out, struct error *err)
{
    struct images_options options = {
        .root = c->root,
        .state = c->state,
        .pull_program = c->pull_program,
        .certs_dirs = c->images.certs_dirs,
        .pinned = c->images.pinned,
        .parallel_downloads = c->images.parallel_downloads,
        .parallel_downloads_per_pull = c->images.parallel_downloads_per_pull,
        .stall_seconds = c->images.stall_seconds,
        .least_bytes_per_second = c->images.least_bytes_per_second,
        .keep_layer_blobs = c->images.keep_layer_blobs,
    };
    return images_open(&options, out, err) < 0 ? error_prefix(err, "open the images in %s", c->root) : 0;
}

static int
hold_layers(void *images, const struct strv *layers, const char *container_id, struct error *err)
{
    return images_hold(images, layers, container_id, err);
}

static void
release_layers(void *images, const char *container_id)
{
    images_unhold(images, container_id);
}

static int
open_runtime(const struct configuration *c, const struct services *services, struct runtime **out, struct error *err)
{
    cleanup_free char *network_root = str_printf("%s/network", c->root);
    struct runtime_options options = {
        .root = c->root,
        .state = c->state,
        .monitor_program = c->monitor_program,
        .layers_dir = images_layers_dir(services->images),
        .systemd_cgroups = str_eq(c->cgroup.driver, "systemd"),
        .cgroup_parent = c->cgroup.pods,
        .monitor_cgroup = c->cgroup.monitors,
        .nofile_soft = c->limits.nofile_soft,
        .nofile_hard = c->limits.nofile_hard,
        .log_bytes_per_second = c->limits.log_bytes_per_second,
        .log_buffer_bytes = str_eq(c->log.mode, "nonblocking") ? (size_t)c->log.buffer_bytes : 0,
        .pids_limit = c->limits.pids,
        .cdi_dirs = c->security.cdi_dirs,
        .masked_paths = c->security.masked_paths,
        .readonly_paths = c->security.readonly_paths,
        .seccomp_unset = c->security.seccomp_unset,
        .unprivileged_ports = c->network.unprivileged_ports,
        .unprivileged_ping = c->network.unprivileged_ping,
        .handlers = c->runtimes.items,
        .handler_count = c->runtimes.count,
        .network =
            {
                .mode = str_eq(c->network.mode, "builtin") ? NETWORK_BUILTIN : NETWORK_CNI,
                .root = network_root,
                .state = c->state,
                .cni_config_dir = c->network.cni_config_dir,
                .cni_plugin_dirs = c->network.cni_plugin_dirs,
                .cni_timeout_ns = c->network.cni_timeout_seconds * NS_PER_SECOND,
                .builtin_bridge = c->network.bridge,
                .builtin_pools = c->network.pools,
                .builtin_mtu = c->network.mtu,
            },
        .arg = services->images,
        .hold_layers = hold_layers,
        .release_layers = release_layers,
        .changed_arg = services->events,
        .changed = events_publish,
    };
    return runtime_open(&options, out, err) < 0 ? error_prefix(err, "open the pods in %s", c->root) : 0;
}

static struct streaming *
open_streaming(const struct configuration *c, struct runtime *rt, struct error *err)
{
    struct streaming_options options = {
        .address = c->streaming.address,
        .port = (uint16_t)c->streaming.port,
        .tls_cert = c->streaming.tls_cert,
        .tls_key = c->streaming.tls_key,
        .idle_ns = c->streaming.idle_timeout_seconds * NS_PER_SECOND,
        .sessions = (size_t)c->streaming.sessions,
        .runtime = rt,
    };
    return streaming_open(&options, err);
}

static void
accept_all(const struct listener *listener, struct server *server)
{
    struct error err = {0};
    for (int fd; (fd = listener_accept(listener, &err)) >= 0;)
        server_add_connection(server, fd);
    if (err.errnum == EAGAIN)
        return;
    /* No fds, no memory: the connection stays in the backlog. Trying again at once would only burn a processor. */
    log_error("cannot accept a connection", "error", err.message);
    (void)poll(NULL, 0, ACCEPT_PAUSE_MS);
}

/* Until a signal; returns its name. */
static const char *
serve(const struct listener *listener, struct server *server, int signals)
{
    struct pollfd fds[] = {{.fd = signals, .events = POLLIN}, {.fd = listener->fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        struct signalfd_siginfo received;
        if (fds[0].revents && read(signals, &received, sizeof received) == sizeof received)
            return sigabbrev_np((int)received.ssi_signo);
        if (fds[1].revents)
            accept_all(listener, server);
    }
}

static void
leave(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS);
}

/* Whatever hangs while the state is closed: what counts is on disk, and the next crispd finds it. */
static void
leave_in_time(void)
{
    (void)signal(SIGALRM, leave);
    (void)alarm(DAEMON_STOP_SECONDS);
}

static int
serve_services(const struct configuration *c, const struct services *services, int signals, struct error *err)
{
    struct listener listener;
    TRY(listener_open(&listener, c->socket, err));
    struct server *server = server_start(services, (size_t)c->limits.calls, err);
    if (!server) {
        listener_close(&listener);
        return -1;
    }
    service_notify("READY=1");
    log_info("crispd serves", "version", CRISP_VERSION, "socket", c->socket);
    const char *ended_by = serve(&listener, server, signals);
    service_notify("STOPPING=1");
    log_info("crispd stops; pods go on", "signal", ended_by);
    leave_in_time();
    listener_close(&listener);
    int64_t now = clock_monotonic_ns();
    bool streams_ended = streaming_close(services->streaming, now + GIVE_UP_AFTER_SECONDS * NS_PER_SECOND);
    if (!server_stop(server, now + GIVE_UP_AFTER_SECONDS * NS_PER_SECOND, now + (DAEMON_STOP_SECONDS - 1) * NS_PER_SECOND) || !streams_ended) {
        log_warn("calls do not end; crispd leaves without them");
        _exit(EXIT_SUCCESS); /* their threads still use what would be closed below */
    }
    return 0;
}

/* Pods that were there need no archive, so nobody waits for them. */
static int
serve_with_imports(const struct configuration *c, struct services *services, int signals, struct error *err)
{
    struct importer *importer = str_empty(c->images.import_dir) ? NULL : TRY_PTR(importer_start(services->images, c->images.import_dir, err));
    services->streaming = open_streaming(c, services->runtime, err);
    int result = services->streaming ? serve_services(c, services, signals, err) : -1;
    if (importer)
        importer_stop(importer);
    return result;
}

int
daemon_run(const struct configuration *c, struct error *err)
{
    cleanup_close int signals = TRY(prepare_process(c, err));
    TRY(lock_directory(c->state, 0711, err));
    TRY(lock_directory(c->root, 0700, err));
    struct services services = {.configuration = c};
    TRY(open_images(c, &services.images, err));
    services.events = events_new();
    int result = open_runtime(c, &services, &services.runtime, err);
    if (result == 0) {
        images_collect(services.images);
        result = serve_with_imports(c, &services, signals, err);
        runtime_close(services.runtime);
    }
    events_free(services.events);
    images_close(services.images);
    return result;
}
