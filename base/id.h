/* Ids of pods, containers, execs: 64 lower-case hex characters, random. */
#pragma once

#include <stdbool.h>

enum { ID_LENGTH = 64, ID_SIZE = ID_LENGTH + 1 };

void id_make(char out[ID_SIZE]);
/* 64 hex characters, nothing else. What comes from outside is checked before it becomes part of a path. */
bool id_valid(const char *id);
/* 1 to 64 hex characters: may be looked up as a prefix. */
bool id_prefix_valid(const char *prefix);
