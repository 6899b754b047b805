/* The ranks of zipf.h are as frequent as Zipf's law says. */
#include "tests/bench/zipf.h"

#include <math.h>

#include "tests/support/check.h"

enum { RANKS = 1000, DRAWS = 1000000 };

/* Ranks are compared by octaves: those from 2^i to 2^(i+1) together. The generator is an
 * approximation: within an octave it is right to a few percent. */
static void octaves_are_as_frequent_as_the_law_says(void **state)
{
    struct zipf zipf;
    struct prng prng;
    double expected[10] = {0}, drawn[10] = {0}, sum = 0;
    (void)state;
    prng_init(&prng, test_seed());
    zipf_init(&zipf, RANKS);
    for (uint64_t k = 1; k <= RANKS; k++) {
        expected[ilogb((double)k)] += pow((double)k, -ZIPF_THETA);
        sum += pow((double)k, -ZIPF_THETA);
    }
    for (unsigned i = 0; i < DRAWS; i++) {
        uint64_t rank = zipf_next(&zipf, &prng);
        assert_true(rank < RANKS);
        drawn[ilogb((double)rank + 1)] += 1.0 / DRAWS;
    }
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        print_message("octave %zu: %.4f drawn, %.4f expected\n", i, drawn[i], expected[i] / sum);
        assert_true(fabs(drawn[i] / (expected[i] / sum) - 1) < 0.1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(octaves_are_as_frequent_as_the_law_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
