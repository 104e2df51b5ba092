/* Which ids outside are meant by those inside a user namespace, or inside an idmapped mount. */
#pragma once

#include "runtime/runtime.h"

/* user_namespaces(7): at least one range for users and one for groups, as many of either, none empty, no id twice on either side. Where `has_root`, 0
 * is mapped. ERR_INVALID with a sentence about `what`. */
int idmap_check(const struct id_maps *maps, const char *what, bool has_root, struct error *err);

static inline bool
idmap_is_set(const struct id_maps *maps)
{
    return maps->uid_count > 0;
}

bool idmap_equal(const struct id_maps *a, const struct id_maps *b);

/* The id outside; without any map the same id. NO_ID where there is none. */
int64_t idmap_uid(const struct id_maps *maps, int64_t inside);
int64_t idmap_gid(const struct id_maps *maps, int64_t inside);

/* As /proc/PID/uid_map takes it; caller frees. */
char *idmap_uid_text(const struct id_maps *maps);
char *idmap_gid_text(const struct id_maps *maps);
