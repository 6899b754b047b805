/* Dates: written in one form, read in three. */
#include "api/httpdate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

enum { RFC_EXAMPLE_S = 784111777, NOW_S = 1795000000 /* November 2026 */ };

static void writes_what_gmtime_says(void **state)
{
    const char *seed_text = getenv("VARVE_TEST_SEED");
    unsigned seed = seed_text == NULL ? 1 : (unsigned)strtoul(seed_text, NULL, 10);

    (void)state;
    print_message("seed %u\n", seed);
    for (int round = 0; round < 20000; round++) {
        /* from the year 0 to 9999, and sometimes twice the same day */
        int64_t random = (int64_t)rand_r(&seed) << 31 | rand_r(&seed);
        time_t second = (time_t)(random % 315569520000 - 62167219200);
        char expected[HTTPDATE_SIZE + 16];
        char text[HTTPDATE_SIZE];
        int64_t back;
        struct tm tm;

        gmtime_r(&second, &tm);
        assert_int_equal(strftime(expected, sizeof(expected), "%a, %d %b ", &tm), 12);
        snprintf(expected + 12, sizeof(expected) - 12, "%04d %02d:%02d:%02d GMT", tm.tm_year + 1900,
                 tm.tm_hour, tm.tm_min, tm.tm_sec);
        httpdate_format(second, text);
        assert_string_equal(text, expected);
        assert_true(httpdate_parse(text, strlen(text), NOW_S, &back));
        assert_int_equal(back, second);
    }
}

static void stays_within_four_digit_years(void **state)
{
    char text[HTTPDATE_SIZE];
    char json[RFC3339_SIZE];

    (void)state;
    httpdate_format(INT64_MAX, text);
    assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
    httpdate_format(INT64_MIN, text);
    assert_string_equal(text, "Sat, 01 Jan 0000 00:00:00 GMT");
    rfc3339_format(INT64_MAX, json);
    assert_string_equal(json, "9999-12-31T23:59:59.807Z");
}

static void json_has_milliseconds(void **state)
{
    char text[RFC3339_SIZE];

    (void)state;
    rfc3339_format(INT64_C(1000) * RFC_EXAMPLE_S + 7, text);
    assert_string_equal(text, "1994-11-06T08:49:37.007Z");
    rfc3339_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void reads_all_three_forms(void **state)
{
    static const char *const texts[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        int64_t second = 0;

        assert_true(httpdate_parse(texts[i], strlen(texts[i]), NOW_S, &second));
        assert_int_equal(second, RFC_EXAMPLE_S);
    }
}

static void reads_edges_of_the_calendar(void **state)
{
    static const struct {
        const char *text;
        int64_t second;
    } cases[] = {
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Thu, 29 Feb 2024 23:59:59 GMT", 1709251199},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
        {"Wed Dec 31 23:59:59 1969", -1},
        /* 50 years ahead is the future, more is the past */
        {"Friday, 01-Jan-76 00:00:00 GMT", 3345062400},
        {"Saturday, 01-Jan-77 00:00:00 GMT", 220924800},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t second = 0;

        if (!httpdate_parse(cases[i].text, strlen(cases[i].text), NOW_S, &second)) {
            fail_msg("refused %s", cases[i].text);
        }
        assert_int_equal(second, cases[i].second);
    }
}

static void refuses_what_is_no_date(void **state)
{
    static const char *const others[] = {
        "",
        "0",
        "784111777",
        "Sun",
        "Sun, ",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 29 Feb 2023 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        int64_t second = 0;
        char *exact = strdup(others[i]); /* so that a sanitizer sees a read beyond the end */

        assert_non_null(exact);
        if (httpdate_parse(exact, strlen(exact), NOW_S, &second)) {
            fail_msg("took \"%s\"", others[i]);
        }
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_gmtime_says),
        cmocka_unit_test(stays_within_four_digit_years),
        cmocka_unit_test(json_has_milliseconds),
        cmocka_unit_test(reads_all_three_forms),
        cmocka_unit_test(reads_edges_of_the_calendar),
        cmocka_unit_test(refuses_what_is_no_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
