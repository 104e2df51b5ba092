/* Pieces that requests and answers have in common: maps, lists, limits, between protobuf-c's form and the runtime's. What is made for an answer lives
 * in the call's arena; its strings are those it was made from. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "api.pb-c.h"
#include "base/str.h"
#include "cri/call.h"
#include "runtime/runtime.h"

/* An entry of any map<string, string>: protoc-c makes the same struct for each, under another name. */
struct map_entry {
    ProtobufCMessage base;
    const char *key, *value;
};

/* An empty message of this type: zeros and NULLs, which are packed as what is not there. */
void *answer_new(struct call *call, const ProtobufCMessageDescriptor *type);
/* An array for `count` pointers to messages. */
void *answer_list(struct call *call, size_t count);
/* One more item of the list that `response` is (its first field). In a stream what has come together is sent whenever it fills a message. */
int answer_add(struct call *call, void *response, void *item, struct error *err);
/* Send what was not sent yet; no message without an item. */
int answer_flush(struct call *call, void *response, struct error *err);

/* `entries`: a map field of a request. ERR_INVALID when there are too many, or a key is empty. */
int map_read(struct strmap *out, const void *entries, size_t count, const char *what, struct error *err);
/* For a map field: *entries gets the list, the count is returned. `type` is that of the entries. */
size_t map_write(struct call *call, const struct strmap *map, const ProtobufCMessageDescriptor *type, void *entries);
/* One more entry of a map<string, string> that is an answer's `info`; `json` (malloc'ed; NULL is left out) is freed with the call. */
void info_add(struct call *call, const ProtobufCMessageDescriptor *type, void *entries, size_t *count, const char *key, char *json);

int list_read(struct strv *out, const char *const *items, size_t count, const char *what, struct error *err);

/* Ranges are the runtime's to check. */
int resources_read(struct resources *out, const Runtime__V1__LinuxContainerResources *in, struct error *err);
Runtime__V1__LinuxContainerResources *resources_write(struct call *call, const struct resources *resources);

/* As the status rpcs answer them (pods.c, container_status.c). */
Runtime__V1__PodSandboxStatus *pod_status_write(struct call *call, const struct pod_status *pod);
Runtime__V1__ContainerStatus **container_statuses_write(struct call *call, const struct container_status *containers, size_t count);

/* "SIGRTMIN+3" for CRI's signal, "" for the default; and back from any spelling an image may use ("sigterm", "TERM", "15"), default when unknown. */
char *signal_name(Runtime__V1__Signal signal);
Runtime__V1__Signal signal_number(const char *name);
