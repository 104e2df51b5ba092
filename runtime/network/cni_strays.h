/* CNI plugins that a crispd left running when it was killed: an ADD that goes on beside, or after, its own DEL leaks what it gets. */
#pragma once

#include "base/str.h"

/* Kill them, with their process groups, and wait until they are dead. A stray leads a process group in a session not its own, which is how cni_exec
 * starts plugins (a daemon that a plugin left on purpose does not), and has one of `container_ids` as its CNI_CONTAINERID. To be called before any
 * plugin is run. */
void cni_strays_end(const struct strv *container_ids);
