#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin.pb-c.h"
#include "api.pb-c.h"
#include "base/str.h"
#include "cri/arena.h"
#include "cri/rpc.h"
#include "cri/wire.h"
#include "fake_backend.h"

size_t fake_exec_output_bytes, fake_pods, fake_pod_bytes;

#define POD &runtime__v1__run_pod_sandbox_request__descriptor

static int
check(const char *bytes, size_t length, struct error *err)
{
    *err = (struct error){0};
    return wire_check(POD, bytes, length, err);
}

#define CHECK(literal) check(literal, sizeof literal - 1, &err)

static void
a_sound_message_passes(void **state)
{
    struct error err;
    (void)state;
    assert_int_equal(CHECK(""), 0);
    assert_int_equal(CHECK("\x12\x02hi"), 0);
    assert_int_equal(CHECK("\x0a\x05\x0a\x03\x0a\x01x"), 0); /* config { metadata { name: "x" } } */
    assert_int_equal(CHECK("\x0a\x04\x12\x02\xc3\xa9"), 0);  /* hostname: "é" */
    assert_int_equal(CHECK("\xf8\x07\x01"), 0);              /* a field of the future */
}

static void
strings_are_utf8_without_nul(void **state)
{
    struct error err;
    (void)state;
    assert_int_equal(CHECK("\x12\x02h\0"), -1);
    assert_int_equal(err.kind, ERR_INVALID);
    assert_string_equal(err.message, "runtime_handler: it holds a NUL byte");
    assert_int_equal(CHECK("\x0a\x05\x0a\x03\x0a\x01\xff"), -1);
    assert_string_equal(err.message, "config: metadata: name: it is not UTF-8");
}

static void
broken_bytes_are_no_message(void **state)
{
    static const struct {
        const char *bytes;
        size_t length;
    } broken[] = {
        {"\x12", 1}, {"\x12\x05hi", 4}, {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11}, {"\x0b", 1}, {"\x0a\x02\x0a\x05", 4}, {"\x09\x01", 2},
    };
    struct error err;
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        assert_int_equal(check(broken[i].bytes, broken[i].length, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
    }
}

static void
the_same_maps_in_another_order_are_the_same_bytes(void **state)
{
    /* labels: field 6 of config, entries {1: key, 2: value} */
    static const char first[] = "\x0a\x10\x32\x06\x0a\x01"
                                "a\x12\x01"
                                "1\x32\x06\x0a\x01"
                                "b\x12\x01"
                                "2";
    static const char second[] = "\x0a\x18\x32\x06\x0a\x01"
                                 "b\x12\x01"
                                 "2\x32\x06\x0a\x01"
                                 "a\x12\x01"
                                 "9\x32\x06\x0a\x01"
                                 "a\x12\x01"
                                 "1"; /* the later of two with one key holds */
    unsigned char packed[2][64];
    size_t length[2];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        ProtobufCMessage *message = i ? protobuf_c_message_unpack(POD, NULL, sizeof second - 1, (const uint8_t *)second)
                                      : protobuf_c_message_unpack(POD, NULL, sizeof first - 1, (const uint8_t *)first);
        assert_non_null(message);
        struct arena arena = {0};
        struct arena_allocator allocator;
        arena_allocator_init(&allocator, &arena, 1 << 20);
        protobuf_c_message_free_unpacked(message, NULL);
        message = i ? protobuf_c_message_unpack(POD, &allocator.base, sizeof second - 1, (const uint8_t *)second)
                    : protobuf_c_message_unpack(POD, &allocator.base, sizeof first - 1, (const uint8_t *)first);
        wire_sort_maps(message);
        length[i] = protobuf_c_message_pack(message, packed[i]);
        arena_free(&arena);
    }
    assert_int_equal(length[0], length[1]);
    assert_memory_equal(packed[0], packed[1], length[0]);
}

static void
an_arena_ends_where_its_limit_is(void **state)
{
    static const char pod[] = "\x0a\x05\x0a\x03\x0a\x01x";
    struct arena arena = {0};
    struct arena_allocator allocator;
    (void)state;
    arena_allocator_init(&allocator, &arena, 64);
    assert_null(protobuf_c_message_unpack(POD, &allocator.base, sizeof pod - 1, (const uint8_t *)pod));
    assert_true(allocator.exhausted);
    for (size_t size = 1; size < 100000; size = size * 3) {
        char *memory = arena_alloc(&arena, size);
        assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
        assert_int_equal(memory[0], 0);
        memset(memory, 0xaa, size);
    }
    assert_string_equal(arena_printf(&arena, "%d-%s", 7, "x"), "7-x");
    arena_free(&arena);
}

/* Every rpc that CRI has, or that is our own, is in the table, and nothing else is. */
static void
the_table_names_every_rpc(void **state)
{
    const ProtobufCServiceDescriptor *const services[] = {&runtime__v1__runtime_service__descriptor, &runtime__v1__image_service__descriptor,
                                                          &crisp__v1__admin__descriptor};
    size_t methods = 0;
    (void)state;
    for (size_t s = 0; s < 3; s++)
        for (unsigned m = 0; m < services[s]->n_methods; m++, methods++) {
            size_t found = 0;
            for (size_t i = 0; i < rpc_count; i++)
                found += rpcs[i].service == services[s] && str_eq(rpcs[i].name, services[s]->methods[m].name);
            if (found != 1)
                fail_msg("%s is %zu times in the table", services[s]->methods[m].name, found);
        }
    assert_int_equal(methods, 43 + services[2]->n_methods);
    assert_int_equal(rpc_count, methods);
    char *path = rpc_path(&rpcs[0]);
    assert_string_equal(path, "/runtime.v1.RuntimeService/Version");
    free(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_message_passes),           cmocka_unit_test(strings_are_utf8_without_nul),
        cmocka_unit_test(broken_bytes_are_no_message),      cmocka_unit_test(the_same_maps_in_another_order_are_the_same_bytes),
        cmocka_unit_test(an_arena_ends_where_its_limit_is), cmocka_unit_test(the_table_names_every_rpc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
