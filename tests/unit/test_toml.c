#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/toml.h"

static struct error err;

static struct toml_node *
parse(const char *text)
{
    err = (struct error){0};
    return toml_parse(text, strlen(text), "hosts.toml", &err);
}

static void
values_have_types_and_lines(void **state)
{
    (void)state;
    struct toml_node *root = parse("name = \"crisp\"\ncount = -7\n\n[a.b]\nyes = true\nlist = [\"x\", \"y\"]\nhalf = 0.5\nday = 2026-01-02\n");
    assert_non_null(root);
    const struct toml_node *b = toml_get(toml_get(root, "a"), "b");
    assert_string_equal(toml_get(root, "name")->string, "crisp");
    assert_int_equal(toml_get(root, "count")->integer, -7);
    assert_int_equal(toml_get(root, "count")->line, 2);
    assert_int_equal(toml_get(b, "yes")->type, TOML_BOOLEAN);
    assert_int_equal(toml_get(b, "yes")->integer, 1);
    assert_int_equal(toml_get(b, "list")->count, 2);
    assert_string_equal(toml_get(b, "list")->children[1].string, "y");
    assert_int_equal(toml_get(b, "list")->line, 6);
    assert_true(toml_get(b, "half")->number > 0.4);
    assert_int_equal(toml_get(b, "day")->type, TOML_DATE);
    assert_null(toml_get(b, "missing"));
    assert_null(toml_get(NULL, "x"));
    assert_null(toml_get(toml_get(root, "name"), "x"));
    toml_free(root);
}

static void
hosts_stay_in_the_order_of_their_lines(void **state)
{
    (void)state;
    struct toml_node *root =
        parse("server = \"https://z\"\n[host.\"https://z.example\"]\n[host.\"http://a.example\"]\n[host.\"https://m.example\"]\n");
    assert_non_null(root);
    const struct toml_node *host = toml_get(root, "host");
    assert_int_equal(host->count, 3);
    assert_string_equal(host->children[0].key, "https://z.example");
    assert_string_equal(host->children[1].key, "http://a.example");
    assert_string_equal(host->children[2].key, "https://m.example");
    toml_free(root);
}

static void
what_is_wrong_is_told_with_file_and_line(void **state)
{
    static const char *const bad[] = {"\n\nx = \n", "\n\n[a\n", "\n\nx = 1\nx = 2\n", "\n\n= 3\n", "\n\nx = \"\xff\"\n", "\n\n[://x]\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(parse(bad[i]));
        assert_int_equal(err.kind, ERR_INVALID);
        assert_true(str_starts(err.message, "hosts.toml:3") || str_starts(err.message, "hosts.toml:4"));
    }
}

static void
an_empty_file_is_an_empty_table(void **state)
{
    (void)state;
    struct toml_node *root = parse("");
    assert_non_null(root);
    assert_int_equal(root->count, 0);
    toml_free(root);
    toml_free(NULL);
    assert_null(toml_load("/nonexistent/x.toml", &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void
letters_beyond_ascii_stand_in_strings_and_comments_only(void **state)
{
    (void)state;
    static const char *const good[] = {
        "x = \"\xc4\x96\" # \xc4\x96\n", "\"\xc4\x96\" = '\xc4\x96'\n", "x = \"\"\"\n\\\"\xc4\x96\"\"\"\"\n",
        "\xef\xbb\xbfx = 1\n",           "x = ''\ny = ''''''\n",
    };
    static const char *const bad[] = {
        "\n\xc4\x96 = 1\n", "x = \"\"\na\xc4\x96 = 1\n", "x = '''\n''' \xc4\x96\n", "\n[\xc4\x96]\n", "# '\nx = \xc4\x96\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct toml_node *root = parse(good[i]);
        assert_non_null(root);
        toml_free(root);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(parse(bad[i]));
        assert_string_equal(err.message, "hosts.toml:2: letters beyond ASCII must stand in quotes");
    }
}

static void
nesting_has_an_end(void **state)
{
    static char deep[100000];
    (void)state;
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "x = ", 4);
    assert_null(parse(deep));
    assert_int_equal(err.kind, ERR_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_types_and_lines),
        cmocka_unit_test(hosts_stay_in_the_order_of_their_lines),
        cmocka_unit_test(what_is_wrong_is_told_with_file_and_line),
        cmocka_unit_test(an_empty_file_is_an_empty_table),
        cmocka_unit_test(letters_beyond_ascii_stand_in_strings_and_comments_only),
        cmocka_unit_test(nesting_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
