/* An image's configuration blob (OCI image spec, "Image Configuration"; Docker's "container image v1" is the same where we read it). What
 * stands for an artifact's is its manifest, which says no more than that. */
#pragma once

#include "imageservice/imageservice.h"

/* Read what running needs into `config` and the layers' diff ids into `diff_ids` (may be NULL), both empty before. ERR_INVALID in words; then both
 * are left for the caller to free. */
int image_config_parse(const char *text, size_t length, struct image_config *config, struct strv *diff_ids, struct error *err);
void image_config_free(struct image_config *config);
