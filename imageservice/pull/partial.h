/* Half a blob: what came of it before a pull broke off or crispd ended, in a file of its name, so that the next pull asks for the rest only. It is
 * verified with the rest; what proves wrong is deleted, and costs one more fetch from the beginning. crispd deletes what is not gone on with for an
 * hour. */
#pragma once

#include <stdint.h>

#include "base/error.h"

/* The file for the blob, made where there is none, for reading and writing from its beginning. The caller closes it. -1: it can't be, or another
 * writes it at this time: the blob then comes without. */
int partial_open(int dir, const char *digest, int64_t size);
void partial_delete(int dir, const char *digest);
