/* CreateContainerRequest and image → what the runtime runs. */
#pragma once

#include "api.pb-c.h"
#include "base/error.h"
#include "imageservice/imageservice.h"
#include "runtime/runtime.h"

/* The runtime's form of the request merged with the image's configuration: the caller's to hand to container_create or free. NULL with ERR_INVALID
 * naming the field, ERR_UNSUPPORTED for what crisp does not build. Puts the request's maps in order (wire_sort_maps). */
struct container_config *container_request_read(Runtime__V1__CreateContainerRequest *request, const char *pod_id, const struct pod_config *pod,
                                                const struct image *image, struct error *err);

/* The images that its mounts name, and their sub paths: looked up for a pod of that namespace, put into `config`. ERR_NOT_FOUND where an image is not
 * here, ERR_SIGNATURE where a rule of trust refuses it, ERR_INVALID where the mount is unsound or the sub path is not in the image.
 * [CRI Mount.image, image_sub_path] */
int container_request_find_images(struct container_config *config, const Runtime__V1__CreateContainerRequest *request, const char *pod_namespace,
                                  struct images *images, struct error *err);
