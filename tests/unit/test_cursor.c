/* Cursors: what is written is read back, and nothing else is taken. */
#include "api/cursor.h"

#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/random.h"

static void reads_what_it_writes(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (int round = 0; round < 1000; round++) {
        char last[KEY_BYTES_MAX];
        char end[KEY_BYTES_MAX];
        char text[CURSOR_SIZE];
        struct cursor cursor = {
            .limit = (uint16_t)(1 + prng_below(&prng, 10000)),
            .last = {last, 1 + prng_below(&prng, KEY_BYTES_MAX)},
            .end = {end, prng_below(&prng, KEY_BYTES_MAX + 1)},
        };
        struct cursor again;

        prng_fill(&prng, last, sizeof last);
        prng_fill(&prng, end, sizeof end);
        last[0] = (char)(last[0] & 0x7F); /* no page's last key is beyond its end */
        end[0] = (char)(end[0] | 0x80);
        cursor_format(&cursor, text);
        assert_true(cursor_parse(text, strlen(text), 10000, &again));
        assert_int_equal(again.limit, cursor.limit);
        assert_int_equal(again.last.len, cursor.last.len);
        assert_memory_equal(again.last.at, last, cursor.last.len);
        assert_int_equal(again.end.len, cursor.end.len);
        assert_memory_equal(again.end.at, end, cursor.end.len);
    }
}

static void takes_nothing_that_was_cut_off(void **state)
{
    struct cursor cursor = {.limit = 7, .last = {"key", 3}, .end = {"", 0}};
    char text[CURSOR_SIZE];
    char copy[CURSOR_SIZE];

    (void)state;
    cursor_format(&cursor, text);
    for (size_t len = 0; len < strlen(text); len++) {
        memcpy(copy, text, len);
        assert_false(cursor_parse(copy, len, 10000, &cursor));
    }
}

static void keeps_the_limits(void **state)
{
    struct cursor cursor = {.limit = 10000, .last = {"key", 3}, .end = {"", 0}};
    char text[CURSOR_SIZE];
    char copy[CURSOR_SIZE];

    (void)state;
    cursor_format(&cursor, text);
    memcpy(copy, text, sizeof copy);
    assert_true(cursor_parse(copy, strlen(text), 10000, &cursor));
    memcpy(copy, text, sizeof copy);
    assert_false(cursor_parse(copy, strlen(text), 9999, &cursor));
}

/* Nobody was given such a cursor; the store was asked for a range upside down. */
static void takes_no_key_at_or_beyond_the_end(void **state)
{
    static const char *const keys[] = {"b", "ba", "c"};
    char text[CURSOR_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct cursor cursor = {.limit = 1, .last = {keys[i], strlen(keys[i])}, .end = {"b", 1}};

        cursor_format(&cursor, text);
        assert_false(cursor_parse(text, strlen(text), 10000, &cursor));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_writes),
        cmocka_unit_test(takes_nothing_that_was_cut_off),
        cmocka_unit_test(keeps_the_limits),
        cmocka_unit_test(takes_no_key_at_or_beyond_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
