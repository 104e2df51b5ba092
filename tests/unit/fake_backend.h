/* What crispd's server works on, without pods: nothing is there but the pods that are asked for, StopContainer waits out its grace, ExecSync answers
 * zeros, PullImage finds no registry. */
#pragma once

#include <stddef.h>

/* Defined by the test. */
extern size_t fake_exec_output_bytes;
extern size_t fake_pods, fake_pod_bytes; /* how many are listed, and how large an annotation each has */
