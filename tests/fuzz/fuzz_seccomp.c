/* Seccomp profiles: the file of a node's administrator, but a long one in a rich form. What is read is compiled too. */
#include <stdint.h>
#include <stdlib.h>

#include "runtime/seccomp_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct seccomp_subject subject = {.caps = 0xa80425fb, .kernel_major = 6, .kernel_minor = 1};
    cleanup_seccomp_profile struct seccomp_profile profile = {0};
    struct seccomp_program program;
    struct error err;
    if (seccomp_profile_read((const char *)data, size, &subject, &profile, &err) == 0 && seccomp_filter_compile(&profile, &program, &err) == 0)
        free(program.code);
    return 0;
}
