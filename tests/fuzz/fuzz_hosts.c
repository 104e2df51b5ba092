/* hosts.toml, and the names of registries that it is looked up by. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "imageservice/pull/hosts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[40];

static void
take_down(void)
{
    (void)file_remove_tree(AT_FDCWD, root, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    if (!*root) {
        (void)snprintf(root, sizeof root, "/tmp/crisp-fuzz.XXXXXX");
        if (!mkdtemp(root))
            abort();
        (void)atexit(take_down);
        cleanup_free char *dir = str_printf("%s/_default", root);
        (void)mkdir(dir, 0700);
    }
    cleanup_free char *path = str_printf("%s/_default/hosts.toml", root);
    cleanup_strv struct strv dirs = {0};
    struct hosts hosts;
    strv_add(&dirs, root);
    if (file_replace(AT_FDCWD, path, data, size, 0600, false, &err) == 0 && hosts_load(&dirs, "registry.example:5000", &hosts, &err) == 0)
        hosts_free(&hosts);
    return 0;
}
