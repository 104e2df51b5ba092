/* Requests become what the runtime runs: what is merged with the image, what is refused, and that nothing is skipped in silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api.pb-c.h"
#include "cri/container_request.h"
#include "cri/convert.h"
#include "cri/pod_request.h"
#include "cri/security.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct error err;

/* ---- pods ---- */

struct pod_fixture {
    Runtime__V1__PodSandboxMetadata metadata;
    Runtime__V1__LinuxPodSandboxConfig linux;
    Runtime__V1__LinuxSandboxSecurityContext security;
    Runtime__V1__NamespaceOption namespaces;
    Runtime__V1__PodSandboxConfig config;
    Runtime__V1__RunPodSandboxRequest request;
};

static struct pod_fixture *
pod_fixture(void)
{
    static struct pod_fixture f;
    f = (struct pod_fixture){
        RUNTIME__V1__POD_SANDBOX_METADATA__INIT, RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT, RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT,
        RUNTIME__V1__NAMESPACE_OPTION__INIT,     RUNTIME__V1__POD_SANDBOX_CONFIG__INIT,       RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT};
    err = (struct error){0};
    f.metadata.name = "web-0";
    f.metadata.uid = "u1";
    f.metadata.namespace_ = "default";
    f.metadata.attempt = 3;
    f.config.metadata = &f.metadata;
    f.config.linux = &f.linux;
    f.linux.security_context = &f.security;
    f.security.namespace_options = &f.namespaces;
    f.request.config = &f.config;
    return &f;
}

static void
refused(struct pod_fixture *f, enum error_kind kind, const char *word)
{
    assert_null(pod_request_read(&f->request, &err));
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name \"%s\"", err.message, word);
}

static void
a_pod_is_taken_over_field_by_field(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    Runtime__V1__DNSConfig dns = RUNTIME__V1__DNSCONFIG__INIT;
    dns.servers = (const char *[]){"10.0.0.10"};
    dns.n_servers = 1;
    Runtime__V1__PortMapping port = RUNTIME__V1__PORT_MAPPING__INIT, only_inside = RUNTIME__V1__PORT_MAPPING__INIT;
    port.protocol = RUNTIME__V1__PROTOCOL__UDP;
    port.container_port = 53;
    port.host_port = 5353;
    port.host_ip = "127.0.0.1";
    only_inside.container_port = 80;
    f->config.dns_config = &dns;
    f->config.port_mappings = (Runtime__V1__PortMapping *[]){&only_inside, &port};
    f->config.n_port_mappings = 2;
    f->config.hostname = "web";
    f->config.log_directory = "/var/log/pods/x";
    f->linux.cgroup_parent = "/kubepods/pod1";
    f->security.privileged = 1;
    f->namespaces.ipc = RUNTIME__V1__NAMESPACE_MODE__NODE;
    f->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    struct pod_config *pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_string_equal(pod->key.name, "web-0");
    assert_string_equal(pod->key.uid, "u1");
    assert_string_equal(pod->key.namespace, "default");
    assert_int_equal(pod->key.attempt, 3);
    assert_string_equal(pod->hostname, "web");
    assert_string_equal(pod->log_directory, "/var/log/pods/x");
    assert_string_equal(pod->dns_servers.items[0], "10.0.0.10");
    assert_int_equal(pod->port_count, 1);
    assert_int_equal(pod->ports[0].protocol, NETWORK_UDP);
    assert_int_equal(pod->ports[0].container_port, 53);
    assert_int_equal(pod->ports[0].host_port, 5353);
    assert_string_equal(pod->ports[0].host_ip, "127.0.0.1");
    assert_string_equal(pod->cgroup_parent, "/kubepods/pod1");
    assert_true(pod->privileged);
    assert_int_equal(pod->network, NAMESPACE_POD);
    assert_int_equal(pod->ipc, NAMESPACE_NODE);
    assert_int_equal(pod->pid, NAMESPACE_CONTAINER);
    assert_true(pod->request_length > 0);
    pod_config_free(pod);
}

static void
a_pod_on_the_hosts_network_maps_no_ports(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    Runtime__V1__PortMapping port = RUNTIME__V1__PORT_MAPPING__INIT;
    port.container_port = port.host_port = 80;
    f->config.port_mappings = (Runtime__V1__PortMapping *[]){&port};
    f->config.n_port_mappings = 1;
    f->namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
    struct pod_config *pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_int_equal(pod->port_count, 0);
    pod_config_free(pod);
}

static void
annotations_ask_for_bandwidth_and_addresses(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    Runtime__V1__PodSandboxConfig__AnnotationsEntry wishes[3];
    static const char *const texts[][2] = {
        {"kubernetes.io/ingress-bandwidth", "1.5M"}, {"kubernetes.io/egress-bandwidth", "10Ki"}, {"io.crisp/ip", "10.88.0.9"}};
    Runtime__V1__PodSandboxConfig__AnnotationsEntry *list[3];
    for (size_t i = 0; i < 3; i++) {
        wishes[i] = (Runtime__V1__PodSandboxConfig__AnnotationsEntry)RUNTIME__V1__POD_SANDBOX_CONFIG__ANNOTATIONS_ENTRY__INIT;
        wishes[i].key = texts[i][0];
        wishes[i].value = texts[i][1];
        list[i] = &wishes[i];
    }
    f->config.annotations = list;
    f->config.n_annotations = 3;
    struct pod_config *pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_int_equal(pod->ingress_bits, 1500000);
    assert_int_equal(pod->egress_bits, 10240);
    assert_string_equal(pod->ip, "10.88.0.9");
    pod_config_free(pod);
    static const char *const bad[] = {"", "fast", "-1M", "10", "2000P", "1e9", "0x10M", "1M "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        wishes[0].value = bad[i];
        refused(f, ERR_INVALID, "ingress-bandwidth");
    }
}

static void
a_pod_without_metadata_or_config_is_invalid(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    f->config.metadata = NULL;
    refused(f, ERR_INVALID, "metadata");
    f->request.config = NULL;
    refused(f, ERR_INVALID, "config");
}

static void
words_for_resolv_conf_hold_no_lines_of_their_own(void **state)
{
    static const char *const bad[] = {"", "10.0.0.1\nnameserver 6.6.6.6", "a b", "x\t"};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pod_fixture *f = pod_fixture();
        Runtime__V1__DNSConfig dns = RUNTIME__V1__DNSCONFIG__INIT;
        const char *words[] = {bad[i]};
        dns.searches = words;
        dns.n_searches = 1;
        f->config.dns_config = &dns;
        refused(f, ERR_INVALID, "searches");
    }
}

static void
ports_and_addresses_are_checked(void **state)
{
    static const struct {
        int32_t container, host;
        const char *ip;
        int protocol;
    } bad[] = {{0, 80, "", 0}, {80, -1, "", 0}, {65536, 80, "", 0}, {80, 65536, "", 0}, {80, 80, "1.2.3", 0}, {80, 80, "", 7}};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct pod_fixture *f = pod_fixture();
        Runtime__V1__PortMapping port = RUNTIME__V1__PORT_MAPPING__INIT;
        port.container_port = bad[i].container;
        port.host_port = bad[i].host;
        port.host_ip = bad[i].ip;
        port.protocol = (Runtime__V1__Protocol)bad[i].protocol;
        f->config.port_mappings = (Runtime__V1__PortMapping *[]){&port};
        f->config.n_port_mappings = 1;
        refused(f, ERR_INVALID, "port_mappings");
    }
}

static void
the_user_namespace_is_read_with_its_ranges(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    Runtime__V1__UserNamespace user = RUNTIME__V1__USER_NAMESPACE__INIT;
    Runtime__V1__IDMapping map = RUNTIME__V1__IDMAPPING__INIT;
    map.host_id = 300000;
    map.length = 65536;
    f->namespaces.userns_options = &user;
    refused(f, ERR_INVALID, "userns_options: mode POD needs");
    user.mode = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    refused(f, ERR_INVALID, "userns_options");
    user.mode = RUNTIME__V1__NAMESPACE_MODE__NODE;
    struct pod_config *pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_int_equal(pod->userns.uid_count, 0);
    pod_config_free(pod);
    user.uids = user.gids = (Runtime__V1__IDMapping *[]){&map};
    user.n_uids = user.n_gids = 1;
    refused(f, ERR_INVALID, "userns_options: mode NODE");
    user.mode = RUNTIME__V1__NAMESPACE_MODE__POD;
    pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_int_equal(pod->userns.uid_count, 1);
    assert_int_equal(pod->userns.gids[0].host_id, 300000);
    assert_int_equal(pod->userns.gids[0].length, 65536);
    pod_config_free(pod);
}

static void
what_a_pod_asks_of_security_and_crisp_cannot_do_is_refused_by_name(void **state)
{
    (void)state;
    struct pod_fixture *f = pod_fixture();
    Runtime__V1__SELinuxOption selinux = RUNTIME__V1__SELINUX_OPTION__INIT;
    f->security.selinux_options = &selinux;
    selinux.level = "s0:c1,c2";
    struct pod_config *pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    assert_string_equal(pod->selinux.level, "s0:c1,c2");
    pod_config_free(pod);
    f = pod_fixture();
    f->security.selinux_options = &selinux;
    selinux.level = "s0,c1,c2";
    refused(f, ERR_INVALID, "selinux_options: level \"s0,c1,c2\"");

    f = pod_fixture();
    Runtime__V1__SecurityProfile profile = RUNTIME__V1__SECURITY_PROFILE__INIT;
    f->security.seccomp = &profile; /* RuntimeDefault: the kubelet sends it with every pod */
    pod = pod_request_read(&f->request, &err);
    assert_non_null(pod);
    pod_config_free(pod);
    profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    refused(f, ERR_INVALID, "seccomp");

    f = pod_fixture();
    f->namespaces.network = RUNTIME__V1__NAMESPACE_MODE__CONTAINER;
    refused(f, ERR_INVALID, "network");
    f = pod_fixture();
    f->namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__TARGET;
    refused(f, ERR_INVALID, "pid");
    f = pod_fixture();
    f->namespaces.pid = (Runtime__V1__NamespaceMode)9;
    refused(f, ERR_INVALID, "pid");
}

/* ---- containers ---- */

static struct image *
image_new(void)
{
    struct image *image = mem_zalloc(1, sizeof *image);
    image->id = str_dup("sha256:4444");
    strv_add(&image->repo_tags, "docker.io/library/busybox:1");
    strv_add(&image->config.entrypoint, "/entry");
    strv_add(&image->config.cmd, "serve");
    strv_add(&image->config.env, "PATH=/bin");
    strv_add(&image->config.env, "LANG=C");
    image->config.user = str_dup("1000:2000");
    image->config.working_dir = str_dup("/srv");
    image->config.stop_signal = str_dup("SIGQUIT");
    strv_add(&image->layers, "aa");
    strv_add(&image->layers, "bb");
    return image;
}

static void
image_free(struct image *image)
{
    free(image->id);
    strv_free(&image->repo_tags);
    strv_free(&image->config.entrypoint);
    strv_free(&image->config.cmd);
    strv_free(&image->config.env);
    free(image->config.user);
    free(image->config.working_dir);
    free(image->config.stop_signal);
    strv_free(&image->layers);
    free(image);
}

struct container_fixture {
    Runtime__V1__ContainerMetadata metadata;
    Runtime__V1__ImageSpec image_spec;
    Runtime__V1__LinuxContainerConfig linux;
    Runtime__V1__LinuxContainerResources resources;
    Runtime__V1__LinuxContainerSecurityContext security;
    Runtime__V1__ContainerConfig config;
    Runtime__V1__CreateContainerRequest request;
    struct pod_config *pod;
    struct image *image;
};

static int
container_setup(void **state)
{
    struct container_fixture *f = mem_zalloc(1, sizeof *f);
    *f = (struct container_fixture){RUNTIME__V1__CONTAINER_METADATA__INIT,
                                    RUNTIME__V1__IMAGE_SPEC__INIT,
                                    RUNTIME__V1__LINUX_CONTAINER_CONFIG__INIT,
                                    RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT,
                                    RUNTIME__V1__LINUX_CONTAINER_SECURITY_CONTEXT__INIT,
                                    RUNTIME__V1__CONTAINER_CONFIG__INIT,
                                    RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT,
                                    pod_config_new(),
                                    image_new()};
    f->metadata.name = "app";
    f->image_spec.image = "busybox";
    f->config.metadata = &f->metadata;
    f->config.image = &f->image_spec;
    f->config.linux = &f->linux;
    f->linux.security_context = &f->security;
    f->request.config = &f->config;
    err = (struct error){0};
    *state = f;
    return 0;
}

static int
container_teardown(void **state)
{
    struct container_fixture *f = *state;
    pod_config_free(f->pod);
    image_free(f->image);
    free(f);
    return 0;
}

static struct container_config *
translate(struct container_fixture *f)
{
    err = (struct error){0};
    return container_request_read(&f->request, "podid", f->pod, f->image, &err);
}

static struct container_config *
accepted(struct container_fixture *f)
{
    struct container_config *c = translate(f);
    if (!c)
        fail_msg("refused: %s", err.message);
    return c;
}

static void
container_refused(struct container_fixture *f, enum error_kind kind, const char *word)
{
    assert_null(translate(f));
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name \"%s\"", err.message, word);
}

static void
assert_args(struct container_fixture *f, const char *expected)
{
    struct container_config *c = accepted(f);
    struct buf joined = BUF(1000);
    for (size_t i = 0; i < c->args.count; i++)
        (void)buf_addf(&joined, "%s%s", i ? " " : "", c->args.items[i]);
    assert_string_equal(joined.length ? joined.data : "", expected);
    buf_free(&joined);
    container_config_free(c);
}

static void
command_and_args_replace_what_the_image_says(void **state)
{
    struct container_fixture *f = *state;
    const char *command[] = {"sh", "-c"}, *args[] = {"echo hi"};
    assert_args(f, "/entry serve");
    f->config.args = args;
    f->config.n_args = 1;
    assert_args(f, "/entry echo hi");
    f->config.command = command;
    f->config.n_command = 2;
    assert_args(f, "sh -c echo hi");
    f->config.n_args = 0;
    assert_args(f, "sh -c");
}

static void
the_image_fills_in_what_the_request_leaves_out(void **state)
{
    struct container_fixture *f = *state;
    struct container_config *c = accepted(f);
    assert_string_equal(c->pod_id, "podid");
    assert_string_equal(c->name, "app");
    assert_string_equal(c->image_id, "sha256:4444");
    assert_string_equal(c->image_name, "busybox");
    assert_int_equal(c->layers.count, 2);
    assert_string_equal(c->layers.items[0], "aa");
    assert_string_equal(c->working_dir, "/srv");
    assert_string_equal(c->stop_signal, "SIGQUIT");
    assert_string_equal(c->user, "1000:2000");
    assert_int_equal(c->env.count, 2);
    assert_true(c->request_length > 0);
    container_config_free(c);
    f->config.working_dir = "/tmp";
    f->config.stop_signal = RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMINPLUS3;
    f->image_spec.image = "sha256:4444";
    c = accepted(f);
    assert_string_equal(c->working_dir, "/tmp");
    assert_string_equal(c->stop_signal, "SIGRTMIN+3");
    assert_string_equal(c->image_name, "docker.io/library/busybox:1");
    container_config_free(c);
    f->config.stop_signal = (Runtime__V1__Signal)99;
    container_refused(f, ERR_INVALID, "stop_signal");
    f->config.stop_signal = RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT;
    f->image_spec.user_specified_image = "busybox:1";
    c = accepted(f);
    assert_string_equal(c->image_name, "busybox:1");
    container_config_free(c);
}

static void
the_requests_variables_replace_the_images_in_place(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__KeyValue lang = RUNTIME__V1__KEY_VALUE__INIT, again = lang, path2 = lang;
    lang.key = again.key = "LANG";
    lang.value = (ProtobufCBinaryData){1, (uint8_t[]){'D'}};
    again.value = (ProtobufCBinaryData){2, (uint8_t[]){0xff, '='}}; /* need not be UTF-8 */
    path2.key = "PATH2";
    f->config.envs = (Runtime__V1__KeyValue *[]){&lang, &path2, &again};
    f->config.n_envs = 3;
    struct container_config *c = accepted(f);
    assert_int_equal(c->env.count, 3);
    assert_string_equal(c->env.items[0], "PATH=/bin");
    assert_string_equal(c->env.items[1], "LANG=\xff=");
    assert_string_equal(c->env.items[2], "PATH2=");
    container_config_free(c);
    path2.value = (ProtobufCBinaryData){3, (uint8_t[]){'a', 0, 'b'}};
    container_refused(f, ERR_INVALID, "PATH2");
    path2.key = "A=B";
    container_refused(f, ERR_INVALID, "A=B");
    path2.key = "";
    container_refused(f, ERR_INVALID, "envs");
}

static void
assert_user(struct container_fixture *f, const char *user, int64_t group)
{
    struct container_config *c = accepted(f);
    assert_string_equal(c->user, user);
    assert_int_equal(c->run_as_group, group);
    container_config_free(c);
}

static void
the_user_is_the_requests_else_the_images(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__Int64Value user = RUNTIME__V1__INT64_VALUE__INIT, group = user;
    f->linux.security_context = NULL;
    assert_user(f, "1000:2000", NO_ID);
    f->linux.security_context = &f->security;
    assert_user(f, "1000:2000", NO_ID);
    user.value = 1000;
    f->security.run_as_user = &user;
    assert_user(f, "1000:2000", NO_ID); /* the kubelet repeats the image's user, and the image's group still holds */
    user.value = 100;
    assert_user(f, "100", NO_ID);
    group.value = 7;
    f->security.run_as_group = &group;
    assert_user(f, "100", 7);
    f->security.run_as_user = NULL;
    container_refused(f, ERR_INVALID, "run_as_group");
    f->security.run_as_username = "www";
    assert_user(f, "www", 7);
    f->security.run_as_user = &user;
    container_refused(f, ERR_INVALID, "run_as_username");
    f->security.run_as_username = "";
    user.value = -1;
    container_refused(f, ERR_INVALID, "run_as_user");
    f->security.run_as_user = NULL;
    f->security.run_as_username = "a:b";
    container_refused(f, ERR_INVALID, "run_as_username");
}

static void
assert_seccomp(struct container_fixture *f, const char *expected)
{
    struct container_config *config = accepted(f);
    assert_string_equal(config->seccomp ? config->seccomp : "", expected);
    container_config_free(config);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

/* The new field holds where both are given. */
static void
seccomp_is_read_from_both_fields(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__SecurityProfile profile = RUNTIME__V1__SECURITY_PROFILE__INIT;
    assert_seccomp(f, "");
    f->security.seccomp_profile_path = "docker/default";
    assert_seccomp(f, "runtime/default");
    f->security.seccomp_profile_path = "localhost//var/lib/kubelet/seccomp/a.json";
    assert_seccomp(f, "localhost//var/lib/kubelet/seccomp/a.json");
    f->security.seccomp_profile_path = "a.json";
    container_refused(f, ERR_INVALID, "a.json");
    f->security.seccomp = &profile;
    assert_seccomp(f, "runtime/default");
    profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    assert_seccomp(f, "unconfined");
    profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost;
    container_refused(f, ERR_INVALID, "not absolute");
    profile.localhost_ref = "/srv/b.json";
    assert_seccomp(f, "localhost//srv/b.json");
    profile.profile_type = (Runtime__V1__SecurityProfile__ProfileType)7;
    container_refused(f, ERR_INVALID, "seccomp");
}

#pragma GCC diagnostic pop

/* Each member asks for something a later crisp builds; set one at a time. */
static void
what_crisp_cannot_enforce_is_refused_by_name(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__SecurityProfile profile = RUNTIME__V1__SECURITY_PROFILE__INIT;
    profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Unconfined;
    f->security.apparmor = &profile;
    container_config_free(accepted(f));
    profile.profile_type = RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault;
    struct container_config *confined = accepted(f);
    assert_string_equal(confined->apparmor, "runtime/default");
    container_config_free(confined);
    f->security.privileged = 1; /* confined by nothing */
    f->pod->privileged = true;
    container_config_free(accepted(f));
    f->security.privileged = 0;
    f->security.apparmor = NULL;
    Runtime__V1__SELinuxOption selinux = RUNTIME__V1__SELINUX_OPTION__INIT;
    f->security.selinux_options = &selinux;
    container_config_free(accepted(f));
    selinux.type = "spc_t\",context=\"x";
    container_refused(f, ERR_INVALID, "selinux_options: type");
    f->security.selinux_options = NULL;
    Runtime__V1__CDIDevice cdi = RUNTIME__V1__CDIDEVICE__INIT;
    f->config.cdi_devices = (Runtime__V1__CDIDevice *[]){&cdi};
    f->config.n_cdi_devices = 1;
    cdi.name = "vendor.example/net=one";
    struct container_config *config = accepted(f);
    assert_string_equal(config->cdi_devices.items[0], "vendor.example/net=one");
    container_config_free(config);
}

static void
mounts_are_read(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__Mount mount = RUNTIME__V1__MOUNT__INIT;
    Runtime__V1__IDMapping map = RUNTIME__V1__IDMAPPING__INIT;
    f->config.mounts = (Runtime__V1__Mount *[]){&mount};
    f->config.n_mounts = 1;
    mount.container_path = "/data";
    mount.host_path = "/srv/data";
    mount.readonly = 1;
    mount.selinux_relabel = 1; /* the kubelet sets it everywhere */
    mount.propagation = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER;
    struct container_config *c = accepted(f);
    assert_int_equal(c->mount_count, 1);
    assert_string_equal(c->mounts[0].host_path, "/srv/data");
    assert_true(c->mounts[0].readonly);
    assert_int_equal(c->mounts[0].propagation, PROPAGATION_HOST_TO_CONTAINER);
    container_config_free(c);
    mount.uidmappings = (Runtime__V1__IDMapping *[]){&map};
    mount.n_uidmappings = 1;
    map.container_id = 7;
    c = accepted(f);
    assert_int_equal(c->mounts[0].maps.uid_count, 1);
    assert_int_equal(c->mounts[0].maps.uids[0].container_id, 7);
    container_config_free(c);
    mount.n_uidmappings = 0;
    mount.mount_options = (const char *[]){"noexec", "nosuid", "nodev"};
    mount.n_mount_options = 3;
    c = accepted(f);
    assert_true(c->mounts[0].noexec && c->mounts[0].nosuid && c->mounts[0].nodev);
    container_config_free(c);
    mount.mount_options = (const char *[]){"size=5"};
    mount.n_mount_options = 1;
    container_refused(f, ERR_UNSUPPORTED, "/data: option \"size=5\"");
    mount.n_mount_options = 0;
    mount.propagation = (Runtime__V1__MountPropagation)9;
    container_refused(f, ERR_INVALID, "propagation");
}

static void
an_image_is_mounted_in_place_of_a_host_path_and_beneath_its_root(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__ImageSpec image = RUNTIME__V1__IMAGE_SPEC__INIT;
    Runtime__V1__Mount mount = RUNTIME__V1__MOUNT__INIT;
    f->config.mounts = (Runtime__V1__Mount *[]){&mount};
    f->config.n_mounts = 1;
    mount.container_path = "/data";
    mount.image = &image;
    const struct {
        const char *name, *host_path, *sub_path;
        Runtime__V1__MountPropagation propagation;
        enum error_kind kind;
        const char *words;
    } cases[] = {
        {"", "", "", 0, ERR_INVALID, "names none"},
        {"data", "/srv", "", 0, ERR_INVALID, "/srv"},
        {"data", "", "/etc", 0, ERR_INVALID, "/etc"},
        {"data", "", "a/../../etc", 0, ERR_INVALID, "a/../../etc"},
        {"data", "", "", RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL, ERR_INVALID, "propagated"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        image.image = cases[i].name;
        mount.host_path = cases[i].host_path;
        mount.image_sub_path = cases[i].sub_path;
        mount.propagation = cases[i].propagation;
        struct container_config *c = accepted(f);
        assert_int_equal(container_request_find_images(c, &f->request, "", NULL, &err), -1);
        assert_int_equal(err.kind, cases[i].kind);
        assert_non_null(strstr(err.message, "mount at /data"));
        assert_non_null(strstr(err.message, cases[i].words));
        container_config_free(c);
    }
}

static void
namespaces_of_the_host_are_the_pods_to_grant(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__NamespaceOption namespaces = RUNTIME__V1__NAMESPACE_OPTION__INIT;
    f->security.namespace_options = &namespaces;
    namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
    container_refused(f, ERR_INVALID, "network");
    f->pod->network = NAMESPACE_NODE;
    container_config_free(accepted(f));
    namespaces.pid = RUNTIME__V1__NAMESPACE_MODE__TARGET;
    namespaces.target_id = "../x";
    container_refused(f, ERR_INVALID, "target_id");
    namespaces.target_id = "abc";
    struct container_config *c = accepted(f);
    assert_int_equal(c->pid, NAMESPACE_TARGET);
    assert_string_equal(c->target_id, "abc");
    container_config_free(c);
}

static void
the_same_request_is_known_again_and_another_is_not(void **state)
{
    struct container_fixture *f = *state;
    Runtime__V1__ContainerConfig__LabelsEntry a = RUNTIME__V1__CONTAINER_CONFIG__LABELS_ENTRY__INIT, b = a;
    a.key = "a";
    b.key = "b";
    f->config.labels = (Runtime__V1__ContainerConfig__LabelsEntry *[]){&a, &b};
    f->config.n_labels = 2;
    struct container_config *first = accepted(f);
    f->config.labels = (Runtime__V1__ContainerConfig__LabelsEntry *[]){&b, &a};
    struct container_config *second = accepted(f);
    assert_int_equal(first->request_length, second->request_length);
    assert_memory_equal(first->request, second->request, first->request_length);
    container_config_free(second);
    Runtime__V1__PodSandboxConfig other_pod = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
    other_pod.hostname = "other";
    f->request.sandbox_config = &other_pod;
    second = accepted(f);
    assert_false(first->request_length == second->request_length && memcmp(first->request, second->request, first->request_length) == 0);
    container_config_free(first);
    container_config_free(second);
}

static void
lists_have_a_largest_length(void **state)
{
    struct container_fixture *f = *state;
    const char *args[5000];
    for (size_t i = 0; i < COUNT(args); i++)
        args[i] = "x";
    f->config.args = args;
    f->config.n_args = COUNT(args);
    container_refused(f, ERR_INVALID, "args");
}

static void
signals_are_known_by_any_spelling(void **state)
{
    static const struct {
        const char *name;
        Runtime__V1__Signal signal;
    } spellings[] = {
        {"SIGTERM", RUNTIME__V1__SIGNAL__SIGNAL_SIGTERM},
        {"term", RUNTIME__V1__SIGNAL__SIGNAL_SIGTERM},
        {"15", RUNTIME__V1__SIGNAL__SIGNAL_SIGTERM},
        {"9", RUNTIME__V1__SIGNAL__SIGNAL_SIGKILL},
        {"SIGRTMIN+3", RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMINPLUS3},
        {"37", RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMINPLUS3},
        {"SIGRTMAX-1", RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMAXMINUS1},
        {"64", RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMAX},
        {"nonsense", RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT},
        {"9999999999999999999999", RUNTIME__V1__SIGNAL__SIGNAL_RUNTIME_DEFAULT},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(spellings); i++)
        assert_int_equal(signal_number(spellings[i].name), spellings[i].signal);
    for (int signal = 1; signal <= RUNTIME__V1__SIGNAL__SIGNAL_SIGRTMAX; signal++) {
        char *name = signal_name((Runtime__V1__Signal)signal);
        assert_true(strncmp(name, "SIG", 3) == 0);
        free(name);
    }
}

#define CONTAINER(test) cmocka_unit_test_setup_teardown(test, container_setup, container_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_is_taken_over_field_by_field),
        cmocka_unit_test(a_pod_on_the_hosts_network_maps_no_ports),
        cmocka_unit_test(annotations_ask_for_bandwidth_and_addresses),
        cmocka_unit_test(a_pod_without_metadata_or_config_is_invalid),
        cmocka_unit_test(words_for_resolv_conf_hold_no_lines_of_their_own),
        cmocka_unit_test(ports_and_addresses_are_checked),
        cmocka_unit_test(the_user_namespace_is_read_with_its_ranges),
        cmocka_unit_test(what_a_pod_asks_of_security_and_crisp_cannot_do_is_refused_by_name),
        CONTAINER(command_and_args_replace_what_the_image_says),
        CONTAINER(the_image_fills_in_what_the_request_leaves_out),
        CONTAINER(the_requests_variables_replace_the_images_in_place),
        CONTAINER(the_user_is_the_requests_else_the_images),
        CONTAINER(seccomp_is_read_from_both_fields),
        CONTAINER(what_crisp_cannot_enforce_is_refused_by_name),
        CONTAINER(mounts_are_read),
        CONTAINER(an_image_is_mounted_in_place_of_a_host_path_and_beneath_its_root),
        CONTAINER(namespaces_of_the_host_are_the_pods_to_grant),
        CONTAINER(the_same_request_is_known_again_and_another_is_not),
        CONTAINER(lists_have_a_largest_length),
        cmocka_unit_test(signals_are_known_by_any_spelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
