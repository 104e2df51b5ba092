#include "imageservice/pull/partial.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/str.h"
#include "imageservice/digest.h"

/* By flock, as the crisp-pull of a crispd that was killed may not have ended yet. */
int
partial_open(int dir, const char *digest, int64_t size)
{
    struct stat st;
    char name[DIGEST_SIZE];
    digest_as_name(digest, name);
    cleanup_close int fd = file_open(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, NULL);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0)
        return -1;
    if (st.st_size > size && ftruncate(fd, 0) < 0)
        return -1;
    return steal(fd);
}

void
partial_delete(int dir, const char *digest)
{
    char name[DIGEST_SIZE];
    digest_as_name(digest, name);
    (void)unlinkat(dir, name, 0);
}
