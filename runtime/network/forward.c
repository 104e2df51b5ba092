#include "runtime/network/forward.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/network/netlink.h"

enum { WORDS_BYTES = 1024, LEGACY_TABLE_BYTES = 16 << 20 };

static void
add_words(struct buf *found, const char *chain, const char *kind, const char *family, const char *table)
{
    (void)buf_addf(found, "%schain %s of %s table %s%s%s", found->length ? ", " : "", chain, kind, family, *family ? " " : "", table);
}

static const char *
family_name(uint8_t family)
{
    return family == NFPROTO_IPV4 ? "ip" : family == NFPROTO_IPV6 ? "ip6" : family == NFPROTO_INET ? "inet" : NULL;
}

static void
read_chain(const struct nlmsghdr *message, void *data)
{
    const struct nlattr *chain[NFTA_CHAIN_POLICY + 1], *hook[NFTA_HOOK_HOOKNUM + 1];
    const char *family = family_name(NETLINK_HEADER(message, struct nfgenmsg)->nfgen_family);
    netlink_attributes(message, sizeof(struct nfgenmsg), chain, NFTA_CHAIN_POLICY + 1);
    if (!family || !chain[NFTA_CHAIN_HOOK] || !chain[NFTA_CHAIN_POLICY] || !chain[NFTA_CHAIN_TABLE] || !chain[NFTA_CHAIN_NAME])
        return;
    netlink_nested(chain[NFTA_CHAIN_HOOK], hook, NFTA_HOOK_HOOKNUM + 1);
    if (hook[NFTA_HOOK_HOOKNUM] && ntohl(mnl_attr_get_u32(hook[NFTA_HOOK_HOOKNUM])) == NF_INET_FORWARD &&
        ntohl(mnl_attr_get_u32(chain[NFTA_CHAIN_POLICY])) == NF_DROP)
        add_words(data, mnl_attr_get_str(chain[NFTA_CHAIN_NAME]), "nftables", family, mnl_attr_get_str(chain[NFTA_CHAIN_TABLE]));
}

static void
find_nftables(int fd, struct buf *found)
{
    struct netlink_batch batch;
    netlink_begin(&batch);
    struct nlmsghdr *m = netlink_add(&batch, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETCHAIN, NLM_F_DUMP, sizeof(struct nfgenmsg), "list the chains");
    NETLINK_HEADER(m, struct nfgenmsg)->version = NFNETLINK_V0;
    if (fd >= 0)
        (void)netlink_query(fd, &batch, read_chain, found, NULL);
}

/* The old tables are read by getsockopt(2). Those of IPv6 (ip6_tables.h, which cannot be included beside ip_tables.h) differ only in the size of an
 * entry's match on addresses, and so in where its target's offset stands. */
static const struct legacy {
    const char *names; /* the tables in use; reading it loads no module */
    int family, level;
    size_t target_offset; /* of uint16_t target_offset in an entry */
    const char *name;
} legacy[] = {
    {"/proc/net/ip_tables_names", AF_INET, IPPROTO_IP, offsetof(struct ipt_entry, target_offset), "iptables-legacy"},
    {"/proc/net/ip6_tables_names", AF_INET6, IPPROTO_IPV6, 140, "ip6tables-legacy"},
};

static bool
has_filter_table(const char *names)
{
    cleanup_free char *text = NULL;
    return file_read(AT_FDCWD, names, 4096, &text, NULL, NULL) == 0 && strstr(text, "filter\n");
}

/* The policy is the verdict of the last entry of the chain, where its underflow points. */
static bool
legacy_drops(const struct legacy *l)
{
    cleanup_close int fd = socket(l->family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    struct ipt_getinfo info = {.name = "filter"};
    socklen_t size = sizeof info;
    if (fd < 0 || getsockopt(fd, l->level, IPT_SO_GET_INFO, &info, &size) < 0 || info.size > LEGACY_TABLE_BYTES)
        return false;
    size_t total = sizeof(struct ipt_get_entries) + info.size;
    cleanup_free struct ipt_get_entries *entries = mem_zalloc(1, total);
    memcpy(entries->name, info.name, sizeof entries->name);
    entries->size = info.size;
    size = (socklen_t)total;
    if (getsockopt(fd, l->level, IPT_SO_GET_ENTRIES, entries, &size) < 0)
        return false;
    const unsigned char *blob = (const unsigned char *)entries->entrytable;
    size_t at = info.underflow[NF_INET_FORWARD];
    uint16_t target;
    struct xt_standard_target verdict;
    if (at + l->target_offset + sizeof target > info.size)
        return false;
    memcpy(&target, blob + at + l->target_offset, sizeof target);
    if (at + target + sizeof verdict > info.size)
        return false;
    memcpy(&verdict, blob + at + target, sizeof verdict);
    return verdict.verdict == -NF_DROP - 1;
}

char *
forward_foreign_drops(int netfilter)
{
    cleanup_buf struct buf found = BUF(WORDS_BYTES);
    find_nftables(netfilter, &found);
    for (size_t i = 0; i < sizeof legacy / sizeof *legacy; i++)
        if (has_filter_table(legacy[i].names) && legacy_drops(&legacy[i]))
            add_words(&found, "FORWARD", legacy[i].name, "", "filter");
    return steal(found.data);
}
