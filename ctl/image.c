#include <string.h>
#include <termios.h>

#include "ctl/command.h"
#include "ctl/format.h"
#include "ctl/image.h"
#include "ctl/json.h"
#include "ctl/table.h"

enum { PASSWORD_MAX = 4096 };

Runtime__V1__ImageStatusResponse *
image_status(struct client *client, const char *name, struct error *err)
{
    Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__ImageStatusRequest request = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
    spec.image = name;
    request.image = &spec;
    return client_call(client, "ImageStatus", &request.base, CALL_SECONDS, err);
}

Runtime__V1__PullImageResponse *
image_pull(struct client *client, const char *name, Runtime__V1__AuthConfig *auth, struct error *err)
{
    Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__PullImageRequest request = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
    spec.image = name;
    request.image = &spec;
    request.auth = auth;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "Pulling %s …\n", name);
    return client_call(client, "PullImage", &request.base, CALL_FOREVER, err);
}

/* One line from stdin, unseen where that is a terminal. */
static int
read_password(char *out, size_t size, struct error *err)
{
    struct termios seen;
    bool terminal = tcgetattr(STDIN_FILENO, &seen) == 0;
    if (terminal) {
        struct termios unseen = seen;
        unseen.c_lflag &= ~(tcflag_t)ECHO;
        fputs("Password: ", stderr);
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
    }
    bool read = fgets(out, (int)size, stdin) != NULL;
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &seen);
        fputc('\n', stderr);
    }
    if (!read)
        return error_set(err, ERR_INVALID, "no password came from stdin");
    out[strcspn(out, "\n")] = '\0';
    return 0;
}

/* The account comes whatever became of the pull. */
static int
explain(struct ctl *ctl, Runtime__V1__AuthConfig *auth, struct error *err)
{
    Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__PullImageRequest pull = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
    Crisp__V1__ExplainPullRequest request = CRISP__V1__EXPLAIN_PULL_REQUEST__INIT;
    spec.image = ctl->args.operands[0];
    pull.image = &spec;
    pull.auth = auth;
    request.pull = &pull;
    cleanup_message Crisp__V1__ExplainPullResponse *answer = TRY_PTR(client_call(ctl->client, "ExplainPull", &request.base, CALL_FOREVER, err));
    for (size_t i = 0; i < answer->n_account && !ctl->json; i++)
        puts(answer->account[i]);
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else if (*answer->image_ref)
        puts(answer->image_ref);
    (void)fflush(stdout); /* before the error's line */
    return *answer->error ? error_set(err, ERR_UNKNOWN, "%s", answer->error) : 0;
}

static int
pull(struct ctl *ctl, struct error *err)
{
    char password[PASSWORD_MAX] = "";
    Runtime__V1__AuthConfig auth = RUNTIME__V1__AUTH_CONFIG__INIT;
    auth.username = args_value(&ctl->args, "user");
    auth.password = password;
    if (auth.username)
        TRY(read_password(password, sizeof password, err));
    if (args_flag(&ctl->args, "explain")) {
        int result = explain(ctl, auth.username ? &auth : NULL, err);
        explicit_bzero(password, sizeof password);
        return result;
    }
    cleanup_message Runtime__V1__PullImageResponse *answer = image_pull(ctl->client, ctl->args.operands[0], auth.username ? &auth : NULL, err);
    explicit_bzero(password, sizeof password);
    if (!answer)
        return -1;
    if (ctl->json)
        json_print(json_of_message(&answer->base));
    else
        puts(answer->image_ref);
    return 0;
}

const struct command command_pull = {
    .name = "pull",
    .operands = "IMAGE",
    .summary = "Fetch an image from its registry and print its id.",
    .details = "With --user the password is one line on stdin, asked for where that is a terminal.\n\n"
               "  crispctl pull busybox:1.36\n"
               "  crispctl pull --user me registry.example:5000/app < password",
    .options = (const struct option_spec[]){{'u', "user", "NAME", "log in to the registry"},
                                            {0, "explain", NULL, "tell of every request: which host, why, trusted how, as whom, what it answered"},
                                            {0}},
    .least = 1,
    .most = 1,
    .run = pull,
};

/* A row for one name of an image; an untagged one has only names with a digest. */
static void
add_row(struct table *table, const Runtime__V1__Image *image, const char *name, bool digest)
{
    const char *slash = strrchr(name, '/');
    const char *tag = strrchr(slash ? slash : name, digest ? '@' : ':');
    cleanup_free char *repository = tag ? str_ndup(name, (size_t)(tag - name)) : str_dup(name);
    cleanup_free char *id = format_id(image->id);
    cleanup_free char *size = format_bytes(image->size);
    table_row(table, repository, tag && !digest ? tag + 1 : NULL, id, size);
}

static void
print_images(const Runtime__V1__ListImagesResponse *list)
{
    cleanup_table struct table table = {.columns = 4};
    table_row(&table, "REPOSITORY", "TAG", "ID", "SIZE");
    for (size_t i = 0; i < list->n_images; i++) {
        const Runtime__V1__Image *image = list->images[i];
        for (size_t j = 0; j < image->n_repo_tags; j++)
            add_row(&table, image, image->repo_tags[j], false);
        if (image->n_repo_tags == 0)
            add_row(&table, image, image->n_repo_digests ? image->repo_digests[0] : "", true);
    }
    table_print(&table, stdout);
}

static int
images(struct ctl *ctl, struct error *err)
{
    const Runtime__V1__ListImagesRequest request = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
    cleanup_message Runtime__V1__ListImagesResponse *list = TRY_PTR(client_call(ctl->client, "ListImages", &request.base, CALL_SECONDS, err));
    if (ctl->json)
        json_print(json_of_message(&list->base));
    else if (args_flag(&ctl->args, "quiet"))
        for (size_t i = 0; i < list->n_images; i++)
            puts(list->images[i]->id);
    else
        print_images(list);
    return 0;
}

const struct command command_images = {
    .name = "images",
    .operands = "",
    .summary = "List the images on this machine.",
    .options = (const struct option_spec[]){{'q', "quiet", NULL, "only ids, in full"}, {0}},
    .run = images,
};

/* A damaged image is not listed; a check finds it, or says that there is none. */
static int
find_damaged(struct client *client, const char *name, struct error *err)
{
    Crisp__V1__CheckImagesRequest request = CRISP__V1__CHECK_IMAGES_REQUEST__INIT;
    request.image = name;
    request.dry_run = true;
    cleanup_message Crisp__V1__CheckImagesResponse *answer = TRY_PTR(client_call(client, "CheckImages", &request.base, CALL_FOREVER, err));
    return 0;
}

static int
remove_image(struct client *client, const char *name, struct error *err)
{
    Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__RemoveImageRequest request = RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT;
    /* RemoveImage answers OK for what is not there; a person wants to know of the slip. */
    cleanup_message Runtime__V1__ImageStatusResponse *status = TRY_PTR(image_status(client, name, err));
    if (!status->image && find_damaged(client, name, err) < 0)
        return err->kind == ERR_NOT_FOUND ? error_set(err, ERR_NOT_FOUND, "there is no image “%s”", name) : -1;
    spec.image = name;
    request.image = &spec;
    return client_do(client, "RemoveImage", &request.base, CALL_SECONDS_LONG, err);
}

static int
rmi(struct ctl *ctl, struct error *err)
{
    cleanup_json json_t *removed = json_array();
    for (size_t i = 0; i < ctl->args.count; i++) {
        const char *name = ctl->args.operands[i];
        TRY(remove_image(ctl->client, name, err));
        if (!ctl->json)
            puts(name);
        json_array_append_new(removed, json_of_text(name, strlen(name)));
    }
    if (ctl->json)
        json_print(steal(removed));
    return 0;
}

const struct command command_rmi = {
    .name = "rmi",
    .operands = "IMAGE...",
    .summary = "Remove images, by name or id, with all their names.",
    .least = 1,
    .most = OPERANDS_ANY,
    .run = rmi,
};
