#include "base/id.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void
id_make(char out[ID_SIZE])
{
    unsigned char bytes[ID_LENGTH / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (long)sizeof bytes)
        abort(); /* cannot fail for 32 bytes once the pool is ready: getrandom(2) */
    for (size_t i = 0; i < sizeof bytes; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[ID_LENGTH] = '\0';
}

bool
id_prefix_valid(const char *prefix)
{
    size_t length = strlen(prefix);
    return length > 0 && length <= ID_LENGTH && strspn(prefix, "0123456789abcdef") == length;
}

bool
id_valid(const char *id)
{
    return id_prefix_valid(id) && strlen(id) == ID_LENGTH;
}
