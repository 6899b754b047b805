/* The text of versions: one text a version, and nothing else is read as one. */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void writes_the_documented_form(void **state)
{
    (void)state;
    char text[STORE_VERSION_TEXT_BYTES];

    struct store_version version = {.epoch = 0x1234, .number = 0xabc};
    assert_int_equal(store_version_format(version, text), 20);
    assert_string_equal(text, "0000000000001234-abc");

    version = (struct store_version){.epoch = UINT64_MAX, .number = UINT64_MAX};
    assert_int_equal(store_version_format(version, text), 33);
    assert_string_equal(text, "ffffffffffffffff-ffffffffffffffff");

    version = (struct store_version){.epoch = 0, .number = 0};
    assert_int_equal(store_version_format(version, text), 18);
    assert_string_equal(text, "0000000000000000-0");
}

static void reads_what_it_writes(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int less = 0; less < 2; less++) {
            uint64_t n = (UINT64_C(1) << bit) - (uint64_t)less;
            struct store_version version = {.epoch = ~n, .number = n};
            char text[STORE_VERSION_TEXT_BYTES];
            size_t size = store_version_format(version, text);
            assert_int_equal(size, strlen(text));
            struct store_version back;
            assert_true(store_version_parse(bytes_of(text, size), &back));
            assert_true(store_version_equal(version, back));
        }
    }
}

static void refuses_every_other_text(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-",
        "0",
        "0000000000001234",
        "0000000000001234-",
        "0000000000001234-00",
        "0000000000001234-0abc",
        "0000000000001234-ABC",
        "000000000000123A-abc",
        "0000000000001234_abc",
        "000000000001234-abcd",
        "00000000000012345-abc",
        "0000000000001234-abc ",
        " 0000000000001234-abc",
        "0000000000001234-+1",
        "0000000000001234-0x1",
        "0000000000001234-10000000000000000",
        "0000000000001234-abg",
        "\"000000000001234-abc\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct store_version version = {.epoch = 7, .number = 8};
        assert_false(store_version_parse(bytes_of_text(bad[i]), &version));
        assert_true(version.epoch == 7 && version.number == 8);
    }
    struct store_version version;
    assert_false(store_version_parse(bytes_of("0000000000001234-a\0c", 20), &version));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_documented_form),
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(refuses_every_other_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
