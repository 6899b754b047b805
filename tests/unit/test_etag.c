/* Entity tags, as sent and as received. */
#include "api/etag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_version_stands_in_quotes(void **state)
{
    char text[ETAG_SIZE];

    (void)state;
    assert_int_equal(etag_format((struct store_version){0xAB, 0x1F}, text), 21);
    assert_string_equal(text, "\"00000000000000ab-1f\"");
    assert_int_equal(etag_format((struct store_version){UINT64_MAX, UINT64_MAX}, text), 35);
}

static void takes_one_tag_and_leaves_the_rest(void **state)
{
    static const struct {
        const char *text;
        const char *rest;
        bool weak, ours;
    } cases[] = {
        {"\"00000000000000ab-1f\"", "", false, true},
        {"W/\"00000000000000ab-1f\", \"x\"", ", \"x\"", true, true},
        {"\"\"", "", false, false},
        {"\"a,b\",", ",", false, false},
        {"\"\x80\xFF!#~\"", "", false, false},
        {"\"00000000000000AB-1f\"", "", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span text = span_of(cases[i].text, strlen(cases[i].text));
        struct etag etag;

        assert_true(etag_take(&text, &etag));
        assert_int_equal(etag.weak, cases[i].weak);
        assert_int_equal(etag.ours, cases[i].ours);
        assert_true(span_is(text, cases[i].rest));
        if (etag.ours) {
            assert_true(store_version_equal(etag.version, (struct store_version){0xAB, 0x1F}));
        }
    }
}

static void refuses_what_is_no_tag(void **state)
{
    static const char *const others[] = {
        "",    "x",  "\"x",     "x\"",     "*",         "w/\"x\"",
        "W/x", "W/", "W \"x\"", "\"a b\"", "\"a\x7F\"", "'x'",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct span text = span_of(others[i], strlen(others[i]));
        struct etag etag;

        if (etag_take(&text, &etag)) {
            fail_msg("took %s", others[i]);
        }
        assert_ptr_equal(text.at, others[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_stands_in_quotes),
        cmocka_unit_test(takes_one_tag_and_leaves_the_rest),
        cmocka_unit_test(refuses_what_is_no_tag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
