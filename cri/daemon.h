/* crispd's life: takes the lock, opens images and runtime, serves CRI, ends on SIGTERM or SIGINT within DAEMON_STOP_SECONDS with pods untouched. */
#pragma once

#include "base/error.h"
#include "cri/configuration.h"

enum { DAEMON_STOP_SECONDS = 5 };

/* Returns after a clean end, or fails to start. The process does nothing else. */
int daemon_run(const struct configuration *configuration, struct error *err);
