/* A stranger's HTTP request to the streaming server. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "cri/streaming/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cleanup_http_request struct http_request request = {0};
    long used = http_request_parse(&request, (const char *)data, size);
    if (used > 0 && (size_t)used > size)
        abort();
    return 0;
}
