/* Ids inside and outside: which maps a pod or a mount may have, and what they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "runtime/idmap.h"

static struct error err;

static struct id_maps
maps_of(struct id_mapping *list, size_t count)
{
    return (struct id_maps){.uids = list, .gids = list, .uid_count = count, .gid_count = count};
}

static void
refused(struct id_mapping *list, size_t count, const char *words)
{
    struct id_maps maps = maps_of(list, count);
    assert_int_equal(idmap_check(&maps, "here", true, &err), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_non_null(strstr(err.message, "here"));
    assert_non_null(strstr(err.message, words));
}

static void
maps_that_the_kernel_would_refuse_are_refused_in_words(void **state)
{
    (void)state;
    struct id_mapping good[] = {{300000, 0, 65536}};
    struct id_maps maps = maps_of(good, 1);
    assert_int_equal(idmap_check(&maps, "here", true, &err), 0);
    maps.gid_count = 0;
    assert_int_equal(idmap_check(&maps, "here", true, &err), -1);
    refused(NULL, 0, "one at least");
    refused((struct id_mapping[]){{300000, 0, 0}}, 1, "length 0");
    refused((struct id_mapping[]){{UINT32_MAX - 65535, 0, 65536}}, 1, "beyond");
    refused((struct id_mapping[]){{0, UINT32_MAX, UINT32_MAX}}, 1, "beyond");
    refused((struct id_mapping[]){{300000, 0, 10}, {400000, 9, 10}}, 2, "in common");
    refused((struct id_mapping[]){{300000, 0, 10}, {300009, 10, 10}}, 2, "in common");
    refused((struct id_mapping[]){{300000, 1, 65536}}, 1, "0 inside is not mapped");
    struct id_mapping rootless[] = {{300000, 1000, 1}};
    maps = maps_of(rootless, 1);
    assert_int_equal(idmap_check(&maps, "here", false, &err), 0);
    struct id_mapping many[125];
    for (uint32_t i = 0; i < 125; i++)
        many[i] = (struct id_mapping){1000 + i, i, 1};
    refused(many, 125, "more than 124");
}

static void
ids_inside_are_those_outside(void **state)
{
    (void)state;
    struct id_mapping list[] = {{300000, 0, 1000}, {500000, 2000, 10}};
    struct id_maps maps = maps_of(list, 2), none = {0};
    assert_int_equal(idmap_uid(&maps, 0), 300000);
    assert_int_equal(idmap_gid(&maps, 999), 300999);
    assert_int_equal(idmap_uid(&maps, 1000), NO_ID);
    assert_int_equal(idmap_uid(&maps, 2009), 500009);
    assert_int_equal(idmap_uid(&maps, 2010), NO_ID);
    assert_int_equal(idmap_uid(&none, 7), 7);
    cleanup_free char *text = idmap_uid_text(&maps);
    assert_string_equal(text, "0 300000 1000\n2000 500000 10\n");
    struct id_mapping other[] = {{300000, 0, 1000}, {500000, 2000, 11}};
    struct id_maps others = maps_of(other, 2);
    assert_true(idmap_equal(&maps, &maps));
    assert_false(idmap_equal(&maps, &others));
    assert_false(idmap_equal(&maps, &none));
}

/* As many ranges as are allowed. */
static void
the_longest_text_is_whole(void **state)
{
    (void)state;
    struct id_mapping list[124];
    for (uint32_t i = 0; i < 124; i++)
        list[i] = (struct id_mapping){4000000000 + 9 * i, 3000000000 + 9 * i, i == 123 ? 1000000000 : 1};
    struct id_maps maps = maps_of(list, 124);
    cleanup_free char *text = idmap_gid_text(&maps);
    assert_non_null(strstr(text, "\n3000001107 4000001107 1000000000\n"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_that_the_kernel_would_refuse_are_refused_in_words),
        cmocka_unit_test(ids_inside_are_those_outside),
        cmocka_unit_test(the_longest_text_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
