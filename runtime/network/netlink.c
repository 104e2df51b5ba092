#include "runtime/network/netlink.h"

#include <linux/netlink.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

enum { ANSWER_BYTES = 32768, ANSWER_SECONDS = 10 };

int
netlink_open(int protocol, struct error *err)
{
    cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return error_errno(err, errno == EPROTONOSUPPORT ? EOPNOTSUPP : errno, "open a netlink socket");
    int on = 1;
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return error_errno(err, errno, "bind a netlink socket");
    return steal(fd);
}

void
netlink_begin(struct netlink_batch *batch)
{
    static _Atomic uint32_t next_base = 1;
    batch->base = atomic_fetch_add(&next_base, NETLINK_BATCH_MESSAGES);
    batch->last = NULL;
    batch->count = 0;
}

static unsigned char *
batch_end(struct netlink_batch *batch)
{
    return batch->last ? (unsigned char *)batch->last + NLMSG_ALIGN(batch->last->nlmsg_len) : batch->data;
}

struct nlmsghdr *
netlink_add(struct netlink_batch *batch, uint16_t type, uint16_t flags, size_t header_bytes, const char *what)
{
    unsigned char *at = batch_end(batch);
    if (batch->count == NETLINK_BATCH_MESSAGES || at + NETLINK_MESSAGE_BYTES > batch->data + sizeof batch->data)
        abort();
    batch->last = mnl_nlmsg_put_header(at);
    batch->last->nlmsg_type = type;
    batch->last->nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK);
    batch->last->nlmsg_seq = batch->base + batch->count;
    mnl_nlmsg_put_extra_header(batch->last, header_bytes);
    batch->messages[batch->count].what = what;
    batch->messages[batch->count].tolerated = 0;
    batch->messages[batch->count].unanswered = false;
    batch->count++;
    return batch->last;
}

void
netlink_tolerate(struct netlink_batch *batch, int errnum)
{
    batch->messages[batch->count - 1].tolerated = errnum;
}

void
netlink_unanswered(struct netlink_batch *batch)
{
    batch->messages[batch->count - 1].unanswered = true;
    batch->last->nlmsg_flags &= (uint16_t)~NLM_F_ACK;
}

bool
netlink_full(const struct netlink_batch *batch, size_t messages_to_come)
{
    return batch->count + messages_to_come >= NETLINK_BATCH_MESSAGES;
}

static int
send_batch(int fd, struct netlink_batch *batch, struct error *err)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    size_t length = (size_t)(batch_end(batch) - batch->data);
    if (sendto(fd, batch->data, length, 0, (struct sockaddr *)&kernel, sizeof kernel) < 0)
        return error_errno(err, errno, "%s", batch->messages[0].what);
    return 0;
}

static ssize_t
receive(int fd, void *buffer, const char *what, struct error *err)
{
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t from_size = sizeof from;
        ssize_t n = recvfrom(fd, buffer, ANSWER_BYTES, 0, (struct sockaddr *)&from, &from_size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno == EAGAIN ? ETIMEDOUT : errno, "%s: the kernel's answer", what);
        if (from.nl_pid == 0) /* else a process that guessed our port */
            return n;
    }
}

struct wanted {
    const struct nlattr **attrs;
    size_t count;
};

static int
take_attribute(const struct nlattr *attr, void *data)
{
    const struct wanted *wanted = data;
    uint16_t type = mnl_attr_get_type(attr);
    if (type < wanted->count && !wanted->attrs[type])
        wanted->attrs[type] = attr;
    return MNL_CB_OK;
}

void
netlink_attributes(const struct nlmsghdr *message, size_t header_bytes, const struct nlattr *attrs[], size_t count)
{
    memset(attrs, 0, count * sizeof *attrs);
    (void)mnl_attr_parse(message, (unsigned)header_bytes, take_attribute, &(struct wanted){attrs, count});
}

void
netlink_nested(const struct nlattr *nest, const struct nlattr *attrs[], size_t count)
{
    memset(attrs, 0, count * sizeof *attrs);
    (void)mnl_attr_parse_nested(nest, take_attribute, &(struct wanted){attrs, count});
}

/* The kernel's own sentence (NETLINK_EXT_ACK), or NULL. With NETLINK_CAP_ACK the request is not repeated in between. */
static const char *
kernel_words(const struct nlmsghdr *message)
{
    const struct nlattr *attrs[NLMSGERR_ATTR_MSG + 1];
    if (!(message->nlmsg_flags & NLM_F_ACK_TLVS) || !(message->nlmsg_flags & NLM_F_CAPPED))
        return NULL;
    netlink_attributes(message, sizeof(struct nlmsgerr), attrs, NLMSGERR_ATTR_MSG + 1);
    return attrs[NLMSGERR_ATTR_MSG] ? mnl_attr_get_str(attrs[NLMSGERR_ATTR_MSG]) : NULL;
}

static int
failed(const char *what, const struct nlmsghdr *message, int errnum, struct error *err)
{
    const char *words = kernel_words(message);
    if (words)
        return error_errno(err, errnum, "%s (%s)", what, words);
    return error_errno(err, errnum, "%s", what);
}

static uint32_t
answers_due(const struct netlink_batch *batch)
{
    uint32_t due = 0;
    for (uint32_t i = 0; i < batch->count; i++)
        due += !batch->messages[i].unanswered;
    return due;
}

/* One NLMSG_ERROR: whether it counts as the answer to a message, and its failure, unless an earlier message of the batch failed already. */
static void
take_answer(const struct netlink_batch *batch, const struct nlmsghdr *message, uint32_t *due, uint32_t *first_failed, struct error *err)
{
    uint32_t at = message->nlmsg_seq - batch->base;
    if (message->nlmsg_type != NLMSG_ERROR || at >= batch->count)
        return;
    int errnum = -((const struct nlmsgerr *)mnl_nlmsg_get_payload(message))->error;
    /* An answer to the frame of a transaction means that it failed as a whole: nothing else may follow. */
    *due -= batch->messages[at].unanswered ? *due : 1;
    if (errnum == 0 || errnum == batch->messages[at].tolerated || at >= *first_failed)
        return;
    *first_failed = at;
    (void)failed(batch->messages[at].what, message, errnum, err);
}

int
netlink_run(int fd, struct netlink_batch *batch, struct error *err)
{
    if (batch->count == 0)
        return 0;
    TRY(send_batch(fd, batch, err));
    _Alignas(8) unsigned char buffer[ANSWER_BYTES];
    uint32_t first_failed = UINT32_MAX;
    for (uint32_t due = answers_due(batch); due;) {
        ssize_t n = TRY(receive(fd, buffer, batch->messages[0].what, err));
        int left = (int)n;
        for (const struct nlmsghdr *m = (void *)buffer; due && mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left))
            take_answer(batch, m, &due, &first_failed, err);
    }
    return first_failed == UINT32_MAX ? 0 : -1;
}

int
netlink_query(int fd, struct netlink_batch *batch, void (*each)(const struct nlmsghdr *, void *), void *data, struct error *err)
{
    const char *what = batch->messages[0].what;
    TRY(send_batch(fd, batch, err));
    cleanup_free unsigned char *buffer = mem_alloc(ANSWER_BYTES);
    for (;;) {
        ssize_t n = TRY(receive(fd, buffer, what, err));
        int left = (int)n;
        for (const struct nlmsghdr *m = (void *)buffer; mnl_nlmsg_ok(m, left); m = mnl_nlmsg_next(m, &left)) {
            if (m->nlmsg_seq != batch->base)
                continue;
            int errnum = m->nlmsg_type == NLMSG_ERROR ? -((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error : 0;
            if (errnum)
                return failed(what, m, errnum, err);
            if (m->nlmsg_type == NLMSG_ERROR || m->nlmsg_type == NLMSG_DONE)
                return 0;
            each(m, data);
        }
    }
}
