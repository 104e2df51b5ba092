#include "ctl/command.h"
#include "ctl/container.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/listing.h"
#include "ctl/table.h"

static bool
pod_is_shown(const Runtime__V1__PodSandbox *pod, bool all)
{
    return all || pod->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY;
}

static bool
container_is_shown(const Runtime__V1__Container *container, bool all)
{
    return all || container->state != RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED;
}

/* The list has no addresses; a pod that went away meanwhile has none either. */
static char *
pod_address(struct client *client, const Runtime__V1__PodSandbox *pod)
{
    if (pod->state != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
        return NULL;
    Runtime__V1__PodSandboxStatusRequest request = RUNTIME__V1__POD_SANDBOX_STATUS_REQUEST__INIT;
    request.pod_sandbox_id = pod->id;
    cleanup_message Runtime__V1__PodSandboxStatusResponse *answer = client_call(client, "PodSandboxStatus", &request.base, CALL_SECONDS, NULL);
    return answer && answer->status && answer->status->network ? str_dup(answer->status->network->ip) : NULL;
}

/* "running", or "exited 3": the list has no exit codes. */
static char *
container_state(struct client *client, const Runtime__V1__Container *container)
{
    if (container->state == RUNTIME__V1__CONTAINER_STATE__CONTAINER_EXITED) {
        cleanup_message Runtime__V1__ContainerStatusResponse *answer = container_status(client, container->id, NULL);
        if (answer)
            return str_printf("exited %d", answer->status->exit_code);
    }
    return str_dup(format_container_state(container->state));
}

static char *
pod_name(const Runtime__V1__PodSandbox *pod)
{
    const Runtime__V1__PodSandboxMetadata *metadata = pod->metadata;
    if (!metadata)
        return NULL;
    return str_empty(metadata->namespace_) ? str_dup(metadata->name) : str_printf("%s/%s", metadata->namespace_, metadata->name);
}

static void
add_container(struct table *table, struct client *client, const Runtime__V1__Container *container, const char *const pod_cells[3])
{
    cleanup_free char *id = format_id(container->id);
    cleanup_free char *image = format_image(container->image);
    cleanup_free char *state = container_state(client, container);
    cleanup_free char *age = format_age(container->created_at);
    table_row(table, id, container->metadata ? container->metadata->name : NULL, image, state, age, pod_cells[0], pod_cells[1], pod_cells[2]);
}

/* The pod's containers, or a row without one where it has none. */
static void
add_pod(struct table *table, struct client *client, const struct listing *listing, const Runtime__V1__PodSandbox *pod, bool all)
{
    cleanup_free char *name = pod_name(pod);
    cleanup_free char *id = format_id(pod->id);
    cleanup_free char *address = pod_address(client, pod);
    const char *const cells[] = {name, id, address};
    bool has_any = false;
    for (size_t i = 0; i < listing->containers->n_containers; i++) {
        const Runtime__V1__Container *container = listing->containers->containers[i];
        if (!str_eq(container->pod_sandbox_id, pod->id) || !container_is_shown(container, all))
            continue;
        add_container(table, client, container, cells);
        has_any = true;
    }
    cleanup_free char *age = format_age(pod->created_at);
    const char *state = pod->state == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY ? "pod ready" : "pod stopped";
    if (!has_any)
        table_row(table, NULL, NULL, NULL, state, age, name, id, address);
}

static void
print_table(struct client *client, const struct listing *listing, bool all)
{
    cleanup_table struct table table = {.columns = 8};
    table_row(&table, "CONTAINER ID", "NAME", "IMAGE", "STATE", "AGE", "POD", "POD ID", "IP");
    for (size_t i = 0; i < listing->pods->n_items; i++) {
        if (pod_is_shown(listing->pods->items[i], all))
            add_pod(&table, client, listing, listing->pods->items[i], all);
    }
    table_print(&table, stdout);
}

static void
print_ids(const struct listing *listing, bool all)
{
    for (size_t i = 0; i < listing->containers->n_containers; i++) {
        if (container_is_shown(listing->containers->containers[i], all))
            puts(listing->containers->containers[i]->id);
    }
}

static json_t *
as_json(const struct listing *listing, bool all)
{
    json_t *pods = json_array();
    json_t *containers = json_array();
    for (size_t i = 0; i < listing->pods->n_items; i++) {
        if (pod_is_shown(listing->pods->items[i], all))
            json_array_append_new(pods, json_of_message(&listing->pods->items[i]->base));
    }
    for (size_t i = 0; i < listing->containers->n_containers; i++) {
        if (container_is_shown(listing->containers->containers[i], all))
            json_array_append_new(containers, json_of_message(&listing->containers->containers[i]->base));
    }
    return json_pack("{s:o, s:o}", "pods", pods, "containers", containers);
}

static int
ps(struct ctl *ctl, struct error *err)
{
    bool all = args_flag(&ctl->args, "all");
    cleanup_listing struct listing listing = {0};
    TRY(listing_get(ctl->client, &listing, err));
    if (ctl->json)
        json_print(as_json(&listing, all));
    else if (args_flag(&ctl->args, "quiet"))
        print_ids(&listing, all);
    else
        print_table(ctl->client, &listing, all);
    return 0;
}

const struct command command_ps = {
    .name = "ps",
    .operands = "",
    .summary = "List pods and their containers.",
    .options =
        (const struct option_spec[]){{'a', "all", NULL, "also what has ended"}, {'q', "quiet", NULL, "only the containers' ids, in full"}, {0}},
    .run = ps,
};
