/* Simulated crashes and failing disks: that none breaks a promise, and that leaving out any sync
 * does. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/crash/sim.h"
#include "tests/support/check.h"
#include "tests/support/random.h"

/* A run is as many rounds at most, so that a violation in a long campaign is repeated soon. */
#define RUN_ROUNDS 500u

#ifdef VARVE_SANITIZED
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#if defined(__SANITIZE_THREAD__)
/* A stopped write and those that go on meanwhile stand for several threads, each of which takes its
 * stripes in their order. All are on this one, where that looks like a wrong order. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0";
}
#endif

/* How many rounds the first test has; VARVE_TEST_CRASHES overrides. */
static unsigned rounds_wanted(void)
{
    const char *text = getenv("VARVE_TEST_CRASHES");
    return text ? (unsigned)strtoul(text, NULL, 10) : SANITIZED ? 200 : 2000;
}

static void add(struct sim_result *sum, const struct sim_result *result)
{
    uint64_t *into = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)result;
    for (size_t i = 0; i < offsetof(struct sim_result, operations) / sizeof *into; i++) {
        into[i] += from[i];
    }
}

static void print(const struct sim_result *sum)
{
#define N(field) (unsigned long long)sum->field
    printf("%llu crashes, %llu more in recovery, %llu kills, %llu closes, %llu restarts\n",
           N(crashes), N(crashes_in_recovery), N(kills), N(closes), N(restarts));
    printf(
        "%llu operations failed, %llu openings too; %llu full disks, %llu logs poisoned, %llu "
        "manifests in doubt, %llu writes with unknown outcome, %llu refused; %llu openings on full "
        "disks\n",
        N(failed_operations), N(failed_openings), N(full_disks), N(poisoned_logs),
        N(failed_manifests), N(unknown_outcomes), N(refusals), N(full_openings));
    printf("%llu passes of the scrubber, under which %llu operations failed, for which %llu tables "
           "were taken for damaged\n",
           N(scrub_passes), N(scrub_failures), N(scrub_reports));
    printf("%llu writes, %llu conditions failed; %llu writes were stopped, with %llu rotations and "
           "%llu crashes meanwhile\n",
           N(writes), N(failed_conditions), N(stops), N(rotations_in_stops), N(crashes_in_stops));
    printf(
        "%llu gets, %llu scans, %llu rotations, %llu flushes, %llu compactions, %llu torn tails, "
        "%llu checks of the files\n",
        N(gets), N(scans), N(rotations), N(flushes), N(compactions), N(torn_tails), N(checks));
#undef N
}

static void fail_with(const struct sim_options *options, const struct sim_result *result)
{
    fail_msg("seed=%llu round=%u: %s\nagain: VARVE_TEST_SEED=%llu VARVE_TEST_CRASHES=%u crash_sim",
             (unsigned long long)options->seed, result->round, result->violation,
             (unsigned long long)options->seed, result->round + 1);
}

static void recovers_a_prefix_with_all_that_was_acknowledged(void **state)
{
    (void)state;
    struct sim_result sum = {.crashes = 0};
    unsigned rounds = rounds_wanted(), done = 0;
    for (unsigned run = 0; done < rounds; run++) {
        struct sim_options options = {.seed = test_seed() + run,
                                      .rounds =
                                          rounds - done < RUN_ROUNDS ? rounds - done : RUN_ROUNDS};
        struct sim_result result;
        sim_run(&options, &result);
        if (result.violated) {
            fail_with(&options, &result);
        }
        done += options.rounds;
        add(&sum, &result);
    }
    print(&sum);
    if (rounds < 500) {
        return; /* a violation is being repeated */
    }
    /* The rounds were worth something. */
    const uint64_t *counts = (const uint64_t *)&sum;
    for (size_t i = 0; i < offsetof(struct sim_result, operations) / sizeof *counts; i++) {
        assert_true(counts[i] > 0);
    }
}

static void repeats_a_seed_exactly(void **state)
{
    (void)state;
    struct sim_options options = {.seed = test_seed(), .rounds = 60};
    struct sim_result first, second, other;
    sim_run(&options, &first);
    sim_run(&options, &second);
    assert_false(first.violated);
    assert_memory_equal(&first, &second, offsetof(struct sim_result, violated));
    options.seed++;
    sim_run(&options, &other);
    assert_true(other.hash != first.hash);
}

/* Every operation in each way, or a part of them that the seed chooses. */
static unsigned stride_of_sweep(void)
{
    const char *text = getenv("VARVE_TEST_SWEEP");
    return text && strcmp(text, "all") == 0 ? 1 : SANITIZED ? 23 : 1;
}

static void survives_any_mishap_at_any_file_operation(void **state)
{
    (void)state;
    struct sim_result result;
    assert_false(sim_mishap_at(test_seed(), SIM_KILLED, 0, &result));
    if (result.violated) {
        fail_msg("the reference workload itself: %s", result.violation);
    }
    unsigned stride = stride_of_sweep(), n = 0;
    uint64_t operations = result.operations;
    for (int mishap = 0; mishap < SIM_MISHAPS; mishap++) {
        uint64_t nth = 1 + (test_seed() + (unsigned)mishap) % stride;
        for (; nth <= operations; nth += stride) {
            bool met = sim_mishap_at(test_seed() + nth, (enum sim_mishap)mishap, nth, &result);
            if (result.violated) {
                fail_msg("seed=%llu, %s operation %llu: %s", (unsigned long long)test_seed(),
                         sim_mishap_name((enum sim_mishap)mishap), (unsigned long long)nth,
                         result.violation);
            }
            n += met;
        }
    }
    printf("%u mishaps at %llu operations\n", n, (unsigned long long)operations);
}

static void notices_every_sync_that_is_left_out(void **state)
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
        cmocka_unit_test(repeats_a_seed_exactly),
        cmocka_unit_test(survives_any_mishap_at_any_file_operation),
        cmocka_unit_test(notices_every_sync_that_is_left_out),
    };
    /* What the last one shows is the same in every build, and rare orders take many rounds. */
    return _cmocka_run_group_tests("sim", tests, COUNT_OF(tests) - SANITIZED, NULL, NULL);
}
