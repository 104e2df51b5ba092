/* What a request asks of security. Whatever crisp cannot enforce and the request asks for is refused with ERR_UNSUPPORTED naming the field: nothing
 * is skipped in silence. What asks for nothing ("unconfined", an empty label) is accepted on every host. */
#pragma once

#include "api.pb-c.h"
#include "base/error.h"
#include "runtime/runtime.h"

/* The namespaces and the rest of a pod's security context. A pod has no process of its own that its user, groups, read-only root or seccomp
 * profile could apply to: those are checked and then mean nothing. */
int security_read_pod(struct pod_config *pod, const Runtime__V1__LinuxSandboxSecurityContext *in, struct error *err);

/* `pod`: the pod the container shall run in. `image_user`: what the image's configuration says, "" when nothing. */
int security_read_container(struct container_config *container, const Runtime__V1__LinuxContainerSecurityContext *in, const struct pod_config *pod,
                            const char *image_user, struct error *err);

/* Who the container runs as, in runtime.h's form, from CRI's three fields and the image. Caller frees. [CRI LinuxContainerSecurityContext: a group
 * without a user is an error] */
char *security_user(const Runtime__V1__LinuxContainerSecurityContext *in, const char *image_user, struct error *err);
