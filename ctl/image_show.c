/* crispctl image inspect and history: an image's configuration, as ImageStatus tells it to who asks for everything. */
#include <string.h>

#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/image.h"
#include "ctl/json.h"
#include "ctl/table.h"

enum { COMMAND_SHOWN = 60, DATE_SHOWN = 19 };

/* {"imageSpec": the configuration, "layers": [{"directory", "size"}…]} of an image, and the image itself. */
struct shown {
    Runtime__V1__ImageStatusResponse *status;
    json_t *info;
};

static void
shown_free(struct shown *shown)
{
    if (shown->status)
        message_freep(&shown->status);
    json_decref(shown->info);
}

static int
look_up(struct client *client, const char *name, struct shown *out, struct error *err)
{
    Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__ImageStatusRequest request = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
    spec.image = name;
    request.image = &spec;
    request.verbose = true;
    *out = (struct shown){0};
    out->status = TRY_PTR(client_call(client, "ImageStatus", &request.base, CALL_SECONDS, err));
    if (!out->status->image)
        return error_set(err, ERR_NOT_FOUND, "there is no image “%s”", name);
    for (size_t i = 0; i < out->status->n_info; i++)
        if (str_eq(out->status->info[i]->key, "info"))
            out->info = json_loads(out->status->info[i]->value, 0, NULL);
    return 0;
}

static int
inspect(struct ctl *ctl, struct error *err)
{
    cleanup_json json_t *list = json_array();
    for (size_t i = 0; i < ctl->args.count; i++) {
        cleanup(shown_free) struct shown shown;
        TRY(look_up(ctl->client, ctl->args.operands[i], &shown, err));
        json_t *image = json_of_message(&shown.status->image->base);
        if (shown.info)
            (void)json_object_update(image, shown.info);
        json_array_append_new(list, image);
    }
    json_print(steal(list));
    return 0;
}

const struct command command_inspect = {
    .name = "image inspect",
    .operands = "IMAGE...",
    .summary = "Tell all about images, in JSON.",
    .details = "The image as CRI tells of it, its configuration (imageSpec), and its layers with what they take on disk.",
    .least = 1,
    .most = OPERANDS_ANY,
    .run = inspect,
};

static const char *
text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* One line of the history; `layer` NULL for a step that changed no file. */
static void
add_step(struct table *table, const json_t *step, const json_t *layer, bool whole)
{
    const char *by = text_of(step, "created_by");
    cleanup_free char *created = str_ndup(text_of(step, "created"), DATE_SHOWN);
    cleanup_free char *command = whole || strlen(by) <= COMMAND_SHOWN ? str_dup(by) : str_printf("%.*s…", COMMAND_SHOWN, by);
    cleanup_free char *size = layer ? format_bytes((uint64_t)json_integer_value(json_object_get(layer, "size"))) : NULL;
    table_row(table, created, size, command, text_of(step, "comment"));
}

/* The newest step first. What the configuration doesn't tell has a line for its layer all the same. */
static void
print_history(const json_t *steps, const json_t *layers, bool whole)
{
    cleanup_table struct table table = {.columns = 4};
    table_row(&table, "CREATED", "SIZE", "CREATED BY", "COMMENT");
    size_t layer = json_array_size(layers), told = 0;
    for (size_t i = 0; i < json_array_size(steps); i++)
        told += !json_is_true(json_object_get(json_array_get(steps, i), "empty_layer"));
    for (; layer > told; layer--)
        add_step(&table, NULL, json_array_get(layers, layer - 1), whole);
    for (size_t i = json_array_size(steps); i-- > 0;) {
        const json_t *step = json_array_get(steps, i);
        bool empty = json_is_true(json_object_get(step, "empty_layer"));
        add_step(&table, step, empty || layer == 0 ? NULL : json_array_get(layers, --layer), whole);
    }
    table_print(&table, stdout);
}

static int
history(struct ctl *ctl, struct error *err)
{
    cleanup(shown_free) struct shown shown;
    TRY(look_up(ctl->client, ctl->args.operands[0], &shown, err));
    const json_t *steps = json_object_get(json_object_get(shown.info, "imageSpec"), "history");
    if (ctl->json)
        json_print(steps ? json_deep_copy(steps) : json_array());
    else
        print_history(steps, json_object_get(shown.info, "layers"), args_flag(&ctl->args, "whole"));
    return 0;
}

const struct command command_history = {
    .name = "image history",
    .operands = "IMAGE",
    .summary = "List the steps that made an image, the newest first, with what their layers take on disk.",
    .options = (const struct option_spec[]){{'w', "whole", NULL, "commands in full"}, {0}},
    .least = 1,
    .most = 1,
    .run = history,
};
