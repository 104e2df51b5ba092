/* A container's log, once or until the container ends. */
#pragma once

#include "ctl/client.h"
#include "ctl/log_file.h"

/* Print the log until the container has ended and all it wrote is printed. `interrupt` is an fd that ends it by being readable, or -1. Returns 0, or
 * 1 when interrupted. The container's last status is then in *status, the caller's to free, where that isn't NULL and the container ended. */
int log_follow(struct client *client, const char *container_id, struct log_file *log, int interrupt, Runtime__V1__ContainerStatusResponse **status,
               struct error *err);
