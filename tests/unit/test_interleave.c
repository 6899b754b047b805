/* What threads may do between two steps of each other, arranged rather than left to chance: a
 * condition that does it, a sync that does it, or another thread that is seen to wait for a mutex
 * that the test holds. */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <unistd.h>

#include "store/base/rcu.h"
#include "store/lsm/commit.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/vfs_mem.h"

#define STEPS_MAX    1000u /* more than anything here takes */
#define HUNG_SECONDS 30    /* a lost wake-up ends the program */

static struct vfs_mem *fs;
static struct store *store;

static void open_store(bool manual)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 1000;
    options.max_inflight_bytes = UINT64_C(128) << 10;
    options.manual = manual;
    if (store_open(&options, &store, &detail) != ERR_OK) {
        fail_msg("%s", detail.text);
    }
}

static int begin_threaded(void **state)
{
    (void)state;
    alarm(HUNG_SECONDS);
    fs = vfs_mem_new(1);
    open_store(false);
    return 0;
}

static int end_threaded(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    vfs_mem_free(fs);
    alarm(0);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    alarm(HUNG_SECONDS);
    rcu_door_set_manual(true);
    fs = vfs_mem_new(1);
    open_store(true);
    return 0;
}

static int end(void **state)
{
    end_threaded(state);
    rcu_door_set_manual(false);
    return 0;
}

/* --- Writes, reads, steps --------------------------------------------------------------------- */

struct attempt {
    struct store_write *write;
    bool done, condition_failed;
    enum err err;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    assert(err == ERR_OK);
    ((struct attempt *)arg)->write = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct attempt *attempt = arg;
    attempt->done = true;
    attempt->err = err;
    attempt->condition_failed = written->condition_failed;
}

static void add_put(struct attempt *attempt, const char *key)
{
    struct store_put what = {.key = bytes_of_text(key), .value_bytes = 1};
    void *value;
    assert(store_write_put(attempt->write, &what, &value) == ERR_OK);
    *(char *)value = 'v';
}

/* A put of one key that isn't committed yet. */
static void make_put(struct attempt *attempt, const char *key)
{
    struct store_write_size size = {.ops = 2, .bytes = 100};
    *attempt = (struct attempt){.done = false};
    store_write_new(store, &size, on_ready, attempt);
    assert(attempt->write != NULL);
    add_put(attempt, key);
}

static void begin_put(struct attempt *attempt, const char *key)
{
    make_put(attempt, key);
    store_write_commit(attempt->write, on_written, attempt);
}

static void log_all(void)
{
    for (unsigned steps = 0; engine_log_step(store); steps++) {
        assert_true(steps < STEPS_MAX);
    }
}

static void flush_all(void)
{
    for (unsigned steps = 0; engine_flush_step(store); steps++) {
        assert_true(steps < STEPS_MAX);
    }
}

static void put(const char *key)
{
    struct attempt attempt;
    begin_put(&attempt, key);
    log_all();
    assert_true(attempt.done);
    assert_ok(attempt.err);
}

static void on_got(void *arg, enum err err, const struct store_entry *entry)
{
    assert_ok(err);
    *(bool *)arg = entry != NULL;
    if (entry) {
        struct store_entry mine = *entry;
        store_entry_release(&mine);
    }
}

static bool exists(const char *key)
{
    bool found;
    store_get(store, bytes_of_text(key), on_got, &found);
    return found;
}

static void on_flushed(void *arg, enum err err)
{
    (void)err;
    *(bool *)arg = true;
}

static void settle(void)
{
    bool more = true;
    for (unsigned steps = 0; more; steps++) {
        assert_true(steps < STEPS_MAX);
        more = engine_log_step(store);
        more |= engine_flush_step(store);
        more |= engine_reclaim_step(store);
    }
}

static bool was_flushed; /* what rotate() has asked for */

/* Seals the memtable, and goes no further. A spare segment must be there. */
static void rotate(void)
{
    assert_non_null(store->spare);
    store_flush(store, on_flushed, &was_flushed);
    uint64_t before = atomic_load(&store->counters.rotations);
    while (atomic_load(&store->counters.rotations) == before) {
        assert_true(engine_log_step(store));
    }
}

static void make_spare(void)
{
    atomic_store(&store->spare_wanted, true);
    flush_all();
}

/* What a power failure leaves of all that isn't synced: nothing. */
static void crash_and_reopen(void)
{
    engine_abandon(store);
    struct vfs_mem *after = vfs_mem_crash_clone(fs, MEM_KEEP_NOTHING, 1);
    vfs_mem_free(fs);
    fs = after;
    open_store(true);
}

static bool is_absent(void *arg, const struct store_current *current)
{
    (void)arg;
    return !current->exists;
}

/* --- Another thread --------------------------------------------------------------------------- */

/* True if somebody waits for the mutex, which is locked: so glibc marks it. */
static bool is_waited_for(pthread_mutex_t *mutex)
{
    return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_SEQ_CST) == 2;
}

static void *commit(void *arg)
{
    struct attempt *attempt = arg;
    store_write_commit(attempt->write, on_written, attempt);
    return NULL;
}

/* Of a store with threads. */
static void *put_if_absent(void *arg)
{
    struct attempt *attempt = arg;
    attempt->err = store_write_commit_sync(attempt->write, &attempt->condition_failed);
    return NULL;
}

/* Commits on another thread, and returns once that waits for the mutex, which the caller holds. */
static pthread_t commit_up_to(pthread_mutex_t *mutex, void *(*function)(void *),
                              struct attempt *attempt)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, function, attempt), 0);
    while (!is_waited_for(mutex)) {
        sched_yield();
    }
    return thread;
}

static pthread_mutex_t *stripe_of(const struct attempt *attempt)
{
    return &store->stripes[op_stripe(&attempt->write->ops[0])];
}

/* --- Decisions -------------------------------------------------------------------------------- */

static sem_t paused, resume;

/* Decides, and lets time pass before anything comes of it. */
static bool is_absent_slowly(void *arg, const struct store_current *current)
{
    (void)arg;
    sem_post(&paused);
    while (sem_wait(&resume) != 0) {
    }
    return !current->exists;
}

static void of_two_writes_that_want_a_key_absent_one_fails(void **state)
{
    struct attempt first, second;
    pthread_t threads[2];
    (void)state;
    sem_init(&paused, 0, 0);
    sem_init(&resume, 0, 0);
    make_put(&first, "key");
    store_write_condition(first.write, is_absent_slowly, NULL);
    make_put(&second, "key");
    store_write_condition(second.write, is_absent, NULL);
    assert_int_equal(pthread_create(&threads[0], NULL, put_if_absent, &first), 0);
    while (sem_wait(&paused) != 0) {
    }
    pthread_mutex_t *stripe = stripe_of(&second);
    uint64_t claimed = atomic_load(&store->claim);
    assert_int_equal(pthread_create(&threads[1], NULL, put_if_absent, &second), 0);
    while (!is_waited_for(stripe) && atomic_load(&store->claim) == claimed) {
        sched_yield(); /* it must not come to a decision */
    }
    sem_post(&resume);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert_ok(first.err);
    assert_ok(second.err);
    assert_int_equal(first.condition_failed + second.condition_failed, 1);
    sem_destroy(&paused);
    sem_destroy(&resume);
}

static void a_write_meets_what_was_flushed_while_it_waited(void **state)
{
    struct store_put what = {.key = bytes_of_text("key")};
    struct attempt attempt;
    (void)state;
    assert_ok(store_put_sync(store, &what, bytes_of_text("value"), NULL));
    make_put(&attempt, "key");
    store_write_condition(attempt.write, is_absent, NULL);
    pthread_mutex_t *stripe = stripe_of(&attempt);
    pthread_mutex_lock(stripe);
    /* It has looked into the tables, and found nothing there. */
    pthread_t thread = commit_up_to(stripe, put_if_absent, &attempt);
    assert_ok(store_flush_sync(store));
    pthread_mutex_unlock(stripe);
    pthread_join(thread, NULL);
    assert_ok(attempt.err);
    assert_true(attempt.condition_failed);
}

static bool rotate_once(void *arg, const struct store_current *current)
{
    bool *rotated = arg;
    (void)current;
    if (!*rotated) {
        *rotated = true;
        rotate();
    }
    return true;
}

static void a_memtable_sealed_before_the_claim_gets_nothing_more(void **state)
{
    struct attempt attempt;
    bool rotated = false;
    (void)state;
    put("before");
    make_spare();
    make_put(&attempt, "key");
    store_write_condition(attempt.write, rotate_once, &rotated);
    const struct memtable *sealed = atomic_load(&store->view)->active;
    store_write_commit(attempt.write, on_written, &attempt);
    assert_true(rotated);
    assert_null(memtable_get(sealed, bytes_of_text("key"), UINT64_MAX));
    assert_int_equal(memtable_records(atomic_load(&store->view)->active), 1);
    settle();
    assert_true(attempt.done && was_flushed);
    crash_and_reopen();
    assert_true(exists("before") && exists("key"));
}

/* --- The log ---------------------------------------------------------------------------------- */

static void a_write_wakes_the_log_thread(void **state)
{
    struct store_put what = {.key = bytes_of_text("key")};
    (void)state;
    while (!atomic_load(&store->log_sleeper.asleep)) { /* without a time limit: nothing is open */
        sched_yield();
    }
    assert_ok(store_put_sync(store, &what, bytes_of_text("value"), NULL));
}

static void who_waits_for_what_becomes_durable_just_now_is_answered(void **state)
{
    struct attempt early, waits;
    (void)state;
    begin_put(&early, "key");
    make_put(&waits, "key");
    store_write_condition(waits.write, is_absent, NULL);
    pthread_mutex_lock(&store->waiters_mutex);
    /* It has seen that it must wait, and is about to queue. */
    pthread_t thread = commit_up_to(&store->waiters_mutex, commit, &waits);
    engine_log_step(store); /* finds nobody in the queue */
    assert_true(early.done && !waits.done);
    pthread_mutex_unlock(&store->waiters_mutex);
    pthread_join(thread, NULL);
    assert_true(waits.done && waits.condition_failed);
    assert_ok(waits.err);
}

static void a_batch_goes_into_one_frame(void **state)
{
    struct attempt batch;
    (void)state;
    make_put(&batch, "a");
    add_put(&batch, "b");
    uint64_t second = claim_seq(atomic_load(&store->claim)) + 1;
    store_write_commit(batch.write, on_written, &batch);
    /* Its second slot isn't set yet. */
    struct op *op = atomic_exchange(&store->ring[second & store->ring_mask], NULL);
    assert_non_null(op);
    log_all();
    assert_false(exists("a"));
    atomic_store(&store->ring[second & store->ring_mask], op);
    engine_log_step(store);
    assert_true(batch.done && exists("a") && exists("b"));
}

static struct attempt during_sync;

struct first_sync {
    struct vfs_mem_verdict verdict;
    bool begun;
};

static struct vfs_mem_verdict put_during_sync(void *arg, const struct vfs_mem_call *call)
{
    struct first_sync *sync = arg;
    if (call->op == VFS_MEM_SYNC && !sync->begun) {
        sync->begun = true;
        begin_put(&during_sync, "old memtable");
        return sync->verdict;
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void what_was_claimed_while_a_sync_failed_ends_as_unknown(void **state)
{
    struct attempt first;
    struct first_sync sync = {.verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
    (void)state;
    begin_put(&first, "first");
    vfs_mem_set_hook(fs, put_during_sync, &sync);
    log_all();
    vfs_mem_set_hook(fs, NULL, NULL);
    assert_true(first.done && during_sync.done);
    assert_err(ERR_OUTCOME_UNKNOWN, first.err);
    assert_err(ERR_OUTCOME_UNKNOWN, during_sync.err);
    assert_false(exists("first"));
    assert_false(exists("old memtable"));
}

/* A rotation finds a write below its boundary that isn't logged yet, and more come above it. */
static void a_rotation_loses_nothing_and_shows_nothing_early(void **state)
{
    struct attempt first, second;
    struct first_sync sync = {.begun = false};
    (void)state;
    put("before");
    make_spare();
    begin_put(&first, "first");
    vfs_mem_set_hook(fs, put_during_sync, &sync);
    rotate();
    vfs_mem_set_hook(fs, NULL, NULL);
    assert_true(sync.begun && first.done && !during_sync.done);
    begin_put(&second, "new memtable");

    /* The sealed memtable has to wait for what isn't durable. */
    flush_all();
    assert_false(exists("old memtable"));
    assert_false(exists("new memtable"));

    settle(); /* logged, flushed, and the old segment removed */
    assert_true(during_sync.done && second.done && was_flushed);
    assert_int_equal(memtable_records(atomic_load(&store->view)->active), 1);
    crash_and_reopen();
    assert_true(exists("first") && exists("old memtable"));
    assert_true(exists("new memtable"));
}

int main(void)
{
#define TEST(name)     cmocka_unit_test_setup_teardown(name, begin, end)
#define THREADED(name) cmocka_unit_test_setup_teardown(name, begin_threaded, end_threaded)
    const struct CMUnitTest tests[] = {
        THREADED(of_two_writes_that_want_a_key_absent_one_fails),
        THREADED(a_write_wakes_the_log_thread),
        THREADED(a_write_meets_what_was_flushed_while_it_waited),
        TEST(a_memtable_sealed_before_the_claim_gets_nothing_more),
        TEST(who_waits_for_what_becomes_durable_just_now_is_answered),
        TEST(a_batch_goes_into_one_frame),
        TEST(what_was_claimed_while_a_sync_failed_ends_as_unknown),
        TEST(a_rotation_loses_nothing_and_shows_nothing_early),
    };
#undef THREADED
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
