/* CRI's messages as JSON, by protobuf's own mapping (proto3 JSON, which crictl speaks too): names in lowerCamelCase, 64-bit numbers as strings,
 * enums by name, bytes in base64, maps as objects. Fields that are empty are there all the same, so that a script finds every key. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/json.h"

/* A new reference. */
json_t *json_of_message(const ProtobufCMessage *message);
/* A string of bytes that need not be UTF-8: where they aren't, those above 127 become U+FFFD. A new reference. */
json_t *json_of_text(const char *text, size_t length);
/* Print to stdout, indented, with a newline. Takes the reference. */
void json_print(json_t *value);
