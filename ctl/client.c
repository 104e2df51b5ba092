#include "ctl/client.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/str.h"

/* What the kubelet's client takes, too. */
enum { ANSWER_MAX_BYTES = 16 << 20 };

struct client {
    grpc_completion_queue *queue;
    grpc_channel *channel;
};

/* One call: what gRPC fills in while it runs. */
struct call {
    grpc_call *call;
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_byte_buffer *request;
    grpc_byte_buffer *answer;
    grpc_status_code status;
    grpc_slice details;
};

static const enum error_kind kind_of_status[] = {
    [GRPC_STATUS_CANCELLED] = ERR_CANCELLED,
    [GRPC_STATUS_UNKNOWN] = ERR_UNKNOWN,
    [GRPC_STATUS_INVALID_ARGUMENT] = ERR_INVALID,
    [GRPC_STATUS_DEADLINE_EXCEEDED] = ERR_DEADLINE,
    [GRPC_STATUS_NOT_FOUND] = ERR_NOT_FOUND,
    [GRPC_STATUS_ALREADY_EXISTS] = ERR_EXISTS,
    [GRPC_STATUS_PERMISSION_DENIED] = ERR_DENIED,
    [GRPC_STATUS_RESOURCE_EXHAUSTED] = ERR_EXHAUSTED,
    [GRPC_STATUS_FAILED_PRECONDITION] = ERR_PRECONDITION,
    [GRPC_STATUS_ABORTED] = ERR_UNAVAILABLE,
    [GRPC_STATUS_OUT_OF_RANGE] = ERR_INVALID,
    [GRPC_STATUS_UNIMPLEMENTED] = ERR_UNSUPPORTED,
    [GRPC_STATUS_INTERNAL] = ERR_INTERNAL,
    [GRPC_STATUS_UNAVAILABLE] = ERR_UNAVAILABLE,
    [GRPC_STATUS_DATA_LOSS] = ERR_INTERNAL,
    [GRPC_STATUS_UNAUTHENTICATED] = ERR_AUTH,
};

static const char *
endpoint_path(const char *endpoint)
{
    static const char *const schemes[] = {"unix://", "unix:"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (str_starts(endpoint, schemes[i]))
            return endpoint + strlen(schemes[i]);
    }
    return endpoint;
}

static int
connect_to(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "the socket must be an absolute path or unix://PATH, not %s", path);
    if (strlen(path) >= sizeof address.sun_path)
        return error_set(err, ERR_INVALID, "the socket's path is longer than %zu characters", sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path));
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_errno(err, errno, "socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return error_errno(err, errno, "no answer at %s (is crispd running?)", path);
    return steal(fd);
}

/* The status tells the user what is wrong; gRPC's own lines on stderr would say it again. */
static void
drop_log(gpr_log_func_args *args)
{
    (void)args;
}

struct client *
client_open(const char *endpoint, struct error *err)
{
    int fd = TRY_OR_NULL(connect_to(endpoint_path(endpoint), err));
    gpr_set_log_function(drop_log);
    grpc_init();
    struct client *client = mem_zalloc(1, sizeof *client);
    client->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_arg limit = {.type = GRPC_ARG_INTEGER, .key = (char *)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, .value.integer = ANSWER_MAX_BYTES};
    grpc_channel_args args = {.num_args = 1, .args = &limit};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    /* A socket connected here fails with an errno and at once, where gRPC would try again and end with words of its own. */
    client->channel = grpc_channel_create_from_fd("localhost", fd, credentials, &args);
    grpc_channel_credentials_release(credentials);
    return client;
}

void
client_close(struct client *client)
{
    grpc_channel_destroy(client->channel);
    grpc_completion_queue_shutdown(client->queue);
    grpc_completion_queue_destroy(client->queue);
    free(client);
    grpc_shutdown_blocking();
}

void
message_freep(void *message)
{
    protobuf_c_message_free_unpacked(*(ProtobufCMessage **)message, NULL);
}

static const ProtobufCMethodDescriptor *
method_by_name(const char *rpc, const char **service)
{
    static const ProtobufCServiceDescriptor *const services[] = {&runtime__v1__runtime_service__descriptor, &runtime__v1__image_service__descriptor,
                                                                 &crisp__v1__admin__descriptor, NULL};
    for (size_t i = 0; services[i]; i++) {
        const ProtobufCMethodDescriptor *method = protobuf_c_service_descriptor_get_method_by_name(services[i], rpc);
        if (method) {
            *service = services[i]->name;
            return method;
        }
    }
    return NULL;
}

static grpc_byte_buffer *
pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

static void
call_begin(struct call *call, struct client *client, const char *path, const ProtobufCMessage *request, int64_t seconds)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (seconds != CALL_FOREVER)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(seconds, GPR_TIMESPAN));
    *call = (struct call){.request = pack(request), .details = grpc_empty_slice()};
    grpc_slice method = grpc_slice_from_copied_string(path);
    call->call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, client->queue, method, NULL, deadline, NULL);
    grpc_slice_unref(method);
    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
}

static void
call_wait(struct call *call, struct client *client)
{
    const grpc_op operations[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA, .data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &call->trailing_metadata, .status = &call->status, .status_details = &call->details}},
    };
    /* It can only be refused for a batch that is wrong in itself. */
    GPR_ASSERT(grpc_call_start_batch(call->call, operations, sizeof operations / sizeof *operations, call, NULL) == GRPC_CALL_OK);
    (void)grpc_completion_queue_pluck(client->queue, call, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

static void
call_end(struct call *call)
{
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_byte_buffer_destroy(call->request);
    if (call->answer)
        grpc_byte_buffer_destroy(call->answer);
    grpc_slice_unref(call->details);
    grpc_call_unref(call->call);
}

static int
call_error(const struct call *call, const char *rpc, struct error *err)
{
    size_t code = (size_t)call->status;
    bool known = code < sizeof kind_of_status / sizeof *kind_of_status;
    int length = (int)GRPC_SLICE_LENGTH(call->details);
    if (length == 0)
        return error_set(err, known ? kind_of_status[code] : ERR_UNKNOWN, "%s failed with status %zu", rpc, code);
    return error_set(err, known ? kind_of_status[code] : ERR_UNKNOWN, "%.*s", length, (const char *)GRPC_SLICE_START_PTR(call->details));
}

static void *
unpack(grpc_byte_buffer *buffer, const ProtobufCMessageDescriptor *type, const char *rpc, struct error *err)
{
    grpc_byte_buffer_reader reader;
    void *message = NULL;
    if (buffer && grpc_byte_buffer_reader_init(&reader, buffer)) {
        grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
        message = protobuf_c_message_unpack(type, NULL, GRPC_SLICE_LENGTH(slice), GRPC_SLICE_START_PTR(slice));
        grpc_slice_unref(slice);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    if (!message)
        error_set(err, ERR_INTERNAL, "the answer to %s is not a %s", rpc, type->name);
    return message;
}

void *
client_call(struct client *client, const char *rpc, const ProtobufCMessage *request, int64_t seconds, struct error *err)
{
    const char *service = NULL;
    const ProtobufCMethodDescriptor *method = method_by_name(rpc, &service);
    if (!method || method->input != request->descriptor) {
        error_set(err, ERR_INTERNAL, "there is no rpc %s that takes a %s", rpc, request->descriptor->name);
        return NULL;
    }
    cleanup_free char *path = str_printf("/%s/%s", service, rpc);
    struct call call;
    call_begin(&call, client, path, request, seconds);
    call_wait(&call, client);
    void *answer = NULL;
    if (call.status == GRPC_STATUS_OK)
        answer = unpack(call.answer, method->output, rpc, err);
    else
        call_error(&call, rpc, err);
    call_end(&call);
    return answer;
}

int
client_do(struct client *client, const char *rpc, const ProtobufCMessage *request, int64_t seconds, struct error *err)
{
    ProtobufCMessage *answer = TRY_PTR(client_call(client, rpc, request, seconds, err));
    protobuf_c_message_free_unpacked(answer, NULL);
    return 0;
}
