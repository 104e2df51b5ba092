/* crisp-pull: fetches and unpacks images for crispd. One process serves all pulls of the moment; crispd ends it by closing the socket.
 *
 *   crisp-pull --incoming DIR --partial DIR --layers DIR --blobs DIR [--certs DIR]… [--downloads N] [--per-pull N] [--stall SECONDS]
 *              [--least-rate BYTES] [--keep-blobs]
 *
 * The socket is fd PULL_SOCKET_FD. Order matters: the sandbox is entered while there is one thread, and before anybody's bytes are read. */
#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "imageservice/protocol.h"
#include "imageservice/pull/limits.h"
#include "imageservice/pull/pull.h"
#include "imageservice/pull/sandbox.h"

struct arguments {
    struct sandbox sandbox;
    struct strv certs_dirs, certificates;
    uint64_t downloads, per_pull, stall_seconds, least_rate;
    bool keep_blobs;
};

static int
read_arguments(int argc, char **argv, struct arguments *out, struct error *err)
{
    static const struct option options[] = {
        {"incoming", required_argument, NULL, 'i'},
        {"partial", required_argument, NULL, 'h'},
        {"layers", required_argument, NULL, 'l'},
        {"blobs", required_argument, NULL, 'b'},
        {"certs", required_argument, NULL, 'c'},
        {"downloads", required_argument, NULL, 'd'},
        {"per-pull", required_argument, NULL, 'p'},
        {"stall", required_argument, NULL, 's'},
        {"least-rate", required_argument, NULL, 'r'},
        {"keep-blobs", no_argument, NULL, 'k'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'i':
            out->sandbox.incoming = optarg;
            break;
        case 'h':
            out->sandbox.partial = optarg;
            break;
        case 'l':
            out->sandbox.layers = optarg;
            break;
        case 'b':
            out->sandbox.blobs = optarg;
            break;
        case 'c':
            strv_add(&out->certs_dirs, optarg);
            break;
        case 'd':
            TRY(str_to_u64(optarg, LIMIT_DOWNLOADS, "--downloads", &out->downloads, err));
            break;
        case 'p':
            TRY(str_to_u64(optarg, LIMIT_DOWNLOADS, "--per-pull", &out->per_pull, err));
            break;
        case 's':
            TRY(str_to_u64(optarg, 86400, "--stall", &out->stall_seconds, err));
            break;
        case 'r':
            TRY(str_to_u64(optarg, UINT32_MAX, "--least-rate", &out->least_rate, err));
            break;
        case 'k':
            out->keep_blobs = true;
            break;
        default:
            return error_set(err, ERR_INVALID, "unknown option");
        }
    }
    hosts_files_elsewhere(&out->certs_dirs, &out->certificates);
    out->sandbox.certs_dirs = &out->certs_dirs;
    out->sandbox.certificates = &out->certificates;
    const struct sandbox *s = &out->sandbox;
    if (!s->incoming || !s->partial || !s->layers || !s->blobs || !out->downloads || !out->per_pull || !out->stall_seconds)
        return error_set(err, ERR_INVALID, "arguments are missing: crispd starts this program");
    return 0;
}

static int
open_context(const struct arguments *arguments, struct pull_context *out, struct error *err)
{
    out->socket = PULL_SOCKET_FD;
    strv_copy(&out->registries.certs_dirs, &arguments->certs_dirs);
    out->keep_blobs = arguments->keep_blobs;
    out->incoming = TRY(file_open(AT_FDCWD, SANDBOX_INCOMING, O_RDONLY | O_DIRECTORY, 0, err));
    out->layers_dir = TRY(file_open(AT_FDCWD, SANDBOX_LAYERS, O_RDONLY | O_DIRECTORY, 0, err));
    out->blobs_dir = TRY(file_open(AT_FDCWD, SANDBOX_BLOBS, O_RDONLY | O_DIRECTORY, 0, err));
    out->partial = TRY(file_open(AT_FDCWD, SANDBOX_PARTIAL, O_RDONLY | O_DIRECTORY, 0, err));
    struct http_options rate = {.least_rate = (int64_t)arguments->least_rate, .stall_seconds = (int64_t)arguments->stall_seconds};
    out->registries.tokens = tokens_new();
    out->registries.http = TRY_PTR(http_start(&rate, err));
    struct layers_options options = {
        .http = out->registries.http,
        .incoming = out->incoming,
        .partial = out->partial,
        .downloads = (unsigned)arguments->downloads,
        .per_pull = (unsigned)arguments->per_pull,
        .keep_blobs = arguments->keep_blobs,
    };
    out->layers = TRY_PTR(layers_start(&options, err));
    return 0;
}

static int
serve(const struct pull_context *context, struct error *err)
{
    cleanup_free struct message *message = mem_alloc(sizeof *message);
    for (;;) {
        if (TRY(message_receive(context->socket, message, err)) == 0)
            return 0;
        if (message->type == PULL_START || message->type == PULL_IMPORT || message->type == PULL_EXPORT)
            pull_start(context, message);
        else
            pull_message(message);
        message_close_fds(message);
        explicit_bzero(message->data, message->length); /* PULL_START's secrets */
    }
}

/* What threads write to a layer is theirs alone; memory goes back soon, as nobody knows how long the next pull will be. */
static void
set_process(void)
{
    (void)umask(0);
    (void)signal(SIGPIPE, SIG_IGN);       /* of an export's reader */
    (void)setlocale(LC_CTYPE, "C.UTF-8"); /* else libarchive warns about every name beyond ASCII */
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_MMAP_THRESHOLD, 256 << 10);
    (void)fcntl(PULL_SOCKET_FD, F_SETFD, FD_CLOEXEC);
}

static int
run(int argc, char **argv, struct error *err)
{
    struct arguments arguments = {0};
    struct pull_context context = {0};
    TRY(read_arguments(argc, argv, &arguments, err));
    set_process();
    TRY(sandbox_enter(&arguments.sandbox, err));
    TRY(open_context(&arguments, &context, err));
    strv_free(&arguments.certs_dirs);
    strv_free(&arguments.certificates);
    int result = serve(&context, err);
    pull_end_all();
    layers_stop(context.layers);
    http_stop(context.registries.http);
    tokens_free(context.registries.tokens);
    strv_free(&context.registries.certs_dirs);
    return result;
}

#ifdef __SANITIZE_ADDRESS__
/* The leak checker traces its own process, which the seccomp filter forbids. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

int
main(int argc, char **argv)
{
    struct error err = {0};
    if (run(argc, argv, &err) == 0)
        return 0;
    log_error("crisp-pull ends", "error", err.message);
    return 1;
}
