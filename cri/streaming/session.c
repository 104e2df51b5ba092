#include "cri/streaming/session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>
#include <utlist.h>

#include "base/cancel.h"
#include "base/log.h"
#include "cri/streaming/limits.h"
#include "cri/streaming/pump.h"
#include "cri/streaming/stream_status.h"
#include "runtime/fd_pass.h"
#include "runtime/runtime.h"

/* The streams by their number as WebSocket's channels have it. */
enum { STDIN, STDOUT, STDERR, ERROR, RESIZE, STREAMS };
static const char *const stream_names[STREAMS] = {"stdin", "stdout", "stderr", "error", "resize"};

enum { JSON_VERSION = 4, RESIZE_VERSION = 3, RESIZE_BYTES_MAX = 256, ATTACH_PIPE_BYTES = 1 << 20 };

struct session {
    struct session *prev, *next;
    struct session_list *list;
    struct carrier *carrier; /* NULL: the client is gone */
    struct errand *errand;
    int version;
    enum { OPENING, RUNNING, DRAINING, ABANDONED } state;
    struct stream *streams[STREAMS];
    bool begun_status; /* the first byte of the status is sent */
    bool attach, tty;
    bool input_ended; /* by the client */

    struct sink in;
    struct tap out[2];    /* stdout, stderr */
    struct watch console; /* for the terminal's master */
    int size_of;          /* the terminal's master where it is for its size only; -1 */
    char resize[RESIZE_BYTES_MAX];
    size_t resize_length;
    struct winsize size; /* as asked for last; columns 0: not yet */

    struct timer timer, idle; /* timer: opening, then draining */
    bool moved;               /* since the timer was set */
    long to_read;             /* bytes that stood in the pipes when the process ended */
    int64_t drain_ends_ns;

    struct job job; /* the thread's, with what follows, until `done` has come */
    struct task done;
    bool job_runs;
    struct stream_fds fds;
    struct cancel cancel;
    int status;
    int result;
    struct error err;
};

/* ---- the end ---- */

static void
close_stdio(struct session *s)
{
    sink_close(&s->in);
    tap_close(&s->out[0]);
    tap_close(&s->out[1]);
    watch_close(s->list->loop, &s->console);
    cleanup_closep(&s->size_of);
    s->size_of = -1;
}

static void
session_free(struct session *s)
{
    DL_DELETE(s->list->first, s);
    s->list->count--;
    errand_free(s->errand);
    cancel_close(&s->cancel);
    free(s);
}

/* No more of the client. A process at a terminal is hung up on by the loss of the master, as when a line drops; any other is killed with all it has
 * started, as its user's ^C would have done. */
static void
abandon(struct session *s)
{
    s->carrier = NULL;
    timer_clear(s->list->loop, &s->timer);
    timer_clear(s->list->loop, &s->idle);
    close_stdio(s);
    s->state = ABANDONED;
    if (s->job_runs && !s->tty && !s->attach)
        cancel_now(&s->cancel);
    if (!s->job_runs)
        session_free(s);
}

/* All output is on its way: say how it ended, and let the client go. */
static void
conclude(struct session *s, int exit_code, const struct error *err)
{
    cleanup_free char *text = stream_status(s->version, exit_code, err);
    for (int i = STDOUT; i <= STDERR; i++)
        if (s->streams[i])
            carrier_send(s->streams[i], NULL, 0, true);
    size_t sent = s->begun_status ? 1 : 0;
    if (s->streams[ERROR])
        carrier_send(s->streams[ERROR], text + sent, strlen(text) - sent, true);
    carrier_finish(s->carrier, true);
    abandon(s);
}

static void
fail(struct session *s, enum error_kind kind, const char *words)
{
    struct error err;
    (void)error_set(&err, kind, "%s", words);
    conclude(s, 0, &err);
}

static void
idle_over(struct timer *timer)
{
    struct session *s = holder_of(timer, struct session, idle);
    int64_t idle_ns = clock_monotonic_ns() - conn_last_active_ns(s->carrier->conn);
    if (idle_ns >= s->list->idle_ns)
        fail(s, ERR_DEADLINE, "the session was idle for too long");
    else
        timer_set(s->list->loop, timer, s->list->idle_ns - idle_ns, idle_over);
}

/* ---- draining ---- */

static bool
drained(const struct session *s)
{
    return s->out[0].watch.fd < 0 && s->out[1].watch.fd < 0;
}

static void
conclude_with_result(struct session *s)
{
    conclude(s, s->status, s->result < 0 ? &s->err : NULL);
}

static bool
reads_on(const struct session *s)
{
    bool rests = tap_rests(&s->out[0]) || tap_rests(&s->out[1]);
    return (s->moved || rests) && (s->to_read > 0 || clock_monotonic_ns() < s->drain_ends_ns);
}

static void
drain_over(struct timer *timer)
{
    struct session *s = holder_of(timer, struct session, timer);
    if (!reads_on(s)) {
        conclude_with_result(s);
        return;
    }
    s->moved = false;
    timer_set(s->list->loop, timer, QUIET_NS, drain_over);
}

static void
drain(struct session *s)
{
    s->state = DRAINING;
    s->moved = false;
    s->drain_ends_ns = clock_monotonic_ns() + DRAIN_NS;
    for (int i = 0; i < 2; i++) {
        int bytes = 0;
        if (s->out[i].watch.fd >= 0 && ioctl(s->out[i].watch.fd, FIONREAD, &bytes) == 0)
            s->to_read += bytes;
    }
    if (drained(s))
        conclude_with_result(s);
    else
        timer_set(s->list->loop, &s->timer, QUIET_NS, drain_over);
}

/* ---- between the client and the process ---- */

static void
out_moved(struct tap *tap, size_t bytes)
{
    struct session *s = tap->owner;
    s->moved = true;
    s->to_read -= (long)bytes;
}

static void
out_ended(struct tap *tap, int errnum)
{
    struct session *s = tap->owner;
    (void)errnum;
    if (tap->stream)
        carrier_send(tap->stream, NULL, 0, true);
    if (s->state == DRAINING && drained(s))
        conclude_with_result(s);
}

static void
in_changed(struct sink *sink)
{
    struct session *s = holder_of(sink, struct session, in);
    if (s->carrier)
        carrier_pause(s->carrier, sink->full);
}

static void
in_drained(struct sink *sink)
{
    sink_close(sink);
}

/* The process reads no more: the client may as well stop. */
static void
in_failed(struct sink *sink, int errnum)
{
    struct session *s = holder_of(sink, struct session, in);
    (void)errnum;
    if (s->streams[STDIN])
        carrier_send(s->streams[STDIN], NULL, 0, true);
}

static void
apply_size(const struct session *s)
{
    int master = s->size_of >= 0 ? s->size_of : s->tty && !s->attach ? s->in.watch.fd : -1;
    if (master >= 0 && s->size.ws_col)
        (void)ioctl(master, TIOCSWINSZ, &s->size);
}

/* {"Width":132,"Height":40}, one after another; each may come in pieces. */
static void
parse_size(struct session *s, const char *text, size_t length)
{
    int width = 0, height = 0;
    json_t *json = json_loadb(text, length, 0, NULL);
    if (json && json_unpack(json, "{s:i, s:i}", "Width", &width, "Height", &height) == 0 && width > 0 && height > 0 && width <= UINT16_MAX &&
        height <= UINT16_MAX) {
        s->size = (struct winsize){.ws_col = (unsigned short)width, .ws_row = (unsigned short)height};
        apply_size(s);
    }
    json_decref(json);
}

static void
resize_data(struct session *s, const char *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (s->resize_length == sizeof s->resize)
            s->resize_length = 0;
        s->resize[s->resize_length++] = data[i];
        if (data[i] != '}')
            continue;
        parse_size(s, s->resize, s->resize_length);
        s->resize_length = 0;
    }
}

/* A terminal cannot be half-closed: the line's end is a character, where the terminal has one. An attached client that ends its input does not end
 * the container's. */
static void
end_terminal_input(struct session *s)
{
    struct termios settings;
    int master = s->in.watch.fd;
    if (!s->attach && master >= 0 && tcgetattr(master, &settings) == 0 && settings.c_cc[VEOF] != _POSIX_VDISABLE)
        sink_put(&s->in, (const char *)&settings.c_cc[VEOF], 1);
}

static void
end_input(struct session *s)
{
    s->input_ended = true;
    if (s->tty && !s->attach)
        end_terminal_input(s);
    else
        sink_end(&s->in);
}

/* ---- the terminal ---- */

static bool
is_master(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(5, 2);
}

/* What the container calls its ptmx may be another file, which could block the loop: then there is no terminal. */
static void
take_master(struct session *s, int master)
{
    if (!is_master(master)) {
        (void)close(master);
        return;
    }
    if (s->attach) {
        s->size_of = master;
    } else {
        (void)fcntl(master, F_SETFL, O_NONBLOCK);
        int in = fcntl(master, F_DUPFD_CLOEXEC, 0); /* epoll knows a file once by each fd */
        tap_open(&s->out[0], s->list->loop, master, s->streams[STDOUT]);
        if (in >= 0)
            sink_open(&s->in, in);
        if (s->input_ended)
            end_terminal_input(s);
    }
    apply_size(s);
}

static void
console_ready(struct watch *watch, uint32_t events)
{
    struct session *s = holder_of(watch, struct session, console);
    char byte;
    int master;
    (void)events;
    ssize_t n = fd_receive(watch->fd, &byte, 1, &master);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    watch_close(s->list->loop, watch);
    if (master >= 0)
        take_master(s, master);
}

/* ---- the job ---- */

static void
run_job(struct job *job)
{
    struct session *s = holder_of(job, struct session, job);
    struct runtime *rt = s->list->runtime;
    if (s->attach)
        s->result = container_attach(rt, s->errand->id, &s->fds, &s->err);
    else
        s->result = container_exec_stream(rt, s->errand->id, &s->errand->command, s->tty, &s->fds, &s->cancel, &s->status, &s->err);
    loop_post(s->list->loop, &s->done);
}

static void
job_done(struct task *task)
{
    struct session *s = holder_of(task, struct session, done);
    s->job_runs = false;
    if (s->state == ABANDONED) {
        session_free(s);
        return;
    }
    if (s->console.fd >= 0)
        console_ready(&s->console, 0); /* the terminal of a command that was quick */
    watch_close(s->list->loop, &s->console);
    drain(s);
}

/* ---- starting ---- */

static int
make_pipe(int *ours, int *theirs, bool we_write, int size, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    *ours = ends[we_write];
    *theirs = ends[!we_write];
    (void)fcntl(*ours, F_SETFL, O_NONBLOCK); /* the process' end stays blocking: programs expect that */
    if (size)
        (void)fcntl(*ours, F_SETPIPE_SZ, size);
    return 0;
}

static int
open_pipes(struct session *s, struct error *err)
{
    int size = s->attach ? ATTACH_PIPE_BYTES : 0, ours = -1;
    if (s->errand->in) {
        TRY(make_pipe(&ours, &s->fds.stdio[STDIN], true, 0, err));
        sink_open(&s->in, ours);
    }
    for (int i = STDOUT; i <= STDERR; i++) {
        if (!s->streams[i])
            continue;
        TRY(make_pipe(&ours, &s->fds.stdio[i], false, size, err));
        tap_open(&s->out[i - STDOUT], s->list->loop, ours, s->streams[i]);
    }
    return 0;
}

static int
open_console(struct session *s, struct error *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return error_errno(err, errno, "make a socket");
    s->fds.console = ends[1];
    watch_open(s->list->loop, &s->console, ends[0], EPOLLIN, console_ready);
    return 0;
}

static int
open_stdio(struct session *s, struct error *err)
{
    if (s->attach || !s->tty)
        TRY(open_pipes(s, err));
    if (s->tty)
        TRY(open_console(s, err));
    return cancel_open(&s->cancel, INT64_MAX, err);
}

static void
close_theirs(struct session *s)
{
    for (int i = 0; i < 3; i++)
        cleanup_closep(&s->fds.stdio[i]);
    cleanup_closep(&s->fds.console);
}

/* A client of SPDY takes a connection that is cut for success, unless the error stream has something that is no whole status: so its first byte goes
 * now. */
static void
begin_status(struct session *s)
{
    if (!s->carrier->kind->cut_looks_well || s->version < JSON_VERSION)
        return;
    carrier_send(s->streams[ERROR], "{", 1, false);
    s->begun_status = true;
}

static void
start(struct session *s)
{
    struct error err = {0};
    timer_clear(s->list->loop, &s->timer);
    begin_status(s);
    s->state = RUNNING;
    int opened = open_stdio(s, &err);
    s->job_runs = opened == 0 && workers_run(s->list->workers, &s->job);
    if (s->job_runs)
        return;
    close_theirs(s);
    if (opened == 0)
        (void)error_set(&err, ERR_EXHAUSTED, "too many streaming sessions are open");
    conclude(s, 0, &err);
}

/* ---- opening ---- */

static bool
is_wanted(const struct session *s, int stream)
{
    const bool wanted[STREAMS] = {
        [STDIN] = s->errand->in,
        [STDOUT] = s->errand->out,
        [STDERR] = s->errand->err && !s->errand->tty,
        [ERROR] = true,
        [RESIZE] = s->errand->tty && s->version >= RESIZE_VERSION,
    };
    return wanted[stream];
}

static bool
is_complete(const struct session *s)
{
    for (int i = 0; i < STREAMS; i++)
        if (is_wanted(s, i) && !s->streams[i])
            return false;
    return true;
}

static void
on_opened(void *user, struct stream *stream, const struct stream_headers *headers)
{
    struct session *s = user;
    for (int i = 0; i < STREAMS && s->state == OPENING; i++) {
        if (strcmp(stream_names[i], headers->type) != 0 || !is_wanted(s, i) || s->streams[i])
            continue;
        s->streams[i] = stream;
        carrier_accept(stream, s);
        if (is_complete(s))
            start(s);
        return;
    }
    carrier_drop(stream);
}

static void
on_data(void *user, struct stream *stream, const char *data, size_t length)
{
    struct session *s = user;
    if (stream == s->streams[STDIN])
        sink_put(&s->in, data, length);
    else if (stream == s->streams[RESIZE])
        resize_data(s, data, length);
}

static void
on_ended(void *user, struct stream *stream)
{
    struct session *s = user;
    if (stream == s->streams[STDIN])
        end_input(s);
}

static void
on_reset(void *user, struct stream *stream)
{
    struct session *s = user;
    for (int i = 0; i < STREAMS; i++)
        if (s->streams[i] == stream)
            s->streams[i] = NULL;
    for (int i = 0; i < 2; i++)
        if (s->out[i].stream == stream) {
            s->out[i].stream = NULL;
            tap_resume(&s->out[i]);
        }
    if (!s->streams[STDIN] && s->errand->in && s->state == RUNNING)
        end_input(s);
    if (s->state == OPENING)
        fail(s, ERR_CANCELLED, "a stream was reset before all were open");
}

static void
on_room(void *user)
{
    struct session *s = user;
    tap_resume(&s->out[0]);
    tap_resume(&s->out[1]);
}

static void
on_lost(void *user)
{
    abandon(user);
}

static const struct carrier_user carrier_calls = {on_opened, on_data, on_ended, on_reset, on_room, on_lost};

static void
opening_over(struct timer *timer)
{
    fail(holder_of(timer, struct session, timer), ERR_DEADLINE, "the streams were not opened in time");
}

/* All channels are there at once; a first message on one of them says so [kubernetes' WebSocket streams]. */
static void
open_channels(struct session *s)
{
    for (int i = 0; i < STREAMS; i++)
        if (is_wanted(s, i))
            s->streams[i] = carrier_channel_open(s->carrier, (uint32_t)i, s);
    carrier_send(s->streams[STDOUT] ? s->streams[STDOUT] : s->streams[STDERR] ? s->streams[STDERR] : s->streams[ERROR], "", 0, false);
    start(s);
}

static struct session *
session_make(struct session_list *list, const struct agreement *agreement, struct errand *errand)
{
    struct session *s = mem_zalloc(1, sizeof *s);
    s->list = list;
    s->errand = errand;
    s->version = agreement->version;
    s->attach = errand->kind == ERRAND_ATTACH;
    s->tty = errand->tty;
    s->fds = (struct stream_fds){{-1, -1, -1}, -1};
    s->cancel.fd = s->size_of = s->console.fd = -1;
    s->job.run = run_job;
    s->done.run = job_done;
    s->in = (struct sink){.loop = list->loop, .watch.fd = -1, .changed = in_changed, .drained = in_drained, .failed = in_failed};
    for (int i = 0; i < 2; i++)
        s->out[i] = (struct tap){.loop = list->loop, .watch.fd = -1, .moved = out_moved, .ended = out_ended, .owner = s};
    DL_APPEND(list->first, s);
    list->count++;
    return s;
}

void
session_new(struct session_list *list, struct conn *conn, const struct agreement *agreement, struct errand *errand, char *data, size_t length)
{
    struct session *s = session_make(list, agreement, errand);
    bool channels = agreement->way == OVER_CHANNELS;
    s->carrier = channels ? carrier_websocket_new(conn, agreement->base64, agreement->version >= 5, &carrier_calls, s)
                          : carrier_spdy_new(conn, agreement->way == OVER_TUNNEL, &carrier_calls, s);
    timer_set(list->loop, &s->idle, list->idle_ns, idle_over);
    struct carrier *carrier = s->carrier;
    if (channels)
        open_channels(s);
    else
        timer_set(list->loop, &s->timer, STREAMS_NS, opening_over);
    carrier_input(carrier, data, length);
}

void
sessions_end(struct session_list *list)
{
    struct session *s, *next;
    DL_FOREACH_SAFE(list->first, s, next)
    {
        if (s->job_runs && !s->attach)
            cancel_now(&s->cancel);
        if (s->carrier)
            fail(s, ERR_UNAVAILABLE, "crispd stops");
    }
}
