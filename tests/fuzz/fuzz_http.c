/* A stranger's HTTP request to the streaming server. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cri/streaming/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* http-parser is not instrumented, so the fuzzer would not find out how a request begins. */
    cleanup_free char *text = str_printf("GET /exec/abc HTTP/1.1\r\n%.*s", (int)size, (const char *)data);
    cleanup_http_request struct http_request request = {0};
    long used = http_request_parse(&request, text, strlen(text));
    if (used > 0 && (size_t)used > strlen(text))
        abort();
    return 0;
}
