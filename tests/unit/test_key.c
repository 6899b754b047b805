/* Targets, keys and parameters: decoded exactly once. */
#include "api/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct span text_span(const char *text)
{
    return span_of(text, strlen(text));
}

static void splits_every_form_of_target(void **state)
{
    static const struct {
        const char *raw, *authority, *path, *query;
    } cases[] = {
        {"/", NULL, "/", NULL},
        {"/kv/a", NULL, "/kv/a", NULL},
        {"/kv/a?", NULL, "/kv/a", ""},
        {"/kv/a?b?c", NULL, "/kv/a", "b?c"},
        {"/kv/a%3Fb", NULL, "/kv/a%3Fb", NULL},
        {"/kv/http://x/y", NULL, "/kv/http://x/y", NULL},
        {"//host/kv", NULL, "//host/kv", NULL},
        {"/kv/#x", NULL, "/kv/#x", NULL},
        {"*", NULL, "*", NULL},
        {"http://h/kv/a?b", "h", "/kv/a", "b"},
        {"HTTP://h:80/kv/a", "h:80", "/kv/a", NULL},
        {"https://[::1]:7070/", "[::1]:7070", "/", NULL},
        {"http://h", "h", "/", NULL},
        {"http://h?q", "h", "/", "q"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct target target;

        assert_int_equal(target_split(text_span(cases[i].raw), &target), PROBLEM_NONE);
        assert_true(span_is(target.path, cases[i].path));
        assert_int_equal(target.query.at != NULL, cases[i].query != NULL);
        if (cases[i].query != NULL) {
            assert_true(span_is(target.query, cases[i].query));
        }
        assert_int_equal(target.authority.at != NULL, cases[i].authority != NULL);
        if (cases[i].authority != NULL) {
            assert_true(span_is(target.authority, cases[i].authority));
        }
    }
}

static void refuses_other_targets(void **state)
{
    static const char *const others[] = {
        "", "kv/a", "host:443", "ftp://h/x", "http:///x", "http://", "http://u:p@h/x", "**", "*?",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct target target;

        if (target_split(text_span(others[i]), &target) != PROBLEM_MALFORMED_REQUEST) {
            fail_msg("took \"%s\"", others[i]);
        }
    }
}

static void decodes_a_key_exactly_once(void **state)
{
    static const struct {
        const char *raw, *key;
        size_t len;
    } cases[] = {
        {"a", "a", 1},
        {"a/b", "a/b", 3},
        {"a%2Fb", "a/b", 3},
        {"a%2fb", "a/b", 3},
        {"a+b", "a+b", 3},
        {"a%2Bb", "a+b", 3},
        {"a//b", "a//b", 4},
        {"/", "/", 1},
        {"%00", "\0", 1},
        {"a%00b", "a\0b", 3},
        {"%252F", "%2F", 3},
        {"%25%32%46", "%2F", 3},
        {"%FF%fe", "\xFF\xFE", 2},
        {"..", "..", 2},
        {"%2e%2E/x", "../x", 4},
        {"%3F#&=", "?#&=", 4},
        {"Aa", "Aa", 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[KEY_BYTES_MAX];
        struct span key;

        assert_int_equal(key_from_path(text_span(cases[i].raw), out, &key), PROBLEM_NONE);
        assert_int_equal(key.len, cases[i].len);
        assert_memory_equal(key.at, cases[i].key, key.len);
    }
}

static void every_byte_can_be_a_key(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char out[KEY_BYTES_MAX];
        char raw[4];
        struct span key;

        snprintf(raw, sizeof(raw), "%%%02x", byte);
        assert_int_equal(key_from_path(text_span(raw), out, &key), PROBLEM_NONE);
        assert_int_equal(key.len, 1);
        assert_int_equal((unsigned char)key.at[0], byte);
    }
}

static void refuses_bad_escapes(void **state)
{
    static const char *const others[] = {"%",    "%1",  "a%",  "a%g0", "%0g",
                                         "%%41", "%-1", "% 1", "%4"};

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char *exact = strndup(others[i], strlen(others[i]));
        char out[KEY_BYTES_MAX];
        struct span key;

        assert_non_null(exact);
        if (key_from_path(span_of(exact, strlen(others[i])), out, &key) != PROBLEM_MALFORMED_KEY) {
            fail_msg("took \"%s\"", others[i]);
        }
        free(exact);
    }
}

static void keys_have_1_to_1024_bytes(void **state)
{
    char raw[3 * (KEY_BYTES_MAX + 1)];
    char text64[2 * KEY_BYTES_MAX];
    char out[KEY_BYTES_MAX];
    struct span key;

    (void)state;
    for (size_t i = 0; i < sizeof(raw); i += 3) {
        memcpy(raw + i, "%41", 3);
    }
    memset(text64, 'A', sizeof(text64));

    assert_int_equal(key_from_path(span_of(raw, 0), out, &key), PROBLEM_EMPTY_KEY);
    assert_int_equal(key_from_path(span_of(raw, 3 * (size_t)KEY_BYTES_MAX), out, &key),
                     PROBLEM_NONE);
    assert_int_equal(key.len, KEY_BYTES_MAX);
    assert_int_equal(key_from_path(span_of(raw, sizeof(raw)), out, &key), PROBLEM_KEY_TOO_LONG);

    /* 1024 bytes are 1366 characters, the last of which holds two bits */
    assert_int_equal(key_from_base64url(span_of(text64, 0), out, &key), PROBLEM_EMPTY_KEY);
    assert_int_equal(key_from_base64url(span_of(text64, 1366), out, &key), PROBLEM_NONE);
    assert_int_equal(key.len, KEY_BYTES_MAX);
    assert_int_equal(key_from_base64url(span_of(text64, 1367), out, &key), PROBLEM_KEY_TOO_LONG);
    assert_int_equal(key_from_base64url(span_of(text64, 1368), out, &key), PROBLEM_KEY_TOO_LONG);
}

static void base64url_keys_are_canonical(void **state)
{
    char out[KEY_BYTES_MAX];
    struct span key;

    (void)state;
    assert_int_equal(key_from_base64url(text_span("AA"), out, &key), PROBLEM_NONE);
    assert_int_equal(key.len, 1);
    assert_int_equal(key.at[0], 0);
    assert_int_equal(key_from_base64url(text_span("AB"), out, &key), PROBLEM_MALFORMED_KEY);
    assert_int_equal(key_from_base64url(text_span("AA=="), out, &key), PROBLEM_MALFORMED_KEY);
    assert_int_equal(key_from_base64url(text_span("%41A"), out, &key), PROBLEM_MALFORMED_KEY);
    assert_int_equal(key_from_base64url(text_span("A/"), out, &key), PROBLEM_MALFORMED_KEY);
}

static void decodes_a_key_in_place(void **state)
{
    char raw[] = "%61/%62";
    struct span key;

    (void)state;
    assert_int_equal(key_from_path(text_span(raw), raw, &key), PROBLEM_NONE);
    assert_true(span_is(key, "a/b"));
}

static void knows_utf8(void **state)
{
    static const char *const good[] = {
        "",
        "a",
        "\xC2\x80",
        "\xDF\xBF",
        "\xE0\xA0\x80",
        "\xED\x9F\xBF",
        "\xEE\x80\x80",
        "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80",
        "\xF4\x8F\xBF\xBF",
        "gr\xC3\xBC\xC3\x9F",
    };
    static const char *const bad[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF",
        "\xC2",
        "\xC2 ",
        "\xE0\x9F\xBF",
        "\xE0\xA0",
        "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFF",
        "\xE2\x82",
        "a\xC3",
        "\xE2\x28\xA1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(key_is_utf8(text_span(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *exact = malloc(strlen(bad[i]));

        assert_non_null(exact);
        memcpy(exact, bad[i], strlen(bad[i]));
        if (key_is_utf8(span_of(exact, strlen(bad[i])))) {
            fail_msg("took case %zu", i);
        }
        free(exact);
    }
    assert_true(key_is_utf8(span_of("\0a", 2)));
}

static enum problem parse(const char *query, struct parameter known[2], struct span *name)
{
    static char copy[256];

    snprintf(copy, sizeof(copy), "%s", query);
    known[0] = (struct parameter){.name = "prefix"};
    known[1] = (struct parameter){.name = "limit"};
    return query_parse(copy, strlen(copy), known, 2, name);
}

static void reads_the_parameters_that_a_route_knows(void **state)
{
    static const struct {
        const char *query, *prefix, *limit;
    } cases[] = {
        {"", NULL, NULL},
        {"&&", NULL, NULL},
        {"prefix", "", NULL},
        {"prefix=", "", NULL},
        {"prefix=a", "a", NULL},
        {"prefix=a&limit=3", "a", "3"},
        {"limit=3&&prefix=a&", "a", "3"},
        {"prefix=a=b", "a=b", NULL},
        {"prefix=a+b%2B", "a b+", NULL},
        {"prefix=%26%3D%252F", "&=%2F", NULL},
        {"pre%66ix=a", "a", NULL},
        {"prefix=a?b/c", "a?b/c", NULL},
        {"ID=x&prefix=a&ID=y", "a", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parameter known[2];
        struct span name;

        assert_int_equal(parse(cases[i].query, known, &name), PROBLEM_NONE);
        assert_int_equal(known[0].value.at != NULL, cases[i].prefix != NULL);
        assert_int_equal(known[1].value.at != NULL, cases[i].limit != NULL);
        if (cases[i].prefix != NULL) {
            assert_true(span_is(known[0].value, cases[i].prefix));
        }
        if (cases[i].limit != NULL) {
            assert_true(span_is(known[1].value, cases[i].limit));
        }
    }
}

static void nothing_in_a_query_is_ignored(void **state)
{
    static const struct {
        const char *query;
        enum problem problem;
        const char *name;
    } cases[] = {
        {"ttl=5", PROBLEM_UNKNOWN_PARAMETER, "ttl"},
        {"prefix=a&delimiter=/", PROBLEM_UNKNOWN_PARAMETER, "delimiter"},
        {"Prefix=a", PROBLEM_UNKNOWN_PARAMETER, "Prefix"},
        {"id=a", PROBLEM_UNKNOWN_PARAMETER, "id"},
        {"=a", PROBLEM_UNKNOWN_PARAMETER, ""},
        {"a%00=1", PROBLEM_UNKNOWN_PARAMETER, ""},
        {"prefix=a&prefix=a", PROBLEM_MALFORMED_PARAMETER, "prefix"},
        {"prefix&prefix", PROBLEM_MALFORMED_PARAMETER, "prefix"},
        {"prefix=%", PROBLEM_MALFORMED_PARAMETER, "prefix"},
        {"prefix=%4&limit=1", PROBLEM_MALFORMED_PARAMETER, "prefix"},
        {"prefix=%4", PROBLEM_MALFORMED_PARAMETER, "prefix"},
        {"%zz=1", PROBLEM_MALFORMED_PARAMETER, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parameter known[2];
        struct span name = {NULL, 0};

        assert_int_equal(parse(cases[i].query, known, &name), cases[i].problem);
        assert_true(span_is(name, cases[i].name));
    }
}

static void reads_numbers_within_bounds(void **state)
{
    static const char *const others[] = {
        "", "0", "11", "-1", "+1", " 1", "1 ", "0x1", "1.", "a", "18446744073709551617"};
    uint64_t number = 0;

    (void)state;
    assert_true(number_parse(text_span("1"), 1, 10, &number));
    assert_int_equal(number, 1);
    assert_true(number_parse(text_span("010"), 1, 10, &number));
    assert_int_equal(number, 10);
    assert_true(number_parse(text_span("18446744073709551615"), 0, UINT64_MAX, &number));
    assert_true(number == UINT64_MAX);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (number_parse(text_span(others[i]), 1, 10, &number)) {
            fail_msg("took \"%s\"", others[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_every_form_of_target),
        cmocka_unit_test(refuses_other_targets),
        cmocka_unit_test(decodes_a_key_exactly_once),
        cmocka_unit_test(every_byte_can_be_a_key),
        cmocka_unit_test(refuses_bad_escapes),
        cmocka_unit_test(keys_have_1_to_1024_bytes),
        cmocka_unit_test(base64url_keys_are_canonical),
        cmocka_unit_test(decodes_a_key_in_place),
        cmocka_unit_test(knows_utf8),
        cmocka_unit_test(reads_the_parameters_that_a_route_knows),
        cmocka_unit_test(nothing_in_a_query_is_ignored),
        cmocka_unit_test(reads_numbers_within_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
