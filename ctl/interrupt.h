/* SIGINT and SIGTERM as something to poll for. gRPC has threads, and a signal may be taken by any of them. */
#pragma once

#include "base/error.h"

/* From now on these signals make the fd returned readable in place of ending the process, and SIGPIPE is ignored. It stays open to the end of the
 * process. */
int interrupt_catch(struct error *err);
