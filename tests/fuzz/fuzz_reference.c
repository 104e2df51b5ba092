/* References: whatever is accepted is accepted again in its normal form, and stays the same. */
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "imageservice/imageservice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    cleanup_free char *text = str_ndup((const char *)data, size);
    cleanup_free char *once = reference_normalize(text, &err);
    cleanup_free char *twice = once ? reference_normalize(once, &err) : NULL;
    if (once && !str_eq(once, twice))
        abort();
    return 0;
}
