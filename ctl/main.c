/* crispctl: a small client for a machine that runs crisp. It speaks CRI, so it also works with other runtimes. */
#include <stdio.h>
#include <string.h>

#include "ctl/command.h"

static const char default_socket[] = "/run/crisp/crisp.sock";

static const struct command *const commands[] = {
    &command_pull, &command_images, &command_rmi, &command_run,    &command_ps,      &command_logs,
    &command_exec, &command_stop,   &command_rm,  &command_status, &command_version, NULL,
};

/* What may stand in front of the command. */
struct globals {
    const char *socket;
    bool json;
};

static const struct command *
command_by_name(const char *name)
{
    for (size_t i = 0; commands[i]; i++) {
        if (str_eq(commands[i]->name, name))
            return commands[i];
    }
    return NULL;
}

static int
print_help(void)
{
    printf("Usage: crispctl [--socket PATH] [--json] COMMAND [OPTIONS] [OPERANDS]\n\n"
           "Pull images and run containers with crisp.\n\nCommands:\n");
    for (size_t i = 0; commands[i]; i++)
        printf("  %-8s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n“crispctl COMMAND --help” tells more. The socket is --socket, else CONTAINER_RUNTIME_ENDPOINT, else %s.\n", default_socket);
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

int
main(int argc, char *argv[])
{
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
    if (str_eq(argv[at], "help") && at + 1 == argc)
        return print_help();
    bool help = str_eq(argv[at], "help");
    const struct command *command = command_by_name(argv[help ? at + 1 : at]);
    if (!command) {
        usage_error(&err, "there is no command %s", argv[help ? at + 1 : at]);
        return fail("", &err, EXIT_USAGE);
    }
    if (help) {
        args_help(command);
        return 0;
    }
    return parse_and_run(command, &globals, argc - at, argv + at);
}
