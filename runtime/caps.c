#include "runtime/caps.h"

#include <ctype.h>
#include <linux/capability.h>
#include <stdio.h>
#include <strings.h>
#include <sys/capability.h>

#include "base/str.h"

#define BIT(cap) (UINT64_C(1) << (cap))

/* What Docker gave from its beginning and images count on. */
static const uint64_t default_caps = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) | BIT(CAP_NET_RAW) |
                                     BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) | BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |
                                     BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);

uint64_t
caps_bounding_set(void)
{
    uint64_t mask = 0;
    for (int cap = 0; cap < cap_max_bits(); cap++)
        if (cap_get_bound((cap_value_t)cap) > 0)
            mask |= BIT(cap);
    return mask;
}

int
caps_parse(const char *name, uint64_t all, uint64_t *out, struct error *err)
{
    char canonical[64];
    cap_value_t value;
    if (strcasecmp(name, "ALL") == 0) {
        *out = all;
        return 0;
    }
    (void)snprintf(canonical, sizeof canonical, "%s%s", strncasecmp(name, "CAP_", 4) == 0 ? "" : "cap_", name);
    for (char *at = canonical; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    if (cap_from_name(canonical, &value) < 0)
        return error_set(err, ERR_INVALID, "capability %.64s: there is no such capability", name);
    *out = BIT(value);
    return 0;
}

static int
parse_list(const struct strv *names, uint64_t all, uint64_t *out, struct error *err)
{
    *out = 0;
    for (size_t i = 0; i < names->count; i++) {
        uint64_t mask = 0;
        TRY(caps_parse(names->items[i], all, &mask, err));
        *out |= mask;
    }
    return 0;
}

int
caps_resolve(const struct container_config *config, uint64_t bounding, struct caps *out, struct error *err)
{
    uint64_t add, drop, ambient;
    TRY(parse_list(&config->add_capabilities, bounding, &add, err));
    TRY(parse_list(&config->drop_capabilities, UINT64_MAX, &drop, err));
    TRY(parse_list(&config->add_ambient_capabilities, bounding, &ambient, err));
    /* "drop ALL, add X" leaves X; "add ALL, drop X" leaves all but X. */
    bool drop_all = drop == UINT64_MAX;
    uint64_t allowed = drop_all ? add : (default_caps | add) & ~drop;
    if (config->privileged)
        allowed = bounding;
    out->allowed = (allowed | ambient) & bounding;
    out->ambient = ambient & bounding;
    return 0;
}
