/* What a write is promised, from admission to the disk, in a store whose steps the test makes. */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/commit.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

#define VALUE_MAX_BYTES (UINT64_C(128) << 10)
#define INFLIGHT_BYTES  (UINT64_C(256) << 10)
#define EVENT_KINDS     (STORE_EVENT_NUMBERS_USED_UP + 1)

static struct vfs_mem *fs;
static struct store *store;
static unsigned events[EVENT_KINDS];
static struct err_detail open_detail;

static void on_event(void *arg, const struct store_event *event)
{
    (void)arg;
    __atomic_add_fetch(&events[event->kind], 1, __ATOMIC_SEQ_CST);
    assert(event->text[0] != '\0');
}

static enum err try_open(bool manual)
{
    struct store_options options = store_options_default();
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = VALUE_MAX_BYTES;
    options.max_inflight_bytes = INFLIGHT_BYTES;
    options.on_event = on_event;
    options.manual = manual;
    memset(events, 0, sizeof events);
    return store_open(&options, &store, &open_detail);
}

static int begin(void **state)
{
    (void)state;
    rcu_door_set_manual(true);
    fs = vfs_mem_new(test_seed());
    assert_ok(try_open(true));
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    vfs_mem_free(fs);
    rcu_door_set_manual(false);
    return 0;
}

/* --- Writes, reads and steps ------------------------------------------------------------------ */

struct attempt {
    struct store_write *write;
    unsigned order; /* in which it was admitted */
    bool answered, done, condition_failed;
    enum err err;
    struct store_op_result results[4];
};

static unsigned n_admitted;

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct attempt *attempt = arg;
    assert_false(attempt->answered);
    attempt->answered = true;
    attempt->err = err;
    attempt->write = write;
    attempt->order = n_admitted++;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct attempt *attempt = arg;
    assert_false(attempt->done);
    attempt->done = true;
    attempt->err = err;
    attempt->condition_failed = written->condition_failed;
    assert_true(written->n_ops <= COUNT_OF(attempt->results));
    memcpy(attempt->results, written->ops, written->n_ops * sizeof written->ops[0]);
}

static void ask(struct attempt *attempt, size_t ops, uint64_t bytes)
{
    struct store_write_size size = {.ops = ops, .bytes = bytes};
    *attempt = (struct attempt){.answered = false};
    store_write_new(store, &size, on_ready, attempt);
}

static void admit(struct attempt *attempt, size_t ops, uint64_t bytes)
{
    ask(attempt, ops, bytes);
    assert_true(attempt->answered);
    assert_ok(attempt->err);
}

static void add_put(struct attempt *attempt, const char *key, const char *value)
{
    struct store_put what = {.key = bytes_of_text(key), .value_bytes = strlen(value)};
    void *into;
    assert_ok(store_write_put(attempt->write, &what, &into));
    memcpy(into, value, strlen(value));
}

static void commit(struct attempt *attempt)
{
    store_write_commit(attempt->write, on_written, attempt);
}

static void begin_put(struct attempt *attempt, const char *key, const char *value)
{
    admit(attempt, 1, strlen(key) + strlen(value));
    add_put(attempt, key, value);
    commit(attempt);
}

static void begin_delete(struct attempt *attempt, const char *key)
{
    admit(attempt, 1, strlen(key));
    assert_ok(store_write_delete(attempt->write, bytes_of_text(key)));
    commit(attempt);
}

static void log_all(void)
{
    while (engine_log_step(store)) {
    }
}

static void settle(void)
{
    bool more = true;
    while (more) {
        more = engine_log_step(store);
        more |= engine_flush_step(store);
        more |= engine_compaction_step(store);
        more |= engine_reclaim_step(store);
    }
}

static struct store_version put(const char *key, const char *value)
{
    struct attempt attempt;
    begin_put(&attempt, key, value);
    log_all();
    assert_true(attempt.done);
    assert_ok(attempt.err);
    return attempt.results[0].version;
}

static void on_upkeep(void *arg, enum err err)
{
    assert_ok(err);
    *(bool *)arg = true;
}

static void upkeep(void (*ask_for)(struct store *, store_done_fn *, void *))
{
    bool done = false;
    ask_for(store, on_upkeep, &done);
    settle();
    assert_true(done);
}

/* The engine answers a get before store_get() returns. */
struct got {
    bool done, found;
    struct store_entry entry;
};

static void on_got(void *arg, enum err err, const struct store_entry *entry)
{
    struct got *got = arg;
    assert_ok(err);
    got->done = true;
    got->found = entry != NULL;
    if (entry) {
        got->entry = *entry;
    }
}

static struct got get(const char *key)
{
    struct got got = {.done = false};
    store_get(store, bytes_of_text(key), on_got, &got);
    assert_true(got.done);
    return got;
}

/* NULL: it isn't there. */
static void assert_value(const char *key, const char *value)
{
    struct got got = get(key);
    assert_int_equal(got.found, value != NULL);
    if (got.found && value != NULL) {
        assert_true(bytes_equal(got.entry.value, bytes_of_text(value)));
        store_entry_release(&got.entry);
    }
}

static bool is_absent(void *arg, const struct store_current *current)
{
    (void)arg;
    return !current->exists;
}

static uint64_t next_seq(void)
{
    return claim_seq(atomic_load(&store->claim));
}

/* --- Decisions -------------------------------------------------------------------------------- */

static void a_condition_is_decided_on_the_newest_claimed_version(void **state)
{
    struct attempt first, second;
    (void)state;
    begin_put(&first, "key", "1");
    admit(&second, 1, 10);
    add_put(&second, "key", "2");
    store_write_condition(second.write, is_absent, NULL);
    commit(&second);
    assert_value("key", NULL); /* neither is durable */
    log_all();
    assert_true(second.condition_failed);
    assert_true(second.results[0].before.exists);
    assert_true(store_version_equal(second.results[0].before.version, first.results[0].version));
    assert_value("key", "1");
}

static void a_failed_condition_waits_for_what_it_saw(void **state)
{
    struct attempt first, second;
    (void)state;
    begin_put(&first, "key", "1");
    admit(&second, 1, 10);
    add_put(&second, "key", "2");
    store_write_condition(second.write, is_absent, NULL);
    commit(&second);
    assert_false(second.done);
    engine_log_step(store);
    assert_true(first.done && second.done);
    assert_ok(second.err);

    /* What it sees now is durable: nothing to wait for. */
    admit(&second, 1, 10);
    add_put(&second, "key", "2");
    store_write_condition(second.write, is_absent, NULL);
    commit(&second);
    assert_true(second.done && second.condition_failed);
}

static void a_failed_condition_on_what_gets_lost_is_unknown_too(void **state)
{
    struct attempt first, second;
    struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(VFS_MEM_SYNC),
                                .nth = 1,
                                .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
    (void)state;
    begin_put(&first, "key", "1");
    admit(&second, 1, 10);
    add_put(&second, "key", "2");
    store_write_condition(second.write, is_absent, NULL);
    commit(&second);
    vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
    log_all();
    vfs_mem_set_hook(fs, NULL, NULL);
    assert_err(ERR_OUTCOME_UNKNOWN, first.err);
    assert_err(ERR_OUTCOME_UNKNOWN, second.err);
}

static void deleting_what_is_not_there_writes_nothing(void **state)
{
    struct attempt attempt;
    (void)state;
    uint64_t before = next_seq(), used = wal_used_bytes(store->wal);
    begin_delete(&attempt, "key");
    assert_true(attempt.done);
    assert_ok(attempt.err);
    assert_false(attempt.results[0].before.exists);
    assert_int_equal(next_seq(), before);
    log_all();
    assert_int_equal(wal_used_bytes(store->wal), used);
}

static void a_delete_of_what_is_being_deleted_waits_for_that(void **state)
{
    struct attempt first, second;
    (void)state;
    put("key", "1");
    begin_delete(&first, "key");
    uint64_t after = next_seq();
    begin_delete(&second, "key");
    assert_int_equal(next_seq(), after);
    assert_false(second.done);
    assert_value("key", "1");
    log_all();
    assert_true(first.done && second.done);
    assert_true(first.results[0].before.exists);
    assert_false(second.results[0].before.exists);
    assert_value("key", NULL);
}

static void tells_created_from_replaced_in_tables_and_memory(void **state)
{
    struct attempt attempt;
    (void)state;
    struct store_version version = put("key", "1");
    for (unsigned flush = 0; flush < 2; flush++) {
        if (flush) {
            upkeep(store_flush);
        }
        begin_put(&attempt, "key", "2");
        log_all();
        assert_true(attempt.results[0].before.exists);
        assert_true(store_version_equal(attempt.results[0].before.version, version));
        version = attempt.results[0].version;
    }
    begin_delete(&attempt, "key");
    log_all();
    upkeep(store_flush);
    begin_put(&attempt, "key", "3");
    log_all();
    assert_false(attempt.results[0].before.exists);
}

static void a_batch_is_atomic(void **state)
{
    struct attempt batch;
    (void)state;
    put("a", "old");
    put("b", "old");
    admit(&batch, 3, 30);
    add_put(&batch, "a", "new");
    assert_ok(store_write_delete(batch.write, bytes_of_text("b")));
    add_put(&batch, "c", "new");
    commit(&batch);
    assert_value("a", "old");
    assert_value("b", "old");
    assert_value("c", NULL);
    engine_log_step(store);
    assert_true(batch.done);
    assert_value("a", "new");
    assert_value("b", NULL);
    assert_value("c", "new");
}

static void one_failed_condition_stops_the_whole_batch(void **state)
{
    struct attempt batch;
    (void)state;
    put("b", "old");
    uint64_t before = next_seq();
    admit(&batch, 3, 30);
    add_put(&batch, "a", "new");
    add_put(&batch, "b", "new");
    store_write_condition(batch.write, is_absent, NULL);
    add_put(&batch, "c", "new");
    commit(&batch);
    assert_true(batch.done && batch.condition_failed);
    assert_int_equal(next_seq(), before);
    log_all();
    assert_value("a", NULL);
    assert_value("b", "old");
    assert_value("c", NULL);
}

/* Looks at the ring as the log thread does. */
struct look {
    pthread_t thread;
    _Atomic uint64_t seq; /* of the batch that is to come; 0: none; UINT64_MAX: no more */
    unsigned parts;       /* met before the rest was there */
};

#if defined(__SANITIZE_THREAD__)
enum { LOOKED_AT = 40, LOOKS = 300 }; /* it knows of 64 mutexes that a thread holds */
#else
enum { LOOKED_AT = 100, LOOKS = 300 };
#endif

static void *look_for_parts(void *arg)
{
    struct look *look = arg;
    for (;;) {
        uint64_t seq = atomic_load(&look->seq);
        if (seq == UINT64_MAX) {
            return NULL;
        }
        if (seq != 0 && atomic_load(&store->ring[seq & store->ring_mask])) {
            look->parts +=
                atomic_load(&store->ring[(seq + LOOKED_AT - 1) & store->ring_mask]) == NULL;
            atomic_store(&look->seq, 0);
        }
    }
}

static void on_batch_written(void *arg, enum err err, const struct store_written *written)
{
    assert_ok(err);
    *(size_t *)arg = written->n_ops;
}

/* Regression: the log thread looked again and again until the rest of a batch was there. */
static void a_batch_is_ready_for_the_log_as_a_whole(void **state)
{
    struct look look = {.parts = 0};
    (void)state;
    assert_int_equal(pthread_create(&look.thread, NULL, look_for_parts, &look), 0);
    for (unsigned i = 0; i < LOOKS; i++) {
        struct attempt batch;
        size_t written = 0;
        admit(&batch, LOOKED_AT, LOOKED_AT * 10);
        for (unsigned op = 0; op < LOOKED_AT; op++) {
            char key[16];
            snprintf(key, sizeof key, "%03u", op);
            add_put(&batch, key, "value");
        }
        atomic_store(&look.seq, store->log_next_seq);
        store_write_commit(batch.write, on_batch_written, &written);
        while (atomic_load(&look.seq) != 0) {
            sched_yield();
        }
        settle();
        assert_int_equal(written, LOOKED_AT);
    }
    atomic_store(&look.seq, UINT64_MAX);
    pthread_join(look.thread, NULL);
    assert_int_equal(look.parts, 0);
}

static void a_key_twice_in_a_batch_is_refused(void **state)
{
    struct attempt batch;
    (void)state;
    admit(&batch, 2, 20);
    add_put(&batch, "a", "1");
    assert_ok(store_write_delete(batch.write, bytes_of_text("a")));
    commit(&batch);
    assert_true(batch.done);
    assert_err(ERR_INVALID, batch.err);
    assert_value("a", NULL);
}

/* --- A log that fails ------------------------------------------------------------------------- */

/* Fails the nth operation of a kind on log segments, and counts what follows. */
struct log_fault {
    enum vfs_mem_op op;
    uint64_t partly; /* bytes of it that are done */
    bool failed;
    unsigned calls_after; /* writes and syncs of a segment after the one that failed */
};

static struct vfs_mem_verdict fail_log(void *arg, const struct vfs_mem_call *call)
{
    struct log_fault *fault = arg;
    bool log = (call->op == VFS_MEM_SYNC || call->op == VFS_MEM_WRITE) &&
               strstr(call->name, ".log") != NULL;
    if (log && fault->failed) {
        fault->calls_after++;
    } else if (log && call->op == fault->op) {
        fault->failed = true;
        return (struct vfs_mem_verdict){
            .action = VFS_MEM_FAIL_PARTLY, .err = ERR_IO, .bytes = fault->partly};
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

/* Continues on what a power failure leaves. */
static void crash_and_reopen(void)
{
    engine_abandon(store);
    store = NULL;
    struct vfs_mem *after = vfs_mem_crash_clone(fs, MEM_KEEP_RANDOM, test_seed());
    vfs_mem_free(fs);
    fs = after;
    if (try_open(true) != ERR_OK) {
        fail_msg("%s", open_detail.text);
    }
}

static void lose_the_log(struct log_fault fault)
{
    struct attempt early, failed, late, refused;
    put("kept", "1");
    admit(&late, 1, 20);
    add_put(&late, "late", "3");
    vfs_mem_set_hook(fs, fail_log, &fault);
    begin_put(&early, "kept", "2");
    begin_put(&failed, "failed", "2");
    assert_int_equal(store_state(store), STORE_WRITABLE);
    log_all();
    assert_true(fault.failed);
    assert_err(ERR_OUTCOME_UNKNOWN, early.err);
    assert_err(ERR_OUTCOME_UNKNOWN, failed.err);
    assert_int_equal(store_state(store), STORE_READ_ONLY);
    assert_int_equal(events[STORE_EVENT_LOG_POISONED], 1);

    /* Who was admitted before learns it too, without a trace; nobody is admitted any more. */
    commit(&late);
    assert_true(late.done);
    assert_err(ERR_READ_ONLY, late.err);
    ask(&refused, 1, 20);
    assert_err(ERR_READ_ONLY, refused.err);

    /* Reads go on, and show nothing that isn't durable. */
    assert_value("kept", "1");
    assert_value("failed", NULL);
    assert_value("late", NULL);
    settle();
    assert_int_equal(engine_log_idle_ms(store), UINT64_MAX); /* there is nothing to wake up for */
    engine_log_idle_step(store);
    assert_value("kept", "1");
    assert_int_equal(fault.calls_after, 0);
    vfs_mem_set_hook(fs, NULL, NULL);

    crash_and_reopen();
    struct got got = get("kept");
    assert_true(got.found && got.entry.value.size == 1);
    store_entry_release(&got.entry);
    assert_value("late", NULL);
    put("after", "4");
    assert_value("after", "4");
}

static void after_a_failed_sync_nothing_is_written_nor_synced_again(void **state)
{
    (void)state;
    lose_the_log((struct log_fault){.op = VFS_MEM_SYNC});
}

static void after_a_failed_write_nothing_is_written_nor_synced_again(void **state)
{
    (void)state;
    for (uint64_t partly = 0; partly < 200; partly += 40) {
        lose_the_log((struct log_fault){.op = VFS_MEM_WRITE, .partly = partly});
        struct attempt clean;
        begin_delete(&clean, "failed"); /* may be there or not */
        log_all();
        assert_true(clean.done);
    }
}

/* Regression: with a log that had failed it woke up ten times a second for ever. */
static void an_idle_log_wakes_up_only_to_record_what_is_durable(void **state)
{
    (void)state;
    put("key", "value");
    assert_int_equal(engine_log_idle_ms(store), ENGINE_LOG_IDLE_MS);
    assert_true(engine_log_idle_step(store));
    assert_int_equal(engine_log_idle_ms(store), UINT64_MAX);
}

/* --- Admission -------------------------------------------------------------------------------- */

static void waiting_writes_are_let_in_in_order(void **state)
{
    enum { WAITERS = 50 };
    struct attempt holder, waiters[WAITERS];
    (void)state;
    n_admitted = 0;
    admit(&holder, 1, INFLIGHT_BYTES - 2000);
    for (unsigned i = 0; i < WAITERS; i++) { /* the small ones don't overtake the large */
        ask(&waiters[i], 1, i % 2 == 0 ? 60000 : 10);
        assert_false(waiters[i].answered);
    }
    store_write_abort(holder.write);
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_true(waiters[i].answered);
        assert_ok(waiters[i].err);
        assert_int_equal(waiters[i].order, i + 1);
        store_write_abort(waiters[i].write);
    }
    assert_int_equal(atomic_load(&store->inflight_bytes), 0);
}

static void too_many_waiting_writes_are_refused(void **state)
{
    struct attempt holder, last;
    struct attempt *waiters = calloc(ENGINE_WAITING_MAX, sizeof waiters[0]);
    (void)state;
    assert_non_null(waiters);
    admit(&holder, 1, INFLIGHT_BYTES - 2000);
    ask(&waiters[0], 1, 60000);
    for (unsigned i = 1; i < ENGINE_WAITING_MAX; i++) {
        ask(&waiters[i], 1, 10);
        assert_false(waiters[i].answered);
    }
    ask(&last, 1, 10);
    assert_true(last.answered);
    assert_err(ERR_BUSY, last.err);
    store_write_abort(holder.write);
    for (unsigned i = 0; i < ENGINE_WAITING_MAX; i++) {
        assert_true(waiters[i].answered);
        store_write_abort(waiters[i].write);
    }
    free(waiters);
}

/* The log is never idle here: there is always a run to write. */
static void a_write_that_waits_too_long_is_refused_while_the_log_is_busy(void **state)
{
    struct attempt busy, holder, waiter;
    (void)state;
    begin_put(&busy, "key", "value");
    admit(&holder, 1, INFLIGHT_BYTES - 4000);
    ask(&waiter, 1, 60000);
    assert_false(waiter.answered);
    store->waiting_first->waiting_since_us -= ENGINE_WAIT_MAX_MS * 1000;
    assert_true(engine_log_step(store));
    assert_true(busy.done);
    assert_true(waiter.answered);
    assert_err(ERR_BUSY, waiter.err);
    store_write_abort(holder.write);
}

static void nobody_is_slowed_down_for_long(void **state)
{
    struct attempt first, second;
    (void)state;
    slowdown_set(&store->slowdown, engine_now_us(), 1); /* a byte a second */
    admit(&first, 1, 1000);
    ask(&second, 1, 1000);
    engine_log_idle_step(store);
    assert_false(second.answered);
    store->waiting_first->waiting_since_us -= ENGINE_SLOW_MAX_MS * 1000;
    engine_log_idle_step(store);
    assert_true(second.answered);
    assert_ok(second.err);
    slowdown_set(&store->slowdown, engine_now_us(), 0);
    store_write_abort(first.write);
    store_write_abort(second.write);
}

/* The process stood still for so long. */
static void who_can_be_let_in_is_not_refused_however_late_it_is(void **state)
{
    struct attempt first, second;
    (void)state;
    slowdown_set(&store->slowdown, engine_now_us(), 1);
    admit(&first, 1, 1000);
    ask(&second, 1, 1000);
    assert_false(second.answered);
    store->waiting_first->waiting_since_us -= ENGINE_WAIT_MAX_MS * 1000;
    engine_log_idle_step(store);
    assert_true(second.answered);
    assert_ok(second.err);
    slowdown_set(&store->slowdown, engine_now_us(), 0);
    store_write_abort(first.write);
    store_write_abort(second.write);
}

static void what_can_never_fit_is_refused_at_once(void **state)
{
    struct attempt attempt;
    struct store_put large = {.key = bytes_of_text("key"), .value_bytes = VALUE_MAX_BYTES + 1};
    void *into;
    (void)state;
    ask(&attempt, 1, INFLIGHT_BYTES);
    assert_err(ERR_TOO_LARGE, attempt.err);
    ask(&attempt, STORE_BATCH_MAX_OPS + 1, 10);
    assert_err(ERR_TOO_LARGE, attempt.err);
    ask(&attempt, 0, 10);
    assert_err(ERR_TOO_LARGE, attempt.err);
    admit(&attempt, 1, 10);
    assert_err(ERR_TOO_LARGE, store_write_put(attempt.write, &large, &into));
    add_put(&attempt, "key", "value"); /* it stays usable */
    assert_err(ERR_TOO_LARGE, store_write_delete(attempt.write, bytes_of_text("second")));
    commit(&attempt);
    log_all();
    assert_ok(attempt.err);
}

/* Puts until one is refused or has to wait; returns how many were stored. */
static unsigned put_until_full(void)
{
    static char value[8001];
    memset(value, 'v', sizeof value - 1);
    for (unsigned i = 0; i < 1000; i++) {
        struct attempt attempt;
        char key[32];
        snprintf(key, sizeof key, "key%u", i);
        ask(&attempt, 1, sizeof value + 40);
        settle();
        if (!attempt.answered || attempt.err != ERR_OK) {
            assert_true(attempt.answered);
            assert_err(ERR_NO_SPACE, attempt.err);
            return i;
        }
        add_put(&attempt, key, value);
        commit(&attempt);
        settle();
        assert_ok(attempt.err);
    }
    fail_msg("the disk never was full");
    return 0;
}

static void a_full_disk_refuses_puts_and_nothing_else(void **state)
{
    struct attempt attempt;
    char key[32];
    (void)state;
    settle();
    vfs_mem_set_capacity(fs, vfs_mem_used(fs) + 100000);
    unsigned n = put_until_full();
    assert_true(n > 0);
    assert_int_equal(store_state(store), STORE_NO_SPACE);
    assert_int_equal(events[STORE_EVENT_NO_SPACE], 1);
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%u", i);
        struct got got = get(key);
        assert_true(got.found && got.entry.value.size == 8000);
        store_entry_release(&got.entry);
    }
    struct store_write_size size = {.ops = 1, .bytes = 10, .deletes_only = true};
    attempt = (struct attempt){.answered = false};
    store_write_new(store, &size, on_ready, &attempt);
    assert_true(attempt.answered);
    assert_ok(attempt.err);
    assert_ok(store_write_delete(attempt.write, bytes_of_text("key0")));
    commit(&attempt);
    log_all();
    assert_true(attempt.done);
    assert_ok(attempt.err);
    assert_value("key0", NULL);

    vfs_mem_set_capacity(fs, UINT64_MAX);
    settle();
    assert_int_equal(store_state(store), STORE_WRITABLE);
    assert_int_equal(events[STORE_EVENT_SPACE_BACK], 1);
    put("after", "1");
    crash_and_reopen();
    assert_value("key0", NULL);
    assert_value("after", "1");
    snprintf(key, sizeof key, "key%u", n - 1);
    struct got got = get(key);
    assert_true(got.found);
    store_entry_release(&got.entry);
}

/* --- Pins ------------------------------------------------------------------------------------- */

static void pinned_values_stay_whatever_happens_to_their_keys(void **state)
{
    enum { PINS = 24 };
    struct got pins[PINS];
    char value[16];
    size_t order[PINS];
    struct prng prng;
    (void)state;
    prng_init(&prng, test_seed());
    for (unsigned i = 0; i < PINS; i++) { /* in memory, in sealed memory, in tables of any level */
        snprintf(value, sizeof value, "value%u", i);
        put("key", value);
        pins[i] = get("key");
        order[i] = i;
        if (i % 3 == 1) {
            upkeep(store_flush);
        } else if (i % 8 == 7) {
            upkeep(store_compact);
        }
    }
    struct attempt last;
    begin_delete(&last, "key");
    upkeep(store_compact);
    for (unsigned left = PINS; left > 0; left--) {
        for (unsigned i = 0; i < left; i++) {
            snprintf(value, sizeof value, "value%zu", order[i]);
            assert_true(bytes_equal(pins[order[i]].entry.value, bytes_of_text(value)));
        }
        size_t pick = prng_below(&prng, left);
        store_entry_release(&pins[order[pick]].entry);
        order[pick] = order[left - 1];
        settle();
    }
    struct store_stats stats;
    store_stats(store, &stats);
    assert_int_equal(stats.pinned_entries, 0);
}

/* --- Opening ---------------------------------------------------------------------------------- */

/* A store with a table and a log, closed as by a kill. */
static void leave_a_store(char table[FILES_NAME_BYTES], char log[FILES_NAME_BYTES])
{
    put("in table", "1");
    upkeep(store_flush);
    put("in log", "2");
    engine_log_idle_step(store);
    files_name(FILE_TABLE, table_info(atomic_load(&store->view)->levels[0].tables[0])->number,
               table);
    files_name(FILE_SEGMENT, wal_number(store->wal), log);
    engine_abandon(store);
    store = NULL;
}

static void damage_is_refused_by_name_and_never_an_empty_store(void **state)
{
    char table[FILES_NAME_BYTES], log[FILES_NAME_BYTES];
    (void)state;
    leave_a_store(table, log);
    const struct {
        const char *name;
        uint64_t offset;
    } places[] = {{FILES_MANIFEST, 20}, {FILES_MANIFEST, 90}, {table, 20}, {log, 20}, {log, 4150}};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        vfs_mem_flip_bit(fs, places[i].name, places[i].offset * 8);
        assert_err(ERR_CORRUPT, try_open(true));
        assert_non_null(strstr(open_detail.text, places[i].name));
        assert_int_equal(events[STORE_EVENT_CORRUPTION], 1);
        vfs_mem_flip_bit(fs, places[i].name, places[i].offset * 8);
    }
    const char *const names[] = {FILES_MANIFEST, table, log};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        size_t size;
        struct vfs_dir *dir;
        unsigned char *content = vfs_mem_get(fs, names[i], &size);
        assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", false, &dir));
        assert_ok(vfs_unlink(dir, names[i]));
        vfs_dir_close(dir);
        assert_err(ERR_CORRUPT, try_open(true));
        assert_non_null(strstr(open_detail.text, names[i]));
        vfs_mem_put(fs, names[i], content, size);
        free(content);
    }
    assert_ok(try_open(true));
    assert_value("in table", "1");
    assert_value("in log", "2");
}

static void another_format_version_is_refused_with_both_numbers(void **state)
{
    char table[FILES_NAME_BYTES], log[FILES_NAME_BYTES];
    (void)state;
    leave_a_store(table, log);
    const char *const names[] = {FILES_MANIFEST, table, log};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        vfs_mem_flip_bit(fs, names[i], 8 * 8 + 3); /* version 9 */
        assert_err(ERR_FORMAT, try_open(true));
        assert_non_null(strstr(open_detail.text, "version 9"));
        assert_non_null(strstr(open_detail.text, "version 1"));
        assert_non_null(strstr(open_detail.text, names[i]));
        vfs_mem_flip_bit(fs, names[i], 8 * 8 + 3);
    }
    assert_ok(try_open(true));
}

static void a_directory_in_use_is_refused(void **state)
{
    struct store *first = store;
    (void)state;
    put("key", "1");
    assert_err(ERR_LOCKED, try_open(true));
    assert_string_equal(open_detail.text, "data directory data is in use by another process");
    assert_ptr_equal(store, first);
    assert_value("key", "1");
}

static void a_directory_that_can_not_be_written_is_refused(void **state)
{
    static const unsigned ops[] = {VFS_MEM_DIR_OPEN, VFS_MEM_CREATE, VFS_MEM_WRITE,
                                   VFS_MEM_SYNC,     VFS_MEM_RENAME, VFS_MEM_DIR_SYNC};
    (void)state;
    put("key", "1");
    store_close(store);
    store = NULL;
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(ops[i]),
                                    .nth = 1,
                                    .forever = true,
                                    .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
        vfs_mem_set_hook(fs, vfs_mem_follow_plan, &plan);
        assert_true(try_open(true) != ERR_OK);
        assert_non_null(strstr(open_detail.text, "data"));
        vfs_mem_set_hook(fs, NULL, NULL);
    }
    assert_ok(try_open(true));
    assert_value("key", "1");
}

/* --- With threads ----------------------------------------------------------------------------- */

static sem_t paused, resume;

static bool pause_once(void *arg, const struct store_current *current)
{
    (void)current;
    if (!*(bool *)arg) {
        *(bool *)arg = true;
        sem_post(&paused);
        while (sem_wait(&resume) != 0) {
        }
    }
    return true;
}

static void *write_paused(void *arg)
{
    struct store_write *write;
    struct store_write_size size = {.ops = 1, .bytes = 20};
    struct store_put what = {.key = bytes_of_text("paused"), .value_bytes = 1};
    bool was_paused = false;
    void *into;
    (void)arg;
    if (store_write_new_sync(store, &size, &write) != ERR_OK ||
        store_write_put(write, &what, &into) != ERR_OK) {
        return NULL;
    }
    *(char *)into = '2';
    store_write_condition(write, pause_once, &was_paused);
    return store_write_commit_sync(write, NULL) == ERR_OK ? store : NULL;
}

/* Paused in the middle of its decision, with its stripe locked and a read section open. */
static void a_paused_writer_stops_nobody_else(void **state)
{
    pthread_t thread;
    void *result;
    char key[32];
    bool found;
    struct store_entry entry;
    (void)state;
    sem_init(&paused, 0, 0);
    sem_init(&resume, 0, 0);
    fs = vfs_mem_new(test_seed());
    assert_ok(try_open(false));
    struct store_put own = {.key = bytes_of_text("paused")};
    assert_ok(store_put_sync(store, &own, bytes_of_text("1"), NULL));
    size_t own_stripe = table_hash(own.key) % ENGINE_STRIPES;
    assert_int_equal(pthread_create(&thread, NULL, write_paused, NULL), 0);
    while (sem_wait(&paused) != 0) {
    }
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key%u", i);
        struct store_put what = {.key = bytes_of_text(key)};
        if (table_hash(what.key) % ENGINE_STRIPES == own_stripe) {
            continue;
        }
        assert_ok(store_put_sync(store, &what, bytes_of_text("value"), NULL));
    }
    assert_ok(store_flush_sync(store));
    assert_ok(store_compact_sync(store));
    assert_ok(store_get_sync(store, own.key, &found, &entry));
    assert_true(found && bytes_equal(entry.value, bytes_of_text("1")));
    store_entry_release(&entry);
    sem_post(&resume);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, store);
    assert_ok(store_get_sync(store, own.key, &found, &entry));
    assert_true(found && bytes_equal(entry.value, bytes_of_text("2")));
    store_entry_release(&entry);
    store_close(store);
    store = NULL;
    vfs_mem_free(fs);
    sem_destroy(&paused);
    sem_destroy(&resume);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_condition_is_decided_on_the_newest_claimed_version),
        TEST(a_failed_condition_waits_for_what_it_saw),
        TEST(a_failed_condition_on_what_gets_lost_is_unknown_too),
        TEST(deleting_what_is_not_there_writes_nothing),
        TEST(a_delete_of_what_is_being_deleted_waits_for_that),
        TEST(tells_created_from_replaced_in_tables_and_memory),
        TEST(a_batch_is_atomic),
        TEST(one_failed_condition_stops_the_whole_batch),
        TEST(a_batch_is_ready_for_the_log_as_a_whole),
        TEST(a_key_twice_in_a_batch_is_refused),
        TEST(after_a_failed_sync_nothing_is_written_nor_synced_again),
        TEST(after_a_failed_write_nothing_is_written_nor_synced_again),
        TEST(an_idle_log_wakes_up_only_to_record_what_is_durable),
        TEST(waiting_writes_are_let_in_in_order),
        TEST(too_many_waiting_writes_are_refused),
        TEST(a_write_that_waits_too_long_is_refused_while_the_log_is_busy),
        TEST(nobody_is_slowed_down_for_long),
        TEST(who_can_be_let_in_is_not_refused_however_late_it_is),
        TEST(what_can_never_fit_is_refused_at_once),
        TEST(a_full_disk_refuses_puts_and_nothing_else),
        TEST(pinned_values_stay_whatever_happens_to_their_keys),
        TEST(damage_is_refused_by_name_and_never_an_empty_store),
        TEST(another_format_version_is_refused_with_both_numbers),
        TEST(a_directory_in_use_is_refused),
        TEST(a_directory_that_can_not_be_written_is_refused),
        cmocka_unit_test(a_paused_writer_stops_nobody_else),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
