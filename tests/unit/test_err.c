/* The table of errors: every code has a name and a text of its own. */
#include "store/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define CODE(code, text) code,
static const enum err all[] = {ERR_TABLE(CODE)};
#undef CODE
enum { COUNT = sizeof(all) / sizeof(all[0]) };

static void every_code_has_its_own_name_and_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(strncmp(err_name(all[i]), "ERR_", 4), 0);
        assert_true(strlen(err_text(all[i])) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(err_name(all[i]), err_name(all[j]));
            assert_string_not_equal(err_text(all[i]), err_text(all[j]));
        }
    }
}

static void success_is_zero(void **state)
{
    (void)state;
    assert_int_equal(ERR_OK, 0);
    assert_string_equal(err_name(ERR_OK), "ERR_OK");
}

static void a_value_outside_the_enum_has_a_text_too(void **state)
{
    (void)state;
    /* volatile: the compiler may not conclude that such values never occur */
    volatile int beyond = COUNT;
    volatile int negative = -1;

    assert_string_equal(err_text((enum err)beyond), "unknown error");
    assert_string_equal(err_text((enum err)negative), "unknown error");
    assert_string_equal(err_name((enum err)beyond), "ERR_?");
}

static void detail_is_formatted_and_cut_off_at_its_size(void **state)
{
    struct err_detail detail;
    char big[2 * sizeof(detail.text)];

    (void)state;
    err_detail_set(&detail, "%s: offset %d", "000001.log", 4096);
    assert_string_equal(detail.text, "000001.log: offset 4096");

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    err_detail_set(&detail, "%s", big);
    assert_int_equal(strlen(detail.text), sizeof(detail.text) - 1);
}

static void detail_may_be_null(void **state)
{
    (void)state;
    err_detail_set(NULL, "%s", "nobody listens");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_name_and_text),
        cmocka_unit_test(success_is_zero),
        cmocka_unit_test(a_value_outside_the_enum_has_a_text_too),
        cmocka_unit_test(detail_is_formatted_and_cut_off_at_its_size),
        cmocka_unit_test(detail_may_be_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
