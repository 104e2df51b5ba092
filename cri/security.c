#include "cri/security.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cri/check.h"
#include "cri/convert.h"
#include "cri/id_mappings.h"
#include "runtime/idmap.h"
#include "runtime/seccomp.h"
#include "runtime/selinux.h"

#define UNCONFINED      RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined
#define RUNTIME_DEFAULT RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault
#define LOCALHOST       RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost

enum { MOST_ID = INT_MAX };

/* The form of the deprecated fields, which is also runtime.h's. A request that says nothing leaves `out` empty. */
static int
read_profile(const Runtime__V1__SecurityProfile *profile, const char *old, const char *field, char **out, struct error *err)
{
    static const char local[] = "localhost/";
    free(*out);
    *out = NULL;
    if (!profile)
        *out = str_dup(str_eq(old, "docker/default") ? "runtime/default" : old);
    else if (profile->profile_type == RUNTIME_DEFAULT)
        *out = str_dup("runtime/default");
    else if (profile->profile_type == UNCONFINED)
        *out = str_dup("unconfined");
    else if (profile->profile_type == LOCALHOST)
        *out = str_printf("%s%s", str_starts(profile->localhost_ref, local) ? "" : local, profile->localhost_ref);
    return *out ? 0 : error_set(err, ERR_INVALID, "%s: unknown profile type %d", field, (int)profile->profile_type);
}

static int
read_selinux(struct selinux_options *out, const Runtime__V1__SELinuxOption *in, struct error *err)
{
    if (!in)
        return 0;
    str_set(&out->user, in->user);
    str_set(&out->role, in->role);
    str_set(&out->type, in->type);
    str_set(&out->level, in->level);
    return selinux_check(out, err);
}

static int
check_users(const Runtime__V1__Int64Value *user, const Runtime__V1__Int64Value *group, struct error *err)
{
    if (user)
        TRY(check_range(user->value, 0, MOST_ID, "run_as_user", err));
    if (group)
        TRY(check_range(group->value, 0, MOST_ID, "run_as_group", err));
    return 0;
}

/* ---- pods ---- */

static int
read_user_namespace(struct id_maps *maps, const Runtime__V1__UserNamespace *in, struct error *err)
{
    if (in->mode == RUNTIME__V1__NAMESPACE_MODE__NODE) {
        if (in->n_uids + in->n_gids)
            return error_set(err, ERR_INVALID, "userns_options: mode NODE goes without uids and gids");
        return 0;
    }
    if (in->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
        return error_set(err, ERR_INVALID, "userns_options: mode must be POD or NODE");
    if (in->n_uids + in->n_gids == 0)
        return error_set(err, ERR_INVALID, "userns_options: mode POD needs uids and gids");
    TRY(id_mappings_read(&maps->uids, &maps->uid_count, in->uids, in->n_uids, "userns_options: uids", err));
    return id_mappings_read(&maps->gids, &maps->gid_count, in->gids, in->n_gids, "userns_options: gids", err);
}

/* A container has no user namespace of its own: it says nothing about it, or what the pod was told. */
static int
check_user_namespace(const Runtime__V1__UserNamespace *in, const struct pod_config *pod, struct error *err)
{
    struct id_maps maps = {0};
    if (!in)
        return 0;
    int result = read_user_namespace(&maps, in, err);
    if (result == 0 && !idmap_equal(&maps, &pod->userns))
        result = error_set(err, ERR_INVALID, "userns_options: they are not the pod's");
    free(maps.uids);
    free(maps.gids);
    return result;
}

static int
pod_or_node(Runtime__V1__NamespaceMode mode, const char *field, enum namespace_mode *out, struct error *err)
{
    if (mode != RUNTIME__V1__NAMESPACE_MODE__POD && mode != RUNTIME__V1__NAMESPACE_MODE__NODE)
        return error_set(err, ERR_INVALID, "namespace_options: %s must be POD or NODE", field);
    *out = mode == RUNTIME__V1__NAMESPACE_MODE__NODE ? NAMESPACE_NODE : NAMESPACE_POD;
    return 0;
}

static int
pid_mode(Runtime__V1__NamespaceMode mode, enum namespace_mode *out, struct error *err)
{
    static const enum namespace_mode modes[] = {NAMESPACE_POD, NAMESPACE_CONTAINER, NAMESPACE_NODE, NAMESPACE_TARGET};
    if ((unsigned)mode >= sizeof modes / sizeof *modes)
        return error_set(err, ERR_INVALID, "namespace_options: pid: unknown mode %d", (int)mode);
    *out = modes[mode];
    return 0;
}

static int
read_pod_namespaces(struct pod_config *pod, const Runtime__V1__NamespaceOption *in, struct error *err)
{
    if (!in)
        return 0;
    TRY(pod_or_node(in->network, "network", &pod->network, err));
    TRY(pod_or_node(in->ipc, "ipc", &pod->ipc, err));
    TRY(pid_mode(in->pid, &pod->pid, err));
    if (pod->pid == NAMESPACE_TARGET)
        return error_set(err, ERR_INVALID, "namespace_options: pid must not be TARGET for a pod");
    return in->userns_options ? read_user_namespace(&pod->userns, in->userns_options, err) : 0;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* Without a process of the pod's own they have nothing to confine: each container's request names its own. */
static int
check_pod_profiles(const Runtime__V1__LinuxSandboxSecurityContext *in, struct error *err)
{
    cleanup_free char *seccomp = NULL, *apparmor = NULL;
    TRY(read_profile(in->seccomp, in->seccomp_profile_path, "seccomp", &seccomp, err));
    TRY(read_profile(in->apparmor, "", "apparmor", &apparmor, err));
    return seccomp_check(seccomp, err);
}

#pragma GCC diagnostic pop

int
security_read_pod(struct pod_config *pod, const Runtime__V1__LinuxSandboxSecurityContext *in, struct error *err)
{
    if (!in)
        return 0;
    TRY(read_pod_namespaces(pod, in->namespace_options, err));
    TRY(read_selinux(&pod->selinux, in->selinux_options, err));
    TRY(check_users(in->run_as_user, in->run_as_group, err));
    if (in->run_as_group && !in->run_as_user)
        return error_set(err, ERR_INVALID, "run_as_group is given without run_as_user");
    TRY(check_pod_profiles(in, err));
    pod->privileged = in->privileged;
    return 0;
}

/* ---- containers ---- */

static int
read_container_namespaces(struct container_config *container, const Runtime__V1__NamespaceOption *in, const struct pod_config *pod, struct error *err)
{
    enum namespace_mode network = NAMESPACE_POD, ipc = NAMESPACE_POD;
    if (!in)
        return 0;
    TRY(pod_or_node(in->network, "network", &network, err));
    TRY(pod_or_node(in->ipc, "ipc", &ipc, err));
    TRY(pid_mode(in->pid, &container->pid, err));
    TRY(check_user_namespace(in->userns_options, pod, err));
    if (network == NAMESPACE_NODE && pod->network != NAMESPACE_NODE)
        return error_set(err, ERR_INVALID, "namespace_options: network is NODE, but the pod has a network of its own");
    if (ipc == NAMESPACE_NODE && pod->ipc != NAMESPACE_NODE)
        return error_set(err, ERR_INVALID, "namespace_options: ipc is NODE, but the pod has an ipc namespace of its own");
    if (container->pid == NAMESPACE_TARGET) {
        TRY(check_id(in->target_id, "namespace_options: target_id", err));
        str_set(&container->target_id, in->target_id);
    }
    return 0;
}

static int
read_capabilities(struct container_config *container, const Runtime__V1__Capability *in, struct error *err)
{
    if (!in)
        return 0;
    TRY(list_read(&container->add_capabilities, in->add_capabilities, in->n_add_capabilities, "add_capabilities", err));
    TRY(list_read(&container->drop_capabilities, in->drop_capabilities, in->n_drop_capabilities, "drop_capabilities", err));
    return list_read(&container->add_ambient_capabilities, in->add_ambient_capabilities, in->n_add_ambient_capabilities, "add_ambient_capabilities",
                     err);
}

/* CRI marks the old forms of the profiles deprecated; clients still send them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* A privileged container is confined by nothing, whatever else is asked; its files have a label nonetheless. */
static int
read_confinement(struct container_config *container, const Runtime__V1__LinuxContainerSecurityContext *in, struct error *err)
{
    TRY(read_selinux(&container->selinux, in->selinux_options, err));
    if (in->privileged)
        return 0;
    TRY(read_profile(in->seccomp, in->seccomp_profile_path, "seccomp", &container->seccomp, err));
    TRY(read_profile(in->apparmor, in->apparmor_profile, "apparmor", &container->apparmor, err));
    return seccomp_check(container->seccomp, err);
}

#pragma GCC diagnostic pop

static int
check_paths(const struct strv *paths, const char *field, struct error *err)
{
    for (size_t i = 0; i < paths->count; i++)
        TRY(check_path(paths->items[i], field, err));
    return 0;
}

static int
read_groups(struct container_config *container, const Runtime__V1__LinuxContainerSecurityContext *in, struct error *err)
{
    TRY(check_count(in->n_supplemental_groups, "supplemental_groups", err));
    for (size_t i = 0; i < in->n_supplemental_groups; i++)
        strv_addf(&container->supplemental_groups, "%lld", (long long)in->supplemental_groups[i]);
    const Runtime__V1__SupplementalGroupsPolicy policy = in->supplemental_groups_policy;
    container->strict_groups = policy == RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict;
    if (!container->strict_groups && policy != RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Merge)
        return error_set(err, ERR_INVALID, "supplemental_groups_policy: unknown policy %d", (int)policy);
    return 0;
}

char *
security_user(const Runtime__V1__LinuxContainerSecurityContext *in, const char *image_user, struct error *err)
{
    if (!in)
        return str_dup(image_user);
    TRY_OR_NULL(check_users(in->run_as_user, in->run_as_group, err));
    bool named = *in->run_as_username;
    if (in->run_as_user && named) {
        (void)error_set(err, ERR_INVALID, "run_as_user and run_as_username are given both");
        return NULL;
    }
    if (in->run_as_group && !in->run_as_user && !named) {
        (void)error_set(err, ERR_INVALID, "run_as_group is given without run_as_user or run_as_username");
        return NULL;
    }
    if (named && strchr(in->run_as_username, ':')) {
        (void)error_set(err, ERR_INVALID, "run_as_username \"%.100s\" is no name of a user", in->run_as_username);
        return NULL;
    }
    if (!in->run_as_user && !named)
        return str_dup(image_user);
    char *user = named ? str_dup(in->run_as_username) : str_printf("%lld", (long long)in->run_as_user->value);
    /* The kubelet repeats the image's own user here but not its group ("1000:2000"): the group still holds. */
    size_t length = strlen(user);
    if (strncmp(image_user, user, length) != 0 || image_user[length] != ':')
        return user;
    free(user);
    return str_dup(image_user);
}

int
security_read_container(struct container_config *container, const Runtime__V1__LinuxContainerSecurityContext *in, const struct pod_config *pod,
                        const char *image_user, struct error *err)
{
    free(container->user);
    container->user = TRY_PTR(security_user(in, image_user, err));
    container->run_as_group = NO_ID;
    if (!in)
        return 0;
    TRY(read_confinement(container, in, err));
    TRY(read_container_namespaces(container, in->namespace_options, pod, err));
    TRY(read_capabilities(container, in->capabilities, err));
    TRY(read_groups(container, in, err));
    TRY(list_read(&container->masked_paths, in->masked_paths, in->n_masked_paths, "masked_paths", err));
    TRY(list_read(&container->readonly_paths, in->readonly_paths, in->n_readonly_paths, "readonly_paths", err));
    TRY(check_paths(&container->masked_paths, "masked_paths", err));
    TRY(check_paths(&container->readonly_paths, "readonly_paths", err));
    container->run_as_group = in->run_as_group ? in->run_as_group->value : NO_ID;
    container->privileged = in->privileged;
    container->readonly_rootfs = in->readonly_rootfs;
    container->no_new_privs = in->no_new_privs;
    return 0;
}
