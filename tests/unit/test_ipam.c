/* Addresses of the built-in network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/network/ipam.h"

static struct ipam
opened(const char *pools)
{
    struct ipam ipam;
    struct error err = {0};
    cleanup_strv struct strv list = {0};
    strv_split(&list, pools, ' ', true);
    if (ipam_open(&list, &ipam, &err) < 0)
        fail_msg("%s", err.message);
    return ipam;
}

static const char *
refused(const char *pools)
{
    static struct error err;
    struct ipam ipam;
    cleanup_strv struct strv list = {0};
    strv_split(&list, pools, ' ', true);
    assert_int_equal(ipam_open(&list, &ipam, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    return err.message;
}

static void
assert_taken(struct ipam *ipam, const char *wanted, const char *first, const char *second)
{
    char text[IP_TEXT_SIZE];
    struct ipam_lease lease;
    struct error err = {0};
    if (ipam_take(ipam, wanted, &lease, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(ip_format(&lease.ips[0], text), first);
    if (second)
        assert_string_equal(ip_format(&lease.ips[1], text), second);
    assert_int_equal(lease.count, second ? 2 : 1);
}

static void
give_back(struct ipam *ipam, const char *text)
{
    struct ipam_lease lease = {.count = 1};
    assert_int_equal(ip_parse(text, &lease.ips[0], NULL), 0);
    ipam_give_back(ipam, &lease);
}

static void
a_pod_gets_the_same_place_in_both_pools(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.88.0.0/16 fd00:88::/64");
    assert_taken(&ipam, "", "10.88.0.2", "fd00:88::2");
    assert_taken(&ipam, NULL, "10.88.0.3", "fd00:88::3");
    struct ip gateway = ipam_gateway(&ipam, 1);
    char text[IP_TEXT_SIZE];
    assert_string_equal(ip_format(&gateway, text), "fd00:88::1");
    ipam_close(&ipam);
}

static void
an_address_given_back_is_the_last_to_be_given_again(void **state)
{
    (void)state;
    struct ipam ipam = opened("192.168.5.0/29");
    assert_taken(&ipam, "", "192.168.5.2", NULL);
    assert_taken(&ipam, "", "192.168.5.3", NULL);
    give_back(&ipam, "192.168.5.2");
    assert_taken(&ipam, "", "192.168.5.4", NULL);
    assert_taken(&ipam, "", "192.168.5.5", NULL);
    assert_taken(&ipam, "", "192.168.5.6", NULL);
    assert_taken(&ipam, "", "192.168.5.2", NULL);
    ipam_close(&ipam);
}

static void
a_full_pool_says_so_and_never_gives_network_bridge_or_broadcast(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.0.0.8/30");
    struct ipam_lease lease;
    struct error err;
    assert_taken(&ipam, "", "10.0.0.10", NULL);
    assert_int_equal(ipam_take(&ipam, "", &lease, &err), -1);
    assert_int_equal(err.kind, ERR_EXHAUSTED);
    give_back(&ipam, "10.0.0.10");
    assert_taken(&ipam, "", "10.0.0.10", NULL);
    ipam_close(&ipam);
}

static void
the_smaller_pool_is_the_limit(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.88.0.0/16 fd00::/126");
    struct ipam_lease lease;
    struct error err;
    assert_taken(&ipam, "", "10.88.0.2", "fd00::2");
    assert_taken(&ipam, "", "10.88.0.3", "fd00::3");
    assert_int_equal(ipam_take(&ipam, "", &lease, &err), -1);
    ipam_close(&ipam);
}

static void
an_address_may_be_asked_for_when_it_is_free_and_a_pods(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.88.0.0/16 fd00:88::/64");
    struct ipam_lease lease;
    struct error err;
    assert_taken(&ipam, "10.88.3.4", "10.88.3.4", "fd00:88::304");
    assert_taken(&ipam, "fd00:88::9", "10.88.0.9", "fd00:88::9");
    static const struct {
        const char *wanted;
        enum error_kind kind;
    } bad[] = {
        {"10.88.3.4", ERR_EXISTS},     {"10.88.0.0", ERR_INVALID},    {"10.88.0.1", ERR_INVALID}, {"10.88.255.255", ERR_INVALID},
        {"10.89.0.5", ERR_INVALID},    {"10.88.0", ERR_INVALID},      {"x", ERR_INVALID},         {"fd00:88::1:0:0", ERR_INVALID},
        {"fd00:88::1:2", ERR_INVALID}, {"10.88.0.5/16", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ipam_take(&ipam, bad[i].wanted, &lease, &err), -1);
        assert_int_equal(err.kind, bad[i].kind);
    }
    ipam_close(&ipam);
}

static void
leases_of_pools_that_are_gone_are_remembered(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.88.0.0/16");
    struct ipam_lease old = {.count = 2};
    assert_int_equal(ip_parse("10.88.0.2", &old.ips[0], NULL), 0);
    assert_int_equal(ip_parse("fd99::2", &old.ips[1], NULL), 0);
    ipam_remember(&ipam, &old);
    assert_taken(&ipam, "", "10.88.0.3", NULL);
    ipam_give_back(&ipam, &old);
    ipam_give_back(&ipam, &old);
    assert_int_equal(ipam.used_count, 1);
    ipam_close(&ipam);
}

static void
pools_that_cannot_be_are_refused_in_words(void **state)
{
    (void)state;
    assert_non_null(strstr(refused(""), "no address pool"));
    assert_non_null(strstr(refused("10.88.0.0"), "ADDRESS/PREFIX"));
    assert_non_null(strstr(refused("10.88.0.5/16"), "beyond its prefix"));
    assert_non_null(strstr(refused("10.88.0.0/33"), "prefix"));
    assert_non_null(strstr(refused("10.0.0.0/31"), "room"));
    assert_non_null(strstr(refused("fd00::/127"), "room"));
    assert_non_null(strstr(refused("0.0.0.0/0"), "room"));
    assert_non_null(strstr(refused("10.1.0.0/16 10.2.0.0/16"), "family"));
    assert_non_null(strstr(refused("10.1.0.0/-1"), "prefix"));
    assert_non_null(strstr(refused("pods/16"), "no IP address"));
}

static void
a_cursor_from_another_pool_begins_anew(void **state)
{
    (void)state;
    struct ipam ipam = opened("10.0.0.0/29");
    ipam.cursor = 50000;
    assert_taken(&ipam, "", "10.0.0.2", NULL);
    ipam.cursor = 0;
    assert_taken(&ipam, "", "10.0.0.3", NULL);
    ipam_close(&ipam);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_gets_the_same_place_in_both_pools),
        cmocka_unit_test(an_address_given_back_is_the_last_to_be_given_again),
        cmocka_unit_test(a_full_pool_says_so_and_never_gives_network_bridge_or_broadcast),
        cmocka_unit_test(the_smaller_pool_is_the_limit),
        cmocka_unit_test(an_address_may_be_asked_for_when_it_is_free_and_a_pods),
        cmocka_unit_test(leases_of_pools_that_are_gone_are_remembered),
        cmocka_unit_test(pools_that_cannot_be_are_refused_in_words),
        cmocka_unit_test(a_cursor_from_another_pool_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
