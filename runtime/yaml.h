/* YAML as JSON has it: maps, lists, strings, numbers, booleans, null; for files that may come in either form. */
#pragma once

#include <jansson.h>

#include "base/error.h"

enum {
    YAML_NODES_MAX = 65536, /* of the result: an alias counts each time it is used, so a small file cannot grow without bounds */
    YAML_DEPTH_MAX = 64,
};

/* The text's one document; the caller decrefs. NULL with ERR_INVALID (with the line) or ERR_EXHAUSTED. */
json_t *yaml_to_json(const char *text, size_t length, struct error *err);
