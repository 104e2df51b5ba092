/* The commands of crispctl: one struct each, defined in the file of its topic, listed in main.c. From it come the parsing of its arguments, its
 * --help, and its line in the list of commands. */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "ctl/client.h"

/* Exit statuses. A command that runs a program of the user's exits with that program's status, so its own failures have another: 125, as elsewhere.
 */
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_FAILED_TO_RUN = 125 };

struct option_spec {
    char letter; /* 0: only the long name */
    const char *name;
    const char *value; /* what --help calls its value; NULL: it takes none */
    const char *help;
};

enum { OPTIONS_MAX = 24, OPERANDS_ANY = 10000 };

struct args {
    const struct option_spec *specs[OPTIONS_MAX]; /* the command's and the common ones */
    struct strv values[OPTIONS_MAX];              /* what was given for specs[i]; "" for one without value */
    char *const *operands;                        /* NULL-terminated, points into argv */
    size_t count;
};

/* Whether an option was given; its last value or NULL; all its values. `name` must be one of the command's or of the common options. */
bool args_flag(const struct args *args, const char *name);
const char *args_value(const struct args *args, const char *name);
const struct strv *args_values(const struct args *args, const char *name);

struct ctl {
    struct client *client;
    struct args args;
    bool json; /* answer in JSON, not for people */
};

struct command {
    const char *name;
    const char *operands;              /* as --help shows them */
    const char *summary;               /* one sentence */
    const char *details;               /* more, with examples */
    const struct option_spec *options; /* ends with one without a name; NULL: none */
    size_t least, most;                /* operands */
    bool passes_on;                    /* options after the first operand are that program's, not ours */
    int failed;                        /* exit status of a failure, EXIT_FAILED if 0 */
    /* Returns the exit status, or -1 with err filled, by usage_error where the user's wording is at fault. */
    int (*run)(struct ctl *ctl, struct error *err);
    const struct command *const *children; /* instead of `run`: commands whose names begin with this one's; ends with NULL */
};

/* For an option or operand that cannot be understood: fills err so that crispctl exits with EXIT_USAGE. Always returns -1. */
int usage_error(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool is_usage_error(const struct error *err);

/* Parse what follows the command's name (argv[0] is that name). Returns 1 when --help was asked for. */
int args_parse(struct args *args, const struct command *command, int argc, char *argv[], struct error *err);
void args_free(struct args *args);
void args_help(const struct command *command);

extern const struct command command_pull, command_images, command_rmi, command_image, command_inspect, command_history;
extern const struct command command_image_check, command_image_gc;
extern const struct command command_run, command_exec, command_logs;
extern const struct command command_ps, command_stop, command_rm;
extern const struct command command_status, command_version;
