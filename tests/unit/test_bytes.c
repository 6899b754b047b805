/* Runs of bytes and little-endian numbers. */
#include "store/base/bytes.h"

#include "tests/support/check.h"
#include "tests/support/random.h"

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

static void compares_bytes_as_unsigned_and_a_prefix_sorts_first(void **state)
{
    /* ascending */
    const struct bytes ordered[] = {
        bytes_of(NULL, 0),         bytes_of("\0", 1),   bytes_of("\0\0", 2), bytes_of("\0a", 2),
        bytes_of("a", 1),          bytes_of("a\0", 2),  bytes_of("ab", 2),   bytes_of("b", 1),
        bytes_of("\x7f\xff", 2),   bytes_of("\x80", 1), bytes_of("\xff", 1), bytes_of("\xff\0", 2),
        bytes_of_text("\xff\xff"),
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ordered); i++) {
        for (size_t j = 0; j < COUNT_OF(ordered); j++) {
            int expected = (i > j) - (i < j);
            assert_int_equal(sign(bytes_compare(ordered[i], ordered[j])), expected);
            assert_int_equal(bytes_equal(ordered[i], ordered[j]), i == j);
        }
    }
}

static void empty_runs_are_equal_wherever_they_point(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_of("x", 0)));
    assert_int_equal(bytes_compare(bytes_of("x", 0), bytes_of(NULL, 0)), 0);
    assert_int_equal(bytes_prefix(bytes_of(NULL, 0)), 0);
}

static void a_prefix_number_never_contradicts_the_order(void **state)
{
    struct prng prng;

    (void)state;
    prng_init(&prng, test_seed());
    for (int round = 0; round < 20000; round++) {
        unsigned char a[12], b[12];
        size_t a_size = prng_below(&prng, sizeof a + 1);
        size_t b_size = prng_below(&prng, sizeof b + 1);

        /* few different bytes, so that long common beginnings occur */
        for (size_t i = 0; i < sizeof a; i++) {
            a[i] = (unsigned char)(prng_below(&prng, 2) * 0xff);
            b[i] = (unsigned char)(prng_below(&prng, 2) * 0xff);
        }
        struct bytes left = bytes_of(a, a_size);
        struct bytes right = bytes_of(b, b_size);
        if (bytes_prefix(left) < bytes_prefix(right)) {
            assert_true(bytes_compare(left, right) < 0);
        } else if (bytes_prefix(left) > bytes_prefix(right)) {
            assert_true(bytes_compare(left, right) > 0);
        }
    }
    assert_true(bytes_prefix(bytes_of_text("abcdefgh")) == UINT64_C(0x6162636465666768));
    assert_true(bytes_prefix(bytes_of_text("ab")) == UINT64_C(0x6162000000000000));
}

static void numbers_are_little_endian_at_any_alignment(void **state)
{
    (void)state;
    for (size_t at = 0; at < 8; at++) {
        unsigned char data[16] = {0};

        store_u64(data + at, UINT64_C(0x0807060504030201));
        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(data[at + i], i + 1);
        }
        assert_true(load_u64(data + at) == UINT64_C(0x0807060504030201));
        assert_int_equal(load_u32(data + at), 0x04030201);
        assert_int_equal(load_u16(data + at), 0x0201);
        store_u32(data + at, 0xa4a3a2a1);
        assert_true(load_u64(data + at) == UINT64_C(0x08070605a4a3a2a1));
        store_u16(data + at, 0xb2b1);
        assert_true(load_u64(data + at) == UINT64_C(0x08070605a4a3b2b1));
    }
}

static void rounds_up_to_eight(void **state)
{
    (void)state;
    assert_int_equal(align8(0), 0);
    assert_int_equal(align8(1), 8);
    assert_int_equal(align8(8), 8);
    assert_int_equal(align8(9), 16);
    assert_true(align8(UINT64_C(0xfffffffff)) == UINT64_C(0x1000000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_bytes_as_unsigned_and_a_prefix_sorts_first),
        cmocka_unit_test(empty_runs_are_equal_wherever_they_point),
        cmocka_unit_test(a_prefix_number_never_contradicts_the_order),
        cmocka_unit_test(numbers_are_little_endian_at_any_alignment),
        cmocka_unit_test(rounds_up_to_eight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
