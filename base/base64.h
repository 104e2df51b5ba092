/* Base64 (RFC 4648, section 4, with padding). */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* NUL-terminated; caller frees. */
char *base64_encode(const void *data, size_t length);
/* Bytes, NUL-terminated for convenience; caller frees. ERR_INVALID for anything that base64_encode does not make. */
int base64_decode(const char *text, char **out, size_t *out_length, struct error *err);
