/* Filters: every key that was added is found, and few others. */
#include "store/lsm/filter.h"

#include <stdlib.h>

#include "store/lsm/table.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

/* A fixed seed: the rates below are facts about these very keys. */
#define SEED UINT64_C(20240229)

static uint64_t hash_of(uint64_t key)
{
    return table_hash(bytes_of(&key, sizeof key));
}

static uint8_t *new_filter(uint64_t keys, uint64_t *ret_size)
{
    *ret_size = filter_size_for(keys);
    uint8_t *filter = calloc(1, *ret_size);
    assert_non_null(filter);
    for (uint64_t i = 0; i < keys; i++) {
        filter_add(filter, *ret_size, hash_of(i));
    }
    return filter;
}

static void finds_every_key_that_was_added(void **state)
{
    static const uint64_t counts[] = {1, 2, 51, 52, 1000, 77777};
    (void)state;

    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        uint64_t size;
        uint8_t *filter = new_filter(counts[c], &size);
        for (uint64_t i = 0; i < counts[c]; i++) {
            assert_true(filter_may_contain(filter, size, hash_of(i)));
        }
        free(filter);
    }
}

static void about_one_percent_of_absent_keys_seem_to_be_there(void **state)
{
    enum { KEYS = 100000, ABSENT = 100000 };
    uint64_t size;
    unsigned found = 0;
    struct prng prng;
    (void)state;

    uint8_t *filter = new_filter(KEYS, &size);
    prng_init(&prng, SEED);
    for (unsigned i = 0; i < ABSENT; i++) {
        found += filter_may_contain(filter, size, hash_of(KEYS + (prng_next(&prng) >> 1)));
    }
    print_message("false positives: %u of %u\n", found, ABSENT);
    assert_in_range(found, 1, ABSENT / 80);
    free(filter);
}

static void takes_ten_bits_a_key_in_whole_lines(void **state)
{
    (void)state;
    assert_int_equal(filter_size_for(0), FILTER_LINE_BYTES);
    assert_int_equal(filter_size_for(1), FILTER_LINE_BYTES);
    assert_int_equal(filter_size_for(51), FILTER_LINE_BYTES);
    assert_int_equal(filter_size_for(52), 2 * FILTER_LINE_BYTES);
    assert_int_equal(filter_size_for(1 << 20), (10 << 20) / 8);
}

/* The bits are part of the file format: other machines and later versions must set the same. */
static void sets_the_bits_that_the_format_says(void **state)
{
    uint8_t filter[3 * FILTER_LINE_BYTES] = {0};
    const uint64_t hash = UINT64_C(0x8000000012345678); /* line 1 of 3 */
    const uint64_t p = UINT64_C(0x12345678) * UINT64_C(0x9E3779B97F4A7C15);
    unsigned set = 0;
    (void)state;

    filter_add(filter, sizeof filter, hash);
    for (unsigned i = 0; i < 6; i++) {
        unsigned bit = (unsigned)(p / (UINT64_C(1) << (55 - 9 * i)) % 512);
        assert_true(filter[FILTER_LINE_BYTES + bit / 8] >> bit % 8 & 1);
    }
    for (size_t i = 0; i < sizeof filter; i++) {
        set += (unsigned)__builtin_popcount(filter[i]);
    }
    assert_in_range(set, 1, 6);
    /* XXH3 with seed 0 of the empty input, as its authors publish it. */
    assert_true(table_hash(bytes_of("", 0)) == UINT64_C(0x2D06800538D394C2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_key_that_was_added),
        cmocka_unit_test(about_one_percent_of_absent_keys_seem_to_be_there),
        cmocka_unit_test(takes_ten_bits_a_key_in_whole_lines),
        cmocka_unit_test(sets_the_bits_that_the_format_says),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
