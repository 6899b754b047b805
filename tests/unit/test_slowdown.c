/* Writes are slowed down while compaction is behind, rather than stopped. */
#include "store/lsm/slowdown.h"

#include <stdlib.h>

#include "store/lsm/engine.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

#define MIB (UINT64_C(1) << 20)

/* --- The rate --------------------------------------------------------------------------------- */

static void lets_in_what_fits_until_compaction_is_done(void **state)
{
    (void)state;
    /* 10 s of work, and room for 50 MiB until then */
    struct slowdown_outlook outlook = {
        .room_bytes = 50 * MIB, .work_bytes = 1000 * MIB, .bytes_a_second = 100 * MIB};
    assert_int_equal(slowdown_rate(&outlook), 5 * MIB);
}

static void never_stops_altogether(void **state)
{
    (void)state;
    struct slowdown_outlook outlook = {.room_bytes = 0,
                                       .work_bytes = 1000 * MIB,
                                       .bytes_a_second = 100 * MIB,
                                       .least_a_second = MIB};
    assert_int_equal(slowdown_rate(&outlook), MIB);
}

static void sets_no_limit_without_work_or_knowledge(void **state)
{
    (void)state;
    struct slowdown_outlook no_work = {.room_bytes = MIB, .bytes_a_second = MIB};
    assert_int_equal(slowdown_rate(&no_work), 0);
    struct slowdown_outlook no_speed = {.room_bytes = MIB, .work_bytes = MIB};
    assert_int_equal(slowdown_rate(&no_speed), 0);
    struct slowdown_outlook at_once = {
        .room_bytes = UINT64_MAX / 2, .work_bytes = 1, .bytes_a_second = UINT64_MAX / 2};
    assert_int_equal(slowdown_rate(&at_once), 0);
}

/* --- Paying ----------------------------------------------------------------------------------- */

static void without_a_limit_all_may_come_in(void **state)
{
    (void)state;
    struct slowdown slowdown;
    slowdown_init(&slowdown);
    slowdown_pay(&slowdown, 1000, UINT64_C(1) << 40);
    assert_true(slowdown_allows(&slowdown, 1000));
    slowdown_release(&slowdown);
}

static void what_comes_in_keeps_to_the_rate(void **state)
{
    (void)state;
    struct slowdown slowdown;
    slowdown_init(&slowdown);
    slowdown_set(&slowdown, 1000000, MIB);
    uint64_t let_in = 0;
    for (uint64_t now_us = 1000000; now_us < 11000000; now_us += 700) {
        while (slowdown_allows(&slowdown, now_us)) {
            slowdown_pay(&slowdown, now_us, 4096);
            let_in += 4096;
        }
    }
    assert_in_range(let_in, 10 * MIB - MIB / 100, 10 * MIB + MIB / 10);
    slowdown_release(&slowdown);
}

static void one_large_write_comes_in_and_is_paid_for_afterwards(void **state)
{
    (void)state;
    struct slowdown slowdown;
    slowdown_init(&slowdown);
    slowdown_set(&slowdown, 1000000, MIB);
    assert_true(slowdown_allows(&slowdown, 1000000));
    slowdown_pay(&slowdown, 1000000, 16 * MIB);
    assert_false(slowdown_allows(&slowdown, 1000000 + 15900000));
    assert_true(slowdown_allows(&slowdown, 1000000 + 16100000));
    slowdown_release(&slowdown);
}

static void a_debt_is_paid_off_at_the_present_rate(void **state)
{
    (void)state;
    struct slowdown slowdown;
    slowdown_init(&slowdown);
    slowdown_set(&slowdown, 1000000, MIB);
    slowdown_pay(&slowdown, 1000000, 16 * MIB);
    slowdown_set(&slowdown, 2000000, 150 * MIB); /* 15 MiB are left */
    assert_false(slowdown_allows(&slowdown, 2090000));
    assert_true(slowdown_allows(&slowdown, 2110000));
    slowdown_pay(&slowdown, 2110000, 1000 * MIB);
    slowdown_set(&slowdown, 2110000, 0); /* and is forgiven with the limit */
    assert_true(slowdown_allows(&slowdown, 2110000));
    slowdown_set(&slowdown, 2110000, MIB);
    assert_true(slowdown_allows(&slowdown, 2110000));
    slowdown_release(&slowdown);
}

/* --- The engine ------------------------------------------------------------------------------- */

static void put(struct store *store, uint64_t key, struct bytes value)
{
    struct store_put what = {.key = bytes_of(&key, sizeof key)};
    assert_ok(store_put_sync(store, &what, value, NULL));
}

/* Compaction may do far less than what one writer brings. Without the slow-down nearly every
 * compaction ends with level 0 at the length at which everybody has to wait; with it hardly one
 * does: at first, before it is known how fast compaction is. */
static void writes_are_slowed_before_they_have_to_stop(void **state)
{
    char dir[TEMP_DIR_BYTES];
    (void)state;
    temp_dir_make(dir);
    struct store_options options = store_options_default();
    options.dir = dir;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 4096;
    options.max_inflight_bytes = UINT64_C(1) << 20;
    options.compaction_rate = 8 * MIB;
    struct store *store;
    struct err_detail why;
    assert_ok(store_open(&options, &store, &why));
    char value[4000] = "";
    struct store_stats stats = {0};
    uint64_t slowed = 0;
    for (uint64_t i = 0; slowed < 200 || stats.compactions < 8; i++) {
        put(store, i * UINT64_C(0x9E3779B97F4A7C15), bytes_of(value, sizeof value));
        store_stats(store, &stats);
        slowed += stats.write_limit != 0;
    }
    assert_true(stats.level0_stops * 2 < stats.compactions);
    assert_true(stats.stalls > 0);
    print_message("%llu stops, %llu stalls, %llu tables in level 0, limit %llu bytes a second\n",
                  (unsigned long long)stats.level0_stops, (unsigned long long)stats.stalls,
                  (unsigned long long)stats.level_tables[0], (unsigned long long)stats.write_limit);
    store_close(store);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lets_in_what_fits_until_compaction_is_done),
        cmocka_unit_test(never_stops_altogether),
        cmocka_unit_test(sets_no_limit_without_work_or_knowledge),
        cmocka_unit_test(without_a_limit_all_may_come_in),
        cmocka_unit_test(what_comes_in_keeps_to_the_rate),
        cmocka_unit_test(one_large_write_comes_in_and_is_paid_for_afterwards),
        cmocka_unit_test(a_debt_is_paid_off_at_the_present_rate),
        cmocka_unit_test(writes_are_slowed_before_they_have_to_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
