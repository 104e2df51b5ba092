#include "base/base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
base64_encode(const void *data, size_t length)
{
    const unsigned char *in = data;
    char *text = mem_alloc((length + 2) / 3 * 4 + 1), *out = text;
    for (size_t i = 0; i < length; i += 3) {
        size_t have = length - i < 3 ? length - i : 3;
        uint32_t group = (uint32_t)in[i] << 16 | (have > 1 ? (uint32_t)in[i + 1] << 8 : 0) | (have > 2 ? in[i + 2] : 0);
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = have > 1 ? alphabet[group >> 6 & 63] : '=';
        *out++ = have > 2 ? alphabet[group & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* Four characters to three bytes; how many of them count, or -1. */
static int
decode_group(const char *in, unsigned char out[3])
{
    uint32_t group = 0;
    int padding = (in[3] == '=') + (in[2] == '=' && in[3] == '=');
    for (int i = 0; i < 4; i++) {
        const char *at = i < 4 - padding ? memchr(alphabet, in[i], 64) : alphabet;
        if (!at)
            return -1;
        group = group << 6 | (uint32_t)(at - alphabet);
    }
    out[0] = (unsigned char)(group >> 16);
    out[1] = (unsigned char)(group >> 8);
    out[2] = (unsigned char)group;
    return 3 - padding;
}

int
base64_decode(const char *text, char **out, size_t *out_length, struct error *err)
{
    size_t length = strlen(text), used = 0;
    cleanup_free char *bytes = mem_alloc(length / 4 * 3 + 4);
    for (size_t i = 0; i < length; i += 4) {
        unsigned char group[3];
        int count = length - i < 4 ? -1 : decode_group(text + i, group);
        if (count < 0 || (count < 3 && i + 4 < length))
            return error_set(err, ERR_INVALID, "it is not base64");
        memcpy(bytes + used, group, (size_t)count);
        used += (size_t)count;
    }
    bytes[used] = '\0';
    *out = steal(bytes);
    *out_length = used;
    return 0;
}
