/* What crispd's server works on, without pods: nothing is there, StopContainer waits out its grace, ExecSync answers zeros, PullImage finds no
 * registry. */
#pragma once

#include <stddef.h>

extern size_t fake_exec_output_bytes; /* defined by the test */
