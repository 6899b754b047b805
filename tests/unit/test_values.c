/* Sizes, durations, counts and addresses: what is taken, and that nothing else is. */
#include "service/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void sizes_take_binary_units(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"1B", 1},
        {"64KiB", 65536},
        {"64MiB", 67108864},
        {"1GiB", 1073741824},
        {"2TiB", 2199023255552},
        {"18446744073709551615", UINT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bytes = 77;

        assert_true(size_parse(cases[i].text, &bytes));
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void what_is_not_wholly_a_size_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "1MB",
        "1kib",
        "1 KiB",
        "0x10",
        "1.5GiB",
        "KiB",
        "18446744073709551616",
        "1K",
        "1GiBs",
        "17179869184GiB",
        "1\n",
        "99999999999999999999999999999KiB",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bytes = 77;

        assert_false(size_parse(cases[i], &bytes));
        assert_int_equal(bytes, 77);
    }
}

static void durations_need_a_unit_except_zero(void **state)
{
    uint64_t ms = 77;

    (void)state;
    assert_true(duration_parse("250ms", &ms));
    assert_int_equal(ms, 250);
    assert_true(duration_parse("10s", &ms));
    assert_int_equal(ms, 10000);
    assert_true(duration_parse("2m", &ms));
    assert_int_equal(ms, 120000);
    assert_true(duration_parse("1h", &ms));
    assert_int_equal(ms, 3600000);
    assert_true(duration_parse("0", &ms));
    assert_int_equal(ms, 0);
    assert_false(duration_parse("10", &ms));
    assert_false(duration_parse("10S", &ms));
    assert_false(duration_parse("1m30s", &ms));
    assert_false(duration_parse("9999999999999999999m", &ms));
    assert_int_equal(ms, 0);
}

static void formatting_uses_the_largest_unit_that_divides(void **state)
{
    char text[VALUE_TEXT_BYTES];

    (void)state;
    size_format(0, text);
    assert_string_equal(text, "0B");
    size_format(1000, text);
    assert_string_equal(text, "1000B");
    size_format(65536, text);
    assert_string_equal(text, "64KiB");
    size_format(UINT64_C(3) << 30, text);
    assert_string_equal(text, "3GiB");
    duration_format(1500, text);
    assert_string_equal(text, "1500ms");
    duration_format(25000, text);
    assert_string_equal(text, "25s");
    duration_format(3600000, text);
    assert_string_equal(text, "1h");
}

static void addresses_come_back_as_they_were_typed(void **state)
{
    static const char *const cases[] = {"127.0.0.1:7070", "0.0.0.0:0",      "[::1]:65535",
                                        "[::]:80",        "[fe80::1]:7070", "10.1.2.3:1"};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;
        char text[ADDRESS_TEXT_BYTES];

        assert_true(address_parse(cases[i], &address));
        address_format(&address, text);
        assert_string_equal(text, cases[i]);
    }
}

static void localhost_is_the_one_name_that_is_taken(void **state)
{
    struct address address;
    char text[ADDRESS_TEXT_BYTES];

    (void)state;
    assert_true(address_parse("localhost:7070", &address));
    address_format(&address, text);
    assert_string_equal(text, "127.0.0.1:7070");
    assert_int_equal(address_port(&address), 7070);
}

static void what_is_not_wholly_an_address_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "7070",
        ":7070",
        "127.0.0.1",
        "127.0.0.1:",
        "[::1]",
        "[::1]:",
        "::1:7070",
        "[127.0.0.1]:1",
        "127.0.0.1:65536",
        "[]:1",
        "[:1",
        "]:1",
        "host:1",
        "127.1:1",
        "[::1]x:1",
        "127.0.0.1:-1",
        "127.0.0.1: 1",
        "*:7070",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa]:1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;

        assert_false(address_parse(cases[i], &address));
    }
}

static void loopback_is_recognized_in_every_form(void **state)
{
    static const struct {
        const char *text;
        bool loopback;
    } cases[] = {
        {"127.0.0.1:1", true},          {"127.255.0.9:1", true}, {"[::1]:1", true},
        {"[::ffff:127.0.0.1]:1", true}, {"0.0.0.0:1", false},    {"[::]:1", false},
        {"[::ffff:10.0.0.1]:1", false}, {"128.0.0.1:1", false},  {"[fe80::1]:1", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;

        assert_true(address_parse(cases[i].text, &address));
        assert_int_equal(address_is_loopback(&address), cases[i].loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_take_binary_units),
        cmocka_unit_test(what_is_not_wholly_a_size_is_refused),
        cmocka_unit_test(durations_need_a_unit_except_zero),
        cmocka_unit_test(formatting_uses_the_largest_unit_that_divides),
        cmocka_unit_test(addresses_come_back_as_they_were_typed),
        cmocka_unit_test(localhost_is_the_one_name_that_is_taken),
        cmocka_unit_test(what_is_not_wholly_an_address_is_refused),
        cmocka_unit_test(loopback_is_recognized_in_every_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
