/* crispd: reads its configuration, and serves it until a signal ends it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cri/configuration.h"
#include "cri/daemon.h"

enum action { ACTION_SERVE, ACTION_CHECK, ACTION_PRINT };

static const char help[] = "crispd: the container runtime of a Kubernetes node\n"
                           "\n"
                           "  --config FILE    read FILE instead of " CONFIGURATION_FILE " (and config.d/*.toml beside it)\n"
                           "  --check-config   say whether the configuration is sound, and end\n"
                           "  --print-config   print the configuration in force as TOML, and end\n"
                           "  --version        print the version, and end\n"
                           "  --help           print this, and end\n";

static void
say_and_exit(const char *text)
{
    exit(fputs(text, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static enum action
parse(int argc, char **argv, const char **config)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'}, {"print-config", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    enum action action = ACTION_SERVE;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c':
            *config = optarg;
            break;
        case 'k':
            action = ACTION_CHECK;
            break;
        case 'p':
            action = ACTION_PRINT;
            break;
        case 'v':
            say_and_exit("crispd " CRISP_VERSION "\n");
            break;
        case 'h':
            say_and_exit(help);
            break;
        default: /* getopt has said what is wrong */
            exit(2);
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "crispd: what shall \"%s\" mean? See crispd --help.\n", argv[optind]);
        exit(2);
    }
    return action;
}

int
main(int argc, char **argv)
{
    const char *path = NULL;
    enum action action = parse(argc, argv, &path);
    struct error err = {0};
    struct configuration configuration;
    int result = configuration_load(&configuration, path, &err);
    if (result == 0 && action == ACTION_SERVE)
        result = daemon_run(&configuration, &err);
    else if (result == 0 && action == ACTION_PRINT)
        config_print(configuration_keys, configuration_key_count, &configuration, stdout);
    else if (result == 0)
        (void)puts("The configuration is sound.");
    if (result < 0)
        (void)fprintf(stderr, "crispd: %s\n", err.message);
    configuration_free(&configuration);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
