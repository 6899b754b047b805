/* The engine without threads: what must hold in states that chance seldom gets into. */
#include "store/lsm/engine.h"

#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/base/rcu.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/vfs_mem.h"

#define LARGE_BYTES (UINT64_C(1) << 20)

static struct vfs_mem *fs;
static struct store *store;

static void open_store(void)
{
    struct store_options options = store_options_default();
    struct err_detail detail;
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = LARGE_BYTES;
    options.max_inflight_bytes = LARGE_BYTES + LARGE_BYTES / 2;
    options.vfs = vfs_mem_vfs(fs);
    options.manual = true;
    assert_ok(store_open(&options, &store, &detail));
}

static int begin(void **state)
{
    (void)state;
    rcu_door_set_manual(true);
    fs = vfs_mem_new(1);
    open_store();
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (store) {
        store_close(store);
        store = NULL;
    }
    vfs_mem_free(fs);
    rcu_door_set_manual(false);
    return 0;
}

/* --- Writes that stop where the test wants ---------------------------------------------------- */

struct attempt {
    struct store_write *write;
    bool answered, done;
    enum err ready_err, err;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct attempt *attempt = arg;
    attempt->answered = true;
    attempt->ready_err = err;
    attempt->write = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct attempt *attempt = arg;
    (void)written;
    attempt->done = true;
    attempt->err = err;
}

static void ask(struct attempt *attempt, uint64_t bytes, bool deletes_only)
{
    struct store_write_size size = {.ops = 1, .bytes = bytes + 64, .deletes_only = deletes_only};
    *attempt = (struct attempt){.answered = false};
    store_write_new(store, &size, on_ready, attempt);
}

static void commit_put(struct attempt *attempt, const char *key, uint64_t value_bytes)
{
    struct store_put put = {.key = bytes_of_text(key), .value_bytes = value_bytes};
    void *value;
    assert_true(attempt->answered);
    assert_ok(attempt->ready_err);
    assert_ok(store_write_put(attempt->write, &put, &value));
    pattern_fill(put.key, 1, value, value_bytes);
    store_write_commit(attempt->write, on_written, attempt);
}

static void put(struct attempt *attempt, const char *key, uint64_t value_bytes)
{
    ask(attempt, value_bytes, false);
    commit_put(attempt, key, value_bytes);
}

static void log_all(void)
{
    while (engine_log_step(store)) {
    }
}

static void flush_all(void)
{
    while (engine_flush_step(store)) {
        log_all();
    }
}

/* Just below the size at which a memtable is sealed. */
static void nearly_fill_memtable(void)
{
    struct attempt attempt;
    put(&attempt, "first", ENGINE_MEMTABLE_MIN_BYTES - 1024);
    log_all();
    assert_true(attempt.done);
    assert_ok(attempt.err);
}

static uint64_t log_room(void)
{
    return atomic_load(&store->log_room_bytes);
}

/* --- Tests ------------------------------------------------------------------------------------ */

/* As many large writes wait as there may be, and each is let in by the completion of the one
 * before, just before the log thread sees that the memtable is full. */
static void the_segment_has_room_for_whatever_is_let_in(void **state)
{
    struct attempt first, waiting[3];

    (void)state;
    nearly_fill_memtable(); /* no spare segment: the flush step doesn't run */
    ask(&first, LARGE_BYTES, false);
    for (unsigned i = 0; i < COUNT_OF(waiting); i++) {
        ask(&waiting[i], LARGE_BYTES, false);
        assert_false(waiting[i].answered);
    }
    commit_put(&first, "large", LARGE_BYTES);
    log_all();
    assert_true(first.done);
    for (unsigned i = 0; i < COUNT_OF(waiting); i++) {
        if (waiting[i].answered) {
            commit_put(&waiting[i], "large", LARGE_BYTES);
            log_all();
        }
    }
    assert_false(waiting[2].answered);

    /* A segment and a flush later they all get through. */
    for (unsigned i = 0; i < COUNT_OF(waiting); i++) {
        flush_all();
        log_all();
        if (!waiting[i].done) {
            commit_put(&waiting[i], "large", LARGE_BYTES);
        }
        log_all();
        assert_true(waiting[i].done);
        assert_ok(waiting[i].err);
    }
}

/* A body of unknown length that was let in small mustn't outgrow the segment later. */
static void a_write_that_grows_is_bounded_by_the_segment_too(void **state)
{
    struct attempt growing[3], large;
    void *value;

    (void)state;
    nearly_fill_memtable();
    struct store_put begun = {.key = bytes_of_text("grows"), .value_bytes = 16};
    for (unsigned i = 0; i < COUNT_OF(growing); i++) {
        ask(&growing[i], 16, false);
        assert_ok(store_write_put(growing[i].write, &begun, &value));
    }
    put(&large, "large", LARGE_BYTES);
    log_all(); /* closes the gate */
    assert_true(large.done);
    for (unsigned i = 0; i < COUNT_OF(growing); i++) {
        enum err err = store_write_resize(growing[i].write, LARGE_BYTES, &value);
        assert_true(err == ERR_OK || err == ERR_BUSY);
        if (err == ERR_OK) {
            pattern_fill(begun.key, 1, value, LARGE_BYTES);
        } else {
            pattern_fill(begun.key, 1, value, 16);
        }
        store_write_commit(growing[i].write, on_written, &growing[i]);
        log_all();
        assert_true(growing[i].done);
        assert_ok(growing[i].err);
    }
}

/* A full disk: deletes go on until the segment is full to the last byte, and then no further. */
static void deletes_use_the_segment_up_and_no_more(void **state)
{
    struct attempt attempt, second;
    char key[32];

    (void)state;
    nearly_fill_memtable();
    for (unsigned i = 0; i < 30; i++) { /* something to delete, and a full memtable */
        snprintf(key, sizeof key, "key%u", i);
        ask(&attempt, 100, false);
        if (!attempt.answered) {
            break;
        }
        commit_put(&attempt, key, 100);
        log_all();
    }
    vfs_mem_set_capacity(fs, vfs_mem_used(fs));
    for (unsigned i = 0; i < 10; i++) {
        engine_flush_step(store);
        log_all();
    }
    assert_int_equal(store_state(store), STORE_NO_SPACE);
    ask(&second, 100, false);
    assert_true(second.answered);
    assert_err(ERR_NO_SPACE, second.ready_err);

    /* Room is taken by writes that are admitted, not by those that are logged. */
    uint64_t room = log_room(), taken = 0;
    struct attempt *held = calloc(4096, sizeof *held);
    size_t n = 0;
    for (; n < 4096; n++) {
        ask(&held[n], 60, true);
        if (!held[n].answered) {
            break;
        }
        assert_ok(held[n].ready_err);
        taken = atomic_load(&store->inflight_bytes);
        assert_true(taken <= room);
    }
    for (size_t i = 0; i < n; i++) {
        store_write_abort(held[i].write);
    }
    if (n < 4096) {
        assert_true(held[n].answered);
        if (held[n].write) {
            store_write_abort(held[n].write);
        }
    }
    free(held);

    /* It heals by itself. */
    vfs_mem_set_capacity(fs, UINT64_MAX);
    for (unsigned i = 0; i < 10; i++) {
        engine_flush_step(store);
        log_all();
    }
    assert_int_equal(store_state(store), STORE_WRITABLE);
    put(&attempt, "again", 100);
    log_all();
    assert_ok(attempt.err);
}

static unsigned upkeep_done;
static enum err upkeep_err;

static void on_upkeep(void *arg, enum err err)
{
    (void)arg;
    upkeep_done++;
    upkeep_err = err;
}

/* A flush that was asked for and has to wait for a segment holds up no writes: there is room. */
static void a_flush_that_was_asked_for_stops_no_writes(void **state)
{
    struct attempt attempt;

    (void)state;
    upkeep_done = 0;
    put(&attempt, "one", 100);
    log_all();
    store_flush(store, on_upkeep, NULL);
    log_all();
    ask(&attempt, 100, false);
    assert_true(attempt.answered);
    commit_put(&attempt, "two", 100);
    log_all();
    assert_ok(attempt.err);
    flush_all();
    log_all();
    flush_all();
    assert_int_equal(upkeep_done, 1);
    assert_ok(upkeep_err);
}

/* Regression: flushes and compactions that were asked for on a full disk were never answered, and
 * held up the end of the server. */
static void who_asks_for_a_flush_on_a_full_disk_is_told_so(void **state)
{
    struct attempt attempt;

    (void)state;
    put(&attempt, "one", 100);
    log_all();
    vfs_mem_set_capacity(fs, vfs_mem_used(fs));
    for (int compact = 0; compact <= 1; compact++) {
        upkeep_done = 0;
        if (compact) {
            store_compact(store, on_upkeep, NULL);
        } else {
            store_flush(store, on_upkeep, NULL);
        }
        for (unsigned i = 0; i < 10; i++) {
            engine_flush_step(store);
            log_all();
        }
        assert_int_equal(upkeep_done, 1);
        assert_err(ERR_NO_SPACE, upkeep_err);
    }
    vfs_mem_set_capacity(fs, UINT64_MAX);
    for (unsigned i = 0; i < 10; i++) {
        engine_flush_step(store);
        log_all();
    }
    upkeep_done = 0;
    store_flush(store, on_upkeep, NULL);
    log_all();
    flush_all();
    assert_int_equal(upkeep_done, 1);
    assert_ok(upkeep_err);
}

static void abandoning_ends_a_batch_that_wraps_around_the_ring(void **state)
{
    struct attempt attempt;

    (void)state;
    uint64_t slots = store->ring_mask + 1;
    while (store->log_next_seq % slots != slots - 1) {
        put(&attempt, "key", 8);
        flush_all();
        log_all();
    }
    /* Two records: one in the last slot of the ring, one in the first. */
    struct store_write_size size = {.ops = 2, .bytes = 200};
    void *value;
    attempt = (struct attempt){.answered = false};
    store_write_new(store, &size, on_ready, &attempt);
    struct store_put a = {.key = bytes_of_text("a")}, b = {.key = bytes_of_text("b")};
    assert_ok(store_write_put(attempt.write, &a, &value));
    assert_ok(store_write_put(attempt.write, &b, &value));
    store_write_commit(attempt.write, on_written, &attempt);
    engine_abandon(store);
    store = NULL;
    assert_true(attempt.done);
    assert_err(ERR_OUTCOME_UNKNOWN, attempt.err);
}

static void a_missing_table_is_damage_and_not_an_empty_store(void **state)
{
    struct attempt attempt;
    struct store_options options = store_options_default();
    struct err_detail detail;

    (void)state;
    put(&attempt, "key", 100);
    log_all();
    uint64_t number = atomic_load(&store->next_file);
    store_close(store); /* makes the table */
    store = NULL;
    char name[FILES_NAME_BYTES];
    struct vfs_dir *in;
    files_name(FILE_TABLE, number, name);
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", false, &in));
    assert_ok(vfs_unlink(in, name));
    vfs_dir_close(in);
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.manual = true;
    assert_err(ERR_CORRUPT, store_open(&options, &store, &detail));
    assert_non_null(strstr(detail.text, name));
}

/* The number after that of this name is 0: opening met an assertion. It is no file of ours, though
 * named like one, and goes as those do. */
static void a_stray_file_of_the_greatest_number_is_in_nobodys_way(void **state)
{
    static const char *const names[] = {"ffffffffffffffff.log", "7fffffffffffffff.table"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        store_close(store);
        vfs_mem_put(fs, names[i], "stray", 5);
        open_store();
        assert_true(atomic_load(&store->next_file) < 100);
        assert_false(vfs_mem_exists(fs, names[i]));
    }
}

/* --- With threads ----------------------------------------------------------------------------- */

static sem_t sync_entered, sync_may_fail, answered;
static _Atomic bool sync_fails;

/* The log's sync that is armed for waits until the test lets it fail. */
static struct vfs_mem_verdict fail_sync_later(void *arg, const struct vfs_mem_call *call)
{
    (void)arg;
    if (call->op == VFS_MEM_SYNC && atomic_exchange(&sync_fails, false)) {
        sem_post(&sync_entered);
        sem_wait(&sync_may_fail);
        return (struct vfs_mem_verdict){.action = VFS_MEM_FAIL, .err = ERR_IO};
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void on_answered(void *arg, enum err err)
{
    *(enum err *)arg = err;
    sem_post(&answered);
}

static void on_written_answered(void *arg, enum err err, const struct store_written *written)
{
    (void)written;
    on_answered(arg, err);
}

static void wait_for_answer(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    assert_int_equal(sem_timedwait(&answered, &until), 0);
}

/* The flush thread has done all it can for the request, and sleeps, when the log fails. */
static void who_waits_for_a_flush_is_told_when_the_log_fails(void **state)
{
    struct attempt attempt;
    struct store_options options = store_options_default();
    struct err_detail detail;
    struct store_stats stats;
    enum err write_err = ERR_OK, flush_err = ERR_OK;

    (void)state;
    rcu_door_set_manual(false);
    sem_init(&sync_entered, 0, 0);
    sem_init(&sync_may_fail, 0, 0);
    sem_init(&answered, 0, 0);
    fs = vfs_mem_new(1);
    vfs_mem_set_hook(fs, fail_sync_later, NULL);
    options.dir = "data";
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 1000;
    options.max_inflight_bytes = 128 << 10;
    options.vfs = vfs_mem_vfs(fs);
    assert_ok(store_open(&options, &store, &detail));

    atomic_store(&sync_fails, true);
    ask(&attempt, 100, false);
    struct store_put one = {.key = bytes_of_text("one"), .value_bytes = 0};
    void *value;
    assert_ok(store_write_put(attempt.write, &one, &value));
    store_write_commit(attempt.write, on_written_answered, &write_err);
    while (sem_wait(&sync_entered) != 0) {
    }
    store_flush(store, on_answered, &flush_err);
    do {
        store_stats(store, &stats);
        sched_yield();
    } while (stats.log_segments < 2 || !atomic_load(&store->flush_sleeper.asleep));
    sem_post(&sync_may_fail);
    wait_for_answer();
    wait_for_answer();
    assert_err(ERR_OUTCOME_UNKNOWN, write_err);
    assert_err(ERR_READ_ONLY, flush_err);
    store_close(store);
    store = NULL;
    vfs_mem_free(fs);
    sem_destroy(&sync_entered);
    sem_destroy(&sync_may_fail);
    sem_destroy(&answered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_segment_has_room_for_whatever_is_let_in, begin, end),
        cmocka_unit_test_setup_teardown(a_write_that_grows_is_bounded_by_the_segment_too, begin,
                                        end),
        cmocka_unit_test_setup_teardown(deletes_use_the_segment_up_and_no_more, begin, end),
        cmocka_unit_test_setup_teardown(a_flush_that_was_asked_for_stops_no_writes, begin, end),
        cmocka_unit_test_setup_teardown(who_asks_for_a_flush_on_a_full_disk_is_told_so, begin, end),
        cmocka_unit_test_setup_teardown(abandoning_ends_a_batch_that_wraps_around_the_ring, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_missing_table_is_damage_and_not_an_empty_store, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_stray_file_of_the_greatest_number_is_in_nobodys_way,
                                        begin, end),
        cmocka_unit_test(who_waits_for_a_flush_is_told_when_the_log_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
