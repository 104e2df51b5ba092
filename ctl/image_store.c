/* crispctl image check, image gc: looking after the store. */
#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/json.h"
#include "ctl/table.h"

static size_t
count_damaged(const Crisp__V1__CheckImagesResponse *answer)
{
    size_t damaged = 0;
    for (size_t i = 0; i < answer->n_findings; i++)
        damaged += !answer->findings[i]->mended;
    return damaged;
}

static void
print_findings(const Crisp__V1__CheckImagesResponse *answer)
{
    cleanup_free char *bytes = format_bytes(answer->bytes);
    for (size_t i = 0; i < answer->n_findings; i++) {
        const Crisp__V1__Finding *finding = answer->findings[i];
        printf("%s: %s: %s: %s\n", finding->mended ? "mended" : "damaged", finding->image, finding->object, finding->words);
    }
    printf("%llu objects (%s) read: %zu damaged, %zu mended\n", (unsigned long long)answer->objects, bytes, count_damaged(answer),
           answer->n_findings - count_damaged(answer));
}

static int
check(struct ctl *ctl, struct error *err)
{
    Crisp__V1__CheckImagesRequest request = CRISP__V1__CHECK_IMAGES_REQUEST__INIT;
    request.image = ctl->args.count ? ctl->args.operands[0] : "";
    request.dry_run = args_flag(&ctl->args, "dry-run");
    cleanup_message Crisp__V1__CheckImagesResponse *answer = TRY_PTR(client_call(ctl->client, "CheckImages", &request.base, CALL_FOREVER, err));
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        print_findings(answer);
    return count_damaged(answer) ? EXIT_FAILED : 0;
}

const struct command command_image_check = {
    .name = "image check",
    .operands = "[IMAGE]",
    .summary = "Compare images on the disk with what was pulled; pull again what is damaged.",
    .details = "Reads everything, at idle priority. A damaged layer is pulled again by itself, without credentials; containers that run on\n"
               "the old one keep it until they end. Until it is mended its images are not listed. Exits with 1 if damage remains.\n\n"
               "  crispctl image check\n"
               "  crispctl image check --dry-run registry.example/app:1",
    .options = (const struct option_spec[]){{0, "dry-run", NULL, "only find it, mend nothing"}, {0}},
    .most = 1,
    .run = check,
};

static void
print_garbage(const Crisp__V1__CollectGarbageResponse *answer)
{
    uint64_t sum = 0;
    cleanup_table struct table table = {.columns = 3};
    table_row(&table, "KIND", "NAME", "SIZE");
    for (size_t i = 0; i < answer->n_garbage; i++) {
        const Crisp__V1__Garbage *garbage = answer->garbage[i];
        cleanup_free char *size = format_bytes(garbage->bytes);
        table_row(&table, garbage->kind, garbage->name, size);
        sum += garbage->bytes;
    }
    cleanup_free char *total = format_bytes(sum);
    table_row(&table, "in all", NULL, total);
    table_print(&table, stdout);
}

static int
gc(struct ctl *ctl, struct error *err)
{
    Crisp__V1__CollectGarbageRequest request = CRISP__V1__COLLECT_GARBAGE_REQUEST__INIT;
    request.dry_run = args_flag(&ctl->args, "dry-run");
    cleanup_message Crisp__V1__CollectGarbageResponse *answer =
        TRY_PTR(client_call(ctl->client, "CollectGarbage", &request.base, CALL_SECONDS_LONG, err));
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        print_garbage(answer);
    return 0;
}

const struct command command_image_gc = {
    .name = "image gc",
    .operands = "",
    .summary = "Delete layers, blobs and half downloads that nobody needs.",
    .details = "crispd does so by itself; half downloads it keeps for an hour, for the next pull to go on with.",
    .options = (const struct option_spec[]){{0, "dry-run", NULL, "only show them, with their sizes"}, {0}},
    .run = gc,
};
