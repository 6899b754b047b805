/* A full disk: puts are refused and nothing else, deletes bring space back, and what is stopped
 * there can be started there. */
#include "store/lsm/space.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/pattern.h"
#include "tests/support/vfs_mem.h"

enum { KEYS = 8000, VALUE_BYTES = 3000, ROUNDS = 200, STEPS = 500, SPREAD = 32, KILLS = 60 };
enum { STRIDE = 3571 }; /* prime to KEYS */
#define DISK_BYTES (UINT64_C(6) << 20)

struct asked {
    bool answered;
    enum err err;
};

struct test {
    struct vfs_mem *fs;
    struct driven driven;
    size_t n_put; /* keys below are there, unless they were deleted since */
    struct asked asked;
    struct vfs_mem_plan kill; /* while time passes */
};

static int begin(void **state)
{
    struct test *test = calloc(1, sizeof *test);
    assert_non_null(test);
    test->fs = vfs_mem_new(test_seed());
    vfs_mem_set_capacity(test->fs, DISK_BYTES);
    driven_init(&test->driven, vfs_mem_vfs(test->fs), "data", KEYS, test_seed());
    driven_open(&test->driven);
    *state = test;
    return 0;
}

static int end(void **state)
{
    struct test *test = *state;
    driven_release(&test->driven);
    vfs_mem_free(test->fs);
    free(test);
    return 0;
}

/* What the store's threads would come to within some seconds; a compaction that fails begins anew
 * for ever. */
static void let_pass(struct test *test)
{
    vfs_mem_set_hook(test->fs, vfs_mem_follow_plan, &test->kill);
    for (int i = 0; i < 4; i++) {
        driven_flushes(&test->driven);
        for (int steps = 0; steps < STEPS && engine_compaction_step(test->driven.store); steps++) {
            driven_reclaims(&test->driven);
        }
        driven_reclaims(&test->driven);
    }
    vfs_mem_set_hook(test->fs, NULL, NULL);
}

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    *(struct asked *)arg = (struct asked){.answered = true, .err = err};
    store_write_abort(write);
}

/* How a put would be answered after a while. */
static enum err ask_to_put(struct test *test)
{
    struct store_write_size size = {.ops = 1, .bytes = DRIVEN_KEY_BYTES + VALUE_BYTES};
    test->asked = (struct asked){.answered = false};
    store_write_new(test->driven.store, &size, on_ready, &test->asked);
    for (int i = 0; !test->asked.answered && i < ROUNDS; i++) {
        let_pass(test);
        if (vfs_mem_is_crashed(test->fs)) {
            return ERR_IO;
        }
    }
    assert_true(test->asked.answered);
    return test->asked.err;
}

/* Until it stays full: a compaction may bring some space once more. */
static void fill_the_disk(struct test *test)
{
    unsigned refused = 0;
    while (refused < 3) {
        enum err err = ask_to_put(test);
        if (err == ERR_OK) {
            assert_true(test->n_put < KEYS);
            driven_put(&test->driven, test->n_put++, VALUE_BYTES);
            refused = 0;
        } else {
            assert_err(ERR_NO_SPACE, err);
            let_pass(test);
            refused++;
        }
    }
    assert_int_equal(store_state(test->driven.store), STORE_NO_SPACE);
    assert_true(test->driven.events[STORE_EVENT_NO_SPACE] > 0);
}

static void delete_keys(struct test *test, size_t from, size_t upto)
{
    for (size_t key = from; key < upto; key++) {
        driven_delete(&test->driven, key);
    }
}

static void make_space(struct test *test)
{
    delete_keys(test, 0, test->n_put * 3 / 4);
    for (int i = 0; store_state(test->driven.store) != STORE_WRITABLE; i++) {
        assert_true(i < ROUNDS);
        let_pass(test);
    }
}

/* --- While it runs ---------------------------------------------------------------------------- */

static void deletes_on_a_full_disk_bring_space_for_puts(void **state)
{
    struct test *test = *state;
    for (int cycle = 0; cycle < 3; cycle++) {
        test->n_put = 0;
        fill_the_disk(test);
        uint64_t back = test->driven.events[STORE_EVENT_SPACE_BACK];
        make_space(test);
        assert_ok(ask_to_put(test));
        assert_true(test->driven.events[STORE_EVENT_SPACE_BACK] > back);
        driven_check(&test->driven);
    }
}

/* What they free is all over a level that is much larger than what there is to lend. */
static void so_do_deletes_all_over_a_large_store(void **state)
{
    struct test *test = *state;
    driven_close(&test->driven);
    test->driven.options.memtable_bytes = UINT64_C(1) << 20;
    vfs_mem_set_capacity(test->fs, 4 * DISK_BYTES);
    driven_open(&test->driven);
    fill_the_disk(test);
    vfs_mem_set_capacity(test->fs, vfs_mem_used(test->fs));
    size_t n_deleted = 0, n_taken = 0;
    for (size_t first = 0; first < SPREAD; first += 4) {
        for (size_t key = first; key < test->n_put; key += SPREAD, n_deleted++) {
            driven_delete(&test->driven, key);
        }
        let_pass(test);
    }
    for (unsigned refused = 0; n_taken < n_deleted / 2;) {
        if (ask_to_put(test) == ERR_OK) {
            driven_put(&test->driven, 4 * n_taken++, VALUE_BYTES);
        } else {
            assert_true(refused++ < 20);
            let_pass(test);
        }
    }
    driven_check(&test->driven);
}

/* Level 0 has much for all of the level below. */
static void fill_all_over(struct test *test)
{
    driven_close(&test->driven);
    test->driven.options.memtable_bytes = UINT64_C(1) << 20;
    vfs_mem_set_capacity(test->fs, 4 * DISK_BYTES);
    driven_open(&test->driven);
    size_t n_put = 0;
    for (unsigned refused = 0; refused < 3;) {
        if (ask_to_put(test) == ERR_OK) {
            driven_put(&test->driven, n_put++ * STRIDE % KEYS, VALUE_BYTES);
            assert_true(n_put < KEYS);
            refused = 0;
        } else {
            let_pass(test);
            refused++;
        }
    }
}

static void delete_last_keys(struct test *test, size_t from)
{
    size_t n = 0;
    for (size_t key = KEYS; key-- > from;) {
        if (test->driven.keys[key].version != 0) {
            driven_delete(&test->driven, key);
            if (++n % 100 == 0) {
                let_pass(test);
            }
        }
    }
    let_pass(test);
}

/* Regression: what came down in the steps of a compaction that found no room to end was there
 * twice for good, and the ballast never whole again. */
static void steps_of_a_compaction_without_room_take_none(void **state)
{
    struct test *test = *state;
    fill_all_over(test);
    delete_last_keys(test, KEYS * 3 / 4);
    let_pass(test);
    for (size_t key = 0; key < 60; key++) {
        assert_ok(ask_to_put(test));
        driven_put(&test->driven, key, VALUE_BYTES);
    }
    driven_check(&test->driven);
}

/* Regression: a ballast that was to grow and could not was gone, and its space free for others. */
static void a_ballast_that_can_not_grow_stays(void **state)
{
    struct test *test = *state;
    fill_all_over(test);
    uint64_t before = test->driven.store->ballast_bytes;
    assert_true(before > 0);
    vfs_mem_set_capacity(test->fs, vfs_mem_used(test->fs));
    delete_last_keys(test, KEYS * 3 / 4);
    assert_true(test->driven.store->ballast_bytes >= before);
    driven_check(&test->driven);
}

static void puts_are_taken_again_when_the_disk_grows(void **state)
{
    struct test *test = *state;
    fill_the_disk(test);
    vfs_mem_set_capacity(test->fs, 2 * DISK_BYTES);
    let_pass(test);
    assert_int_equal(store_state(test->driven.store), STORE_WRITABLE);
    driven_put(&test->driven, 0, VALUE_BYTES);
    driven_check(&test->driven);
}

/* Regression: with as many tables in level 0 as make writes wait, and no room to merge them, puts
 * ended as "busy, try again" after ten seconds each. */
static void puts_are_told_of_the_disk_when_compaction_has_no_room(void **state)
{
    struct test *test = *state;
    vfs_mem_set_capacity(test->fs, UINT64_MAX);
    for (size_t i = 0; i < ENGINE_LEVEL0_STOP; i++) {
        for (size_t key = 0; key < 20; key++) {
            driven_put(&test->driven, key * ENGINE_LEVEL0_STOP + i, VALUE_BYTES);
        }
        driven_flush(&test->driven);
    }
    struct store_stats stats;
    store_stats(test->driven.store, &stats);
    assert_int_equal(stats.level_tables[0], ENGINE_LEVEL0_STOP);
    vfs_mem_set_capacity(test->fs, vfs_mem_used(test->fs));
    let_pass(test);
    assert_err(ERR_NO_SPACE, ask_to_put(test));
    driven_delete(&test->driven, 0);
    vfs_mem_set_capacity(test->fs, UINT64_MAX);
    let_pass(test);
    assert_ok(ask_to_put(test));
    driven_check(&test->driven);
}

/* --- Started again on it ---------------------------------------------------------------------- */

static void end_life(struct test *test, enum mem_keep keep, uint64_t seed)
{
    struct vfs_mem *after = vfs_mem_crash_clone(test->fs, keep, seed);
    engine_abandon(test->driven.store);
    while (rcu_door_reclaim()) {
    }
    test->driven.store = NULL;
    vfs_mem_free(test->fs);
    test->fs = after;
    test->driven.options.vfs = vfs_mem_vfs(after);
}

static void open_after_kill(struct test *test, enum mem_keep keep, uint64_t seed)
{
    end_life(test, keep, seed);
    driven_open(&test->driven);
}

static void a_store_killed_on_a_full_disk_opens_there(void **state)
{
    struct test *test = *state;
    for (size_t i = 0; i < 20; i++) {
        fill_the_disk(test);
        if (i % 3 == 1) {
            driven_delete(&test->driven, i);
        }
        open_after_kill(test, MEM_KEEP_ALL, test_seed() + i);
        driven_check(&test->driven);
    }
}

static void a_store_killed_while_deletes_make_room_opens_there(void **state)
{
    struct test *test = *state;
    fill_the_disk(test);
    for (size_t key = 0; key < test->n_put / 2; key++) {
        driven_delete(&test->driven, key);
        for (uint64_t steps = prng_below(&test->driven.prng, 5); steps > 0; steps--) {
            driven_step(&test->driven);
        }
        if (prng_chance(&test->driven.prng, 10)) {
            open_after_kill(test, MEM_KEEP_ALL, test_seed() + key);
        }
    }
    let_pass(test);
    driven_check(&test->driven);
}

/* Killed at any file operation, while puts and deletes come. */
static void a_store_killed_amid_its_upkeep_of_a_full_disk_opens_there(void **state)
{
    struct test *test = *state;
    struct prng *prng = &test->driven.prng;
    for (unsigned i = 0; i < KILLS; i++) {
        make_space(test);
        test->n_put = 0;
        test->kill = (struct vfs_mem_plan){.ops = VFS_MEM_ANY,
                                           .nth = 1 + prng_below(prng, 1 << prng_below(prng, 13)),
                                           .verdict = {.action = VFS_MEM_CRASH}};
        while (!vfs_mem_is_crashed(test->fs)) {
            if (ask_to_put(test) == ERR_OK) {
                driven_put(&test->driven, test->n_put++, VALUE_BYTES);
            } else if (!vfs_mem_is_crashed(test->fs)) {
                driven_delete(&test->driven, prng_below(prng, test->n_put + 1));
                let_pass(test);
            }
        }
        test->kill.nth = 0;
        open_after_kill(test, MEM_KEEP_ALL, test_seed() + i);
        driven_check(&test->driven);
    }
}

/* One memtable is sealed and another one is full: each is a table of some 200 KiB. */
static void fill_two_memtables(struct test *test)
{
    static const size_t sizes[] = {50000, 200000, 200000};
    vfs_mem_set_capacity(test->fs, UINT64_MAX);
    atomic_store(&test->driven.store->spare_wanted, true);
    driven_flushes(&test->driven);
    for (size_t key = 0; key < COUNT_OF(sizes); key++) {
        driven_put(&test->driven, key, sizes[key]);
    }
    assert_int_equal(atomic_load(&test->driven.store->view)->n_sealed, 1);
    assert_int_equal(memtable_records(atomic_load(&test->driven.store->view)->active), 1);
}

/* The ballast went where others filled the disk, up to so much. */
static void open_on(struct test *test, uint64_t free_bytes)
{
    struct vfs_dir *dir;
    test->driven.options.vfs = vfs_mem_vfs(test->fs);
    assert_ok(vfs_dir_open(vfs_mem_vfs(test->fs), "data", false, &dir));
    assert_ok(vfs_unlink(dir, FILES_BALLAST));
    vfs_dir_close(dir);
    vfs_mem_set_capacity(test->fs, vfs_mem_used(test->fs) + free_bytes);
    driven_open(&test->driven);
    driven_check(&test->driven);
}

static void open_without_ballast(struct test *test, uint64_t free_bytes)
{
    end_life(test, MEM_KEEP_ALL, test_seed());
    open_on(test, free_bytes);
}

static struct vfs_mem_verdict crash_at_removal_of_a_segment(void *arg,
                                                            const struct vfs_mem_call *call)
{
    (void)arg;
    bool crashes = call->op == VFS_MEM_UNLINK && strstr(call->name, ".log") != NULL;
    return (struct vfs_mem_verdict){.action = crashes ? VFS_MEM_CRASH : VFS_MEM_DO};
}

/* Regression: the store needed more room, with a segment beside it that no manifest named. */
static void a_flushed_segment_that_was_not_removed_makes_room_to_open(void **state)
{
    struct test *test = *state;
    fill_two_memtables(test);
    vfs_mem_set_hook(test->fs, crash_at_removal_of_a_segment, NULL);
    engine_flush_step(test->driven.store);
    assert_true(vfs_mem_is_crashed(test->fs));
    vfs_mem_set_hook(test->fs, NULL, NULL);
    open_without_ballast(test, 8192);
}

/* Regression: the table took what a manifest would have needed to make room. */
static void a_table_of_what_is_replayed_leaves_room_for_a_manifest(void **state)
{
    struct test *test = *state;
    fill_two_memtables(test);
    vfs_mem_set_hook(test->fs, crash_at_removal_of_a_segment, NULL);
    engine_flush_step(test->driven.store);
    vfs_mem_set_hook(test->fs, NULL, NULL);
    struct vfs_mem *killed = vfs_mem_crash_clone(test->fs, MEM_KEEP_ALL, test_seed());
    open_without_ballast(test, UINT64_C(4) << 20);
    uint64_t table_bytes =
        table_info(atomic_load(&test->driven.store->view)->levels[0].tables[0])->size_bytes;
    for (uint64_t more = 0; more < 2000; more += 100) {
        engine_abandon(test->driven.store);
        while (rcu_door_reclaim()) {
        }
        test->driven.store = NULL;
        vfs_mem_free(test->fs);
        test->fs = vfs_mem_crash_clone(killed, MEM_KEEP_ALL, test_seed());
        open_on(test, table_bytes + more);
    }
    vfs_mem_free(killed);
}

/* Regression: all of the log stayed until all of it was in tables. */
static void a_replayed_segment_makes_room_for_the_rest_of_the_log(void **state)
{
    struct test *test = *state;
    fill_two_memtables(test);
    open_without_ballast(test, 300000);
}

/* A process that is killed behind the rename of a manifest and before the sync of its name. */
static struct vfs_mem_verdict leave_name_unsynced(void *arg, const struct vfs_mem_call *call)
{
    bool *renamed = arg;
    *renamed = *renamed || call->op == VFS_MEM_RENAME;
    if (*renamed && call->op == VFS_MEM_DIR_SYNC) {
        return (struct vfs_mem_verdict){.action = VFS_MEM_SKIP};
    }
    return crash_at_removal_of_a_segment(NULL, call).action == VFS_MEM_DO
               ? (struct vfs_mem_verdict){.action = VFS_MEM_DO}
               : (struct vfs_mem_verdict){.action = VFS_MEM_FAIL, .err = ERR_IO};
}

/* Power is lost before the first table after a segment was removed. */
static struct vfs_mem_verdict crash_once_there_is_room(void *arg, const struct vfs_mem_call *call)
{
    bool *removed = arg;
    *removed = *removed || (call->op == VFS_MEM_UNLINK && strstr(call->name, ".log") != NULL);
    bool crashes = *removed && call->op == VFS_MEM_CREATE;
    return (struct vfs_mem_verdict){.action = crashes ? VFS_MEM_CRASH : VFS_MEM_DO};
}

static void nothing_makes_room_that_an_older_manifest_needs(void **state)
{
    struct test *test = *state;
    bool renamed = false, removed = false;
    fill_two_memtables(test);
    vfs_mem_set_hook(test->fs, leave_name_unsynced, &renamed);
    assert_true(engine_flush_step(test->driven.store) && renamed);
    vfs_mem_set_hook(test->fs, NULL, NULL);
    assert_ok(vfs_unlink(test->driven.store->dir, FILES_BALLAST));
    engine_abandon(test->driven.store);
    while (rcu_door_reclaim()) {
    }
    vfs_mem_set_capacity(test->fs, vfs_mem_used(test->fs) + 8192);
    vfs_mem_set_hook(test->fs, crash_once_there_is_room, &removed);
    assert_err(ERR_IO, store_open(&test->driven.options, &test->driven.store, NULL));
    assert_true(removed);
    test->driven.store = NULL;
    for (unsigned i = 0; i < 50; i++) {
        struct vfs_mem *after = vfs_mem_crash_clone(test->fs, MEM_KEEP_RANDOM, test_seed() + i);
        vfs_mem_set_capacity(after, UINT64_MAX);
        test->driven.options.vfs = vfs_mem_vfs(after);
        driven_open(&test->driven);
        driven_check(&test->driven);
        driven_close(&test->driven);
        vfs_mem_free(after);
    }
}

static void a_store_closed_on_a_full_disk_has_everything_in_tables(void **state)
{
    struct test *test = *state;
    fill_the_disk(test);
    delete_keys(test, 5, 10);
    driven_close(&test->driven);
    assert_int_equal(test->driven.events[STORE_EVENT_BACKGROUND_FAILED], 0);
    driven_open(&test->driven);
    driven_check(&test->driven);
}

#define SPACE_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPACE_TEST(deletes_on_a_full_disk_bring_space_for_puts),
        SPACE_TEST(so_do_deletes_all_over_a_large_store),
        SPACE_TEST(steps_of_a_compaction_without_room_take_none),
        SPACE_TEST(a_ballast_that_can_not_grow_stays),
        SPACE_TEST(puts_are_taken_again_when_the_disk_grows),
        SPACE_TEST(puts_are_told_of_the_disk_when_compaction_has_no_room),
        SPACE_TEST(a_store_killed_on_a_full_disk_opens_there),
        SPACE_TEST(a_store_killed_while_deletes_make_room_opens_there),
        SPACE_TEST(a_store_killed_amid_its_upkeep_of_a_full_disk_opens_there),
        SPACE_TEST(a_flushed_segment_that_was_not_removed_makes_room_to_open),
        SPACE_TEST(a_table_of_what_is_replayed_leaves_room_for_a_manifest),
        SPACE_TEST(a_replayed_segment_makes_room_for_the_rest_of_the_log),
        SPACE_TEST(nothing_makes_room_that_an_older_manifest_needs),
        SPACE_TEST(a_store_closed_on_a_full_disk_has_everything_in_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
