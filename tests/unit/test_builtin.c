/* The built-in network, for real: in a host, pods and an outside of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "network_pod.h"

static bool have_world;
static struct network *network;
static char root[128];

#define NEED_WORLD()     \
    do {                 \
        (void)state;     \
        if (!have_world) \
            skip();      \
    } while (0)

static void
open_network(const char *pools)
{
    struct error err = {0};
    struct network_options options = {.mode = NETWORK_BUILTIN,
                                      .root = root,
                                      .state = root,
                                      .cni_config_dir = "/nonexistent",
                                      .cni_timeout_ns = NS_PER_SECOND,
                                      .builtin_bridge = "crisp9"};
    strv_split(&options.builtin_pools, pools, ' ', true);
    if (network_open(&options, &network, &err) < 0)
        fail_msg("%s", err.message);
    strv_free(&options.builtin_pools);
}

static void
reopen_network(void)
{
    network_close(network);
    open_network("10.88.0.0/16 fd00:88::/64");
}

static int
begin(void **state)
{
    (void)state;
    if (!have_world)
        return 0;
    (void)snprintf(root, sizeof root, "%s/network", world_dir());
    open_network("10.88.0.0/16 fd00:88::/64");
    return 0;
}

static int
end(void **state)
{
    (void)state;
    if (!have_world)
        return 0;
    world_silence();
    network_close(network);
    world_run("rm -rf %s/network %s/pod-*", world_dir(), world_dir());
    (void)world_try("ip link del crisp9; nft delete table inet crisp 2>/dev/null");
    for (char name[] = "p1"; name[1] < '6'; name[1]++)
        (void)world_try("ip netns del %s 2>/dev/null", name);
    return 0;
}

static void
attach(struct test_pod *pod)
{
    struct error err = {0};
    if (network_attach(network, &pod->request, &pod->result, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void
detach(struct test_pod *pod)
{
    struct error err = {0};
    if (network_detach(network, &pod->request, &err) < 0)
        fail_msg("%s", err.message);
}

static const char *
attach_refused(struct test_pod *pod, enum error_kind kind)
{
    static struct error err;
    struct network_result none;
    assert_int_equal(network_attach(network, &pod->request, &none, NULL, &err), -1);
    assert_int_equal(none.ips.count, 0);
    if (err.kind != kind)
        fail_msg("%s: %s", error_kind_name(err.kind), err.message);
    return err.message;
}

static void
ports(struct test_pod *pod, const struct network_port *list, size_t count)
{
    pod->request.ports = list;
    pod->request.port_count = count;
}

static char *
output_of(const char *command)
{
    cleanup_free char *file = str_printf("%s/output", world_dir());
    (void)world_try("%s > %s 2>&1", command, file);
    return world_read(file);
}

static bool
says(const char *command, const char *text)
{
    cleanup_free char *output = output_of(command);
    return strstr(output, text);
}

static bool
has_interface(const struct test_pod *pod)
{
    char name[16];
    (void)snprintf(name, sizeof name, "cr%.13s", pod->id);
    return says("ip link", name);
}

/* Duplicate address detection of link-local addresses, ARP and so on: a first packet may be lost. */
static const char *
ask(const char *netns, const char *protocol, const char *address, uint16_t port)
{
    const char *answer = world_ask(netns, protocol, address, port, 0);
    return strcmp(answer, "none") == 0 ? world_ask(netns, protocol, address, port, 0) : answer;
}

static void
pods_reach_each_other_and_the_outside(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    attach(&a);
    attach(&b);
    assert_string_equal(a.result.ips.items[0], "10.88.0.2");
    assert_string_equal(a.result.ips.items[1], "fd00:88::2");
    world_serve("p2", 80, 53, "two");
    world_serve("out", 80, 53, "out");
    assert_string_equal(ask("p1", "tcp", "10.88.0.3", 80), "two 10.88.0.2");
    assert_string_equal(ask("p1", "tcp", "fd00:88::3", 80), "two fd00:88::2");
    /* masqueraded: the outside knows no way to 10.88.0.0/16 */
    assert_string_equal(ask("p1", "tcp", "10.77.0.1", 80), "out 10.77.0.2");
    assert_string_equal(ask("p1", "udp", "10.77.0.1", 53), "out 10.77.0.2");
    assert_string_equal(ask("p1", "tcp", "fd77::1", 80), "out fd77::2");
    assert_true(says("ip -n p1 link show eth0", "mtu 1400"));
    assert_true(says("ip netns exec p1 cat /proc/sys/net/ipv6/conf/eth0/accept_ra", "0"));
    assert_true(says("ip -d link show master crisp9", "hairpin on"));
    detach(&a);
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
host_ports_are_reached_from_everywhere(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    const struct network_port list[] = {{NETWORK_TCP, 80, 8080, ""}, {NETWORK_UDP, 53, 8053, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, list, 2);
    attach(&a);
    attach(&b);
    world_serve("p1", 80, 53, "one");
    assert_string_equal(ask("out", "tcp", "10.77.0.2", 8080), "one 10.77.0.1");
    assert_string_equal(ask("out", "udp", "10.77.0.2", 8053), "one 10.77.0.1");
    assert_string_equal(ask("out", "tcp", "fd77::2", 8080), "one fd77::1");
    assert_string_equal(ask("out", "udp", "fd77::2", 8053), "one fd77::1");
    assert_string_equal(ask(NULL, "tcp", "127.0.0.1", 8080), "one 10.88.0.1");
    assert_string_equal(ask(NULL, "udp", "127.0.0.1", 8053), "one 10.88.0.1");
    assert_string_equal(ask(NULL, "tcp", "10.77.0.2", 8080), "one 10.77.0.2");
    assert_string_equal(ask(NULL, "tcp", "fd77::2", 8080), "one fd77::2");
    /* the other pod and the pod itself, answered through the host */
    assert_string_equal(ask("p2", "tcp", "10.77.0.2", 8080), "one 10.88.0.1");
    assert_string_equal(ask("p1", "tcp", "10.77.0.2", 8080), "one 10.88.0.1");
    assert_string_equal(ask("p1", "udp", "fd77::2", 8053), "one fd00:88::1");
    detach(&a);
    assert_string_equal(world_ask("out", "tcp", "10.77.0.2", 8080, 0), "none");
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
a_host_port_may_be_on_one_address(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    const struct network_port mine[] = {
        {NETWORK_TCP, 80, 8080, "127.0.0.1"}, {NETWORK_SCTP, 81, 8081, "10.77.0.2"}, {NETWORK_TCP, 80, 8082, "fd77::2"}};
    const struct network_port all[] = {{NETWORK_TCP, 80, 8080, "0.0.0.0"}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, mine, 3);
    ports(&b, all, 1);
    attach(&a);
    attach(&b);
    world_serve("p1", 80, 53, "one");
    world_serve("p2", 80, 53, "two");
    assert_string_equal(ask(NULL, "tcp", "127.0.0.1", 8080), "one 10.88.0.1");
    assert_string_equal(ask("out", "tcp", "10.77.0.2", 8080), "two 10.77.0.1");
    assert_string_equal(ask("out", "tcp", "fd77::2", 8082), "one fd77::1");
    assert_string_equal(world_ask("out", "tcp", "fd77::2", 8080, 0), "none"); /* 0.0.0.0 is IPv4's */
    assert_true(says("nft list map inet crisp address_ports4", "10.77.0.2 . sctp . 8081"));
    detach(&a);
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
a_port_that_is_taken_is_refused_and_nothing_stays(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    const struct network_port twice[] = {{NETWORK_TCP, 80, 8090, ""}, {NETWORK_TCP, 81, 8090, ""}};
    const struct network_port bad[] = {{NETWORK_TCP, 80, 8091, "localhost"}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, one, 1);
    ports(&b, one, 1);
    attach(&a);
    assert_non_null(strstr(attach_refused(&b, ERR_EXISTS), "host port 8080/tcp is taken by pod "));
    ports(&b, twice, 2);
    assert_non_null(strstr(attach_refused(&b, ERR_INVALID), "asked for twice"));
    ports(&b, bad, 1);
    assert_non_null(strstr(attach_refused(&b, ERR_INVALID), "\"localhost\" is no IP address"));
    assert_non_null(strstr(attach_refused(&a, ERR_EXISTS), "attached"));
    assert_false(has_interface(&b));
    assert_true(world_try("test ! -e %s/network.json", b.dir));
    cleanup_free char *info = network_info_json(network);
    assert_non_null(strstr(info, "\"attachments\":1"));
    detach(&a);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
what_fails_in_the_pod_is_undone(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    ports(&a, one, 1);
    world_run("ip -n p1 link add eth0 type bridge");
    assert_non_null(strstr(attach_refused(&a, ERR_EXISTS), "interface eth0 of the pod: make the veth pair"));
    assert_false(has_interface(&a));
    assert_false(says("nft list map inet crisp ports4", "8080"));
    assert_true(world_try("test $(find %s/attachments %s -type f | wc -l) = 0", root, a.dir));
    a.request.netns_path = "/run/netns/none";
    assert_non_null(strstr(attach_refused(&a, ERR_NOT_FOUND), "/run/netns/none"));
    a.request.netns_path = "/proc/self/ns/uts";
    assert_non_null(strstr(attach_refused(&a, ERR_INVALID), "enter the pod's network namespace"));
    detach(&a); /* of what never was */
    test_pod_end(&a);
}

static void
a_restarted_crispd_knows_addresses_and_ports(void **state)
{
    NEED_WORLD();
    struct test_pod a, b, c;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, one, 1);
    attach(&a);
    world_serve("p1", 80, 53, "one");
    reopen_network();
    assert_string_equal(ask("out", "tcp", "10.77.0.2", 8080), "one 10.77.0.1");
    attach(&b);
    assert_string_equal(b.result.ips.items[0], "10.88.0.3");
    detach(&a);
    reopen_network();
    assert_false(says("nft list map inet crisp ports4", "8080"));
    test_pod_make(&c, 'c', (world_add("p3"), "p3"));
    attach(&c); /* round robin, over the restart too */
    assert_string_equal(c.result.ips.items[0], "10.88.0.4");
    detach(&c);
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
    test_pod_end(&c);
}

static void
attachments_of_pods_that_are_gone_are_collected(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, one, 1);
    attach(&a);
    attach(&b);
    world_run("rm -r %s", a.dir);
    reopen_network();
    struct strv ids = {0};
    strv_add(&ids, b.id);
    network_collect(network, &ids);
    strv_free(&ids);
    assert_false(says("nft list map inet crisp ports4", "8080"));
    assert_true(world_try("test ! -e %s/attachments/%s.json -a -e %s/attachments/%s.json", root, a.id, root, b.id));
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
a_torn_record_is_set_aside_and_the_other_one_serves(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    ports(&a, one, 1);
    attach(&a);
    network_close(network);
    world_run("f=%s/attachments/%s.json; rm $f; echo '{\"kind\":\"buil' > $f; echo '{}' > %s/attachments/%064d.json", root, a.id, root, 7);
    open_network("10.88.0.0/16 fd00:88::/64");
    assert_true(world_try("test -e %s/attachments/%s.json.damaged", root, a.id));
    detach(&a); /* by the pod's own copy */
    assert_false(says("nft list map inet crisp ports4", "8080"));
    assert_true(world_try("test ! -e %s/network.json", a.dir));
    test_pod_end(&a);
}

static void
a_flushed_firewall_is_repaired(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    ports(&a, one, 1);
    attach(&a);
    world_run("nft flush ruleset");
    for (int tenths = 0; tenths < 130 && !says("nft list map inet crisp ports4", "8080"); tenths++)
        (void)usleep(100000);
    assert_true(says("nft list map inet crisp ports4", "tcp . 8080 : 10.88.0.2 . 80"));
    world_run("nft flush ruleset");
    detach(&a); /* its elements are gone already */
    test_pod_end(&a);
}

static void
a_udp_client_that_goes_on_sending_finds_the_next_pod(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    const struct network_port one[] = {{NETWORK_UDP, 53, 8053, ""}};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    ports(&a, one, 1);
    ports(&b, one, 1);
    world_serve("p1", 80, 53, "one");
    world_serve("p2", 80, 53, "two");
    assert_string_equal(world_ask("out", "udp", "10.77.0.2", 8053, 5555), "none"); /* before there is a pod: the host remembers the flow */
    attach(&a);
    (void)usleep(200000);
    assert_string_equal(world_ask("out", "udp", "10.77.0.2", 8053, 5555), "one 10.77.0.1");
    detach(&a);
    attach(&b);
    (void)usleep(200000);
    assert_string_equal(world_ask("out", "udp", "10.77.0.2", 8053, 5555), "two 10.77.0.1");
    detach(&b);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
a_pod_cannot_reach_the_hosts_loopback(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    attach(&a);
    world_serve(NULL, 9999, 9999, "secret");
    world_run("ip netns exec p1 sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1");
    world_run("ip -n p1 addr del 127.0.0.1/8 dev lo; ip -n p1 route add 127.0.0.0/8 via 10.88.0.1 src 10.88.0.2");
    assert_string_equal(world_ask("p1", "tcp", "127.0.0.1", 9999, 0), "none");
    world_run("nft flush chain inet crisp loopback"); /* without the wall it could */
    assert_string_equal(ask("p1", "tcp", "127.0.0.1", 9999), "secret 10.88.0.2");
    detach(&a);
    test_pod_end(&a);
}

static void
address_and_hardware_address_may_be_asked_for(void **state)
{
    NEED_WORLD();
    struct test_pod a, b;
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    a.request.ip = "10.88.7.7";
    a.request.mac = "02:00:00:00:00:07";
    attach(&a);
    assert_string_equal(a.result.ips.items[1], "fd00:88::707");
    assert_true(says("ip -n p1 link show eth0", "02:00:00:00:00:07"));
    b.request.ip = "10.88.7.7";
    (void)attach_refused(&b, ERR_EXISTS);
    b.request.ip = "";
    b.request.mac = "03:00:00:00:00:07";
    (void)attach_refused(&b, ERR_INVALID);
    b.request.mac = "02:00:00:00:00";
    (void)attach_refused(&b, ERR_INVALID);
    detach(&a);
    test_pod_end(&a);
    test_pod_end(&b);
}

static void
a_pod_without_ipv6_gets_ipv4(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    world_run("ip netns exec p1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    attach(&a);
    assert_int_equal(a.result.ips.count, 1);
    assert_string_equal(a.result.ips.items[0], "10.88.0.2");
    detach(&a);
    test_pod_end(&a);
}

static void
an_interface_that_is_no_bridge_makes_it_not_ready(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    char reason[256];
    network_close(network);
    world_run("ip link del crisp9; ip link add crisp9 type veth");
    open_network("10.88.0.0/16");
    assert_false(network_ready(network, reason));
    assert_non_null(strstr(reason, "crisp9 is there and is no bridge"));
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    assert_non_null(strstr(attach_refused(&a, ERR_UNAVAILABLE), "no bridge"));
    world_run("ip link del crisp9");
    for (int tenths = 0; tenths < 130 && !network_ready(network, reason); tenths++)
        (void)usleep(100000);
    assert_true(network_ready(network, reason));
    attach(&a);
    detach(&a);
    test_pod_end(&a);
}

static void
hundreds_of_ports_go_in_and_out_whole(void **state)
{
    NEED_WORLD();
    enum { COUNT = 300 };
    struct test_pod a;
    struct network_port list[COUNT];
    for (uint16_t i = 0; i < COUNT; i++)
        list[i] = (struct network_port){NETWORK_UDP, (uint16_t)(1000 + i), (uint16_t)(20000 + i), ""};
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    ports(&a, list, COUNT);
    attach(&a);
    assert_true(says("nft list map inet crisp ports6", "udp . 20299"));
    assert_true(says("nft list map inet crisp ports4", "udp . 20000"));
    detach(&a);
    assert_false(says("nft list table inet crisp", "udp . 20"));
    list[COUNT - 1].host_port = 20000;
    (void)attach_refused(&a, ERR_INVALID);
    test_pod_end(&a);
}

static void
nothing_leaks(void **state)
{
    NEED_WORLD();
    struct test_pod a;
    const struct network_port one[] = {{NETWORK_TCP, 80, 8080, ""}, {NETWORK_UDP, 80, 8080, ""}};
    int before = 0;
    for (int round = 0; round < 20; round++) {
        (void)world_add("p1");
        test_pod_make(&a, 'a', "p1");
        ports(&a, one, 2);
        attach(&a);
        detach(&a);
        test_pod_end(&a);
        world_remove("p1");
        if (round == 4) {
            (void)usleep(600000); /* what the threads still hold */
            before = world_fd_count();
        }
    }
    (void)usleep(600000);
    assert_int_equal(world_fd_count(), before);
    for (int tenths = 0; tenths < 50 && says("ip link show master crisp9", "cr"); tenths++)
        (void)usleep(100000);
    assert_false(says("ip link show master crisp9", "cr")); /* the kernel took them with the namespaces */
}

int
main(void)
{
    have_world = world_open();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pods_reach_each_other_and_the_outside, begin, end),
        cmocka_unit_test_setup_teardown(host_ports_are_reached_from_everywhere, begin, end),
        cmocka_unit_test_setup_teardown(a_host_port_may_be_on_one_address, begin, end),
        cmocka_unit_test_setup_teardown(a_port_that_is_taken_is_refused_and_nothing_stays, begin, end),
        cmocka_unit_test_setup_teardown(what_fails_in_the_pod_is_undone, begin, end),
        cmocka_unit_test_setup_teardown(a_restarted_crispd_knows_addresses_and_ports, begin, end),
        cmocka_unit_test_setup_teardown(attachments_of_pods_that_are_gone_are_collected, begin, end),
        cmocka_unit_test_setup_teardown(a_torn_record_is_set_aside_and_the_other_one_serves, begin, end),
        cmocka_unit_test_setup_teardown(a_flushed_firewall_is_repaired, begin, end),
        cmocka_unit_test_setup_teardown(a_udp_client_that_goes_on_sending_finds_the_next_pod, begin, end),
        cmocka_unit_test_setup_teardown(a_pod_cannot_reach_the_hosts_loopback, begin, end),
        cmocka_unit_test_setup_teardown(address_and_hardware_address_may_be_asked_for, begin, end),
        cmocka_unit_test_setup_teardown(a_pod_without_ipv6_gets_ipv4, begin, end),
        cmocka_unit_test_setup_teardown(an_interface_that_is_no_bridge_makes_it_not_ready, begin, end),
        cmocka_unit_test_setup_teardown(hundreds_of_ports_go_in_and_out_whole, begin, end),
        cmocka_unit_test_setup_teardown(nothing_leaks, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
