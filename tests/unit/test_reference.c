#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "imageservice/imageservice.h"

#define HEX64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX64

static void
short_forms_are_completed_as_docker_does(void **state)
{
    static const char *const cases[][2] = {
        {"busybox", "docker.io/library/busybox:latest"},
        {"busybox:1.36", "docker.io/library/busybox:1.36"},
        {"user/app", "docker.io/user/app:latest"},
        {"docker.io/busybox", "docker.io/library/busybox:latest"},
        {"index.docker.io/user/app", "docker.io/user/app:latest"},
        {"localhost/app", "localhost/app:latest"},
        {"localhost:5000/app", "localhost:5000/app:latest"},
        {"127.0.0.1:5000/a/b-c__d.e:T_a.g-1", "127.0.0.1:5000/a/b-c__d.e:T_a.g-1"},
        {"[::1]:5000/app", "[::1]:5000/app:latest"},
        {"[fe80::1]/app", "[fe80::1]/app:latest"},
        {"registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"},
        {"Upper/app", "Upper/app:latest"},
        {"app@" DIGEST, "docker.io/library/app@" DIGEST},
        {"app:tag@" DIGEST, "docker.io/library/app@" DIGEST},
        {"cafe", "docker.io/library/cafe:latest"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        cleanup_free char *name = reference_normalize(cases[i][0], &err);
        if (!name)
            fail_msg("%s: %s", cases[i][0], err.message);
        assert_string_equal(name, cases[i][1]);
    }
}

static void
malformed_references_are_refused_in_words_that_name_them(void **state)
{
    static const char *const cases[] = {
        "",
        ":",
        "/",
        "a/",
        "/a",
        "UPPER",
        "a:",
        "a:b:c",
        "a@",
        "a@sha256:12",
        "a@sha256:"
        "X" HEX64,
        "a@md5:" HEX64,
        "a..b",
        "a.-b",
        "-a",
        "a-",
        "a/../b",
        "a b",
        "a\nb",
        "localhost:port/a",
        "localhost:/a",
        "host:123456/a",
        "[::1/a",
        "[zz]:5/a",
        "http://a/b",
        "a:tag with space",
        HEX64,
        "a___b",
        "reg.io./a",
        ".io/a",
        "a:-tag",
        "a@" DIGEST "@" DIGEST,
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        cleanup_free char *name = reference_normalize(cases[i], &err);
        if (name)
            fail_msg("%s became %s", cases[i], name);
        assert_int_equal(err.kind, ERR_INVALID);
        cleanup_free char *quoted = str_dup(cases[i]);
        for (char *c = quoted; *c; c++)
            if ((unsigned char)*c < ' ')
                *c = ' '; /* an error stays on one line */
        assert_non_null(strstr(err.message, quoted));
    }
}

static void
long_references_are_refused(void **state)
{
    (void)state;
    struct error err;
    char text[5000];
    for (size_t length = 200; length < sizeof text; length += 100) {
        memset(text, 'a', length);
        text[length] = '\0';
        cleanup_free char *name = reference_normalize(text, &err);
        assert_true(length < 250 || !name);
    }
    assert_null(reference_normalize(NULL, &err));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_forms_are_completed_as_docker_does),
        cmocka_unit_test(malformed_references_are_refused_in_words_that_name_them),
        cmocka_unit_test(long_references_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
