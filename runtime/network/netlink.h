/* Netlink sockets: several requests are written at once and each is waited for by its acknowledgement. Attributes are put with libmnl's
 * mnl_attr_put_*.
 *
 * A socket belongs to one thread at a time. One of NETLINK_ROUTE is opened for a job and closed after it (5 µs); that of NETLINK_NETFILTER is kept,
 * since closing it waits until the kernel has freed what was removed from nftables (14 ms). Answers that an earlier job did not wait for are skipped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libmnl/libmnl.h>

#include "base/error.h"

enum {
    NETLINK_BATCH_BYTES = 16384,
    NETLINK_MESSAGE_BYTES = 512, /* the largest message that this folder builds is smaller */
    NETLINK_BATCH_MESSAGES = NETLINK_BATCH_BYTES / NETLINK_MESSAGE_BYTES,
};

struct netlink_batch {
    _Alignas(8) unsigned char data[NETLINK_BATCH_BYTES];
    struct nlmsghdr *last;
    uint32_t count; /* of messages; the i-th has sequence number base + i */
    uint32_t base;
    struct {
        const char *what; /* for the error's words; borrowed until netlink_run */
        int tolerated;    /* this errno is no error: EEXIST, ENOENT; 0: none */
        bool unanswered;
    } messages[NETLINK_BATCH_MESSAGES];
};

/* A socket in the thread's network namespace. NETLINK_ROUTE, NETLINK_NETFILTER. ERR_UNSUPPORTED where the kernel has no such protocol. */
int netlink_open(int protocol, struct error *err);

void netlink_begin(struct netlink_batch *batch);
/* Append a message with an extra header of `header_bytes` zero bytes (mnl_nlmsg_get_payload has it); it ends where the next begins. The flags get
 * NLM_F_REQUEST | NLM_F_ACK. At most NETLINK_BATCH_MESSAGES of NETLINK_MESSAGE_BYTES each: more is a fault of the caller. */
struct nlmsghdr *netlink_add(struct netlink_batch *batch, uint16_t type, uint16_t flags, size_t header_bytes, const char *what);
/* The last message's errno that is success. */
void netlink_tolerate(struct netlink_batch *batch, int errnum);
/* The last message is not acknowledged: the frame of an nfnetlink transaction. */
void netlink_unanswered(struct netlink_batch *batch);
bool netlink_full(const struct netlink_batch *batch, size_t messages_to_come);
/* Send all, wait for every answer; the first failure in the batch's order is the error, with the kernel's own words where it has some. */
int netlink_run(int fd, struct netlink_batch *batch, struct error *err);

/* Send the batch's only message and hand every answer to `each`, until the end (of a dump, NLM_F_DUMP, or of the one answer). */
int netlink_query(int fd, struct netlink_batch *batch, void (*each)(const struct nlmsghdr *, void *), void *data, struct error *err);

/* The extra header was written: the message's payload. */
#define NETLINK_HEADER(message, type) ((type *)mnl_nlmsg_get_payload(message))

/* Walk a message's attributes after an extra header: `attrs` gets the first of each type below `count`, NULL where absent. */
void netlink_attributes(const struct nlmsghdr *message, size_t header_bytes, const struct nlattr *attrs[], size_t count);
void netlink_nested(const struct nlattr *nest, const struct nlattr *attrs[], size_t count);
