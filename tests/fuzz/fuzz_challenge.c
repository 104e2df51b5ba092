/* WWW-Authenticate. */
#include <stdint.h>

#include "imageservice/pull/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_strv struct strv headers = {0};
    strv_take(&headers, str_ndup((const char *)data, size));
    cleanup_challenge struct challenge challenge;
    challenge_choose(&headers, &challenge);
    return 0;
}
