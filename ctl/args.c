#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "ctl/command.h"

static const struct option_spec common_options[] = {
    {0, "json", NULL, "answer in JSON"},
    {0, "socket", "PATH", "crispd's socket (else CONTAINER_RUNTIME_ENDPOINT, else /run/crisp/crisp.sock)"},
    {'h', "help", NULL, "show this"},
    {0},
};

/* An errno that nothing else here can have marks the errors that are the user's wording. */
enum { USAGE_ERRNO = EDOM };

int
usage_error(struct error *err, const char *format, ...)
{
    char text[ERROR_MESSAGE_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    error_set(err, ERR_INVALID, "%s", text);
    err->errnum = USAGE_ERRNO;
    return -1;
}

bool
is_usage_error(const struct error *err)
{
    return err->errnum == USAGE_ERRNO;
}

static size_t
option_index(const struct args *args, const char *name)
{
    size_t i = 0;
    while (!str_eq(args->specs[i]->name, name))
        i++;
    return i;
}

const struct strv *
args_values(const struct args *args, const char *name)
{
    return &args->values[option_index(args, name)];
}

const char *
args_value(const struct args *args, const char *name)
{
    const struct strv *values = args_values(args, name);
    return values->count ? values->items[values->count - 1] : NULL;
}

bool
args_flag(const struct args *args, const char *name)
{
    return args_values(args, name)->count > 0;
}

static size_t
collect_options(const struct option_spec *specs[OPTIONS_MAX], const struct command *command)
{
    const struct option_spec *const lists[] = {command->options, common_options};
    size_t count = 0;
    for (size_t i = 0; i < 2; i++) {
        for (const struct option_spec *o = lists[i]; o && o->name && count < OPTIONS_MAX; o++)
            specs[count++] = o;
    }
    return count;
}

/* What getopt_long wants to know. It answers with the index of an option, plus 256 so that no letter has the same number. */
struct getopt_input {
    struct option longs[OPTIONS_MAX + 1];
    char shorts[2 * OPTIONS_MAX + 3];
};

static void
getopt_input_make(struct getopt_input *in, const struct args *args, size_t count, bool passes_on)
{
    char *shorts = in->shorts;
    *in = (struct getopt_input){0};
    if (passes_on)
        *shorts++ = '+';
    *shorts++ = ':';
    for (size_t i = 0; i < count; i++) {
        const struct option_spec *o = args->specs[i];
        in->longs[i] = (struct option){o->name, o->value ? required_argument : no_argument, NULL, 256 + (int)i};
        if (o->letter)
            *shorts++ = o->letter;
        if (o->letter && o->value)
            *shorts++ = ':';
    }
}

static int
letter_index(const struct args *args, size_t count, int letter)
{
    for (size_t i = 0; i < count; i++) {
        if (args->specs[i]->letter == letter)
            return (int)i;
    }
    return -1;
}

static int
parse_options(struct args *args, size_t count, bool passes_on, int argc, char *argv[], struct error *err)
{
    struct getopt_input in;
    getopt_input_make(&in, args, count, passes_on);
    opterr = 0;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, in.shorts, in.longs, NULL)) != -1;) {
        const char *word = argv[optind > 0 ? optind - 1 : 0];
        if (c == ':')
            return usage_error(err, "option %s needs a value", word);
        int i = c >= 256 ? c - 256 : letter_index(args, count, c);
        if (c == '?' || i < 0)
            return usage_error(err, "there is no option %s", word);
        strv_add(&args->values[i], optarg ? optarg : "");
    }
    return 0;
}

static int
check_operands(const struct args *args, const struct command *command, struct error *err)
{
    if (args->count < command->least)
        return usage_error(err, "an operand is missing, it takes %s", command->operands);
    if (args->count > command->most)
        return usage_error(err, "“%s” is too much", args->operands[command->most]);
    return 0;
}

int
args_parse(struct args *args, const struct command *command, int argc, char *argv[], struct error *err)
{
    size_t count = collect_options(args->specs, command);
    TRY(parse_options(args, count, command->passes_on, argc, argv, err));
    args->operands = argv + optind;
    args->count = (size_t)(argc - optind);
    if (args_flag(args, "help"))
        return 1;
    return check_operands(args, command, err);
}

void
args_free(struct args *args)
{
    for (size_t i = 0; i < OPTIONS_MAX; i++)
        strv_free(&args->values[i]);
}

void
args_help(const struct command *command)
{
    printf("Usage: crispctl %s [OPTIONS] %s\n\n%s\n", command->name, command->operands, command->summary);
    if (command->details)
        printf("\n%s\n", command->details);
    printf("\nOptions:\n");
    const struct option_spec *specs[OPTIONS_MAX];
    size_t count = collect_options(specs, command);
    for (size_t i = 0; i < count; i++) {
        char words[64];
        snprintf(words, sizeof words, "--%s%s%s", specs[i]->name, specs[i]->value ? " " : "", specs[i]->value ? specs[i]->value : "");
        const char letter[] = {'-', specs[i]->letter, ',', '\0'};
        printf("  %3s %-32s %s\n", specs[i]->letter ? letter : "", words, specs[i]->help);
    }
}
