/* How many entries, but hidden ones, the directory `below` of `root` has; 0 where there is none. */
#pragma once

#include "base/cleanup.h"
#include "base/str.h"

static inline unsigned
count_in(const char *root, const char *below)
{
    unsigned count = 0;
    cleanup_free char *path = str_printf("%s/%s", root, below);
    cleanup_closedir DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += *entry->d_name != '.';
    return count;
}
