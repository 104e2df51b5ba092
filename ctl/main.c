/* crispctl: a small client for a machine that runs crisp. It speaks CRI, so it also works with other runtimes. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/command.h"

static const char default_socket[] = "/run/crisp/crisp.sock";

static const struct command *const commands[] = {
    &command_pull, &command_images, &command_rmi, &command_image,  &command_run,     &command_ps, &command_logs,
    &command_exec, &command_stop,   &command_rm,  &command_status, &command_version, NULL,
};

/* What may stand in front of the command. */
struct globals {
    const char *socket;
    bool json;
};

static const struct command *
command_by_name(const struct command *const *list, const char *name)
{
    for (size_t i = 0; list[i]; i++) {
        const char *space = strrchr(list[i]->name, ' ');
        if (str_eq(space ? space + 1 : list[i]->name, name))
            return list[i];
    }
    return NULL;
}

static void
print_commands(const struct command *const *list)
{
    printf("\nCommands:\n");
    for (size_t i = 0; list[i]; i++)
        printf("  %-*s %s\n", list == commands ? 8 : 14, list[i]->name, list[i]->summary);
}

static int
print_help(void)
{
    printf("Usage: crispctl [--socket PATH] [--json] COMMAND [OPTIONS] [OPERANDS]\n\n"
           "Pull images and run containers with crisp.\n");
    print_commands(commands);
    printf("\n“crispctl COMMAND --help” tells more. The socket is --socket, else CONTAINER_RUNTIME_ENDPOINT, else %s.\n", default_socket);
    return 0;
}

static int
print_command_help(const struct command *command)
{
    if (!command->children)
        args_help(command);
    else {
        printf("Usage: crispctl %s COMMAND [OPTIONS] [OPERANDS]\n\n%s\n", command->name, command->summary);
        print_commands(command->children);
    }
    return 0;
}

static int
fail(const char *command, const struct error *err, int status)
{
    if (!is_usage_error(err)) {
        fprintf(stderr, "crispctl: %s\n", err->message);
        return status;
    }
    fprintf(stderr, "crispctl%s%s: %s; see crispctl%s%s --help\n", *command ? " " : "", command, err->message, *command ? " " : "", command);
    return EXIT_USAGE;
}

static const char *
choose_endpoint(const struct globals *globals, const struct args *args)
{
    const char *from_environment = getenv("CONTAINER_RUNTIME_ENDPOINT");
    if (args_value(args, "socket"))
        return args_value(args, "socket");
    if (globals->socket)
        return globals->socket;
    return str_empty(from_environment) ? default_socket : from_environment;
}

static int
run_command(struct ctl *ctl, const struct command *command, const struct globals *globals, struct error *err)
{
    cleanup(client_closep) struct client *client = TRY_PTR(client_open(choose_endpoint(globals, &ctl->args), err));
    ctl->client = client;
    ctl->json = globals->json || args_flag(&ctl->args, "json");
    int status = TRY(command->run(ctl, err));
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_set(err, ERR_INTERNAL, "the answer cannot be written to stdout");
    return status;
}

static int
parse_and_run(const struct command *command, const struct globals *globals, int argc, char *argv[])
{
    struct error err = {0};
    struct ctl ctl = {0};
    int status = args_parse(&ctl.args, command, argc, argv, &err);
    if (status == 1) {
        args_help(command);
        status = 0;
    } else if (status == 0) {
        status = run_command(&ctl, command, globals, &err);
    }
    args_free(&ctl.args);
    return status >= 0 ? status : fail(command->name, &err, command->failed ? command->failed : EXIT_FAILED);
}

/* Returns the index of the command's name in argv, or -1. */
static int
parse_globals(struct globals *globals, int argc, char *argv[], struct error *err)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (str_eq(argv[i], "--json"))
            globals->json = true;
        else if (str_eq(argv[i], "--socket") && i + 1 < argc)
            globals->socket = argv[++i];
        else if (str_starts(argv[i], "--socket="))
            globals->socket = argv[i] + strlen("--socket=");
        else
            return usage_error(err, "there is no option %s before the command", argv[i]);
    }
    return i < argc ? i : usage_error(err, "a command is missing");
}

/* argv[*at] and, of a group, what follows; *at is then where its arguments begin. Of a group alone its help is wanted. */
static const struct command *
find_command(char *argv[], int *at, bool *help, struct error *err)
{
    const struct command *command = command_by_name(commands, argv[*at]), *child;
    if (!command)
        usage_error(err, "there is no command %s", argv[*at]);
    if (!command || !command->children)
        return command;
    const char *next = argv[*at + 1];
    if (!next || str_eq(next, "--help") || str_eq(next, "-h"))
        *help = true;
    if (!next || *next == '-')
        return command;
    child = command_by_name(command->children, next);
    if (!child)
        usage_error(err, "there is no command %s %s", command->name, next);
    ++*at;
    return child;
}

/* Where one is closed the next file to be opened would stand for it: an archive for stdout would go to crispd's socket. */
static void
open_standard_fds(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
    }
    if (fd >= 0)
        (void)close(fd);
}

int
main(int argc, char *argv[])
{
    open_standard_fds();
    struct globals globals = {0};
    struct error err = {0};
    if (argc > 1 && (str_eq(argv[1], "--help") || str_eq(argv[1], "-h")))
        return print_help();
    if (argc > 1 && str_eq(argv[1], "--version")) {
        printf("crispctl %s\n", CRISP_VERSION);
        return 0;
    }
    int at = parse_globals(&globals, argc, argv, &err);
    if (at < 0)
        return fail("", &err, EXIT_USAGE);
    bool help = str_eq(argv[at], "help");
    if (help && at + 1 == argc)
        return print_help();
    at += help;
    const struct command *command = find_command(argv, &at, &help, &err);
    if (!command)
        return fail("", &err, EXIT_USAGE);
    return help ? print_command_help(command) : parse_and_run(command, &globals, argc - at, argv + at);
}
