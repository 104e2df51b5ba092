/* CNI plugins that a crispd left running when it was killed: an ADD that goes on beside, or after, its own DEL leaks what it gets. */
#pragma once

#include "base/str.h"

/* Wait until they have ended; a second later kill those that have not, with their process groups. They are let end because a DEL that is cut short
 * may leave what no second DEL finds: the bridge plugin takes its rules away by the addresses of an interface that it removes first. A stray leads a
 * process group in a session not its own, which is how cni_exec starts plugins (a daemon that a plugin left on purpose does not), and has one of
 * `container_ids` as its CNI_CONTAINERID. To be called before any plugin is run. */
void cni_strays_end(const struct strv *container_ids);
