/* AppArmor profiles of containers, by the kernel's files in securityfs and /proc. A container's process enters its profile with the execution of its
 * program; so do its execs.
 *
 * crisp's own profile is loaded when the first container asks for it, by apparmor_parser, and again where somebody has unloaded it. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

#define APPARMOR_OWN_PROFILE "crisp-default"

/* Is it in charge on this node, and there a parser for our profile? Looked at each time: what it costs is one small file. */
bool apparmor_enabled(void);

/* The name of the profile for "", "unconfined", "runtime/default", "localhost/NAME"; "" where the container is confined by none. Loads our own. The
 * default, also of those who name nothing, is none where AppArmor is not in charge, as the kubelet expects it. Caller frees. ERR_INVALID for another
 * form or a profile that is not loaded; ERR_UNSUPPORTED, naming it, for one of this node's where AppArmor is not in charge. */
int apparmor_prepare(const char *profile, char **name, struct error *err);
