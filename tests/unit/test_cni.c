/* CNI: plugins that are small shell scripts here, so that each test sees what they were given and decides what they answer. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "network_pod.h"
#include "runtime/network/cni_config.h"
#include "runtime/network/cni_result.h"

static bool have_world;
static struct network *network;
static char root[128], conf[128], bin[128], calls[128];
static int64_t timeout_ns;

#define NEED_WORLD()     \
    do {                 \
        (void)state;     \
        if (!have_world) \
            skip();      \
    } while (0)

/* A plugin that notes each call in calls/ (its stdin as N-NAME-COMMAND.json, its environment beside it) and then does `script`. */
static void
plugin(const char *name, const char *script)
{
    cleanup_free char *path = str_printf("%s/%s", bin, name);
    cleanup_free char *text =
        str_printf("#!/bin/sh\n"
                   "n=$(ls %s/*.json 2>/dev/null | wc -l)\n"
                   "call=%s/$n-%s-$CNI_COMMAND\n"
                   "cat > $call.json.part; env | sort > $call.env; ls -l /proc/$$/fd > $call.fds; mv $call.json.part $call.json\n"
                   "%s\n",
                   calls, calls, name, script);
    world_write(path, 0755, text);
}

#define RESULT(version, ips)                                     \
    "[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"" version \
    "\",\"interfaces\":[{\"name\":\"vethX\"},{\"name\":\"eth0\",\"sandbox\":\"/x\"}],\"ips\":[" ips "]}'; exit 0"
#define IP1 "{\"address\":\"10.1.0.5/24\",\"interface\":1},{\"address\":\"fd01::5/64\",\"interface\":1}"

static void
config(const char *name, const char *text)
{
    cleanup_free char *path = str_printf("%s/%s", conf, name);
    world_write(path, 0644, text);
}

static void
open_network(void)
{
    struct error err = {0};
    struct network_options options = {
        .mode = NETWORK_CNI, .root = root, .state = root, .cni_config_dir = conf, .cni_timeout_ns = timeout_ns, .builtin_bridge = "crisp9"};
    strv_add(&options.cni_plugin_dirs, "/nonexistent/cni");
    strv_add(&options.cni_plugin_dirs, bin);
    strv_add(&options.cni_plugin_dirs, "/usr/lib/cni");
    if (network_open(&options, &network, &err) < 0)
        fail_msg("%s", err.message);
    strv_free(&options.cni_plugin_dirs);
}

static int
begin(void **state)
{
    (void)state;
    if (!have_world)
        return 0;
    (void)snprintf(root, sizeof root, "%s/network", world_dir());
    (void)snprintf(conf, sizeof conf, "%s/net.d", world_dir());
    (void)snprintf(bin, sizeof bin, "%s/bin", world_dir());
    (void)snprintf(calls, sizeof calls, "%s/calls", world_dir());
    world_run("mkdir %s %s %s", conf, bin, calls);
    timeout_ns = 5 * NS_PER_SECOND;
    return 0;
}

static int
end(void **state)
{
    (void)state;
    if (!have_world)
        return 0;
    world_silence();
    if (network)
        network_close(network);
    network = NULL;
    world_run("rm -rf %s/network %s/pod-* %s %s %s", world_dir(), world_dir(), conf, bin, calls);
    (void)world_try("ip netns del p1 2>/dev/null; ip netns del p2 2>/dev/null");
    return 0;
}

static int
attach(struct test_pod *pod, struct error *err)
{
    *err = (struct error){0};
    return network_attach(network, &pod->request, &pod->result, NULL, err);
}

static void
must_attach(struct test_pod *pod)
{
    struct error err;
    if (attach(pod, &err) < 0)
        fail_msg("%s", err.message);
}

static void
must_detach(struct test_pod *pod)
{
    struct error err = {0};
    if (network_detach(network, &pod->request, &err) < 0)
        fail_msg("%s", err.message);
}

static const char *
attach_refused(struct test_pod *pod, enum error_kind kind)
{
    static struct error err;
    assert_int_equal(attach(pod, &err), -1);
    assert_int_equal(pod->result.ips.count, 0);
    if (err.kind != kind)
        fail_msg("%s: %s", error_kind_name(err.kind), err.message);
    return err.message;
}

/* What a call got on stdin. */
static json_t *
input(const char *call)
{
    cleanup_free char *path = str_printf("%s/%s.json", calls, call), *text = world_read(path);
    json_error_t bad;
    json_t *json = json_loads(text, 0, &bad);
    if (!json)
        fail_msg("%s: %s", call, bad.text);
    return json;
}

static bool
called(const char *call)
{
    cleanup_free char *path = str_printf("%s/%s.json", calls, call);
    return access(path, F_OK) == 0;
}

/* As after a start: GC, and CHECK of what the pod has. */
static void
collect_with(const char *pod_id)
{
    cleanup_strv struct strv ids = {0};
    strv_add(&ids, pod_id);
    network_collect(network, &ids);
}

static size_t
call_count(void)
{
    cleanup_free char *list = str_printf("%s/list", world_dir());
    world_run("ls %s | grep -c json$ > %s || true", calls, list);
    cleanup_free char *text = world_read(list);
    return (size_t)atoi(text);
}

static bool
was_given(const char *call, const char *variable)
{
    cleanup_free char *path = str_printf("%s/%s.env", calls, call), *text = world_read(path), *line = str_printf("%s\n", variable);
    return strstr(text, line);
}

static bool
has_record(const struct test_pod *pod)
{
    bool mine = world_try("test -e %s/network.json", pod->dir), ours = world_try("test -e %s/attachments/%s.json", root, pod->id);
    assert_int_equal(mine, ours);
    return mine;
}

static bool
ready_within(int tenths, bool wanted, char reason[256])
{
    while (network_ready(network, reason) != wanted && tenths-- > 0)
        (void)usleep(100000);
    return network_ready(network, reason) == wanted;
}

/* -- configurations -------------------------------------------------------------------------------------------------------------------------------
 */

static void
the_first_valid_configuration_wins(void **state)
{
    NEED_WORLD();
    struct error err;
    cleanup_strv struct strv skipped = {0};
    config("05-old.conf", "{\"cniVersion\":\"0.2.0\",\"name\":\"old\",\"type\":\"a\"}");
    config("06-none.conf", "{\"name\":\"none\",\"type\":\"a\"}");
    config("07-torn.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"to");
    config("08-path.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"path\",\"type\":\"../../bin/sh\"}");
    config("09-name.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"../x\",\"type\":\"a\"}");
    config("10-empty.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"empty\",\"plugins\":[]}");
    config("11-new.conf", "{\"cniVersion\":\"9.0.0\",\"name\":\"new\",\"type\":\"a\"}");
    config("12-list.json", "[]");
    config("13-other.yaml", "not even looked at");
    config("20-good.conf", "{\"cniVersion\":\"0.3.1\",\"name\":\"good\",\"type\":\"a\"}");
    config("30-late.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"late\",\"plugins\":[{\"type\":\"a\"}]}");
    struct cni_config *first = cni_config_load(conf, &skipped, &err);
    assert_non_null(first);
    assert_string_equal(first->name, "good");
    assert_int_equal(first->version_number, CNI_0_3_1);
    assert_string_equal(cni_config_plugin_type(first, 0), "a");
    cni_config_unref(first);
    static const char *const words[] = {"0.2.0 is not supported", "no cniVersion", "07-torn.conflist:1", "no file name", "no network's",
                                        "no list of 1",           "9.0.0",         "no JSON object"};
    assert_int_equal(skipped.count, sizeof words / sizeof *words);
    for (size_t i = 0; i < skipped.count; i++)
        assert_non_null(strstr(skipped.items[i], words[i]));
}

static void
the_newest_version_that_both_know_is_chosen(void **state)
{
    (void)state;
    struct error err;
    static const struct {
        const char *json, *version;
    } cases[] = {
        {"{\"cniVersion\":\"0.4.0\",\"cniVersions\":[\"0.3.1\",\"1.0.0\",\"1.1.0\",\"2.0.0\"],\"name\":\"n\",\"type\":\"a\"}", "1.1.0"},
        {"{\"cniVersion\":\"2.0.0\",\"cniVersions\":[\"0.4.0\"],\"name\":\"n\",\"type\":\"a\"}", "0.4.0"},
        {"{\"cniVersions\":[\"1.0.0\"],\"name\":\"n\",\"plugins\":[{\"type\":\"a\"}]}", "1.0.0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_json json_t *json = json_loads(cases[i].json, 0, NULL);
        struct cni_config *chosen = cni_config_from_json(json, "", &err);
        assert_non_null(chosen);
        assert_string_equal(chosen->version, cases[i].version);
        cni_config_unref(chosen);
    }
}

/* -- results --------------------------------------------------------------------------------------------------------------------------------------
 */

static char *
converted(const char *result, const char *to, struct error *err)
{
    cleanup_json json_t *json = json_loads(result, JSON_DECODE_ANY, NULL);
    cleanup_json json_t *after = cni_result_convert(json, to, err);
    return after ? json_dumps(after, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

static void
results_are_converted_between_versions(void **state)
{
    (void)state;
    struct error err;
    static const char old[] =
        "{\"cniVersion\":\"0.4.0\",\"ips\":[{\"address\":\"10.1.0.5/24\",\"version\":\"4\"},{\"address\":\"fd::5/64\",\"version\":\"6\"}]}";
    static const char new[] = "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.1.0.5/24\"},{\"address\":\"fd::5/64\"}]}";
    cleanup_free char *up = converted(old, "1.0.0", &err), *down = converted(new, "0.4.0", &err);
    assert_string_equal(up, new);
    assert_string_equal(down, old);
    cleanup_free char *trimmed =
        converted("{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"mtu\":9000,\"name\":\"eth0\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\",\"table\":5}]}",
                  "1.0.0", &err);
    assert_string_equal(trimmed, "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"eth0\"}],\"routes\":[{\"dst\":\"0.0.0.0/0\"}]}");
    cleanup_free char *kept = converted("{\"interfaces\":[{\"mtu\":9000}]}", "1.1.0", &err);
    assert_string_equal(kept, "{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"mtu\":9000}]}");
}

static void
results_that_lie_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]",
        "7",
        "{\"cniVersion\":\"0.2.0\"}",
        "{\"ip4\":{\"ip\":\"10.0.0.1/24\"}}",
        "{\"ips\":{}}",
        "{\"ips\":[7]}",
        "{\"ips\":[{}]}",
        "{\"ips\":[{\"address\":\"10.0.0.1\"}]}",
        "{\"ips\":[{\"address\":\"x/24\"}]}",
        "{\"interfaces\":[],\"ips\":[{\"address\":\"10.0.0.1/24\",\"interface\":0}]}",
        "{\"ips\":[{\"address\":7}]}",
        "{\"interfaces\":\"eth0\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error err = {0};
        cleanup_free char *after = converted(bad[i], "1.0.0", &err);
        if (after || !*err.message)
            fail_msg("%s was taken", bad[i]);
    }
}

static void
the_pods_addresses_are_those_in_its_sandbox(void **state)
{
    (void)state;
    cleanup_strv struct strv ips = {0};
    cleanup_json json_t *json = json_loads(
        "{\"interfaces\":[{\"name\":\"br\"},{\"name\":\"eth0\",\"sandbox\":\"/x\"}],\"ips\":[{\"address\":\"10.1.0.1/24\",\"interface\":0},"
        "{\"address\":\"fd01::5/64\",\"interface\":1},{\"address\":\"10.1.0.5/24\",\"interface\":1},{\"address\":\"10.2.0.5/24\"}]}",
        0, NULL);
    cni_result_ips(json, &ips);
    assert_int_equal(ips.count, 3);
    assert_string_equal(ips.items[0], "fd01::5");
    assert_string_equal(ips.items[1], "10.1.0.5");
    assert_string_equal(ips.items[2], "10.2.0.5");
}

/* -- calls ----------------------------------------------------------------------------------------------------------------------------------------
 */

#define LIST(version, more)                                                                                                                         \
    "{\"cniVersion\":\"" version "\",\"name\":\"pods\"" more                                                                                        \
    ",\"plugins\":[{\"type\":\"first\",\"mine\":7,\"capabilities\":{\"portMappings\":true,\"bandwidth\":false,\"dns\":true}},{\"type\":\"second\"," \
    "\"capabilities\":{\"bandwidth\":true,\"mac\":true,\"ips\":true,\"aliases\":true}}]}"

static void
a_chain_is_called_as_the_spec_says(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    const struct network_port port = {NETWORK_UDP, 53, 8053, "10.0.0.9"};
    plugin("first", RESULT("0.4.0", IP1));
    plugin("second", "[ $CNI_COMMAND = ADD ] && echo '{\"ips\":[{\"address\":\"10.1.0.5/24\"}]}'; exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    pod.request.ports = &port;
    pod.request.port_count = 1;
    pod.request.ingress_bits = 1000000;
    pod.request.mac = "02:00:00:00:00:01";
    pod.request.ip = "10.1.0.5/24";
    strv_add(&pod.request.dns_servers, "10.0.0.53");
    must_attach(&pod);
    strv_free(&pod.request.dns_servers);
    assert_int_equal(pod.result.ips.count, 1);
    assert_string_equal(pod.result.ips.items[0], "10.1.0.5");

    cleanup_free char *args =
        str_printf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=%s;K8S_POD_UID=uid-7", pod.id);
    cleanup_free char *id = str_printf("CNI_CONTAINERID=%s", pod.id), *path = str_printf("CNI_PATH=/nonexistent/cni:%s:/usr/lib/cni", bin);
    assert_true(was_given("0-first-ADD", args));
    assert_true(was_given("0-first-ADD", id));
    assert_true(was_given("0-first-ADD", path));
    assert_true(was_given("0-first-ADD", "CNI_NETNS=/run/netns/p1"));
    assert_true(was_given("0-first-ADD", "CNI_IFNAME=eth0"));

    cleanup_json json_t *one = input("0-first-ADD"), *two = input("1-second-ADD");
    cleanup_json json_t *expected_one = json_loads(
        "{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"type\":\"first\",\"mine\":7,\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":8053,"
        "\"containerPort\":53,\"protocol\":\"udp\",\"hostIP\":\"10.0.0.9\"}],\"dns\":{\"servers\":[\"10.0.0.53\"]}}}",
        0, NULL);
    cleanup_json json_t *expected_two =
        json_loads("{\"cniVersion\":\"1.0.0\",\"name\":\"pods\",\"type\":\"second\",\"runtimeConfig\":{\"bandwidth\":{\"ingressRate\":1000000,"
                   "\"ingressBurst\":4294967295},\"mac\":\"02:00:00:00:00:01\",\"ips\":[\"10.1.0.5/24\"]},\"prevResult\":{\"cniVersion\":\"1.0.0\","
                   "\"interfaces\":[{\"name\":\"vethX\"},{\"name\":\"eth0\",\"sandbox\":\"/x\"}],\"ips\":[" IP1 "]}}",
                   0, NULL);
    assert_true(json_equal(one, expected_one));
    assert_true(json_equal(two, expected_two));

    collect_with(pod.id);
    for (int i = 0; i < 300 && !called("3-second-CHECK"); i++)
        (void)usleep(10000);
    assert_true(called("2-first-CHECK") && called("3-second-CHECK"));
    must_detach(&pod);
    assert_true(called("4-second-DEL") && called("5-first-DEL"));
    cleanup_json json_t *deleted = input("5-first-DEL");
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(json_object_get(json_object_get(deleted, "prevResult"), "ips"), 0), "address")),
        "10.1.0.5/24");
    assert_true(json_equal(json_object_get(deleted, "runtimeConfig"), json_object_get(one, "runtimeConfig")));
    assert_false(has_record(&pod));
    must_detach(&pod);
    assert_int_equal(call_count(), 6);
    test_pod_end(&pod);
}

static void
old_versions_get_what_they_know(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", RESULT("0.3.0", "{\"version\":\"4\",\"address\":\"10.1.0.6/24\",\"interface\":-1}"));
    config("10.conflist", LIST("0.3.1", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    must_attach(&pod);
    assert_string_equal(pod.result.ips.items[0], "10.1.0.6");
    cleanup_json json_t *two = input("1-second-ADD");
    const json_t *ip = json_array_get(json_object_get(json_object_get(two, "prevResult"), "ips"), 1);
    assert_string_equal(json_string_value(json_object_get(ip, "version")), "6");
    collect_with(pod.id); /* 0.3 has no CHECK */
    (void)usleep(300000);
    must_detach(&pod);
    cleanup_json json_t *deleted = input("2-second-DEL");
    assert_null(json_object_get(deleted, "prevResult")); /* nor this at DEL */
    assert_int_equal(call_count(), 4);
    test_pod_end(&pod);
}

static void
a_failed_add_is_undone_and_its_words_are_kept(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", "[ $CNI_COMMAND = ADD ] || exit 0; echo '{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no free address\",\"details\":\"pool A "
                     "is full\"}'; exit 1");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    assert_string_equal(attach_refused(&pod, ERR_UNAVAILABLE), "CNI plugin second (network pods): ADD: no free address; pool A is full (code 11)");
    assert_true(called("2-second-DEL") && called("3-first-DEL"));
    assert_false(has_record(&pod));
    test_pod_end(&pod);
}

static void
failures_without_json_are_told_too(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    char reason[256];
    assert_false(network_ready(network, reason));
    assert_non_null(strstr(reason, "CNI plugin first is in none of /nonexistent/cni, "));
    assert_non_null(strstr(attach_refused(&pod, ERR_UNAVAILABLE), "CNI plugin first is in none of"));
    assert_false(has_record(&pod));
    static const struct {
        const char *script, *words;
        enum error_kind kind;
    } cases[] = {
        {"[ $CNI_COMMAND = ADD ] || exit 0; echo 'cannot open\nthe door' >&2; exit 3",
         "first (network pods): ADD: it exited with status 3: cannot open the door", ERR_INTERNAL},
        {"[ $CNI_COMMAND = ADD ] || exit 0; kill -SEGV $$", "it was ended by signal 11", ERR_INTERNAL},
        {"exit 0", "its result is no JSON: it wrote nothing", ERR_INVALID},
        {"echo hello", "its result is no JSON", ERR_INVALID},
        {"[ $CNI_COMMAND = ADD ] || exit 0; head -c 3000000 /dev/zero | tr '\\0' ' '; echo '{}'", "larger than 1048576 bytes", ERR_INVALID},
        {"[ $CNI_COMMAND = ADD ] || exit 0; echo '{\"ips\":[{\"address\":\"no\"}]}'", "first (network pods): ADD: \"no\" in its result", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plugin("first", cases[i].script);
        const char *words = attach_refused(&pod, cases[i].kind);
        if (!strstr(words, cases[i].words))
            fail_msg("%s", words);
        assert_false(has_record(&pod));
    }
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", "echo '{}'");
    assert_non_null(strstr(attach_refused(&pod, ERR_INTERNAL), "gave the pod no address"));
    test_pod_end(&pod);
}

static void
a_hung_plugin_is_killed_with_its_children(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    timeout_ns = 700 * NS_PER_MS;
    plugin("first", "[ $CNI_COMMAND = ADD ] || exit 0; sleep 4242 & sleep 4242");
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    int64_t start = clock_monotonic_ns();
    assert_non_null(strstr(attach_refused(&pod, ERR_DEADLINE), "CNI plugin first (network pods): ADD did not end within 0.7 s and was killed"));
    assert_in_range((unsigned long)(clock_monotonic_ns() - start), 600 * NS_PER_MS, 3 * NS_PER_SECOND);
    assert_true(called("2-first-DEL"));
    assert_false(has_record(&pod));
    assert_false(world_try("pgrep -f 'sleep 424[2]' > /dev/null"));
    test_pod_end(&pod);
}

static void
a_plugin_that_writes_for_ever_is_killed(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    timeout_ns = 500 * NS_PER_MS;
    plugin("first", "[ $CNI_COMMAND = ADD ] || exit 0; yes & exec yes >&2");
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    (void)attach_refused(&pod, ERR_DEADLINE);
    test_pod_end(&pod);
}

static void
a_child_that_stays_does_not_hold_the_answer_up(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", "sleep 4243 & " RESULT("1.0.0", IP1));
    plugin("second", "cat $call.json > /dev/null; " RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    int64_t start = clock_monotonic_ns();
    must_attach(&pod);
    assert_true(clock_monotonic_ns() - start < 3 * NS_PER_SECOND);
    assert_false(world_try("pgrep -f 'sleep 424[3]' > /dev/null"));
    must_detach(&pod);
    test_pod_end(&pod);
}

static void
a_caller_that_goes_away_ends_the_wait(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    struct error err;
    struct cancel cancel;
    plugin("first", "[ $CNI_COMMAND = ADD ] || exit 0; sleep 4244");
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    assert_int_equal(cancel_open(&cancel, clock_monotonic_ns() + 300 * NS_PER_MS, &err), 0);
    assert_int_equal(network_attach(network, &pod.request, &pod.result, &cancel, &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    assert_non_null(strstr(err.message, "CNI plugin first (network pods): ADD"));
    cancel_now(&cancel);
    assert_int_equal(network_attach(network, &pod.request, &pod.result, &cancel, &err), -1);
    assert_int_equal(err.kind, ERR_CANCELLED);
    cancel_close(&cancel);
    assert_false(has_record(&pod));
    test_pod_end(&pod);
}

static void
plugins_get_three_files_and_no_blocked_signal(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    sigset_t all, before;
    /* glibc keeps two signals for itself, 32 and 33, and has them ignored in what it spawns */
    plugin("first", "grep SigBlk /proc/$$/status | grep -q 0000000000000000 || exit 9; grep SigIgn /proc/$$/status | grep -Eq "
                    "'0000000(18|00)0000000' || exit 8\n" RESULT("1.0.0", IP1));
    plugin("second", RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    int leaky = open("/etc/passwd", O_RDONLY); /* not CLOEXEC */
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    (void)signal(SIGPIPE, SIG_IGN);
    must_attach(&pod);
    must_detach(&pod);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    (void)close(leaky);
    cleanup_free char *path = str_printf("%s/0-first-ADD.fds", calls), *fds = world_read(path);
    assert_null(strstr(fds, "passwd"));
    assert_null(strstr(fds, "eventfd"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie either */
    test_pod_end(&pod);
}

/* -- DEL whatever happened -------------------------------------------------------------------------------------------------------------------------
 */

static void
del_uses_the_recorded_configuration(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    char reason[256];
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    must_attach(&pod);
    network_close(network); /* crispd ends, the configuration goes, the machine reboots */
    world_run("rm %s/10.conflist", conf);
    world_remove("p1");
    world_run("touch /run/netns/p1"); /* what is left of a bind mount */
    open_network();
    assert_false(network_ready(network, reason));
    assert_non_null(strstr(reason, "no CNI configuration in "));
    must_detach(&pod);
    assert_true(called("2-second-DEL") && called("3-first-DEL"));
    assert_true(was_given("3-first-DEL", "CNI_NETNS="));
    cleanup_json json_t *deleted = input("3-first-DEL");
    assert_int_equal(json_integer_value(json_object_get(deleted, "mine")), 7);
    assert_false(has_record(&pod));
    world_run("rm /run/netns/p1");
    test_pod_end(&pod);
}

static void
a_del_that_fails_can_be_done_again(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    struct error err;
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    must_attach(&pod);
    plugin("second", "echo '{\"code\":100,\"msg\":\"api is down\"}'; exit 1");
    assert_int_equal(network_detach(network, &pod.request, &err), -1);
    assert_string_equal(err.message, "CNI plugin second (network pods): DEL: api is down (code 100)");
    assert_true(has_record(&pod));
    plugin("second", "exit 0");
    must_detach(&pod);
    assert_false(has_record(&pod));
    test_pod_end(&pod);
}

static void
an_add_that_could_not_be_undone_is_collected_later(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    struct strv none = {0};
    plugin("first", "echo '{\"code\":100,\"msg\":\"api is down\"}'; exit 1");
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    (void)attach_refused(&pod, ERR_INTERNAL);
    assert_true(has_record(&pod));
    world_run("rm -r %s", pod.dir); /* the runtime gives up on the pod */
    plugin("first", "exit 0");
    network_collect(network, &none);
    for (int tenths = 0; tenths < 50 && world_try("test -e %s/attachments/%s.json", root, pod.id); tenths++)
        (void)usleep(100000);
    assert_false(world_try("test -e %s/attachments/%s.json", root, pod.id));
    test_pod_end(&pod);
}

static void
the_daemon_was_killed_and_the_plugin_went_on_adding(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    int status;
    plugin("first", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    world_run("echo '{\"kind\": \"cni\", \"pod\": \"%s\"}' >%s/attachments/%s.json", pod.id, root, pod.id);
    cleanup_free char *variable = str_printf("CNI_CONTAINERID=%s", pod.id);
    pid_t stray = fork(), daemon = fork();
    if (stray == 0 || daemon == 0) {
        if (stray == 0 && daemon == 0)
            _exit(0);
        if (stray == 0 ? setpgid(0, 0) < 0 : setsid() < 0)
            _exit(1);
        char *environment[] = {variable, NULL};
        (void)execle("/bin/sleep", "sleep", "30", (char *)NULL, environment);
        _exit(1);
    }
    (void)usleep(200000);
    network_close(network);
    open_network();
    assert_int_equal(waitpid(stray, &status, WNOHANG), stray);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(waitpid(daemon, &status, WNOHANG), 0);
    (void)kill(daemon, SIGKILL);
    assert_int_equal(waitpid(daemon, &status, 0), daemon);
    world_run("rm %s/attachments/%s.json", root, pod.id);
    test_pod_end(&pod);
}

static void
an_address_was_lost_until_i_restarted_the_daemon(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    struct strv nobodys = {0};
    plugin("first", "echo '{\"code\":100,\"msg\":\"api is down\"}'; exit 1");
    plugin("second", "exit 0");
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    (void)attach_refused(&pod, ERR_INTERNAL);
    plugin("first", "exit 0");
    strv_add(&nobodys, pod.id); /* no orphan of an earlier crispd; the call wakes the housekeeping, which comes anyway */
    network_collect(network, &nobodys);
    for (int tenths = 0; tenths < 50 && world_try("test -e %s/attachments/%s.json", root, pod.id); tenths++)
        (void)usleep(100000);
    assert_false(world_try("test -e %s/attachments/%s.json", root, pod.id));
    strv_free(&nobodys);
    test_pod_end(&pod);
}

/* -- 1.1 ------------------------------------------------------------------------------------------------------------------------------------------
 */

static void
after_a_start_gc_is_told_who_is_there_and_each_attachment_checked(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    char reason[256];
    plugin("first", "[ $CNI_COMMAND = STATUS ] && { echo '{\"code\":50,\"msg\":\"daemon is not up\"}'; exit 1; }; " RESULT("1.1.0", IP1));
    plugin("second", RESULT("1.1.0", IP1));
    config("10.conflist", LIST("1.1.0", ""));
    open_network();
    assert_true(ready_within(30, false, reason));
    assert_string_equal(reason, "CNI plugin first (network pods): STATUS: daemon is not up (code 50)");
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    plugin("first", RESULT("1.1.0", IP1));
    must_attach(&pod);
    world_run("rm %s/*", calls);
    collect_with(pod.id);
    assert_true(ready_within(30, true, reason));
    assert_true(called("0-first-GC") && called("1-second-GC"));
    assert_true(called("2-first-CHECK") && called("3-second-CHECK") && called("4-first-STATUS"));
    cleanup_json json_t *gc = input("0-first-GC");
    cleanup_json json_t *expected = json_pack("[{s:s, s:s}]", "containerID", pod.id, "ifname", "eth0");
    assert_true(json_equal(json_object_get(gc, "cni.dev/valid-attachments"), expected));
    assert_false(was_given("0-first-GC", "CNI_IFNAME=eth0"));
    must_detach(&pod);
    test_pod_end(&pod);
}

static void
what_the_configuration_disables_is_not_called(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", RESULT("1.1.0", IP1));
    plugin("second", RESULT("1.1.0", IP1));
    config("10.conflist", LIST("1.1.0", ",\"disableCheck\":true,\"disableGC\":true"));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    (void)usleep(300000);
    must_attach(&pod);
    world_run("rm %s/*", calls);
    collect_with(pod.id);
    (void)usleep(300000);
    assert_false(world_try("ls %s | grep -qE 'GC|CHECK'", calls));
    must_detach(&pod);
    test_pod_end(&pod);
}

/* -- the directory --------------------------------------------------------------------------------------------------------------------------------
 */

static void
the_directory_may_come_go_and_be_replaced(void **state)
{
    NEED_WORLD();
    char reason[256];
    plugin("first", "exit 0");
    plugin("second", "exit 0");
    world_run("rmdir %s", conf);
    open_network();
    assert_false(network_ready(network, reason));
    world_run("mkdir %s", conf);
    config("10.conflist", LIST("1.0.0", ""));
    assert_true(ready_within(20, true, reason));
    world_run("mv %s %s.old; mkdir %s", conf, conf, conf); /* another inode */
    assert_true(ready_within(20, false, reason));
    config("11.conflist.tmp", LIST("1.0.0", ""));
    world_run("mv %s/11.conflist.tmp %s/11.conflist", conf, conf); /* a rename is no create */
    assert_true(ready_within(20, true, reason));
    world_run("rm -r %s; cp -r %s.old %s.new; mv %s.new %s", conf, conf, conf, conf, conf);
    (void)usleep(300000);
    assert_true(ready_within(20, true, reason));
    cleanup_free char *info = network_info_json(network);
    assert_non_null(strstr(info, "10.conflist"));
    world_run("rm %s/*; ln -s %s.old/10.conflist %s/12.conflist", conf, conf, conf);
    assert_true(ready_within(20, true, reason));
    world_run("rm -r %s.old", conf);
}

static void
names_cannot_smuggle_arguments(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    test_pod_make(&pod, 'a', (world_add("p1"), "p1"));
    pod.request.pod_name = "x;IP=10.0.0.1";
    assert_non_null(strstr(attach_refused(&pod, ERR_INVALID), "CNI_ARGS cannot carry"));
    pod.request.pod_name = "\xff";
    (void)attach_refused(&pod, ERR_INVALID);
    assert_int_equal(call_count(), 0);
    assert_false(has_record(&pod));
    test_pod_end(&pod);
}

static void
nothing_leaks(void **state)
{
    NEED_WORLD();
    struct test_pod pod;
    plugin("first", RESULT("1.0.0", IP1));
    plugin("second", RESULT("1.0.0", IP1));
    config("10.conflist", LIST("1.0.0", ""));
    open_network();
    int before = 0;
    (void)world_add("p1");
    for (int round = 0; round < 8; round++) {
        test_pod_make(&pod, 'a', "p1");
        must_attach(&pod);
        must_detach(&pod);
        test_pod_end(&pod);
        if (round == 3) {
            (void)usleep(600000);
            before = world_fd_count();
        }
    }
    (void)usleep(600000);
    assert_int_equal(world_fd_count(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* -- Debian's plugins ------------------------------------------------------------------------------------------------------------------------------
 */

static void
debians_plugins_work_for_real(void **state)
{
    NEED_WORLD();
    if (access("/usr/lib/cni/portmap", X_OK) != 0 || !world_try("command -v iptables > /dev/null"))
        skip();
    struct test_pod a, b;
    const struct network_port list[] = {{NETWORK_TCP, 80, 8080, ""}, {NETWORK_UDP, 53, 8053, ""}};
    cleanup_free char *text = str_printf(
        "{\"cniVersion\":\"1.0.0\",\"name\":\"real\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":\"cnireal0\",\"isGateway\":true,\"ipMasq\":true,"
        "\"hairpinMode\":true,\"ipam\":{\"type\":\"host-local\",\"dataDir\":\"%s/ipam\",\"ranges\":[[{\"subnet\":\"10.99.0.0/"
        "24\"}],[{\"subnet\":\"fd00:99::/64\"}]],"
        "\"routes\":[{\"dst\":\"0.0.0.0/0\"},{\"dst\":\"::/0\"}]}},{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}},"
        "{\"type\":\"bandwidth\",\"capabilities\":{\"bandwidth\":true}}]}",
        world_dir());
    timeout_ns = 30 * NS_PER_SECOND;
    config("10.conflist", text);
    open_network();
    test_pod_make(&a, 'a', (world_add("p1"), "p1"));
    test_pod_make(&b, 'b', (world_add("p2"), "p2"));
    a.request.ports = list;
    a.request.port_count = 2;
    b.request.ingress_bits = b.request.egress_bits = 50000000;
    must_attach(&a);
    must_attach(&b);
    assert_string_equal(a.result.ips.items[0], "10.99.0.2");
    assert_string_equal(a.result.ips.items[1], "fd00:99::2");
    (void)sleep(2); /* the plugins leave duplicate address detection on */
    world_serve("p1", 80, 53, "one");
    world_serve("out", 80, 53, "out");
    assert_string_equal(world_ask("p2", "tcp", "10.99.0.2", 80, 0), "one 10.99.0.3");
    assert_string_equal(world_ask("p2", "tcp", "fd77::1", 80, 0), "out fd77::2");
    assert_string_equal(world_ask("out", "tcp", "10.77.0.2", 8080, 0), "one 10.77.0.1");
    assert_string_equal(world_ask("out", "udp", "fd77::2", 8053, 0), "one fd77::1");
    assert_string_equal(world_ask(NULL, "tcp", "127.0.0.1", 8080, 0), "one 10.99.0.1");
    must_detach(&a);
    assert_string_equal(world_ask("out", "tcp", "10.77.0.2", 8080, 0), "none");
    world_silence();
    world_remove("p2");
    must_detach(&b); /* with an empty CNI_NETNS */
    assert_true(world_try("test -z \"$(ls %s/ipam/real | grep -v -e last -e lock)\"", world_dir()));
    test_pod_end(&a);
    test_pod_end(&b);
}

int
main(void)
{
    have_world = world_open();
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(the_first_valid_configuration_wins),
        TEST(the_newest_version_that_both_know_is_chosen),
        TEST(results_are_converted_between_versions),
        TEST(results_that_lie_are_refused),
        TEST(the_pods_addresses_are_those_in_its_sandbox),
        TEST(a_chain_is_called_as_the_spec_says),
        TEST(old_versions_get_what_they_know),
        TEST(a_failed_add_is_undone_and_its_words_are_kept),
        TEST(failures_without_json_are_told_too),
        TEST(a_hung_plugin_is_killed_with_its_children),
        TEST(a_plugin_that_writes_for_ever_is_killed),
        TEST(a_child_that_stays_does_not_hold_the_answer_up),
        TEST(a_caller_that_goes_away_ends_the_wait),
        TEST(plugins_get_three_files_and_no_blocked_signal),
        TEST(del_uses_the_recorded_configuration),
        TEST(a_del_that_fails_can_be_done_again),
        TEST(an_add_that_could_not_be_undone_is_collected_later),
        TEST(the_daemon_was_killed_and_the_plugin_went_on_adding),
        TEST(an_address_was_lost_until_i_restarted_the_daemon),
        TEST(after_a_start_gc_is_told_who_is_there_and_each_attachment_checked),
        TEST(what_the_configuration_disables_is_not_called),
        TEST(the_directory_may_come_go_and_be_replaced),
        TEST(names_cannot_smuggle_arguments),
        TEST(nothing_leaks),
        TEST(debians_plugins_work_for_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
