/* systemd as the keeper of cgroups: units made, changed and ended over D-Bus, for cgroup driver "systemd". libsystemd is loaded when this is opened,
 * since it costs a megabyte that no other crispd shall pay.
 *
 *   unconnected ──an order comes──▶ connected ──systemd or the bus goes──▶ unconnected (orders sent fail; new ones wait for the next try)
 *
 * One thread owns the one connection: the system bus, or systemd's own socket where there is no bus. Callers hand it orders and wait without holding
 * anything of each other's; many are under way at once. The tries to connect are 0.1 s apart, then each time twice as long, up to 5 s. Any thread may
 * call. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/cgroup.h"

struct systemd;

/* A property of a unit (org.freedesktop.systemd1(5)); what it points to is borrowed. */
struct unit_property {
    const char *name;
    enum { UNIT_TEXT, UNIT_FLAG, UNIT_NUMBER, UNIT_PID, UNIT_BYTES, UNIT_DEVICES } type;
    const char *text;                  /* UNIT_TEXT */
    uint64_t number;                   /* UNIT_FLAG, UNIT_NUMBER, UNIT_PID; UNIT_BYTES: how many */
    uint8_t bytes[128];                /* UNIT_BYTES */
    const struct device_rule *devices; /* UNIT_DEVICES */
    size_t device_count;
};

/* ERR_UNSUPPORTED where systemd does not run this machine or libsystemd is missing. */
int systemd_open(struct systemd **out, struct error *err);
void systemd_close(struct systemd *systemd);

/* Make and start a transient unit, and wait until its job is done. What is left of a failed one of that name is reset first. */
int systemd_start(struct systemd *systemd, const char *unit, const struct unit_property *properties, size_t count, struct error *err);
/* Change properties of a running unit, until the next boot. */
int systemd_set(struct systemd *systemd, const char *unit, const struct unit_property *properties, size_t count, struct error *err);
/* Ask for its end. One that is gone is fine, as is no answer: systemd ends what is empty by itself. */
void systemd_stop(struct systemd *systemd, const char *unit);
