/* The door to RCU: threads register themselves, sections protect, deferred functions run in time.
 */
#include "store/base/rcu.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "tests/support/check.h"

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    int failed = pthread_create(thread, NULL, run, arg);
    assert_int_equal(failed, 0);
}

static void join(pthread_t thread)
{
    int failed = pthread_join(thread, NULL);
    assert_int_equal(failed, 0);
}

static void wait_for(sem_t *sem)
{
    while (sem_wait(sem) != 0) {
    }
}

/* True if the semaphore stays down for a while: long enough for a wrong function to run. */
static bool stays_down(sem_t *sem)
{
    struct timespec until;
    int failed = clock_gettime(CLOCK_REALTIME, &until);

    assert_int_equal(failed, 0);
    until.tv_nsec += 60000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return sem_timedwait(sem, &until) != 0;
}

/* Something published: both words agree for as long as it lives. */
struct thing {
    uint64_t number;
    uint64_t inverse;
    struct rcu_door_head head;
};

static _Atomic(struct thing *) published;
static atomic_bool stop;
static atomic_uint reclaimed;

static struct thing *thing_new(uint64_t number)
{
    struct thing *thing = malloc(sizeof *thing);

    assert_non_null(thing);
    thing->number = number;
    thing->inverse = ~number;
    return thing;
}

static void destroy(struct thing *thing)
{
    thing->number = 0;
    thing->inverse = 0;
    free(thing);
    atomic_fetch_add(&reclaimed, 1);
}

static void reclaim_thing(struct rcu_door_head *head)
{
    destroy((struct thing *)((char *)head - offsetof(struct thing, head)));
}

static void *read_things(void *arg)
{
    uint64_t last = 0;

    (void)arg;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        rcu_door_lock();
        const struct thing *thing = atomic_load_explicit(&published, memory_order_acquire);
        for (int i = 0; i < 20; i++) {
            const volatile uint64_t *number = &thing->number;
            assert(*number == ~thing->inverse);
        }
        assert(thing->number >= last);
        last = thing->number;
        rcu_door_unlock();
    }
    return NULL;
}

enum { READERS = 3, SWAPS = 3000 };

/* Readers race with a writer that replaces the thing and gets rid of the old one by `retire`. */
static void swap_under_readers(void (*retire)(struct thing *old), unsigned swaps)
{
    pthread_t readers[READERS];

    atomic_store(&stop, false);
    atomic_store(&reclaimed, 0);
    atomic_store(&published, thing_new(1));
    for (int i = 0; i < READERS; i++) {
        start(&readers[i], read_things, NULL);
    }
    for (unsigned i = 0; i < swaps; i++) {
        struct thing *thing = thing_new(i + 2);
        retire(atomic_exchange_explicit(&published, thing, memory_order_acq_rel));
    }
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        join(readers[i]);
    }
    rcu_door_barrier();
    assert_int_equal(atomic_load(&reclaimed), swaps);
    destroy(atomic_load(&published));
}

static void retire_later(struct thing *old)
{
    rcu_door_defer(&old->head, reclaim_thing);
}

static void retire_after_waiting(struct thing *old)
{
    rcu_door_synchronize();
    destroy(old);
}

static void what_a_section_sees_is_not_reclaimed_by_a_deferred_function(void **state)
{
    (void)state;
    swap_under_readers(retire_later, SWAPS);
}

static void what_a_section_sees_is_not_reclaimed_after_a_grace_period(void **state)
{
    (void)state;
    swap_under_readers(retire_after_waiting, SWAPS / 10);
}

struct signalled {
    struct rcu_door_head head;
    sem_t ran;
};

static void signal_ran(struct rcu_door_head *head)
{
    struct signalled *signalled = (struct signalled *)head; /* its first member */
    int failed = sem_post(&signalled->ran);
    assert(failed == 0);
}

struct long_reader {
    sem_t inside, inner_left, may_leave_inner, may_leave;
};

static void *read_long(void *arg)
{
    struct long_reader *reader = arg;

    rcu_door_lock();
    rcu_door_lock();
    sem_post(&reader->inside);
    wait_for(&reader->may_leave_inner);
    rcu_door_unlock();
    assert(rcu_door_is_locked());
    sem_post(&reader->inner_left);
    wait_for(&reader->may_leave);
    rcu_door_unlock();
    assert(!rcu_door_is_locked());
    return NULL;
}

static void a_new_thread_is_protected_until_its_outermost_section_ends(void **state)
{
    struct long_reader reader;
    struct signalled deferred;
    pthread_t thread;

    (void)state;
    sem_init(&reader.inside, 0, 0);
    sem_init(&reader.inner_left, 0, 0);
    sem_init(&reader.may_leave_inner, 0, 0);
    sem_init(&reader.may_leave, 0, 0);
    sem_init(&deferred.ran, 0, 0);

    start(&thread, read_long, &reader);
    wait_for(&reader.inside);
    rcu_door_defer(&deferred.head, signal_ran);
    assert_true(stays_down(&deferred.ran));
    sem_post(&reader.may_leave_inner);
    wait_for(&reader.inner_left);
    assert_true(stays_down(&deferred.ran));
    sem_post(&reader.may_leave);
    wait_for(&deferred.ran);
    join(thread);
}

static void *wait_for_readers(void *arg)
{
    struct signalled *signalled = arg;

    rcu_door_synchronize();
    signal_ran(&signalled->head);
    return NULL;
}

static void synchronize_waits_for_sections_that_are_open(void **state)
{
    struct signalled waiter;
    pthread_t thread;

    (void)state;
    sem_init(&waiter.ran, 0, 0);
    rcu_door_lock();
    start(&thread, wait_for_readers, &waiter);
    assert_true(stays_down(&waiter.ran));
    rcu_door_unlock();
    wait_for(&waiter.ran);
    join(thread);
}

static void knows_whether_this_thread_is_inside_a_section(void **state)
{
    (void)state;
    assert_false(rcu_door_is_locked());
    rcu_door_lock();
    assert_true(rcu_door_is_locked());
    rcu_door_lock();
    rcu_door_unlock();
    assert_true(rcu_door_is_locked());
    rcu_door_unlock();
    assert_false(rcu_door_is_locked());
}

static void *ask_before_any_use(void *arg)
{
    *(bool *)arg = rcu_door_is_locked();
    return NULL;
}

static void a_thread_that_never_came_here_is_outside(void **state)
{
    bool locked = true;
    pthread_t thread;

    (void)state;
    start(&thread, ask_before_any_use, &locked);
    join(thread);
    assert_false(locked);
}

static void *enter_once(void *arg)
{
    (void)arg;
    rcu_door_lock();
    rcu_door_unlock();
    return NULL;
}

/* A thread that stayed registered leaves its freed stack in liburcu's list. */
static void threads_that_end_are_forgotten(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        pthread_t threads[8];

        for (size_t i = 0; i < COUNT_OF(threads); i++) {
            start(&threads[i], enter_once, NULL);
        }
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
            join(threads[i]);
        }
        rcu_door_synchronize();
    }
}

static pthread_key_t late_key;
static atomic_uint late_sections;

static void enter_late(void *unused)
{
    enter_once(unused);
    atomic_fetch_add(&late_sections, 1);
}

static void *leave_a_late_destructor(void *arg)
{
    int failed = pthread_setspecific(late_key, arg);
    assert(failed == 0);
    return enter_once(NULL);
}

/* Keys are destroyed in order of creation: the door's own comes first. */
static void a_destructor_may_still_open_a_section(void **state)
{
    pthread_t thread;
    int value;
    int failed;

    (void)state;
    enter_once(NULL);
    failed = pthread_key_create(&late_key, enter_late);
    assert_int_equal(failed, 0);
    start(&thread, leave_a_late_destructor, &value);
    join(thread);
    assert_int_equal(atomic_load(&late_sections), 1);
    rcu_door_synchronize();
    failed = pthread_key_delete(late_key);
    assert_int_equal(failed, 0);
}

static atomic_uint runs;
static struct rcu_door_head second;

static void count_run(struct rcu_door_head *head)
{
    (void)head;
    atomic_fetch_add(&runs, 1);
}

static void enter_and_defer_again(struct rcu_door_head *head)
{
    (void)head;
    rcu_door_lock();
    rcu_door_unlock();
    rcu_door_defer(&second, count_run);
    atomic_fetch_add(&runs, 1);
}

static void a_deferred_function_may_open_sections_and_defer(void **state)
{
    struct rcu_door_head first;

    (void)state;
    atomic_store(&runs, 0);
    rcu_door_defer(&first, enter_and_defer_again);
    rcu_door_barrier();
    rcu_door_barrier();
    assert_int_equal(atomic_load(&runs), 2);
}

static void may_defer_inside_a_section(void **state)
{
    struct rcu_door_head head;

    (void)state;
    atomic_store(&runs, 0);
    rcu_door_lock();
    rcu_door_defer(&head, count_run);
    assert_int_equal(atomic_load(&runs), 0);
    rcu_door_unlock();
    rcu_door_barrier();
    assert_int_equal(atomic_load(&runs), 1);
}

static unsigned order[8];
static unsigned n_order;

struct numbered {
    struct rcu_door_head head;
    unsigned number;
};

static void note_order(struct rcu_door_head *head)
{
    order[n_order++] = ((struct numbered *)head)->number;
}

static void manual_mode_runs_the_oldest_only_when_told(void **state)
{
    struct numbered numbered[4];

    (void)state;
    n_order = 0;
    rcu_door_set_manual(true);
    assert_false(rcu_door_reclaim());
    for (unsigned i = 0; i < 3; i++) {
        numbered[i].number = i;
        rcu_door_defer(&numbered[i].head, note_order);
    }
    rcu_door_synchronize();
    assert_int_equal(n_order, 0);
    assert_true(rcu_door_reclaim());
    assert_int_equal(n_order, 1);

    /* one that comes while others wait goes behind them */
    numbered[3].number = 3;
    rcu_door_lock();
    rcu_door_defer(&numbered[3].head, note_order);
    rcu_door_unlock();
    rcu_door_barrier();
    assert_int_equal(n_order, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(order[i], i);
    }
    assert_false(rcu_door_reclaim());

    /* and the queue starts anew after it was empty */
    rcu_door_defer(&numbered[0].head, note_order);
    assert_true(rcu_door_reclaim());
    assert_false(rcu_door_reclaim());
    rcu_door_set_manual(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_section_sees_is_not_reclaimed_by_a_deferred_function),
        cmocka_unit_test(what_a_section_sees_is_not_reclaimed_after_a_grace_period),
        cmocka_unit_test(a_new_thread_is_protected_until_its_outermost_section_ends),
        cmocka_unit_test(synchronize_waits_for_sections_that_are_open),
        cmocka_unit_test(knows_whether_this_thread_is_inside_a_section),
        cmocka_unit_test(a_thread_that_never_came_here_is_outside),
        cmocka_unit_test(threads_that_end_are_forgotten),
        cmocka_unit_test(a_destructor_may_still_open_a_section),
        cmocka_unit_test(a_deferred_function_may_open_sections_and_defer),
        cmocka_unit_test(may_defer_inside_a_section),
        cmocka_unit_test(manual_mode_runs_the_oldest_only_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
