#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "imageservice/pull/challenge.h"
#include "imageservice/pull/credentials.h"
#include "imageservice/pull/hosts.h"

#include <fcntl.h>
#include <unistd.h>

static char root[64];
static struct strv dirs;

static int
set_up(void **state)
{
    (void)state;
    (void)strcpy(root, "/tmp/crisp-hosts.XXXXXX");
    assert_non_null(mkdtemp(root));
    strv_addf(&dirs, "%s/none", root);
    strv_addf(&dirs, "%s/certs.d", root);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    strv_free(&dirs);
    return file_remove_tree(AT_FDCWD, root, NULL);
}

static void
write_hosts(const char *directory, const char *text)
{
    struct error err = {0};
    cleanup_free char *dir = str_printf("%s/certs.d/%s", root, directory), *path = str_printf("%s/hosts.toml", dir);
    assert_int_equal(file_mkdirs(dir, 0755, &err), 0);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err), 0);
}

static void
without_a_file_the_registry_is_asked_by_https_and_loopback_by_http(void **state)
{
    static const char *const cases[][2] = {
        {"docker.io", "https://registry-1.docker.io/v2"}, {"quay.io", "https://quay.io/v2"},
        {"127.0.0.1:5000", "http://127.0.0.1:5000/v2"},   {"localhost:5000", "http://localhost:5000/v2"},
        {"[::1]:5000", "http://[::1]:5000/v2"},           {"127.9.9.9", "http://127.9.9.9/v2"},
        {"127.0.0.1:443", "https://127.0.0.1:443/v2"},    {"127.0.0.1.example.com", "https://127.0.0.1.example.com/v2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        cleanup_hosts struct hosts hosts;
        assert_int_equal(hosts_load(&dirs, cases[i][0], &hosts, &err), 0);
        assert_int_equal(hosts.count, 1);
        assert_string_equal(hosts.items[0].base, cases[i][1]);
        assert_null(hosts.items[0].proxied);
    }
}

static void
mirrors_are_asked_in_the_order_of_the_file_and_the_registry_last(void **state)
{
    (void)state;
    write_hosts("mirrored.example_5000_", "server = \"https://real.example\"\n"
                                          "[host.\"http://z.example:1/prefix/\"]\n  capabilities = [\"pull\"]\n  dial_timeout = \"2s\"\n"
                                          "[host.\"https://a.example\"]\n  capabilities = [\"pull\", \"resolve\"]\n  skip_verify = true\n"
                                          "[host.\"https://a.example\".header]\n  x-one = \"1\"\n  x-two = [\"2\", \"3\"]\n"
                                          "[host.\"https://o.example/own\"]\n  override_path = true\n");
    struct error err = {0};
    cleanup_hosts struct hosts hosts;
    if (hosts_load(&dirs, "mirrored.example:5000", &hosts, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(hosts.count, 4);
    assert_string_equal(hosts.items[0].base, "http://z.example:1/prefix/v2");
    assert_string_equal(hosts.items[0].proxied, "mirrored.example:5000");
    assert_false(hosts.items[0].resolves);
    assert_int_equal(hosts.items[0].peer.dial_timeout_ms, 2000);
    assert_string_equal(hosts.items[1].base, "https://a.example/v2");
    assert_true(hosts.items[1].peer.skip_verify);
    assert_int_equal(hosts.items[1].headers.count, 3);
    assert_string_equal(hosts.items[1].headers.items[2], "x-two: 3");
    assert_string_equal(hosts.items[2].base, "https://o.example/own");
    assert_string_equal(hosts.items[3].base, "https://real.example/v2");
    assert_null(hosts.items[3].proxied);
}

static void
the_default_file_is_for_registries_without_their_own(void **state)
{
    (void)state;
    write_hosts("_default", "[host.\"https://everything.example\"]\n");
    write_hosts("own.example", "server = \"http://own.example\"\n");
    struct error err = {0};
    struct hosts hosts;
    assert_int_equal(hosts_load(&dirs, "own.example", &hosts, &err), 0);
    assert_int_equal(hosts.count, 1);
    assert_string_equal(hosts.items[0].base, "http://own.example/v2");
    hosts_free(&hosts);
    assert_int_equal(hosts_load(&dirs, "other.example", &hosts, &err), 0);
    assert_string_equal(hosts.items[0].name, "everything.example");
    assert_string_equal(hosts.items[1].name, "other.example");
    hosts_free(&hosts);
}

static void
a_mistake_in_the_file_is_an_error_with_file_and_line(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"server = 7\n", "hosts.toml:1"},
        {"\nservr = \"x\"\n", "hosts.toml:2: servr: unknown key"},
        {"[host.\"https://a\"]\ncapabilites = []\n", "hosts.toml:2: capabilites: unknown key"},
        {"[host.\"https://a\"]\ncapabilities = [\"fetch\"]\n", "hosts.toml:2"},
        {"[host.\"https://a\"]\nskip_verify = \"yes\"\n", "hosts.toml:2"},
        {"[host.\"https://a\"]\nca = \"missing.crt\"\n", "missing.crt"},
        {"[host.\"ftp://a\"]\n", "no http or https URL"},
        {"[host.\"https://user@a\"]\n", "no http or https URL"},
        {"[host.\"https://a\"]\ndial_timeout = \"soon\"\n", "must be a time"},
        {"[host.\"https://a\".header]\nx = \"a\\r\\nb: c\"\n", "is no header"},
        {"server = \n", "hosts.toml:1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct hosts hosts;
        write_hosts("wrong.example", cases[i].text);
        assert_int_equal(hosts_load(&dirs, "wrong.example", &hosts, &err), -1);
        assert_int_equal(err.kind, ERR_PRECONDITION);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s", err.message);
    }
}

static void
write_beside(const char *directory, const char *name, const char *text)
{
    struct error err = {0};
    cleanup_free char *dir = str_printf("%s/certs.d/%s", root, directory), *path = str_printf("%s/%s", dir, name);
    assert_int_equal(file_mkdirs(dir, 0755, &err), 0);
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err), 0);
}

static void
certificates_as_docker_has_them_are_used_where_no_file_says_more(void **state)
{
    (void)state;
    struct error err = {0};
    struct hosts hosts;
    write_beside("127.0.0.1:5001", "ca.crt", "one");
    write_beside("127.0.0.1:5001", "b.crt", "two");
    write_beside("127.0.0.1:5001", "client.cert", "ours");
    assert_int_equal(hosts_load(&dirs, "127.0.0.1:5001", &hosts, &err), -1);
    assert_int_equal(err.kind, ERR_PRECONDITION);
    assert_non_null(strstr(err.message, "client.key"));
    write_beside("127.0.0.1:5001", "client.key", "ours");
    assert_int_equal(hosts_load(&dirs, "127.0.0.1:5001", &hosts, &err), 0);
    assert_int_equal(hosts.count, 1);
    assert_string_equal(hosts.items[0].base, "https://127.0.0.1:5001/v2");
    assert_string_equal(hosts.items[0].peer.ca_pem, "two\none\n");
    assert_non_null(strstr(hosts.items[0].peer.client_cert, "127.0.0.1:5001/client.cert"));
    assert_non_null(strstr(hosts.items[0].peer.client_key, "127.0.0.1:5001/client.key"));
    hosts_free(&hosts);
    write_beside("127.0.0.1_5001_", "hosts.toml", "server = \"http://plain.example\"\n");
    assert_int_equal(hosts_load(&dirs, "127.0.0.1:5001", &hosts, &err), 0);
    assert_string_equal(hosts.items[0].base, "http://plain.example/v2");
    assert_null(hosts.items[0].peer.ca_pem);
    hosts_free(&hosts);
}

static void
docker_io_as_a_server_means_its_registry(void **state)
{
    (void)state;
    struct error err = {0};
    cleanup_hosts struct hosts hosts;
    write_hosts("docker.io", "server = \"https://docker.io\"\n[host.\"https://registry-1.docker.io\"]\n");
    assert_int_equal(hosts_load(&dirs, "docker.io", &hosts, &err), 0);
    assert_int_equal(hosts.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(hosts.items[i].base, "https://registry-1.docker.io/v2");
        assert_null(hosts.items[i].proxied); /* a user's credentials are for it */
    }
}

/* crisp-pull's sandbox shows the directories; what they name elsewhere must be known before. */
static void
files_that_lie_elsewhere_are_found(void **state)
{
    (void)state;
    cleanup_strv struct strv found = {0};
    cleanup_free char *elsewhere = str_printf("%s/elsewhere.crt", root), *link = str_printf("%s/certs.d/elsewhere.example/client.key", root);
    struct error err = {0};
    assert_int_equal(file_replace(AT_FDCWD, elsewhere, "", 0, 0644, false, &err), 0);
    write_hosts("elsewhere.example", "ca = \"/etc/pki/root.pem\"\n[host.\"https://m\"]\nca = [\"here.pem\", \"/x/ca.pem\"]\n"
                                     "client = [[\"/x/c.cert\", \"/x/c.key\"]]\n[host.\"https://m\".header]\nx-path = \"/no/file\"\n");
    write_beside("elsewhere.example", "here.pem", "");
    assert_int_equal(symlink(elsewhere, link), 0);
    hosts_files_elsewhere(&dirs, &found);
    static const char *const named[] = {"/etc/pki/root.pem", "/x/ca.pem", "/x/c.cert", "/x/c.key"};
    assert_int_equal(found.count, 5);
    for (size_t i = 0; i < 4; i++)
        assert_true(strv_has(&found, named[i]));
    assert_true(strv_has(&found, elsewhere));
}

static void
challenges_are_read(void **state)
{
    static const struct {
        const char *header;
        enum challenge_scheme scheme;
        const char *realm, *service, *scope;
    } cases[] = {
        {"Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a/b:pull,push\"", CHALLENGE_BEARER,
         "https://auth.example/token", "registry", "repository:a/b:pull,push"},
        {"bearer  realm = \"x\\\"y\" , service=plain", CHALLENGE_BEARER, "x\"y", "plain", NULL},
        {"Basic realm=\"r\", Bearer realm=\"t\"", CHALLENGE_BEARER, "t", NULL, NULL},
        {"Bearer", CHALLENGE_NONE, NULL, NULL, NULL},
        {"Basic", CHALLENGE_BASIC, NULL, NULL, NULL},
        {"Negotiate abc==", CHALLENGE_NONE, NULL, NULL, NULL},
        {"", CHALLENGE_NONE, NULL, NULL, NULL},
        {",,,\"\"==,", CHALLENGE_NONE, NULL, NULL, NULL},
        {"Bearer realm=\"unclosed", CHALLENGE_BEARER, "unclosed", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_strv struct strv headers = {0};
        strv_add(&headers, cases[i].header);
        cleanup_challenge struct challenge c;
        challenge_choose(&headers, &c);
        assert_int_equal(c.scheme, cases[i].scheme);
        if (c.scheme != CHALLENGE_BEARER)
            continue;
        assert_string_equal(c.realm, cases[i].realm);
        assert_true(str_eq(c.service, cases[i].service));
        assert_true(str_eq(c.scope, cases[i].scope));
    }
}

static void
credentials_go_only_where_they_are_for(void **state)
{
    static const struct {
        const char *server_address, *registry, *host;
        bool mirror, sent;
    } cases[] = {
        {NULL, "r.example", "r.example", false, true},
        {NULL, "r.example", "mirror.example", true, false},
        {"mirror.example", "r.example", "mirror.example", true, true},
        {"r.example", "r.example", "mirror.example", true, false},
        {"https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", false, true},
        {"other.example", "r.example", "r.example", false, false},
        {"*.example", "r.example", "r.example", false, true},
        {"r.example", "r.example:5000", "r.example:5000", false, true},
        {"r.example:5001", "r.example:5000", "r.example:5000", false, false},
        {"r.example/path", "r.example", "r.example", false, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct credentials c = {.username = (char *)"u", .server_address = (char *)(uintptr_t)cases[i].server_address};
        struct host host = {.name = (char *)(uintptr_t)cases[i].host, .proxied = cases[i].mirror ? (char *)(uintptr_t)cases[i].registry : NULL};
        if (credentials_are_for(&c, cases[i].registry, &host) != cases[i].sent)
            fail_msg("case %zu", i);
    }
}

static void
the_auth_field_is_user_and_password_in_base64(void **state)
{
    (void)state;
    struct error err = {0};
    struct credentials c;
    assert_int_equal(credentials_read(&(struct image_auth){.auth = "dXNlcjpwYTpzcw=="}, &c, &err), 0);
    assert_string_equal(c.username, "user");
    assert_string_equal(c.password, "pa:ss");
    credentials_free(&c);
    static const char *const bad[] = {"!!!!", "dXNlcg==", "abc", "dXNlcjpwYTpzcw"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(credentials_read(&(struct image_auth){.auth = bad[i]}, &c, &err), -1);
        assert_null(strstr(err.message, bad[i]));
        credentials_free(&c);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_file_the_registry_is_asked_by_https_and_loopback_by_http),
        cmocka_unit_test(mirrors_are_asked_in_the_order_of_the_file_and_the_registry_last),
        cmocka_unit_test(the_default_file_is_for_registries_without_their_own),
        cmocka_unit_test(a_mistake_in_the_file_is_an_error_with_file_and_line),
        cmocka_unit_test(certificates_as_docker_has_them_are_used_where_no_file_says_more),
        cmocka_unit_test(docker_io_as_a_server_means_its_registry),
        cmocka_unit_test(files_that_lie_elsewhere_are_found),
        cmocka_unit_test(challenges_are_read),
        cmocka_unit_test(credentials_go_only_where_they_are_for),
        cmocka_unit_test(the_auth_field_is_user_and_password_in_base64),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
