/* Archives of images: the first byte says whether the rest comes as a file or through a pipe. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "imageservice/pull/bundle.h"
#include "imageservice/pull/limits.h"

enum { PIPE_TAKES = 64 << 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
as_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("bundle", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

static int
as_pipe(const uint8_t *data, size_t size)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || write(ends[1], data, size) != (ssize_t)size)
        abort();
    (void)close(ends[1]);
    return ends[0];
}

static void
read_layers(const struct bundle *bundle, const struct http_scope *scope, const struct manifest *manifest)
{
    struct error err;
    bool corrupt;
    for (size_t i = 0; i < manifest->count; i++) {
        struct ring *ring = ring_new(1 << 20);
        if (manifest->layers[i].size < 1 << 19)
            (void)bundle_blob(bundle, scope, &manifest->layers[i], ring, &corrupt, &err);
        ring_free(ring);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > PIPE_TAKES)
        return 0;
    struct http_scope scope = {0};
    struct bundle_images images = {0};
    struct error err;
    cleanup_close int source = data[0] & 1 ? as_pipe(data + 1, size - 1) : as_file(data + 1, size - 1);
    cleanup_close int incoming = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct bundle *bundle = bundle_open(source, incoming, &scope, &err);
    if (!bundle)
        return 0;
    if (bundle_read_images(bundle, &scope, &images, &err) == 0)
        for (size_t i = 0; i < images.count; i++) {
            struct manifest manifest;
            if (manifest_parse(images.items[i].manifest.text, images.items[i].manifest.length, "", &manifest, &err) < 0)
                continue;
            read_layers(bundle, &scope, &manifest);
            manifest_free(&manifest);
        }
    bundle_images_free(&images);
    bundle_unref(bundle);
    return 0;
}
