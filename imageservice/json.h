/* JSON from outside, read by jansson within limits: what a few bytes of JSON cost as a tree is bounded before it is built. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

enum {
    JSON_TEXT_MAX = 4 << 20,    /* a manifest's largest size (what registries take, distribution spec: at least 4 MiB) */
    JSON_VALUES_MAX = 64 << 10, /* a value costs jansson up to 100 bytes: about 6 MiB */
};

/* Parse an object; the caller json_decrefs it. ERR_INVALID naming `what`. */
json_t *json_parse(const char *text, size_t length, const char *what, struct error *err);

/* Members of an object by key; a missing one, or null, leaves `out` empty. ERR_INVALID for another type. Strings are borrowed from the tree. */
int json_get_string(const json_t *object, const char *key, const char **out, struct error *err); /* "" when missing */
int json_get_strings(const json_t *object, const char *key, struct strv *out, struct error *err);
int json_get_map(const json_t *object, const char *key, struct strmap *out, struct error *err);
