#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/str.h"

static void
numbers_are_whole_decimal_and_bounded(void **state)
{
    static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "0x1", "1e3", "18446744073709551616", "99999999999999999999999", "١"};
    struct error err = {0};
    uint64_t value = 7;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(str_to_u64(bad[i], UINT64_MAX, "port", &value, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        assert_int_equal(value, 7);
    }
    assert_int_equal(str_to_u64(NULL, 1, "port", &value, &err), -1);
    assert_int_equal(str_to_u64("18446744073709551615", UINT64_MAX, "n", &value, &err), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(str_to_u64("007", 7, "n", &value, &err), 0);
    assert_int_equal(value, 7);
    assert_int_equal(str_to_u64("65536", 65535, "port", &value, &err), -1);
    assert_string_equal(err.message, "port: 65536 is more than 65535");
}

static void
signed_numbers_reach_both_ends(void **state)
{
    struct error err = {0};
    int64_t value;
    (void)state;
    assert_int_equal(str_to_i64("-9223372036854775808", "n", &value, &err), 0);
    assert_true(value == INT64_MIN);
    assert_int_equal(str_to_i64("9223372036854775807", "n", &value, &err), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(str_to_i64("9223372036854775808", "n", &value, &err), -1);
    assert_int_equal(str_to_i64("-9223372036854775809", "n", &value, &err), -1);
    assert_int_equal(str_to_i64("--1", "n", &value, &err), -1);
    assert_int_equal(str_to_i64("-", "n", &value, &err), -1);
    assert_int_equal(str_to_i64(NULL, "n", &value, &err), -1);
}

static void
comparisons_know_null(void **state)
{
    (void)state;
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_false(str_eq("", NULL));
    assert_true(str_empty(NULL));
    assert_true(str_empty(""));
    assert_true(str_starts("abc", "ab"));
    assert_true(str_starts("abc", ""));
    assert_false(str_starts("a", "ab"));
    assert_true(str_ends("abc", "bc"));
    assert_false(str_ends("c", "bc"));
}

static void
a_list_ends_in_null_like_argv(void **state)
{
    struct strv list = {0}, more = {0};
    (void)state;
    strv_split(&list, "a::b", ':', false);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.items[1], "");
    assert_null(list.items[3]);
    strv_split(&more, "::a:b:", ':', true);
    assert_int_equal(more.count, 2);
    strv_addf(&more, "%d", 5);
    strv_copy(&list, &more);
    assert_int_equal(list.count, 6);
    assert_true(strv_has(&list, "5"));
    assert_false(strv_has(&list, "6"));
    strv_sort(&list);
    assert_string_equal(list.items[0], "");
    assert_string_equal(list.items[1], "5");
    assert_string_equal(list.items[5], "b");
    assert_null(list.items[6]);
    strv_free(&list);
    assert_int_equal(list.count, 0);
    strv_sort(&list);
    strv_add(&list, "again");
    assert_string_equal(list.items[0], "again");
    strv_free(&list);
    strv_free(&more);
    strv_split(&list, "", ',', true);
    assert_int_equal(list.count, 0);
    strv_free(&list);
}

static void
a_map_keeps_order_and_one_value_a_key(void **state)
{
    struct strmap map = {0}, copy = {0};
    (void)state;
    strmap_set(&map, "b", "1");
    strmap_set(&map, "a", "2");
    strmap_set(&map, "b", "3");
    assert_int_equal(map.count, 2);
    assert_string_equal(map.entries[0].key, "b");
    assert_string_equal(strmap_get(&map, "b"), "3");
    assert_null(strmap_get(&map, "c"));
    strmap_set(&copy, "a", "2");
    strmap_set(&copy, "b", "3");
    strmap_set(&copy, "b", "4");
    strmap_copy(&copy, &map);
    assert_int_equal(copy.count, 2);
    assert_string_equal(strmap_get(&copy, "b"), "3");
    strmap_free(&map);
    strmap_free(&copy);
}

static void
a_buffer_refuses_to_grow_beyond_its_limit(void **state)
{
    struct buf b = BUF(5);
    (void)state;
    assert_true(buf_adds(&b, "abc"));
    assert_false(buf_adds(&b, "def"));
    assert_string_equal(b.data, "abc");
    assert_true(buf_addf(&b, "%d", 12));
    assert_string_equal(b.data, "abc12");
    assert_false(buf_adds(&b, "x"));
    assert_false(buf_add(&b, "x", SIZE_MAX));
    assert_true(buf_add(&b, NULL, 0));
    buf_consume(&b, 4);
    assert_string_equal(b.data, "2");
    assert_true(buf_adds(&b, "3456"));
    buf_free(&b);
    struct buf empty = BUF(0);
    assert_true(buf_adds(&empty, ""));
    assert_string_equal(empty.data, "");
    assert_false(buf_adds(&empty, "x"));
    buf_free(&empty);
}

static void
utf8_is_judged_as_the_rfc_says(void **state)
{
    static const char *const good[] = {
        "", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",     "\xc3",         "\xc3(",        "\xc0\x80",         "\xc1\xbf",         "\xe0\x80\xaf",
                                      "\xe2\x82", "\xe2\x28\xa1", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xf0\x80\x80\xaf", "\xf4\x90\x80\x80",
                                      "\xff",     "a\xfe"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(str_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(str_utf8_valid(bad[i], strlen(bad[i])));
}

static void
ids_are_64_hex_characters(void **state)
{
    char first[ID_SIZE], second[ID_SIZE];
    (void)state;
    id_make(first);
    id_make(second);
    assert_true(id_valid(first));
    assert_string_not_equal(first, second);
    assert_true(id_prefix_valid("a"));
    assert_true(id_prefix_valid(first));
    static const char *const bad[] = {"", "g", "A", "ab/", "../ab", "a b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(id_valid(bad[i]));
        assert_false(id_prefix_valid(bad[i]));
    }
    char longer[ID_SIZE + 1];
    memset(longer, 'a', ID_SIZE);
    longer[ID_SIZE] = '\0';
    assert_false(id_prefix_valid(longer));
    assert_false(id_valid(longer));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_whole_decimal_and_bounded),
        cmocka_unit_test(signed_numbers_reach_both_ends),
        cmocka_unit_test(comparisons_know_null),
        cmocka_unit_test(a_list_ends_in_null_like_argv),
        cmocka_unit_test(a_map_keeps_order_and_one_value_a_key),
        cmocka_unit_test(a_buffer_refuses_to_grow_beyond_its_limit),
        cmocka_unit_test(utf8_is_judged_as_the_rfc_says),
        cmocka_unit_test(ids_are_64_hex_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
