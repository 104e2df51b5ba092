/* The encoded form of a message, checked before it is unpacked: protobuf-c looks neither at UTF-8 (proto3 wants it of every string) nor at NUL bytes,
 * which would silently cut a string of C. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "base/error.h"

/* ERR_INVALID naming the field when a string holds a NUL or is not UTF-8, or the bytes are no such message. */
int wire_check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t length, struct error *err);

/* Put the entries of every map in `message` (and below) in the order of their keys; of two with one key the later stays, as the protobuf rules say.
 * Two messages that mean the same are then packed to the same bytes, but for unknown fields. */
void wire_sort_maps(ProtobufCMessage *message);
