#include "base/file.h"
#include "ctl/command.h"
#include "ctl/container.h"
#include "ctl/image.h"
#include "ctl/interrupt.h"
#include "ctl/json.h"
#include "ctl/logs.h"
#include "ctl/run_config.h"

/* What a run has made so far. */
struct run {
    struct client *client;
    struct run_config *config;
    char *pod_id;
    char *container_id;
};

static int
pull_if_asked(struct client *client, const char *image, const char *when, struct error *err)
{
    if (!str_eq(when, "always")) {
        cleanup_message Runtime__V1__ImageStatusResponse *status = TRY_PTR(image_status(client, image, err));
        if (status->image)
            return 0;
        if (str_eq(when, "never"))
            return error_set(err, ERR_NOT_FOUND, "there is no image “%s” here, and --pull=never", image);
    }
    Runtime__V1__PullImageResponse *answer = TRY_PTR(image_pull(client, image, NULL, err));
    message_freep(&answer);
    return 0;
}

static int
make_pod(struct run *run, struct error *err)
{
    Runtime__V1__RunPodSandboxRequest request = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
    request.config = &run->config->pod;
    cleanup_message Runtime__V1__RunPodSandboxResponse *answer =
        TRY_PTR(client_call(run->client, "RunPodSandbox", &request.base, CALL_SECONDS_LONG, err));
    run->pod_id = str_dup(answer->pod_sandbox_id);
    return 0;
}

static int
make_container(struct run *run, struct error *err)
{
    Runtime__V1__CreateContainerRequest request = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
    request.pod_sandbox_id = run->pod_id;
    request.config = &run->config->container;
    request.sandbox_config = &run->config->pod;
    cleanup_message Runtime__V1__CreateContainerResponse *answer =
        TRY_PTR(client_call(run->client, "CreateContainer", &request.base, CALL_SECONDS_LONG, err));
    run->container_id = str_dup(answer->container_id);
    return 0;
}

static int
start_container(struct run *run, struct error *err)
{
    Runtime__V1__StartContainerRequest request = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
    request.container_id = run->container_id;
    return client_do(run->client, "StartContainer", &request.base, CALL_SECONDS_LONG, err);
}

/* All of it, or nothing remains. */
static int
start(struct run *run, struct error *err)
{
    TRY(file_mkdirs(run->config->log_directory, 0755, err));
    if (make_pod(run, err) == 0 && make_container(run, err) == 0 && start_container(run, err) == 0)
        return 0;
    (void)run_remove(run->client, run->pod_id, run->config->uid, NULL);
    return -1;
}

/* Print what it writes until it ends; an interrupt stops it. Returns its exit code. */
static int
wait_for_end(struct run *run, const struct log_format *format, int interrupt, struct error *err)
{
    cleanup_message Runtime__V1__ContainerStatusResponse *status = NULL;
    cleanup_free char *path = str_printf("%s/%s", run->config->log_directory, run->config->log_path);
    cleanup(log_file_closep) struct log_file *log = TRY_PTR(log_file_open(path, format, -1, err));
    if (TRY(log_follow(run->client, run->container_id, log, interrupt, &status, err)) == 1) {
        TRY(container_stop(run->client, run->container_id, GRACE_SECONDS, err));
        TRY(log_follow(run->client, run->container_id, log, -1, &status, err));
    }
    return status->status->exit_code & 0xff;
}

static int
run_attached(struct ctl *ctl, struct run *run, int interrupt, struct error *err)
{
    const struct log_format format = {.json = ctl->json};
    int code = wait_for_end(run, &format, interrupt, err);
    if (!args_flag(&ctl->args, "rm"))
        return code < 0 ? -1 : code;
    struct error removing = {0};
    if (run_remove(run->client, run->pod_id, run->config->uid, code < 0 ? NULL : &removing) < 0 && code >= 0) {
        *err = removing;
        return -1;
    }
    return code;
}

/* Names need not be unique in CRI, but then nobody could use them here. */
static int
check_name_is_free(struct client *client, const char *name, struct error *err)
{
    cleanup_listing struct listing listing = {0};
    struct target target = {0};
    TRY(listing_get(client, &listing, err));
    if (listing_find(&listing, name, &target, NULL) < 0)
        return 0;
    return error_set(err, ERR_EXISTS, "the name “%s” is taken by %s %.12s", name, target.container ? "container" : "pod",
                     target.container ? target.container->id : target.pod->id);
}

static void
print_ids(const struct ctl *ctl, const struct run *run)
{
    if (ctl->json)
        json_print(json_pack("{s:s, s:s, s:s}", "name", run->config->name, "containerId", run->container_id, "podSandboxId", run->pod_id));
    else
        puts(run->container_id);
}

static int
run_image(struct ctl *ctl, struct run *run, struct error *err)
{
    const char *when = args_flag(&ctl->args, "pull") ? args_value(&ctl->args, "pull") : "missing";
    bool detach = args_flag(&ctl->args, "detach");
    if (!str_eq(when, "always") && !str_eq(when, "missing") && !str_eq(when, "never"))
        return usage_error(err, "--pull takes always, missing or never, not “%s”", when);
    if (detach && args_flag(&ctl->args, "rm"))
        return usage_error(err, "--rm needs somebody who waits, it does not go with --detach");
    TRY(run_config_make(run->config, &ctl->args, err));
    if (args_flag(&ctl->args, "name"))
        TRY(check_name_is_free(run->client, run->config->name, err));
    TRY(pull_if_asked(run->client, ctl->args.operands[0], when, err));
    /* From here on there is something to take away. */
    int interrupt = detach ? -1 : TRY(interrupt_catch(err));
    TRY(start(run, err));
    if (!detach)
        return run_attached(ctl, run, interrupt, err);
    print_ids(ctl, run);
    return 0;
}

static int
run(struct ctl *ctl, struct error *err)
{
    cleanup_run_config struct run_config config = {0};
    struct run run = {.client = ctl->client, .config = &config};
    int status = run_image(ctl, &run, err);
    free(run.pod_id);
    free(run.container_id);
    return status;
}

const struct command command_run = {
    .name = "run",
    .operands = "IMAGE [COMMAND] [ARG...]",
    .summary = "Run a container of an image, in a pod of its own.",
    .details = "Without --detach its output is shown until it ends, and the exit status is its own; Ctrl-C stops it.\n"
               "125 means that it could not be run. COMMAND replaces the image's command, not its entrypoint.\n\n"
               "  crispctl run --rm busybox echo hello\n"
               "  crispctl run -d --name web -p 8080:80 nginx",
    .options = run_options,
    .least = 1,
    .most = OPERANDS_ANY,
    .passes_on = true,
    .failed = EXIT_FAILED_TO_RUN,
    .run = run,
};
