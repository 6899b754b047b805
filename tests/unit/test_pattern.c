/* The tests' own tools: values that tell what they are, numbers that come back with their seed. */
#include "tests/support/pattern.h"

#include "tests/support/check.h"
#include "tests/support/random.h"

enum { SIZES = 100 };

static void a_value_matches_its_own_key_version_and_size_alone(void **state)
{
    const struct bytes key = bytes_of_text("key");
    unsigned char value[SIZES];
    uint64_t version;

    (void)state;
    for (size_t size = PATTERN_VERSION_BYTES; size < SIZES; size++) {
        pattern_fill(key, 7, value, size);
        struct bytes whole = bytes_of(value, size);
        assert_true(pattern_matches(key, 7, whole));
        assert_true(pattern_version(key, whole, &version));
        assert_int_equal(version, 7);
        assert_false(pattern_matches(key, 8, whole));
        /* behind the version each byte lets a wrong one pass with one chance in 256 */
        if (size > 2 * (size_t)PATTERN_VERSION_BYTES) {
            assert_false(pattern_matches(bytes_of_text("kez"), 7, whole));
            assert_false(pattern_version(bytes_of_text("kez"), whole, &version));
            assert_false(pattern_matches(key, 7, bytes_of(value, size - 1)));
            assert_false(pattern_version(key, bytes_of(value + 1, size - 1), &version));
        }
    }
    assert_false(pattern_version(key, bytes_of(value, PATTERN_VERSION_BYTES - 1), &version));
}

static void every_flipped_bit_is_noticed_where_it_is(void **state)
{
    const struct bytes key = bytes_of_text("key");
    unsigned char value[SIZES];

    (void)state;
    pattern_fill(key, 1, value, SIZES);
    for (size_t bit = 0; bit < 8 * (size_t)SIZES; bit++) {
        value[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(pattern_mismatch(key, 1, bytes_of(value, SIZES)), bit / 8);
        value[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    assert_int_equal(pattern_mismatch(key, 1, bytes_of(value, SIZES)), SIZES);
}

static void equal_seeds_give_equal_numbers(void **state)
{
    struct prng a, b, c;
    unsigned differ = 0;

    (void)state;
    prng_init(&a, 42);
    prng_init(&b, 42);
    prng_init(&c, 43);
    for (int i = 0; i < 100; i++) {
        uint64_t n = prng_next(&a);
        assert_true(n == prng_next(&b));
        differ += n != prng_next(&c);
    }
    assert_true(differ > 90);
    assert_true(test_seed() == test_seed());
}

static void bounded_numbers_reach_every_value_and_no_other(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (uint64_t bound = 1; bound < 20; bound++) {
        unsigned counts[20] = {0};
        for (int i = 0; i < 2000; i++) {
            uint64_t n = prng_below(&prng, bound);
            assert_true(n < bound);
            counts[n]++;
        }
        for (uint64_t n = 0; n < bound; n++) {
            assert_true(counts[n] > 0);
        }
    }
    for (int i = 0; i < 100; i++) {
        assert_false(prng_chance(&prng, 0));
        assert_true(prng_chance(&prng, 100));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_matches_its_own_key_version_and_size_alone),
        cmocka_unit_test(every_flipped_bit_is_noticed_where_it_is),
        cmocka_unit_test(equal_seeds_give_equal_numbers),
        cmocka_unit_test(bounded_numbers_reach_every_value_and_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
