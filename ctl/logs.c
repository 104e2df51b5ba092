#include "ctl/logs.h"

#include "base/clock.h"
#include "ctl/command.h"
#include "ctl/container.h"
#include "ctl/listing.h"

enum {
    POLL_FIRST_MS = 2,
    POLL_MOST_MS = 200,
    SETTLE_MS = 20, /* the last of the log may reach the file after the exit is known */
    TAIL_MAX = 10 * 1000 * 1000,
};

static int
has_ended(struct client *client, const char *id, Runtime__V1__ContainerStatusResponse **status, struct error *err)
{
    cleanup_message Runtime__V1__ContainerStatusResponse *answer = TRY_PTR(container_status(client, id, err));
    if (answer->status->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_CREATED ||
        answer->status->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
        return 0;
    if (status)
        *status = steal(answer);
    return 1;
}

static int
milliseconds_until(int64_t monotonic_ns)
{
    int64_t left = monotonic_ns - clock_monotonic_ns();
    return left > 0 ? (int)(left / NS_PER_MS) + 1 : 0;
}

int
log_follow(struct client *client, const char *container_id, struct log_file *log, int interrupt, Runtime__V1__ContainerStatusResponse **status,
           struct error *err)
{
    int64_t wait_ns = POLL_FIRST_MS * NS_PER_MS;
    for (int64_t next_ns = 0;;) {
        TRY(log_file_copy(log, err));
        /* A chatty container wakes us for each line, and is not asked each time. */
        if (clock_monotonic_ns() >= next_ns) {
            if (TRY(has_ended(client, container_id, status, err)))
                break;
            next_ns = clock_monotonic_ns() + wait_ns;
            wait_ns = wait_ns * 2 < POLL_MOST_MS * NS_PER_MS ? wait_ns * 2 : POLL_MOST_MS * NS_PER_MS;
        }
        if (log_file_wait(log, interrupt, milliseconds_until(next_ns)))
            return 1;
    }
    (void)log_file_wait(log, -1, SETTLE_MS);
    return log_file_copy(log, err);
}

static int
parse_tail(const struct args *args, int64_t *tail, struct error *err)
{
    const char *text = args_value(args, "tail");
    *tail = -1;
    if (text && (str_to_i64(text, "--tail", tail, err) < 0 || *tail < 0 || *tail > TAIL_MAX))
        return usage_error(err, "--tail takes a number of lines up to %d, not “%s”", TAIL_MAX, text);
    return 0;
}

static int
logs(struct ctl *ctl, struct error *err)
{
    const struct log_format format = {.timestamps = args_flag(&ctl->args, "timestamps"), .json = ctl->json};
    cleanup_listing struct listing listing = {0};
    struct target target = {0};
    int64_t tail;
    TRY(parse_tail(&ctl->args, &tail, err));
    TRY(listing_get(ctl->client, &listing, err));
    TRY(listing_find_container(&listing, ctl->args.operands[0], &target, err));
    const char *id = target.container->id;
    cleanup_message Runtime__V1__ContainerStatusResponse *status = TRY_PTR(container_status(ctl->client, id, err));
    if (str_empty(status->status->log_path))
        return error_set(err, ERR_NOT_FOUND, "container “%s” has no log", ctl->args.operands[0]);
    cleanup(log_file_closep) struct log_file *log = TRY_PTR(log_file_open(status->status->log_path, &format, tail, err));
    if (args_flag(&ctl->args, "follow"))
        return log_follow(ctl->client, id, log, -1, NULL, err);
    return log_file_copy(log, err);
}

const struct command command_logs = {
    .name = "logs",
    .operands = "CONTAINER",
    .summary = "Print what a container has written.",
    .details = "Its stdout goes to stdout and its stderr to stderr. The log is a file of this machine.",
    .options = (const struct option_spec[]){{'f', "follow", NULL, "go on until the container ends"},
                                            {'n', "tail", "LINES", "begin with the last lines only"},
                                            {'t', "timestamps", NULL, "with the time of each line"},
                                            {0}},
    .least = 1,
    .most = 1,
    .run = logs,
};
