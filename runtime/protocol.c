#include "runtime/protocol.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void
protocol_address(struct sockaddr_un *address, int state_dir, const char *pod_id)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s.sock", state_dir, pod_id);
}

void
protocol_put_fd(struct message *m, enum protocol_fd role, int fd)
{
    if (fd < 0)
        return;
    message_put_u64(m, TAG_FD_ROLE, role);
    message_put_fd(m, fd);
}

int
protocol_take_fd(struct message *m, enum protocol_fd role)
{
    size_t cursor = 0, length;
    const void *value;
    for (size_t i = 0; (value = message_next(m, TAG_FD_ROLE, &cursor, &length)); i++) {
        uint64_t have = 0;
        memcpy(&have, value, length < sizeof have ? length : sizeof have);
        if (have == role)
            return message_take_fd(m, i);
    }
    return -1;
}
