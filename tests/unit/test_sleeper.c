/* That no wake-up is lost between a thread that sleeps and those that bring it work. What the
 * fences are for shows in the model (tests/model/commit.pml). */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "store/lsm/sleeper.h"
#include "tests/support/check.h"

#define HUNG_SECONDS 30 /* a lost wake-up ends the program */

static struct sleeper sleeper;
static _Atomic unsigned work; /* brought and not yet taken */
static unsigned looks;

static int begin(void **state)
{
    (void)state;
    sleeper_init(&sleeper);
    atomic_store(&work, 0);
    looks = 0;
    alarm(HUNG_SECONDS);
    return 0;
}

static int end(void **state)
{
    (void)state;
    alarm(0);
    sleeper_release(&sleeper);
    return 0;
}

static bool has_work(void *arg)
{
    (void)arg;
    looks++;
    return atomic_load_explicit(&work, memory_order_acquire) > 0;
}

static void who_finds_work_once_he_has_said_so_does_not_sleep(void **state)
{
    (void)state;
    atomic_store(&work, 1); /* by somebody who saw nobody asleep */
    sleeper_wait(&sleeper, has_work, NULL, UINT64_MAX);
    assert_int_equal(looks, 1);
    assert_false(atomic_load(&sleeper.asleep));
}

/* Comes at the worst moment: just after the look, from which it is hidden. */
static bool misses_it(void *arg)
{
    (void)arg;
    assert_true(atomic_load(&sleeper.asleep)); /* so whoever brings work now sees it… */
    return false;
}

static void *bring_and_wake(void *arg)
{
    (void)arg;
    while (!atomic_load(&sleeper.asleep)) {
    }
    sleeper_wake(&sleeper); /* …and has to wait until the other really sleeps */
    return NULL;
}

static void who_looks_has_said_before_that_he_sleeps(void **state)
{
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, bring_and_wake, NULL), 0);
    sleeper_wait(&sleeper, misses_it, NULL, UINT64_MAX);
    pthread_join(thread, NULL);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void a_time_limit_ends_the_sleep(void **state)
{
    (void)state;
    sleeper_wait(&sleeper, never, NULL, 1);
    assert_false(atomic_load(&sleeper.asleep));
}

enum { HANDED = 20000 };

static void *bring(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < HANDED; i++) {
        while (atomic_load(&work) > 0) {
        }
        atomic_store_explicit(&work, 1, memory_order_release);
        sleeper_wake(&sleeper);
    }
    return NULL;
}

/* Each piece of work is brought only once the one before was taken, so one lost wake-up is the end
 * of it. */
static void every_piece_of_work_is_taken(void **state)
{
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, bring, NULL), 0);
    for (unsigned taken = 0; taken < HANDED;) {
        if (atomic_exchange(&work, 0) > 0) {
            taken++;
        } else {
            sleeper_wait(&sleeper, has_work, NULL, UINT64_MAX);
        }
    }
    pthread_join(thread, NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(who_finds_work_once_he_has_said_so_does_not_sleep),
        TEST(who_looks_has_said_before_that_he_sleeps),
        TEST(a_time_limit_ends_the_sleep),
        TEST(every_piece_of_work_is_taken),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
