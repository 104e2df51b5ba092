/* How ids, names, sizes and times are shown to people. Strings returned are the caller's to free. */
#pragma once

#include <stdint.h>

#include "api.pb-c.h"

/* The first 12 characters, without "sha256:". */
char *format_id(const char *id);
/* How long ago a time in nanoseconds was: "5s", "3m", "2h", "4d"; "-" for 0. */
char *format_age(int64_t unix_ns);
/* Decimal: "1.2 MB". */
char *format_bytes(uint64_t bytes);
/* What the user called the image, else its id, shortened. */
char *format_image(const Runtime__V1__ImageSpec *image);
/* "running", "created", "exited", "unknown". Static. */
const char *format_container_state(Runtime__V1__ContainerState state);
