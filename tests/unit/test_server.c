/* The server as a client meets it: over a connection of its own, with gRPC's own client. What is behind it waits as told (fake_backend.c). */
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "api.pb-c.h"
#include "base/clock.h"
#include "base/str.h"
#include "cri/configuration.h"
#include "cri/events.h"
#include "cri/limits.h"
#include "cri/server.h"
#include "fake_backend.h"
#include "runtime/runtime.h"

size_t fake_exec_output_bytes = 16, fake_pods, fake_pod_bytes;

enum { FOREVER_SECONDS = 20, BLOCKED = 64 };

/* A call from the client's side. */
struct client_call {
    grpc_call *call;
    grpc_byte_buffer *answer;
    grpc_status_code code;
    grpc_slice details;
    grpc_metadata_array initial, trailing;
};

struct client {
    struct server *server;
    grpc_channel *channel;
    grpc_completion_queue *queue;
};

static struct configuration configuration = {.root = (char[]){"/nowhere"}};
static struct services services = {.configuration = &configuration};

static struct client
client_connect(size_t most_calls)
{
    struct client client = {0};
    struct error err = {0};
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    client.server = server_start(&services, most_calls, &err);
    assert_non_null(client.server);
    server_add_connection(client.server, fds[0]);
    grpc_arg size = {.type = GRPC_ARG_INTEGER, .key = (char[]){GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH}, .value.integer = MESSAGE_BYTES_MAX};
    grpc_channel_args args = {1, &size};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    client.channel = grpc_channel_create_from_fd("crispd", fds[1], credentials, &args);
    grpc_channel_credentials_release(credentials);
    client.queue = grpc_completion_queue_create_for_next(NULL);
    return client;
}

static void
client_close(struct client *client)
{
    grpc_channel_destroy(client->channel);
    grpc_completion_queue_shutdown(client->queue);
    while (grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type != GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(client->queue);
}

static bool
stop_within(struct client *client, int64_t give_up_ms, int64_t end_ms)
{
    int64_t now = clock_monotonic_ns();
    return server_stop(client->server, now + give_up_ms * NS_PER_MS, now + end_ms * NS_PER_MS);
}

static void
client_end(struct client *client)
{
    client_close(client);
    assert_true(stop_within(client, 1000, 5000));
}

static struct client_call *
begin_raw(struct client *client, const char *method, grpc_slice request, int64_t timeout_ms)
{
    struct client_call *c = mem_zalloc(1, sizeof *c);
    gpr_timespec deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    grpc_slice path = grpc_slice_from_copied_string(method);
    c->call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, path, NULL, deadline, NULL);
    grpc_slice_unref(path);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&request, 1);
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT},
    };
    ops[5].data.recv_status_on_client.trailing_metadata = &c->trailing;
    ops[5].data.recv_status_on_client.status = &c->code;
    ops[5].data.recv_status_on_client.status_details = &c->details;
    assert_int_equal(grpc_call_start_batch(c->call, ops, 6, c, NULL), GRPC_CALL_OK);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(request);
    return c;
}

static struct client_call *
begin(struct client *client, const char *method, const void *request, int64_t timeout_ms)
{
    grpc_slice bytes = grpc_slice_malloc(protobuf_c_message_get_packed_size(request));
    protobuf_c_message_pack(request, GRPC_SLICE_START_PTR(bytes));
    return begin_raw(client, method, bytes, timeout_ms);
}

/* The next call that ends. */
static struct client_call *
next_ended(struct client *client)
{
    gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(FOREVER_SECONDS, GPR_TIMESPAN));
    grpc_event event = grpc_completion_queue_next(client->queue, until, NULL);
    assert_int_equal(event.type, GRPC_OP_COMPLETE);
    return event.tag;
}

static grpc_status_code
finish(struct client_call *c, char details[256])
{
    grpc_status_code code = c->code;
    char *text = grpc_slice_to_c_string(c->details);
    if (details)
        (void)snprintf(details, 256, "%s", text);
    gpr_free(text);
    if (c->answer)
        grpc_byte_buffer_destroy(c->answer);
    grpc_slice_unref(c->details);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
    grpc_call_unref(c->call);
    free(c);
    return code;
}

static grpc_status_code
call_raw(struct client *client, const char *method, grpc_slice request, char details[256])
{
    (void)begin_raw(client, method, request, FOREVER_SECONDS * 1000);
    return finish(next_ended(client), details);
}

#define RUNTIME "/runtime.v1.RuntimeService/"

static struct client_call *
begin_version(struct client *client)
{
    Runtime__V1__VersionRequest request = RUNTIME__V1__VERSION_REQUEST__INIT;
    return begin(client, RUNTIME "Version", &request, FOREVER_SECONDS * 1000);
}

static struct client_call *
begin_stop(struct client *client, int64_t grace_seconds, int64_t timeout_ms)
{
    Runtime__V1__StopContainerRequest request = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
    request.container_id = "abc";
    request.timeout = grace_seconds;
    return begin(client, RUNTIME "StopContainer", &request, timeout_ms);
}

static void
version_is_answered(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    struct client_call *c = begin_version(&client);
    assert_ptr_equal(next_ended(&client), c);
    assert_int_equal(c->code, GRPC_STATUS_OK);
    grpc_byte_buffer_reader reader;
    assert_true(grpc_byte_buffer_reader_init(&reader, c->answer));
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    Runtime__V1__VersionResponse *answer = (Runtime__V1__VersionResponse *)protobuf_c_message_unpack(
        &runtime__v1__version_response__descriptor, NULL, GRPC_SLICE_LENGTH(bytes), GRPC_SLICE_START_PTR(bytes));
    assert_string_equal(answer->runtime_name, "crisp");
    assert_string_equal(answer->runtime_api_version, "v1");
    protobuf_c_message_free_unpacked(&answer->base, NULL);
    grpc_slice_unref(bytes);
    grpc_byte_buffer_reader_destroy(&reader);
    (void)finish(c, NULL);
    client_end(&client);
}

static int
compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void
version_does_not_wait_for_64_blocked_stops(void **state)
{
    (void)state;
    struct client client = client_connect(128);
    struct client_call *stops[BLOCKED];
    for (int i = 0; i < BLOCKED; i++)
        stops[i] = begin_stop(&client, 30, FOREVER_SECONDS * 1000);
    usleep(300000);
    int64_t took_ns[21];
    for (size_t i = 0; i < 21; i++) {
        int64_t start = clock_monotonic_ns();
        (void)begin_version(&client);
        assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
        took_ns[i] = clock_monotonic_ns() - start;
    }
    qsort(took_ns, 21, sizeof *took_ns, compare_times);
    print_message("Version beside %d blocked calls: median %.2f ms\n", BLOCKED, (double)took_ns[10] / 1e6);
    assert_true(took_ns[10] < 5 * NS_PER_MS);
    for (int i = 0; i < BLOCKED; i++)
        (void)grpc_call_cancel(stops[i]->call, NULL);
    for (int i = 0; i < BLOCKED; i++)
        assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_CANCELLED);
    int64_t start = clock_monotonic_ns();
    client_end(&client);
    assert_true(clock_monotonic_ns() - start < 2 * NS_PER_SECOND); /* every one of them noticed that its client had left */
}

static void
more_calls_than_the_limit_are_refused_not_queued(void **state)
{
    (void)state;
    struct client client = client_connect(4);
    for (int i = 0; i < 4; i++)
        (void)begin_stop(&client, 2, FOREVER_SECONDS * 1000);
    usleep(200000);
    char details[256];
    (void)begin_stop(&client, 2, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), details), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(details, "limits.calls"));
    for (int i = 0; i < 4; i++)
        assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    client_end(&client);
}

static void
a_deadline_is_answered_with_the_stage_before_it_passes(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    char details[256];
    (void)begin_stop(&client, 30, 1000);
    assert_int_equal(finish(next_ended(&client), details), GRPC_STATUS_DEADLINE_EXCEEDED);
    assert_non_null(strstr(details, "waiting for the container to exit"));
    client_end(&client);
}

static void
a_stopping_server_ends_blocked_calls_as_unavailable(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    char details[256];
    struct client_call *blocked = begin_stop(&client, 30, FOREVER_SECONDS * 1000);
    struct client_call *brief = begin_stop(&client, 1, FOREVER_SECONDS * 1000);
    usleep(200000);
    assert_true(stop_within(&client, 1500, 4000));
    assert_ptr_equal(next_ended(&client), brief);
    assert_int_equal(finish(brief, NULL), GRPC_STATUS_OK); /* it had time to finish */
    assert_ptr_equal(next_ended(&client), blocked);
    assert_int_equal(finish(blocked, details), GRPC_STATUS_UNAVAILABLE);
    assert_non_null(strstr(details, "crispd is stopping"));
    client_close(&client);
}

static void
a_connection_that_breaks_ends_its_calls(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    (void)begin_stop(&client, 30, FOREVER_SECONDS * 1000);
    usleep(200000);
    struct client_call *lost = begin_version(&client);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    (void)lost;
    grpc_channel_destroy(client.channel);
    client.channel = NULL;
    grpc_completion_queue_shutdown(client.queue);
    usleep(100000);
    assert_true(stop_within(&client, 3000, 5000));
    for (;;) {
        grpc_event event = grpc_completion_queue_next(client.queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            break;
        (void)finish(event.tag, NULL);
    }
    grpc_completion_queue_destroy(client.queue);
}

static void
what_is_not_built_says_so_by_name(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    char details[256];
    assert_int_equal(call_raw(&client, RUNTIME "CheckpointPod", grpc_empty_slice(), details), GRPC_STATUS_UNIMPLEMENTED);
    assert_non_null(strstr(details, "CheckpointPod"));
    assert_int_equal(call_raw(&client, RUNTIME "Nonsense", grpc_empty_slice(), details), GRPC_STATUS_UNIMPLEMENTED);
    assert_non_null(strstr(details, "Nonsense"));
    client_end(&client);
}

static void
bytes_that_are_no_request_are_invalid(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    char details[256];
    assert_int_equal(call_raw(&client, RUNTIME "Version", grpc_slice_from_copied_string("\xff\xff\xff"), details), GRPC_STATUS_INVALID_ARGUMENT);
    assert_int_equal(call_raw(&client, RUNTIME "ContainerStatus",
                              grpc_slice_from_copied_buffer("\x0a\x03"
                                                            "a\0b",
                                                            5),
                              details),
                     GRPC_STATUS_INVALID_ARGUMENT);
    assert_string_equal(details, "container_id: it holds a NUL byte");
    assert_int_equal(call_raw(&client, RUNTIME "ContainerStatus", grpc_slice_from_copied_string("\x0a\x02\xc3("), details),
                     GRPC_STATUS_INVALID_ARGUMENT);
    assert_string_equal(details, "container_id: it is not UTF-8");
    client_end(&client);
}

/* Take a stream's next message: its list's length, or -1 when there is none any more. Events on the queue are the receiving's alone meanwhile. */
static ssize_t
next_pods(struct client *client, struct client_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer};
    assert_int_equal(grpc_call_start_batch(c->call, &op, 1, c, NULL), GRPC_CALL_OK);
    (void)next_ended(client);
    if (!c->answer)
        return -1;
    grpc_byte_buffer_reader reader;
    assert_true(grpc_byte_buffer_reader_init(&reader, c->answer));
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    ProtobufCMessage *message = protobuf_c_message_unpack(&runtime__v1__stream_pod_sandboxes_response__descriptor, NULL, GRPC_SLICE_LENGTH(bytes),
                                                          GRPC_SLICE_START_PTR(bytes));
    assert_non_null(message);
    assert_true(GRPC_SLICE_LENGTH(bytes) <= STREAM_CHUNK_BYTES + 1024);
    ssize_t count = (ssize_t)((Runtime__V1__StreamPodSandboxesResponse *)message)->n_pod_sandboxes;
    protobuf_c_message_free_unpacked(message, NULL);
    grpc_slice_unref(bytes);
    grpc_byte_buffer_destroy(c->answer);
    c->answer = NULL;
    return count;
}

static struct client_call *
begin_stream(struct client *client, const char *method, int64_t timeout_ms)
{
    struct client_call *c = mem_zalloc(1, sizeof *c);
    gpr_timespec deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(timeout_ms, GPR_TIMESPAN));
    grpc_slice path = grpc_slice_from_copied_string(method), none = grpc_empty_slice();
    c->call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, path, NULL, deadline, NULL);
    grpc_slice_unref(path);
    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&none, 1);
    grpc_op ops[4] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
    };
    assert_int_equal(grpc_call_start_batch(c->call, ops, 4, c, NULL), GRPC_CALL_OK);
    grpc_byte_buffer_destroy(message);
    (void)next_ended(client);
    return c;
}

static grpc_status_code
end_stream(struct client *client, struct client_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    op.data.recv_status_on_client.trailing_metadata = &c->trailing;
    op.data.recv_status_on_client.status = &c->code;
    op.data.recv_status_on_client.status_details = &c->details;
    assert_int_equal(grpc_call_start_batch(c->call, &op, 1, c, NULL), GRPC_CALL_OK);
    (void)next_ended(client);
    return finish(c, NULL);
}

static void
a_list_too_large_for_a_message_is_streamed_whole(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    fake_pods = 400;
    fake_pod_bytes = 64 << 10;
    assert_int_equal(call_raw(&client, RUNTIME "ListPodSandbox", grpc_empty_slice(), NULL), GRPC_STATUS_RESOURCE_EXHAUSTED);
    struct client_call *stream = begin_stream(&client, RUNTIME "StreamPodSandboxes", FOREVER_SECONDS * 1000);
    size_t pods = 0, messages = 0;
    for (ssize_t n; (n = next_pods(&client, stream)) >= 0; messages++) {
        assert_true(n > 0);
        pods += (size_t)n;
    }
    assert_int_equal(end_stream(&client, stream), GRPC_STATUS_OK);
    assert_int_equal(pods, 400);
    assert_true(messages > 20);
    fake_pods = 0;
    stream = begin_stream(&client, RUNTIME "StreamPodSandboxes", FOREVER_SECONDS * 1000);
    assert_int_equal(next_pods(&client, stream), -1);
    assert_int_equal(end_stream(&client, stream), GRPC_STATUS_OK);
    client_end(&client);
}

static void
a_reader_that_takes_nothing_holds_no_stream_beyond_its_deadline(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    fake_pods = 400;
    fake_pod_bytes = 64 << 10;
    struct client_call *stalled = begin_stream(&client, RUNTIME "StreamPodSandboxes", 500);
    usleep(800000);
    assert_int_equal(call_raw(&client, RUNTIME "Version", grpc_empty_slice(), NULL), GRPC_STATUS_OK);
    assert_int_equal(end_stream(&client, stalled), GRPC_STATUS_DEADLINE_EXCEEDED);
    stalled = begin_stream(&client, RUNTIME "StreamPodSandboxes", FOREVER_SECONDS * 1000);
    assert_int_equal(grpc_call_cancel(stalled->call, NULL), GRPC_CALL_OK);
    assert_int_equal(end_stream(&client, stalled), GRPC_STATUS_CANCELLED);
    fake_pods = 0;
    client_end(&client);
}

static void
a_stopping_server_ends_its_streams_at_once(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    fake_pods = 400;
    fake_pod_bytes = 64 << 10;
    struct client_call *stalled = begin_stream(&client, RUNTIME "StreamPodSandboxes", FOREVER_SECONDS * 1000);
    int64_t begin_ns = clock_monotonic_ns();
    assert_true(stop_within(&client, 10000, 12000));
    assert_true(clock_monotonic_ns() - begin_ns < 2 * NS_PER_SECOND);
    while (next_pods(&client, stalled) >= 0) /* what was on its way already */
        ;
    assert_int_equal(end_stream(&client, stalled), GRPC_STATUS_UNAVAILABLE);
    fake_pods = 0;
    client_close(&client);
}

static void
publish(size_t count, size_t bytes)
{
    for (size_t i = 0; i < count; i++) {
        struct change *change = mem_zalloc(1, sizeof *change);
        struct pod_config *config = mem_zalloc(1, sizeof *config);
        char *large = mem_zalloc(1, bytes + 1);
        memset(large, 'x', bytes);
        strmap_set(&config->annotations, "large", large);
        free(large);
        change->kind = CHANGE_STARTED;
        (void)snprintf(change->id, sizeof change->id, "c%zu", i);
        change->after = (struct pod_snapshot){.time_ns = (int64_t)i + 1, .pod.config = config};
        events_publish(services.events, change);
    }
}

/* The number in the id of the next event; -1: the stream ended. */
static int
next_event(struct client *client, struct client_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer};
    assert_int_equal(grpc_call_start_batch(c->call, &op, 1, c, NULL), GRPC_CALL_OK);
    (void)next_ended(client);
    if (!c->answer)
        return -1;
    grpc_byte_buffer_reader reader;
    assert_true(grpc_byte_buffer_reader_init(&reader, c->answer));
    grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    Runtime__V1__ContainerEventResponse *event = (Runtime__V1__ContainerEventResponse *)protobuf_c_message_unpack(
        &runtime__v1__container_event_response__descriptor, NULL, GRPC_SLICE_LENGTH(bytes), GRPC_SLICE_START_PTR(bytes));
    assert_non_null(event);
    assert_int_equal(event->container_event_type, RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT);
    assert_non_null(event->pod_sandbox_status);
    int number = atoi(event->container_id + 1);
    protobuf_c_message_free_unpacked(&event->base, NULL);
    grpc_slice_unref(bytes);
    grpc_byte_buffer_destroy(c->answer);
    c->answer = NULL;
    return number;
}

#define EVENTS RUNTIME "GetContainerEvents"

static void
every_reader_of_events_gets_each_in_order(void **state)
{
    (void)state;
    services.events = events_new();
    struct client client = client_connect(16);
    struct client_call *streams[8];
    for (size_t i = 0; i < 8; i++)
        streams[i] = begin_stream(&client, EVENTS, FOREVER_SECONDS * 1000);
    publish(300, 10);
    for (size_t i = 0; i < 8; i++)
        for (int n = 0; n < 300; n++)
            assert_int_equal(next_event(&client, streams[i]), n);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(grpc_call_cancel(streams[i]->call, NULL), GRPC_CALL_OK);
        assert_int_equal(end_stream(&client, streams[i]), GRPC_STATUS_CANCELLED);
    }
    client_end(&client);
    events_free(services.events);
}

static void
a_slow_reader_of_events_loses_its_stream_and_delays_nobody(void **state)
{
    (void)state;
    services.events = events_new();
    struct client client = client_connect(16);
    struct client_call *slow = begin_stream(&client, EVENTS, FOREVER_SECONDS * 1000), *quick = begin_stream(&client, EVENTS, FOREVER_SECONDS * 1000);
    int64_t begin_ns = clock_monotonic_ns();
    for (int round = 0; round < 30; round++) {
        publish(100, 10000);
        for (int n = 0; n < 100; n++)
            assert_int_equal(next_event(&client, quick), n);
    }
    assert_true(clock_monotonic_ns() - begin_ns < 10 * NS_PER_SECOND);
    int got = 0;
    for (; next_event(&client, slow) == got % 100; got++) /* what was on its way, without a gap, then the end */
        ;
    assert_true(got < 3000);
    assert_int_equal(end_stream(&client, slow), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_call_cancel(quick->call, NULL), GRPC_CALL_OK);
    assert_int_equal(end_stream(&client, quick), GRPC_STATUS_CANCELLED);
    client_end(&client);
    events_free(services.events);
}

static void
more_readers_of_events_than_the_limit_are_refused(void **state)
{
    (void)state;
    services.events = events_new();
    struct client client = client_connect(16);
    struct client_call *streams[EVENT_STREAMS_MAX];
    for (size_t i = 0; i < EVENT_STREAMS_MAX; i++)
        streams[i] = begin_stream(&client, EVENTS, FOREVER_SECONDS * 1000);
    assert_int_equal(call_raw(&client, EVENTS, grpc_empty_slice(), NULL), GRPC_STATUS_RESOURCE_EXHAUSTED);
    /* Streams of events take no place from other streams, nor from calls. */
    assert_int_equal(call_raw(&client, RUNTIME "StreamContainers", grpc_empty_slice(), NULL), GRPC_STATUS_OK);
    for (size_t i = 0; i < EVENT_STREAMS_MAX; i++) {
        assert_int_equal(grpc_call_cancel(streams[i]->call, NULL), GRPC_CALL_OK);
        assert_int_equal(end_stream(&client, streams[i]), GRPC_STATUS_CANCELLED);
    }
    client_end(&client);
    events_free(services.events);
}

static void
messages_have_a_largest_size_either_way(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    grpc_slice large = grpc_slice_malloc(MESSAGE_BYTES_MAX + 1);
    memset(GRPC_SLICE_START_PTR(large), 0, GRPC_SLICE_LENGTH(large));
    assert_int_equal(call_raw(&client, RUNTIME "Version", large, NULL), GRPC_STATUS_RESOURCE_EXHAUSTED);
    Runtime__V1__ExecSyncRequest request = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
    request.container_id = "abc";
    request.cmd = (const char *[]){"true"};
    request.n_cmd = 1;
    for (size_t i = 0; i < 2; i++) {
        fake_exec_output_bytes = i ? MESSAGE_BYTES_MAX : 8 << 20;
        (void)begin(&client, RUNTIME "ExecSync", &request, FOREVER_SECONDS * 1000);
        assert_int_equal(finish(next_ended(&client), NULL), i ? GRPC_STATUS_RESOURCE_EXHAUSTED : GRPC_STATUS_OK);
    }
    client_end(&client);
}

static void
what_is_not_there_is_removed_already(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__ImageStatusRequest status = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
    Runtime__V1__RemoveImageRequest remove_image = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
    Runtime__V1__StopContainerRequest stop = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
    Runtime__V1__StopPodSandboxRequest stop_pod = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
    status.image = remove_image.image = &image;
    image.image = "busybox";
    stop.container_id = stop_pod.pod_sandbox_id = "1f3a-no-id-of-ours";
    (void)begin(&client, "/runtime.v1.ImageService/ImageStatus", &status, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    (void)begin(&client, "/runtime.v1.ImageService/RemoveImage", &remove_image, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    (void)begin(&client, RUNTIME "StopContainer", &stop, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    (void)begin(&client, RUNTIME "StopPodSandbox", &stop_pod, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_OK);
    stop.container_id = "a/b";
    (void)begin(&client, RUNTIME "StopContainer", &stop, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), NULL), GRPC_STATUS_INVALID_ARGUMENT);
    client_end(&client);
}

static void
a_registry_that_is_down_is_told_in_the_kubelets_word(void **state)
{
    (void)state;
    struct client client = client_connect(16);
    char details[256];
    Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__PullImageRequest request = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
    image.image = "busybox";
    request.image = &image;
    (void)begin(&client, "/runtime.v1.ImageService/PullImage", &request, FOREVER_SECONDS * 1000);
    assert_int_equal(finish(next_ended(&client), details), GRPC_STATUS_UNKNOWN);
    assert_true(str_starts(details, "RegistryUnavailable"));
    client_end(&client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_is_answered),
        cmocka_unit_test(version_does_not_wait_for_64_blocked_stops),
        cmocka_unit_test(more_calls_than_the_limit_are_refused_not_queued),
        cmocka_unit_test(a_deadline_is_answered_with_the_stage_before_it_passes),
        cmocka_unit_test(a_stopping_server_ends_blocked_calls_as_unavailable),
        cmocka_unit_test(a_connection_that_breaks_ends_its_calls),
        cmocka_unit_test(what_is_not_built_says_so_by_name),
        cmocka_unit_test(bytes_that_are_no_request_are_invalid),
        cmocka_unit_test(a_list_too_large_for_a_message_is_streamed_whole),
        cmocka_unit_test(a_reader_that_takes_nothing_holds_no_stream_beyond_its_deadline),
        cmocka_unit_test(a_stopping_server_ends_its_streams_at_once),
        cmocka_unit_test(every_reader_of_events_gets_each_in_order),
        cmocka_unit_test(a_slow_reader_of_events_loses_its_stream_and_delays_nobody),
        cmocka_unit_test(more_readers_of_events_than_the_limit_are_refused),
        cmocka_unit_test(messages_have_a_largest_size_either_way),
        cmocka_unit_test(what_is_not_there_is_removed_already),
        cmocka_unit_test(a_registry_that_is_down_is_told_in_the_kubelets_word),
    };
    grpc_init();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    grpc_shutdown_blocking();
    return failed;
}
