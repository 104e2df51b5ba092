/* CDI files, in JSON and in YAML. */
#include <stdint.h>

#include "runtime/cdi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int yaml = 0; yaml < 2; yaml++) {
        struct container_config *config = container_config_new();
        struct error err;
        (void)cdi_apply_text((const char *)data, size, yaml, "a.b/c=d", config, &err);
        container_config_free(config);
    }
    return 0;
}
