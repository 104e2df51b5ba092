/* Manifests, indexes and configurations. */
#include <stdint.h>

#include "imageservice/image_config.h"
#include "imageservice/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    struct manifest manifest;
    struct image_config config = {0};
    cleanup_strv struct strv diff_ids = {0};
    if (manifest_parse((const char *)data, size, "", &manifest, &err) == 0) {
        cleanup_platform struct platform machine;
        platform_of_machine(&machine);
        if (manifest.is_index)
            (void)manifest_choose(&manifest, &machine, &err);
        manifest_free(&manifest);
    }
    (void)image_config_parse((const char *)data, size, &config, &diff_ids, &err);
    image_config_free(&config);
    return 0;
}
