/* stop and rm. */
#include <string.h>

#include "ctl/command.h"
#include "ctl/container.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/listing.h"

typedef int target_action(struct ctl *ctl, const struct listing *listing, const struct target *target, struct error *err);

/* Carry out the action on each operand and print what was done, by the words the user gave. */
static int
for_each_operand(struct ctl *ctl, target_action *action, struct error *err)
{
    cleanup_json json_t *done = json_array();
    cleanup_listing struct listing listing = {0};
    TRY(listing_get(ctl->client, &listing, err));
    for (size_t i = 0; i < ctl->args.count; i++) {
        const char *name = ctl->args.operands[i];
        struct target target = {0};
        TRY(listing_find(&listing, name, &target, err));
        TRY(action(ctl, &listing, &target, err));
        if (!ctl->json)
            puts(name);
        json_array_append_new(done, json_of_text(name, strlen(name)));
    }
    if (ctl->json)
        json_print(steal(done));
    return 0;
}

static int
grace_seconds(const struct args *args, int64_t *seconds, struct error *err)
{
    const char *text = args_value(args, "time");
    *seconds = GRACE_SECONDS;
    if (text && (str_to_i64(text, "--time", seconds, err) < 0 || *seconds < 0 || *seconds > INT32_MAX))
        return usage_error(err, "--time takes a number of seconds, not “%s”", text);
    return 0;
}

static int
stop_target(struct ctl *ctl, const struct listing *listing, const struct target *target, struct error *err)
{
    int64_t seconds;
    (void)listing;
    TRY(grace_seconds(&ctl->args, &seconds, err));
    if (target->container)
        TRY(container_stop(ctl->client, target->container->id, seconds, err));
    /* The pod that run made is there for this container only; stopping it gives its address back. */
    if (target->pod && (!target->container || listing_made_by_run(target->pod)))
        TRY(pod_stop(ctl->client, target->pod->id, err));
    return 0;
}

static int
stop(struct ctl *ctl, struct error *err)
{
    return for_each_operand(ctl, stop_target, err);
}

const struct command command_stop = {
    .name = "stop",
    .operands = "CONTAINER|POD...",
    .summary = "Stop containers, or pods with all their containers.",
    .details = "A container gets its stop signal, and is killed when the time is over. A pod is killed at once.",
    .options = (const struct option_spec[]){{'t', "time", "SECONDS", "how long to wait before killing (10)"}, {0}},
    .least = 1,
    .most = OPERANDS_ANY,
    .run = stop,
};

static int
refuse_running(const Runtime__V1__Container *container, struct error *err)
{
    cleanup_free char *id = format_id(container->id);
    if (container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_RUNNING)
        return 0;
    return error_set(err, ERR_PRECONDITION, "container %s (%s) is running, stop it first or use --force", id,
                     container->metadata ? container->metadata->name : "");
}

static int
check_removable(const struct listing *listing, const struct target *target, struct error *err)
{
    if (target->container)
        return refuse_running(target->container, err);
    for (size_t i = 0; i < listing->containers->n_containers; i++) {
        if (str_eq(listing->containers->containers[i]->pod_sandbox_id, target->pod->id))
            TRY(refuse_running(listing->containers->containers[i], err));
    }
    return 0;
}

static int
remove_target(struct ctl *ctl, const struct listing *listing, const struct target *target, struct error *err)
{
    if (!args_flag(&ctl->args, "force"))
        TRY(check_removable(listing, target, err));
    if (listing_made_by_run(target->pod))
        return run_remove(ctl->client, target->pod->id, target->pod->metadata ? target->pod->metadata->uid : "", err);
    if (target->container)
        return container_remove(ctl->client, target->container->id, err);
    TRY(pod_stop(ctl->client, target->pod->id, err));
    return pod_remove(ctl->client, target->pod->id, err);
}

static int
rm(struct ctl *ctl, struct error *err)
{
    return for_each_operand(ctl, remove_target, err);
}

const struct command command_rm = {
    .name = "rm",
    .operands = "CONTAINER|POD...",
    .summary = "Remove containers, or pods with all their containers.",
    .details = "A container that “crispctl run” made goes with its pod and its log.",
    .options = (const struct option_spec[]){{'f', "force", NULL, "also what is running; it is killed"}, {0}},
    .least = 1,
    .most = OPERANDS_ANY,
    .run = rm,
};
