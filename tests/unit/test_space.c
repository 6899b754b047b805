/* A full disk: puts are refused and nothing else, deletes bring space back, and what is stopped
 * there can be started there. */
#include "store/lsm/space.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/pattern.h"
#include "tests/support/vfs_mem.h"

enum { KEYS = 8000, VALUE_BYTES = 3000, ROUNDS = 200, STEPS = 500, SPREAD = 32 };
#define DISK_BYTES (UINT64_C(6) << 20)

struct test {
    struct vfs_mem *fs;
    struct driven driven;
    size_t n_put; /* keys below are there, unless they were deleted since */
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
    for (int i = 0; i < 4; i++) {
        driven_flushes(&test->driven);
        for (int steps = 0; steps < STEPS && engine_compaction_step(test->driven.store); steps++) {
            driven_reclaims(&test->driven);
        }
        driven_reclaims(&test->driven);
    }
}

struct asked {
    bool answered;
    enum err err;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    *(struct asked *)arg = (struct asked){.answered = true, .err = err};
    store_write_abort(write);
}

/* How a put would be answered after a while. */
static enum err ask_to_put(struct test *test)
{
    struct store_write_size size = {.ops = 1, .bytes = DRIVEN_KEY_BYTES + VALUE_BYTES};
    struct asked asked = {.answered = false};
    store_write_new(test->driven.store, &size, on_ready, &asked);
    for (int i = 0; !asked.answered && i < ROUNDS; i++) {
        let_pass(test);
    }
    assert_true(asked.answered);
    return asked.err;
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

/* --- While it runs ---------------------------------------------------------------------------- */

static void deletes_on_a_full_disk_bring_space_for_puts(void **state)
{
    struct test *test = *state;
    for (int cycle = 0; cycle < 3; cycle++) {
        test->n_put = 0;
        fill_the_disk(test);
        uint64_t back = test->driven.events[STORE_EVENT_SPACE_BACK];
        delete_keys(test, 0, test->n_put * 3 / 4);
        for (int i = 0; store_state(test->driven.store) != STORE_WRITABLE; i++) {
            assert_true(i < ROUNDS);
            let_pass(test);
        }
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

static void open_after_kill(struct test *test, enum mem_keep keep, uint64_t seed)
{
    struct vfs_mem *after = vfs_mem_crash_clone(test->fs, keep, seed);
    engine_abandon(test->driven.store);
    while (rcu_door_reclaim()) {
    }
    test->driven.store = NULL;
    vfs_mem_free(test->fs);
    test->fs = after;
    test->driven.options.vfs = vfs_mem_vfs(after);
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
        SPACE_TEST(puts_are_taken_again_when_the_disk_grows),
        SPACE_TEST(puts_are_told_of_the_disk_when_compaction_has_no_room),
        SPACE_TEST(a_store_killed_on_a_full_disk_opens_there),
        SPACE_TEST(a_store_killed_while_deletes_make_room_opens_there),
        SPACE_TEST(a_store_closed_on_a_full_disk_has_everything_in_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
