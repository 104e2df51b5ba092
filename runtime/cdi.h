/* Devices by name, as vendors describe them in files: the Container Device Interface (cncf-tags/container-device-interface, SPEC.md).
 *
 * A request names VENDOR.COM/CLASS=NAME; a file of that kind says which device nodes, mounts, variables and groups that means. Files are NAME.json
 * and NAME.yaml in the given directories; where two have the same device the later directory's holds, two of one directory contradict each other.
 * They are read anew for each container that asks, as plugins write them at any time. Hooks are refused: crisp runs no foreign program beside a
 * container. */
#pragma once

#include "base/error.h"
#include "base/str.h"
#include "runtime/runtime.h"

enum { CDI_FILE_BYTES_MAX = 1 << 20, CDI_FILES_MAX = 1024 };

/* Add what config->cdi_devices name to the configuration's devices, mounts, environment and groups. ERR_INVALID naming the device that is unknown,
 * contradictory or wrong; ERR_UNSUPPORTED for what crisp cannot do. */
int cdi_apply(const struct strv *directories, struct container_config *config, struct error *err);

/* For fuzzing: read a file's text and apply one of its devices. */
int cdi_apply_text(const char *text, size_t length, bool yaml, const char *device, struct container_config *config, struct error *err);
