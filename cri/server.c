#include "cri/server.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/status.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cri/limits.h"
#include "cri/rpc.h"
#include "cri/workers.h"

/* What the completion queue hands back: it knows what to do next. */
struct tag {
    void (*done)(struct tag *tag, bool ok);
};

struct server {
    const struct services *services;
    grpc_server *grpc;
    grpc_completion_queue *queue;
    grpc_server_credentials *credentials;
    struct workers *workers, *streamers; /* streams live long: they take no thread from the other calls */
    void **methods;                      /* gRPC's handle of each rpc, in the table's order */
    pthread_t pollers[POLLERS];
    struct tag all_ended;
    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t changed;
    struct server_call *running;
    bool ending_streams, stopping, stopped;
};

/* A call: armed ──▶ arrived ──▶ handled ──▶ replied. It is freed when both batches ended: the reply's, and the one that watches for the call's end.
 * A stream sends while it is handled, one message at a time: each is a batch that its thread waits for. */
struct server_call {
    struct job job;
    struct tag arrived, closed, replied, sent;
    struct server *server;
    const struct rpc *rpc; /* NULL: waits for whatever is no rpc of ours */
    grpc_call *grpc;
    grpc_call_details details; /* of a call that is no rpc of ours */
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *payload;
    int was_cancelled;
    atomic_int batches;
    struct cancel cancel;
    struct call call;
    bool begun;   /* the answer's initial metadata was sent */
    int sent_fd;  /* of a stream: eventfd, readable when the message that was sent last is out of our hands */
    bool sent_ok; /* and whether it went out */
    int64_t began_ns;
    struct server_call *next, **link;
};

#define OWNER(tag, member) ((struct server_call *)(void *)((char *)(tag)-offsetof(struct server_call, member)))

int
server_status_of(enum error_kind kind)
{
    static const grpc_status_code codes[] = {
        [ERR_NONE] = GRPC_STATUS_OK,
        [ERR_CANCELLED] = GRPC_STATUS_CANCELLED,
        [ERR_UNKNOWN] = GRPC_STATUS_UNKNOWN,
        [ERR_INVALID] = GRPC_STATUS_INVALID_ARGUMENT,
        [ERR_DEADLINE] = GRPC_STATUS_DEADLINE_EXCEEDED,
        [ERR_NOT_FOUND] = GRPC_STATUS_NOT_FOUND,
        [ERR_EXISTS] = GRPC_STATUS_ALREADY_EXISTS,
        [ERR_DENIED] = GRPC_STATUS_PERMISSION_DENIED,
        [ERR_EXHAUSTED] = GRPC_STATUS_RESOURCE_EXHAUSTED,
        [ERR_PRECONDITION] = GRPC_STATUS_FAILED_PRECONDITION,
        [ERR_UNSUPPORTED] = GRPC_STATUS_UNIMPLEMENTED,
        [ERR_INTERNAL] = GRPC_STATUS_INTERNAL,
        [ERR_UNAVAILABLE] = GRPC_STATUS_UNAVAILABLE,
        [ERR_AUTH] = GRPC_STATUS_UNAUTHENTICATED,
        [ERR_SIGNATURE] = GRPC_STATUS_UNKNOWN,
    };
    return (int)codes[kind];
}

/* ---- life of a call ---- */

static void
enter(struct server_call *sc)
{
    struct server *server = sc->server;
    pthread_mutex_lock(&server->lock);
    sc->next = server->running;
    sc->link = &server->running;
    if (sc->next)
        sc->next->link = &sc->next;
    server->running = sc;
    if (sc->cancel.fd >= 0 && (server->stopping || (server->ending_streams && sc->rpc->kind == RPC_STREAMING)))
        cancel_now(&sc->cancel);
    pthread_mutex_unlock(&server->lock);
}

static void
leave(struct server_call *sc)
{
    struct server *server = sc->server;
    pthread_mutex_lock(&server->lock);
    *sc->link = sc->next;
    if (sc->next)
        sc->next->link = sc->link;
    if (!server->running)
        pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void
free_call(struct server_call *sc)
{
    call_end(&sc->call);
    grpc_metadata_array_destroy(&sc->metadata);
    if (!sc->rpc)
        grpc_call_details_destroy(&sc->details);
    if (sc->payload)
        grpc_byte_buffer_destroy(sc->payload);
    if (sc->grpc)
        grpc_call_unref(sc->grpc);
    cancel_close(&sc->cancel);
    if (sc->sent_fd >= 0)
        (void)close(sc->sent_fd);
    free(sc);
}

static void
batch_ended(struct server_call *sc)
{
    if (atomic_fetch_sub(&sc->batches, 1) > 1)
        return;
    leave(sc);
    free_call(sc);
}

static void
on_closed(struct tag *tag, bool ok)
{
    (void)ok;
    struct server_call *sc = OWNER(tag, closed);
    if (sc->was_cancelled && sc->cancel.fd >= 0)
        cancel_now(&sc->cancel);
    batch_ended(sc);
}

static void
on_replied(struct tag *tag, bool ok)
{
    (void)ok;
    batch_ended(OWNER(tag, replied));
}

static void
start_batch(struct server_call *sc, const grpc_op *ops, size_t count, struct tag *tag)
{
    if (grpc_call_start_batch(sc->grpc, ops, count, tag, NULL) != GRPC_CALL_OK) {
        log_error("gRPC refuses a batch", "rpc", sc->rpc ? sc->rpc->name : NULL);
        batch_ended(sc);
    }
}

static void
watch_for_end(struct server_call *sc)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &sc->was_cancelled;
    start_batch(sc, &op, 1, &sc->closed);
}

/* ---- answers ---- */

static grpc_byte_buffer *
encode(const ProtobufCMessage *response, struct error *err)
{
    size_t size = protobuf_c_message_get_packed_size(response);
    if (size > MESSAGE_BYTES_MAX) {
        (void)error_set(err, ERR_EXHAUSTED, "the answer is %zu bytes long, more than the %d of a message", size, MESSAGE_BYTES_MAX);
        return NULL;
    }
    grpc_slice slice = grpc_slice_malloc(size);
    protobuf_c_message_pack(response, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *bytes = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return bytes;
}

/* gRPC carries text: what came from a file name or a registry may not be. */
static void
make_text(char *s)
{
    if (str_utf8_valid(s, strlen(s)))
        return;
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            *s = '?';
}

static void
reply(struct server_call *sc, grpc_byte_buffer *message, struct error *failure)
{
    make_text(failure->message);
    grpc_slice details = grpc_slice_from_copied_string(failure->message);
    grpc_op ops[3] = {0};
    size_t count = 0;
    if (!sc->begun)
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (message) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = message;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = (grpc_status_code)server_status_of(failure->kind);
    ops[count++].data.send_status_from_server.status_details = &details;
    start_batch(sc, ops, count, &sc->replied);
    grpc_slice_unref(details);
    if (message)
        grpc_byte_buffer_destroy(message);
}

/* ---- streams ---- */

static void
on_sent(struct tag *tag, bool ok)
{
    struct server_call *sc = OWNER(tag, sent);
    sc->sent_ok = ok;
    (void)eventfd_write(sc->sent_fd, 1);
}

static bool
is_stopping(struct server *server, const struct rpc *rpc)
{
    pthread_mutex_lock(&server->lock);
    bool stopping = server->stopping || (server->ending_streams && rpc->kind == RPC_STREAMING);
    pthread_mutex_unlock(&server->lock);
    return stopping;
}

/* A reader that takes nothing would hold what was sent last for ever, and no status would get past it. */
static void
break_off(struct server_call *sc, const struct error *why)
{
    grpc_status_code code = GRPC_STATUS_RESOURCE_EXHAUSTED;
    if (why->kind == ERR_DEADLINE)
        code = GRPC_STATUS_DEADLINE_EXCEEDED;
    else if (is_stopping(sc->server, sc->rpc))
        code = GRPC_STATUS_UNAVAILABLE;
    (void)grpc_call_cancel_with_status(sc->grpc, code, "the stream was broken off: its reader does not take what is sent", NULL);
}

static int
wait_until_sent(struct server_call *sc, struct error *err)
{
    struct error impatient = {0};
    eventfd_t times;
    bool broken = cancel_wait(&sc->cancel, sc->sent_fd, INT64_MAX, "sending", &impatient) < 0;
    if (broken) {
        break_off(sc, &impatient);
        (void)cancel_wait(NULL, sc->sent_fd, INT64_MAX, "sending", NULL);
    }
    (void)eventfd_read(sc->sent_fd, &times);
    if (broken) {
        *err = impatient;
        return -1;
    }
    return sc->sent_ok ? 0 : error_set(err, ERR_CANCELLED, "the caller went away while sending");
}

/* call.send of a stream. */
static int
send_message(struct call *call, const ProtobufCMessage *message, struct error *err)
{
    struct server_call *sc = OWNER(call, call);
    grpc_byte_buffer *bytes = message ? TRY_PTR(encode(message, err)) : NULL;
    grpc_op ops[2] = {0};
    size_t count = 0;
    if (!sc->begun)
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (bytes) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = bytes;
    }
    grpc_call_error refused = count ? grpc_call_start_batch(sc->grpc, ops, count, &sc->sent, NULL) : GRPC_CALL_OK;
    sc->begun = true;
    if (bytes)
        grpc_byte_buffer_destroy(bytes);
    if (refused != GRPC_CALL_OK)
        return error_set(err, ERR_INTERNAL, "gRPC refuses a message");
    return count ? wait_until_sent(sc, err) : 0;
}

static enum log_level
level_of(const struct error *failure)
{
    switch (failure->kind) {
    case ERR_NONE:
        return LOG_DEBUG_;
    case ERR_UNKNOWN:
    case ERR_INTERNAL:
    case ERR_EXHAUSTED:
        return LOG_ERROR_;
    case ERR_DEADLINE:
    case ERR_UNAVAILABLE:
        return LOG_WARN_;
    default:
        return LOG_INFO_;
    }
}

static void
log_call(const struct server_call *sc, const struct error *failure)
{
    char took_ms[32];
    (void)snprintf(took_ms, sizeof took_ms, "%.1f", (double)(clock_monotonic_ns() - sc->began_ns) / 1e6);
    bool failed = failure->kind != ERR_NONE, left = failure->kind == ERR_CANCELLED && sc->rpc && sc->rpc->kind == RPC_STREAMING;
    log_line(left ? LOG_DEBUG_ : level_of(failure), failed ? "call failed" : "call", "rpc", sc->rpc ? sc->rpc->name : "unknown", "object",
             str_empty(sc->call.object) ? NULL : sc->call.object, "code", failed ? error_kind_name(failure->kind) : NULL, "error",
             failed ? failure->message : NULL, "ms", took_ms, NULL);
}

/* ---- requests ---- */

/* The payload's bytes: where gRPC has them in one piece, in place. `*slice` is the caller's. */
static grpc_slice
payload_bytes(grpc_byte_buffer *payload)
{
    grpc_byte_buffer_reader reader;
    if (!payload || !grpc_byte_buffer_reader_init(&reader, payload))
        return grpc_empty_slice();
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    return bytes;
}

static grpc_byte_buffer *
serve(struct server_call *sc, struct error *err)
{
    if (!sc->rpc) {
        char *method = grpc_slice_to_c_string(sc->details.method);
        (void)error_set(err, ERR_UNSUPPORTED, "unknown method %.200s", method);
        gpr_free(method);
        return NULL;
    }
    grpc_slice bytes = payload_bytes(sc->payload);
    ProtobufCMessage *response = NULL;
    int served = rpc_serve(sc->rpc, &sc->call, GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes), &response, err);
    grpc_slice_unref(bytes);
    if (served < 0 && err->kind == ERR_CANCELLED && is_stopping(sc->server, sc->rpc))
        (void)error_as(err, ERR_UNAVAILABLE), (void)error_prefix(err, "crispd is stopping");
    return served < 0 || sc->rpc->kind == RPC_STREAMING ? NULL : encode(response, err);
}

static void
handle(struct server_call *sc)
{
    struct error failure = {0};
    grpc_byte_buffer *message = serve(sc, &failure);
    log_call(sc, &failure);
    reply(sc, message, &failure);
}

static void
handle_job(struct job *job)
{
    handle((struct server_call *)(void *)((char *)job - offsetof(struct server_call, job)));
}

/* A little before the deadline, while the client still listens. */
static int64_t
patience_end_ns(gpr_timespec deadline, int64_t now_ns)
{
    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return INT64_MAX;
    gpr_timespec left = gpr_time_sub(gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC), gpr_now(GPR_CLOCK_MONOTONIC));
    if (left.tv_sec > INT32_MAX)
        return INT64_MAX;
    int64_t left_ns = left.tv_sec * NS_PER_SECOND + left.tv_nsec;
    int64_t margin_ns = left_ns / 20 < 100 * NS_PER_MS ? left_ns / 20 : 100 * NS_PER_MS;
    return now_ns + left_ns - margin_ns;
}

static int
open_patience(struct server_call *sc, struct error *err)
{
    TRY(cancel_open(&sc->cancel, patience_end_ns(sc->deadline, sc->began_ns), err));
    sc->call.cancel = &sc->cancel;
    if (sc->rpc->kind != RPC_STREAMING)
        return 0;
    sc->call.send = send_message;
    sc->sent_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return sc->sent_fd < 0 ? error_errno(err, errno, "eventfd") : 0;
}

static void
run(struct server_call *sc)
{
    struct error failure = {0};
    sc->began_ns = clock_monotonic_ns();
    if (!sc->rpc || !sc->rpc->handler || sc->rpc->kind == RPC_QUICK) {
        enter(sc);
        watch_for_end(sc);
        handle(sc);
        return;
    }
    int opened = open_patience(sc, &failure);
    bool streams = sc->rpc->kind == RPC_STREAMING;
    enter(sc);
    watch_for_end(sc);
    if (opened == 0 && workers_run(streams ? sc->server->streamers : sc->server->workers, &sc->job))
        return;
    if (opened == 0)
        (void)error_set(&failure, ERR_EXHAUSTED, "%s: too many %s", sc->rpc->name,
                        streams ? "streams are open" : "calls are under way (limits.calls)");
    log_call(sc, &failure);
    reply(sc, NULL, &failure);
}

static void arm(struct server *server, size_t index);

static void
on_arrived(struct tag *tag, bool ok)
{
    struct server_call *sc = OWNER(tag, arrived);
    if (!ok) { /* the server shuts down */
        free_call(sc);
        return;
    }
    arm(sc->server, sc->rpc ? (size_t)(sc->rpc - rpcs) : rpc_count);
    run(sc);
}

/* Wait for the next call of an rpc; index rpc_count: of whatever is no rpc of ours. */
static void
arm(struct server *server, size_t index)
{
    struct server_call *sc = mem_zalloc(1, sizeof *sc);
    sc->server = server;
    sc->rpc = index < rpc_count ? &rpcs[index] : NULL;
    sc->arrived.done = on_arrived;
    sc->closed.done = on_closed;
    sc->replied.done = on_replied;
    sc->sent.done = on_sent;
    sc->job.run = handle_job;
    sc->batches = 2;
    sc->cancel.fd = sc->sent_fd = -1;
    sc->call.services = server->services;
    sc->call.object = "";
    grpc_metadata_array_init(&sc->metadata);
    grpc_call_error refused;
    if (sc->rpc)
        refused = grpc_server_request_registered_call(server->grpc, server->methods[index], &sc->grpc, &sc->deadline, &sc->metadata, &sc->payload,
                                                      server->queue, server->queue, &sc->arrived);
    else {
        grpc_call_details_init(&sc->details);
        refused = grpc_server_request_call(server->grpc, &sc->grpc, &sc->details, &sc->metadata, server->queue, server->queue, &sc->arrived);
    }
    if (refused != GRPC_CALL_OK)
        free_call(sc);
}

/* ---- life of the server ---- */

static void *
poll_queue(void *arg)
{
    struct server *server = arg;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(server->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        struct tag *tag = event.tag;
        if (event.type == GRPC_OP_COMPLETE)
            tag->done(tag, event.success != 0);
    }
}

static void
on_all_ended(struct tag *tag, bool ok)
{
    (void)ok;
    struct server *server = (struct server *)(void *)((char *)tag - offsetof(struct server, all_ended));
    pthread_mutex_lock(&server->lock);
    server->stopped = true;
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void
register_rpcs(struct server *server)
{
    server->methods = mem_zalloc(rpc_count, sizeof *server->methods);
    for (size_t i = 0; i < rpc_count; i++) {
        char *path = rpc_path(&rpcs[i]);
        server->methods[i] = grpc_server_register_method(server->grpc, path, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        free(path);
    }
}

static void
init_lock(struct server *server)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

struct server *
server_start(const struct services *services, size_t most_calls, struct error *err)
{
    struct server *server = mem_zalloc(1, sizeof *server);
    server->services = services;
    server->all_ended.done = on_all_ended;
    init_lock(server);
    grpc_init();
    grpc_arg sizes[] = {
        {.type = GRPC_ARG_INTEGER, .key = (char[]){GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH}, .value.integer = MESSAGE_BYTES_MAX},
        {.type = GRPC_ARG_INTEGER, .key = (char[]){GRPC_ARG_MAX_SEND_MESSAGE_LENGTH}, .value.integer = MESSAGE_BYTES_MAX},
    };
    grpc_channel_args args = {.num_args = sizeof sizes / sizeof *sizes, .args = sizes};
    server->grpc = grpc_server_create(&args, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    server->credentials = grpc_insecure_server_credentials_create();
    grpc_server_register_completion_queue(server->grpc, server->queue, NULL);
    register_rpcs(server);
    server->workers = workers_new(most_calls);
    server->streamers = workers_new(STREAMS_MAX);
    grpc_server_start(server->grpc);
    for (size_t i = 0; i <= rpc_count; i++)
        arm(server, i);
    for (size_t i = 0; i < POLLERS; i++) {
        int refused = pthread_create(&server->pollers[i], NULL, poll_queue, server);
        if (refused) {
            (void)error_errno(err, refused, "start a thread"); /* the process ends now: nothing is taken apart */
            return NULL;
        }
    }
    return server;
}

void
server_add_connection(struct server *server, int fd)
{
    grpc_server_add_channel_from_fd(server->grpc, fd, server->credentials);
}

static bool
nothing_runs(const struct server *server)
{
    return !server->running;
}

static bool
has_stopped(const struct server *server)
{
    return server->stopped;
}

/* Under the lock. */
static bool
wait_until(struct server *server, bool (*holds)(const struct server *), int64_t deadline_ns)
{
    struct timespec until = {.tv_sec = deadline_ns / NS_PER_SECOND, .tv_nsec = deadline_ns % NS_PER_SECOND};
    while (!holds(server))
        if (pthread_cond_timedwait(&server->changed, &server->lock, &until) != 0)
            break;
    return holds(server);
}

static void
cancel_running(struct server *server)
{
    server->stopping = true;
    for (struct server_call *sc = server->running; sc; sc = sc->next)
        if (sc->cancel.fd >= 0)
            cancel_now(&sc->cancel);
}

/* They have no end of their own to wait for. */
static void
cancel_streams(struct server *server)
{
    server->ending_streams = true;
    for (struct server_call *sc = server->running; sc; sc = sc->next)
        if (sc->cancel.fd >= 0 && sc->rpc->kind == RPC_STREAMING)
            cancel_now(&sc->cancel);
}

static void
free_server(struct server *server)
{
    grpc_completion_queue_shutdown(server->queue);
    for (size_t i = 0; i < POLLERS; i++)
        (void)pthread_join(server->pollers[i], NULL);
    grpc_server_destroy(server->grpc);
    grpc_completion_queue_destroy(server->queue);
    grpc_server_credentials_release(server->credentials);
    grpc_shutdown_blocking();
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->methods);
    free(server);
}

bool
server_stop(struct server *server, int64_t give_up_ns, int64_t end_ns)
{
    grpc_server_shutdown_and_notify(server->grpc, server->queue, &server->all_ended);
    pthread_mutex_lock(&server->lock);
    cancel_streams(server);
    if (!wait_until(server, nothing_runs, give_up_ns)) {
        cancel_running(server);
        (void)wait_until(server, nothing_runs, end_ns);
    }
    pthread_mutex_unlock(&server->lock);
    grpc_server_cancel_all_calls(server->grpc);
    pthread_mutex_lock(&server->lock);
    bool ended = wait_until(server, has_stopped, end_ns) && wait_until(server, nothing_runs, end_ns);
    pthread_mutex_unlock(&server->lock);
    if (!ended || !workers_stop(server->workers, end_ns) || !workers_stop(server->streamers, end_ns))
        return false;
    free_server(server);
    return true;
}
