/* What `run` needs of images, beside the commands in image.c. The answers are the caller's to free. */
#pragma once

#include "api.pb-c.h"
#include "ctl/client.h"

/* The answer's image is NULL when there is no such image. */
Runtime__V1__ImageStatusResponse *image_status(struct client *client, const char *name, struct error *err);
/* May take as long as it takes. `auth` may be NULL. */
Runtime__V1__PullImageResponse *image_pull(struct client *client, const char *name, Runtime__V1__AuthConfig *auth, struct error *err);
