#include "imageservice/pull/artifact.h"

struct blob {
    struct ring *plain;
    int64_t offset;
};

static int
read_blob(void *arg, const void **data, size_t *length, int64_t *offset, struct error *err)
{
    struct blob *blob = arg;
    const char *taken;
    int result = TRY(ring_take(blob->plain, &taken, length, err));
    if (result > 0) {
        *data = taken;
        *offset = blob->offset;
        blob->offset += (int64_t)*length;
    }
    return result;
}

int
artifact_unpack(struct ring *plain, struct layer *layer, const char *title, int64_t size, struct error *err)
{
    struct blob blob = {plain, 0};
    struct layer_entry entry = {.path = title, .mode = S_IFREG | 0644, .size = size};
    if (layer_apply(layer, &entry, read_blob, &blob, err) == 0)
        return 0;
    ring_fail(plain, err);
    return -1;
}
