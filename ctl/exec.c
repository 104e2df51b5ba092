#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/listing.h"

enum { ANSWER_SECONDS = 30 }; /* beyond the command's own time, for the answer */

static int
timeout_seconds(const struct args *args, int64_t *seconds, struct error *err)
{
    const char *text = args_value(args, "timeout");
    *seconds = 0;
    if (text && (str_to_i64(text, "--timeout", seconds, err) < 0 || *seconds < 1 || *seconds > INT32_MAX))
        return usage_error(err, "--timeout takes a number of seconds from 1, not “%s”", text);
    return 0;
}

static void
print_json(const Runtime__V1__ExecSyncResponse *answer)
{
    /* As text, not in base64: most of what commands print is. */
    json_t *out = json_of_text((const char *)answer->stdout.data, answer->stdout.len);
    json_t *err = json_of_text((const char *)answer->stderr.data, answer->stderr.len);
    json_print(json_pack("{s:i, s:o, s:o}", "exitCode", answer->exit_code, "stdout", out, "stderr", err));
}

static void
print_output(const Runtime__V1__ExecSyncResponse *answer)
{
    fwrite(answer->stdout.data, 1, answer->stdout.len, stdout);
    fwrite(answer->stderr.data, 1, answer->stderr.len, stderr);
}

static int
run_exec(struct ctl *ctl, struct error *err)
{
    Runtime__V1__ExecSyncRequest request = RUNTIME__V1__EXEC_SYNC_REQUEST__INIT;
    cleanup_listing struct listing listing = {0};
    struct target target = {0};
    TRY(timeout_seconds(&ctl->args, &request.timeout, err));
    TRY(listing_get(ctl->client, &listing, err));
    TRY(listing_find_container(&listing, ctl->args.operands[0], &target, err));
    request.container_id = target.container->id;
    request.n_cmd = ctl->args.count - 1;
    request.cmd = (const char **)(ctl->args.operands + 1);
    int64_t deadline = request.timeout ? request.timeout + ANSWER_SECONDS : CALL_FOREVER;
    cleanup_message Runtime__V1__ExecSyncResponse *answer = TRY_PTR(client_call(ctl->client, "ExecSync", &request.base, deadline, err));
    if (ctl->json)
        print_json(answer);
    else
        print_output(answer);
    return answer->exit_code & 0xff;
}

const struct command command_exec = {
    .name = "exec",
    .operands = "CONTAINER COMMAND [ARG...]",
    .summary = "Run a command in a container and print its output when it has ended.",
    .details = "Without terminal and stdin. The exit status is the command's, or 125 when it could not be run.\n\n"
               "  crispctl exec web-3f9c cat /etc/hosts",
    .options = (const struct option_spec[]){{0, "timeout", "SECONDS", "kill the command after this time"}, {0}},
    .least = 2,
    .most = OPERANDS_ANY,
    .passes_on = true,
    .failed = EXIT_FAILED_TO_RUN,
    .run = run_exec,
};
