#include "ctl/container.h"

#include <fcntl.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"

/* Not /var/log/pods: the kubelet deletes there what it does not know. */
static const char log_root[] = "/var/log/crisp";

Runtime__V1__ContainerStatusResponse *
container_status(struct client *client, const char *id, struct error *err)
{
    Runtime__V1__ContainerStatusRequest request = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
    request.container_id = id;
    cleanup_message Runtime__V1__ContainerStatusResponse *answer =
        TRY_PTR_OR_NULL(client_call(client, "ContainerStatus", &request.base, CALL_SECONDS, err));
    if (!answer->status) {
        error_set(err, ERR_INTERNAL, "container %s: the answer to ContainerStatus has no status", id);
        return NULL;
    }
    return steal(answer);
}

int
container_stop(struct client *client, const char *id, int64_t grace_seconds, struct error *err)
{
    Runtime__V1__StopContainerRequest request = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
    request.container_id = id;
    request.timeout = grace_seconds;
    return client_do(client, "StopContainer", &request.base, grace_seconds + CALL_SECONDS_LONG, err);
}

int
container_remove(struct client *client, const char *id, struct error *err)
{
    Runtime__V1__RemoveContainerRequest request = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;
    request.container_id = id;
    return client_do(client, "RemoveContainer", &request.base, CALL_SECONDS_LONG, err);
}

int
pod_stop(struct client *client, const char *id, struct error *err)
{
    Runtime__V1__StopPodSandboxRequest request = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
    request.pod_sandbox_id = id;
    return client_do(client, "StopPodSandbox", &request.base, CALL_SECONDS_LONG, err);
}

int
pod_remove(struct client *client, const char *id, struct error *err)
{
    Runtime__V1__RemovePodSandboxRequest request = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
    request.pod_sandbox_id = id;
    return client_do(client, "RemovePodSandbox", &request.base, CALL_SECONDS_LONG, err);
}

char *
run_log_directory(const char *uid)
{
    return str_printf("%s/%s", log_root, uid);
}

/* The uid comes from the server: only what can be one of ours becomes part of a path. */
static bool
uid_is_ours(const char *uid)
{
    return strlen(uid) == 36 && strspn(uid, "0123456789abcdef-") == 36;
}

static int
remove_logs(const char *uid, struct error *err)
{
    cleanup_close int root = open(log_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || !uid_is_ours(uid))
        return 0;
    TRY(file_remove_tree(root, uid, err));
    (void)rmdir(log_root); /* unless others have logs there */
    return 0;
}

int
run_remove(struct client *client, const char *pod_id, const char *uid, struct error *err)
{
    if (pod_id) {
        TRY(pod_stop(client, pod_id, err));
        TRY(pod_remove(client, pod_id, err));
    }
    return remove_logs(uid, err);
}
