/* A caller's patience: cancelled when the client hangs up, over at its deadline. One call owns it (cri/ for an rpc); everybody who waits on the
 * call's behalf waits with it. Any thread may call. Whatever is waited for goes on: who stops waiting only stops waiting, unless the function says
 * otherwise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct cancel {
    int fd;              /* eventfd: readable once cancelled, for poll(2) */
    int64_t deadline_ns; /* monotonic; INT64_MAX: none */
};

int cancel_open(struct cancel *cancel, int64_t deadline_ns, struct error *err);
void cancel_close(struct cancel *cancel);
void cancel_now(struct cancel *cancel);

/* NULL is endless patience: these three then never report. */
bool cancel_is_set(const struct cancel *cancel);
/* 0, or -1 with ERR_CANCELLED or ERR_DEADLINE, worded with `stage` ("waiting for the CNI plugin bridge"). */
int cancel_check(const struct cancel *cancel, const char *stage, struct error *err);
/* Wait until `fd` is readable (1), the patience is over (-1, as cancel_check), or timeout_ns passed (0; INT64_MAX: no timeout). fd -1 only waits. */
int cancel_wait(const struct cancel *cancel, int fd, int64_t timeout_ns, const char *stage, struct error *err);
