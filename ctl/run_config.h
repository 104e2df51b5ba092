/* The options of `crispctl run` as the configurations of a pod and its one container. */
#pragma once

#include "api.pb-c.h"
#include "base/cleanup.h"
#include "base/id.h"
#include "base/str.h"
#include "ctl/command.h"

enum { RUN_NAME_MAX = 63, RUN_UID_SIZE = 37 };

/* The messages point to one another and to the arguments: it must not be moved, and the arguments must live as long. */
struct run_config {
    Runtime__V1__PodSandboxConfig pod;
    Runtime__V1__ContainerConfig container;

    char name[RUN_NAME_MAX + 1]; /* of both, and the hostname */
    char uid[RUN_UID_SIZE];
    char *log_directory;

    Runtime__V1__PodSandboxMetadata pod_metadata;
    Runtime__V1__LinuxPodSandboxConfig pod_linux;
    Runtime__V1__LinuxSandboxSecurityContext pod_security;
    Runtime__V1__NamespaceOption namespaces;
    Runtime__V1__PodSandboxConfig__LabelsEntry pod_label, *pod_labels[1];
    Runtime__V1__ContainerMetadata container_metadata;
    Runtime__V1__ContainerConfig__LabelsEntry container_label, *container_labels[1];
    Runtime__V1__ImageSpec image;
    Runtime__V1__LinuxContainerConfig container_linux;
    Runtime__V1__LinuxContainerSecurityContext container_security;
    Runtime__V1__LinuxContainerResources resources;
    Runtime__V1__Int64Value user, group;
    const char *entrypoint[1];
    Runtime__V1__Mount *mounts;      /* one for each --volume */
    Runtime__V1__PortMapping *ports; /* one for each --publish */
    Runtime__V1__KeyValue *envs;     /* one for each --env */
    char log_path[RUN_NAME_MAX + sizeof ".log"];
    struct strv words; /* pieces of option values, which the messages point to */
};

extern const struct option_spec run_options[];

/* Fails only with usage_error. */
int run_config_make(struct run_config *config, const struct args *args, struct error *err);
void run_config_free(struct run_config *config);
#define cleanup_run_config cleanup(run_config_free)
