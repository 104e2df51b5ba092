#include "ctl/command.h"
#include "ctl/json.h"
#include "ctl/table.h"

static bool
print_conditions(const Runtime__V1__RuntimeStatus *status)
{
    bool all = true;
    cleanup_table struct table table = {.columns = 4};
    table_row(&table, "CONDITION", "HOLDS", "REASON", "MESSAGE");
    for (size_t i = 0; status && i < status->n_conditions; i++) {
        const Runtime__V1__RuntimeCondition *c = status->conditions[i];
        table_row(&table, c->type, c->status ? "yes" : "no", c->reason, c->message);
        all = all && c->status;
    }
    table_print(&table, stdout);
    return all;
}

static int
status(struct ctl *ctl, struct error *err)
{
    Runtime__V1__StatusRequest request = RUNTIME__V1__STATUS_REQUEST__INIT;
    request.verbose = args_flag(&ctl->args, "verbose");
    cleanup_message Runtime__V1__StatusResponse *answer = TRY_PTR(client_call(ctl->client, "Status", &request.base, CALL_SECONDS, err));
    if (ctl->json) {
        json_print(json_of_message(&answer->base));
        return 0;
    }
    bool ready = print_conditions(answer->status);
    for (size_t i = 0; i < answer->n_info; i++)
        printf("\n%s: %s\n", answer->info[i]->key, answer->info[i]->value);
    return ready ? 0 : EXIT_FAILED;
}

const struct command command_status = {
    .name = "status",
    .operands = "",
    .summary = "Tell whether the runtime and its network are ready.",
    .details = "The exit status is 0 when all conditions hold, else 1 (with --json: when there was an answer).",
    .options = (const struct option_spec[]){{'v', "verbose", NULL, "also the configuration and more, as the runtime has it"}, {0}},
    .run = status,
};

static int
version(struct ctl *ctl, struct error *err)
{
    const Runtime__V1__VersionRequest request = RUNTIME__V1__VERSION_REQUEST__INIT;
    cleanup_message Runtime__V1__VersionResponse *answer = TRY_PTR(client_call(ctl->client, "Version", &request.base, CALL_SECONDS, err));
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        printf("crispctl %s\n%s %s (CRI %s)\n", CRISP_VERSION, answer->runtime_name, answer->runtime_version, answer->runtime_api_version);
    return 0;
}

const struct command command_version = {
    .name = "version",
    .operands = "",
    .summary = "Print the versions of crispctl and of the runtime.",
    .run = version,
};
