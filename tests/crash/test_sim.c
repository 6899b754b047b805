/* Simulated crashes: that none breaks a promise, and that leaving out any sync does. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/sim.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

/* How many crashes the first test simulates; VARVE_TEST_CRASHES overrides. */
static unsigned crashes_wanted(void)
{
    const char *text = getenv("VARVE_TEST_CRASHES");
    return text ? (unsigned)strtoul(text, NULL, 10) : 1000;
}

static void print(const char *what, const struct sim_result *result)
{
    printf("%s: %llu crashes, %llu more in recovery, %llu clean restarts, %llu torn tails; %llu "
           "writes, %llu failed conditions, %llu gets, %llu scans; %llu rotations, %llu flushes, "
           "%llu compactions\n",
           what, (unsigned long long)result->crashes,
           (unsigned long long)result->crashes_in_recovery,
           (unsigned long long)result->clean_restarts, (unsigned long long)result->torn_tails,
           (unsigned long long)result->writes, (unsigned long long)result->failed_conditions,
           (unsigned long long)result->gets, (unsigned long long)result->scans,
           (unsigned long long)result->rotations, (unsigned long long)result->flushes,
           (unsigned long long)result->compactions);
}

static void recovers_a_prefix_with_all_that_was_acknowledged(void **state)
{
    (void)state;
    struct sim_options options = {.seed = test_seed(), .rounds = crashes_wanted()};
    struct sim_result result;
    sim_run(&options, &result);
    print("all syncs in place", &result);
    if (result.violated) {
        fail_msg("round %u: %s", result.round, result.violation);
    }
    assert_int_equal(result.crashes, options.rounds);
    /* The rounds were worth something. */
    assert_true(result.crashes_in_recovery > 0);
    assert_true(result.torn_tails > 0);
    assert_true(result.failed_conditions > 0);
    assert_true(result.rotations > 0);
    assert_true(result.flushes > 0);
    assert_true(result.compactions > 0);
}

__attribute__((unused)) static void notices_every_sync_that_is_left_out(void **state)
{
    (void)state;
    unsigned missed = 0;
    for (int omission = SIM_OMIT_NOTHING + 1; omission < SIM_OMISSIONS; omission++) {
        struct sim_options options = {.seed = test_seed() + (uint64_t)omission,
                                      .rounds = 40000,
                                      .omission = (enum sim_omission)omission};
        struct sim_result result;
        sim_run(&options, &result);
        printf("without the %s: %s after %u rounds (%llu left out) %s\n",
               sim_omission_name(options.omission), result.violated ? "noticed" : "MISSED",
               result.round, (unsigned long long)result.omitted, result.violation);
        missed += !result.violated;
    }
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recovers_a_prefix_with_all_that_was_acknowledged),
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
        /* What it shows is the same in every build, and rare orders take many rounds. */
        cmocka_unit_test(notices_every_sync_that_is_left_out),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
