/* The rate limit of background work, on a clock that the test sets. */
#include "store/lsm/pacer.h"

#include "tests/support/check.h"
#include "tests/support/random.h"

/* Whoever works as soon as it is allowed, in slices of any size, with pauses or without. */
static void the_rate_is_kept_to_but_for_a_burst(void **state)
{
    (void)state;
    struct prng prng;
    prng_init(&prng, test_seed());
    for (unsigned round = 0; round < 200; round++) {
        uint64_t rate = 1 + prng_below(&prng, UINT64_C(100) << 20);
        uint64_t began_us = 1 + prng_below(&prng, UINT64_C(1) << 40);
        uint64_t now_us = began_us, bytes = 0, idle_us = 0;
        struct pacer pacer = {0};
        for (unsigned i = 0; i < 100; i++) {
            uint64_t slice = prng_below(&prng, UINT64_C(2) << 20);
            uint64_t until_us = pacer_book(&pacer, rate, slice, now_us);
            bytes += slice;
            now_us = until_us > now_us ? until_us : now_us;
            double most = ((double)(now_us - began_us + PACER_BURST_US) + 100) / 1e6 * (double)rate;
            assert_true((double)bytes <= most + 100);
            if (prng_chance(&prng, 10)) {
                uint64_t pause_us = prng_below(&prng, 1000000);
                now_us += pause_us;
                idle_us += pause_us;
            }
        }
        /* Nor is it slower than that, where work takes no time. */
        assert_true((double)(now_us - began_us - idle_us) / 1e6 * (double)rate <=
                    (double)bytes + 100);
    }
}

static void time_that_was_not_used_is_made_good_for_up_to_a_burst(void **state)
{
    (void)state;
    struct pacer pacer = {0};
    assert_int_equal(pacer_book(&pacer, 1000000, 1000000, 10000000), 11000000 - PACER_BURST_US);
    assert_int_equal(pacer_book(&pacer, 1000000, 0, 30000000), 30000000 - PACER_BURST_US);
    assert_int_equal(pacer_book(&pacer, 1000000, PACER_BURST_US, 30000000), 30000000);
    assert_int_equal(pacer_book(&pacer, 1000000, 1, 30000000), 30000001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_to_but_for_a_burst),
        cmocka_unit_test(time_that_was_not_used_is_made_good_for_up_to_a_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
