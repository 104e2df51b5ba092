#include "base/message.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* On the wire: header, then fields, each {tag, length} and its bytes padded to 4. Strings carry their NUL. Host byte order: both ends are one
 * machine. */
struct wire_header {
    uint16_t version;
    uint16_t type;
    uint32_t serial;
};

struct wire_field {
    uint16_t tag;
    uint16_t reserved;
    uint32_t length;
};

static size_t
padded(size_t length)
{
    return (length + 3) & ~(size_t)3;
}

void
message_begin(struct message *m, uint16_t type, uint32_t serial)
{
    m->type = type;
    m->serial = serial;
    m->fd_count = 0;
    struct wire_header header = {MESSAGE_VERSION, type, serial};
    memcpy(m->data, &header, sizeof header);
    m->length = sizeof header;
}

void
message_put(struct message *m, uint16_t tag, const void *value, size_t length)
{
    if (length > MESSAGE_MAX || m->length + sizeof(struct wire_field) + padded(length) > MESSAGE_MAX) {
        m->length = MESSAGE_MAX + 1;
        return;
    }
    struct wire_field field = {.tag = tag, .length = (uint32_t)length};
    memcpy(m->data + m->length, &field, sizeof field);
    m->length += sizeof field;
    if (length)
        memcpy(m->data + m->length, value, length);
    memset(m->data + m->length + length, 0, padded(length) - length);
    m->length += padded(length);
}

void
message_put_string(struct message *m, uint16_t tag, const char *value)
{
    if (value)
        message_put(m, tag, value, strlen(value) + 1);
}

void
message_put_u64(struct message *m, uint16_t tag, uint64_t value)
{
    message_put(m, tag, &value, sizeof value);
}

void
message_put_i64(struct message *m, uint16_t tag, int64_t value)
{
    message_put(m, tag, &value, sizeof value);
}

void
message_put_fd(struct message *m, int fd)
{
    if (m->fd_count == MESSAGE_FDS_MAX) {
        m->length = MESSAGE_MAX + 1;
        return;
    }
    m->fds[m->fd_count++] = fd;
}

int
message_send(int socket, const struct message *m, struct error *err)
{
    if (m->length > MESSAGE_MAX)
        return error_set(err, ERR_EXHAUSTED, "message of type %u: it is larger than %d bytes", m->type, MESSAGE_MAX);
    struct iovec data = {(void *)(uintptr_t)m->data, m->length};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof m->fds)];
    } control = {.space = {0}};
    struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1};
    if (m->fd_count) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(m->fd_count * sizeof(int));
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(m->fd_count * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), m->fds, m->fd_count * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    int errnum = errno;
    (void)error_errno(err, errnum, "send message");
    return errnum == EPIPE || errnum == ECONNRESET || errnum == ENOTCONN || errnum == ECONNREFUSED ? error_as(err, ERR_UNAVAILABLE) : -1;
}

static bool
well_formed(const struct message *m)
{
    size_t at = sizeof(struct wire_header);
    while (at < m->length) {
        struct wire_field field;
        if (m->length - at < sizeof field)
            return false;
        memcpy(&field, m->data + at, sizeof field);
        at += sizeof field;
        if (field.length > MESSAGE_MAX || padded(field.length) > m->length - at)
            return false;
        at += padded(field.length);
    }
    return true;
}

static void
collect_fds(struct message *m, struct msghdr *msg)
{
    m->fd_count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t bytes = c->cmsg_len - CMSG_LEN(0);
        memcpy(m->fds, CMSG_DATA(c), bytes);
        m->fd_count = bytes / sizeof(int);
    }
}

int
message_receive(int socket, struct message *m, struct error *err)
{
    struct iovec data = {m->data, sizeof m->data};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof m->fds)];
    } control;
    struct msghdr msg = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == ECONNRESET)
        return 0;
    if (n < 0)
        return error_errno(err, errno, "receive message");
    if (n == 0)
        return 0;
    collect_fds(m, &msg);
    m->length = (size_t)n;
    struct wire_header header = {0};
    if (m->length >= sizeof header)
        memcpy(&header, m->data, sizeof header);
    m->type = header.type;
    m->serial = header.serial;
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || m->length < sizeof header || !well_formed(m)) {
        message_close_fds(m);
        return error_set(err, ERR_INVALID, "receive message: malformed datagram of %zd bytes", n);
    }
    if (header.version != MESSAGE_VERSION) {
        message_close_fds(m);
        return error_set(err, ERR_INVALID, "receive message: it is of version %u, this crisp speaks %d", header.version, MESSAGE_VERSION);
    }
    return 1;
}

const void *
message_next(const struct message *m, uint16_t tag, size_t *cursor, size_t *length)
{
    size_t at = *cursor ? *cursor : sizeof(struct wire_header);
    while (at < m->length) {
        struct wire_field field;
        memcpy(&field, m->data + at, sizeof field);
        const unsigned char *value = m->data + at + sizeof field;
        at += sizeof field + padded(field.length);
        if (field.tag == tag) {
            *cursor = at;
            *length = field.length;
            return value;
        }
    }
    return NULL;
}

const void *
message_bytes(const struct message *m, uint16_t tag, size_t *length)
{
    size_t cursor = 0;
    return message_next(m, tag, &cursor, length);
}

const char *
message_string(const struct message *m, uint16_t tag)
{
    size_t length;
    const char *s = message_bytes(m, tag, &length);
    return s && length && s[length - 1] == '\0' ? s : "";
}

uint64_t
message_u64(const struct message *m, uint16_t tag)
{
    size_t length;
    const void *bytes = message_bytes(m, tag, &length);
    uint64_t value = 0;
    if (bytes && length == sizeof value)
        memcpy(&value, bytes, sizeof value);
    return value;
}

int64_t
message_i64(const struct message *m, uint16_t tag)
{
    return (int64_t)message_u64(m, tag);
}

int
message_take_fd(struct message *m, size_t i)
{
    if (i >= m->fd_count)
        return -1;
    int fd = m->fds[i];
    m->fds[i] = -1;
    return fd;
}

void
message_close_fds(struct message *m)
{
    for (size_t i = 0; i < m->fd_count; i++)
        if (m->fds[i] >= 0)
            (void)close(m->fds[i]);
    m->fd_count = 0;
}
