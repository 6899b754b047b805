/* Scans as callers see them: ranges, stopping and going on, lists without values, limits, damage.
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/pattern.h"
#include "tests/support/vfs_mem.h"

#define KEYS 200u

static struct vfs_mem *fs;
static struct driven db;

/* Every third key was never there, every tenth was deleted; layers everywhere. */
static int set_up(void **state)
{
    (void)state;
    fs = vfs_mem_new(test_seed());
    driven_init(&db, vfs_mem_vfs(fs), "data", KEYS, test_seed());
    driven_open(&db);
    for (size_t round = 0; round < 4; round++) {
        for (size_t key = round; key < KEYS; key++) {
            if (key % 3 != 0 && prng_chance(&db.prng, 60)) {
                driven_put(&db, key, 8 + prng_below(&db.prng, key % 50 == 1 ? 200000 : 300));
            } else if (key % 10 == 7) {
                driven_delete(&db, key);
            }
        }
        if (round < 3) {
            driven_flush(&db);
        }
        if (round == 0) {
            assert_ok(driven_compact(&db));
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

static struct bytes key_of(size_t key, char buffer[DRIVEN_KEY_BYTES])
{
    int size = snprintf(buffer, DRIVEN_KEY_BYTES, "key/%08zu", key);
    return bytes_of(buffer, (size_t)size);
}

/* One call of store_scan_run(). */
struct walk {
    size_t stop_after; /* entries */
    size_t n;          /* entries that came */
    size_t keys[KEYS];
    bool done, at_end;
    enum err err;
};

static bool on_entry(void *arg, const struct store_entry *entry)
{
    struct walk *walk = arg;
    char text[DRIVEN_KEY_BYTES] = "";
    assert_false(walk->done);
    assert_true(entry->key.size < sizeof text);
    memcpy(text, entry->key.data, entry->key.size);
    walk->keys[walk->n++] = strtoul(text + 4, NULL, 10);
    return walk->n < walk->stop_after;
}

static void on_done(void *arg, enum err err, bool at_end)
{
    struct walk *walk = arg;
    assert_false(walk->done);
    walk->done = true;
    walk->err = err;
    walk->at_end = at_end;
}

static void run(struct store_scan *scan, size_t stop_after, struct walk *ret_walk)
{
    *ret_walk = (struct walk){.stop_after = stop_after};
    store_scan_run(scan, on_entry, on_done, ret_walk);
    assert_true(ret_walk->done);
}

/* The keys from `start` up to but without `end`, as they must come. */
static size_t expect(size_t start, size_t end, bool reverse, size_t ret_keys[KEYS])
{
    size_t n = 0;
    for (size_t i = start; i < end; i++) {
        size_t key = reverse ? end - 1 - (i - start) : i;
        if (db.keys[key].version != 0) {
            ret_keys[n++] = key;
        }
    }
    return n;
}

static void a_range_has_its_start_and_not_its_end(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        char first[DRIVEN_KEY_BYTES], last[DRIVEN_KEY_BYTES];
        size_t start = prng_below(&db.prng, KEYS), end = prng_below(&db.prng, KEYS);
        struct store_range range = {.start = key_of(start, first),
                                    .end = key_of(end, last),
                                    .reverse = prng_chance(&db.prng, 50),
                                    .keys_only = prng_chance(&db.prng, 90)};
        if (prng_chance(&db.prng, 10)) {
            range.start = bytes_of(NULL, 0);
            start = 0;
        }
        if (prng_chance(&db.prng, 10)) {
            range.end = bytes_of(NULL, 0);
            end = KEYS;
        }
        struct store_scan *scan;
        struct walk walk;
        size_t keys[KEYS];
        size_t n = expect(start, end, range.reverse, keys);
        assert_ok(store_scan_new(db.store, &range, &scan));
        memset(first, 0, sizeof first); /* the scan has copies */
        memset(last, 0, sizeof last);
        run(scan, SIZE_MAX, &walk);
        assert_ok(walk.err);
        assert_true(walk.at_end);
        assert_int_equal(walk.n, n);
        assert_memory_equal(walk.keys, keys, n * sizeof keys[0]);
        store_scan_free(scan);
    }
}

static void a_stopped_scan_goes_on_and_knows_its_end(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct store_range range = {.reverse = i % 2 == 0, .keys_only = i % 3 != 0};
        struct store_scan *scan;
        struct walk walk;
        size_t keys[KEYS];
        size_t n = expect(0, KEYS, range.reverse, keys), at = 0;
        size_t stop = 1 + prng_below(&db.prng, n);
        assert_ok(store_scan_new(db.store, &range, &scan));
        do {
            run(scan, stop, &walk);
            assert_ok(walk.err);
            assert_int_equal(walk.n, n - at < stop ? n - at : stop);
            assert_memory_equal(walk.keys, keys + at, walk.n * sizeof keys[0]);
            at += walk.n;
            assert_int_equal(walk.at_end, at == n);
        } while (!walk.at_end);
        run(scan, stop, &walk); /* the end stays the end */
        assert_ok(walk.err);
        assert_true(walk.at_end);
        assert_int_equal(walk.n, 0);
        store_scan_free(scan);
    }
}

static void a_scan_shows_its_moment_for_as_long_as_it_lives(void **state)
{
    (void)state;
    struct driven_snapshot *snapshots[4];
    for (int i = 0; i < 4; i++) {
        snapshots[i] = driven_snapshot(&db, i % 2 == 0, i < 2);
        driven_snapshot_walk(snapshots[i], 1 + prng_below(&db.prng, 20));
        for (size_t key = 0; key < KEYS; key++) {
            if (prng_chance(&db.prng, 30)) {
                driven_delete(&db, key);
            } else {
                driven_put(&db, key, 50);
            }
        }
        assert_ok(driven_compact(&db));
        driven_reclaims(&db);
    }
    for (int i = 0; i < 4; i++) {
        driven_snapshot_walk(snapshots[i], SIZE_MAX);
        driven_snapshot_free(snapshots[i]);
    }
    driven_check(&db);
}

static void positions_tell_snapshots_apart(void **state)
{
    (void)state;
    struct store_range range = {.reverse = false};
    struct store_scan *before, *same, *after;
    assert_ok(store_scan_new(db.store, &range, &before));
    assert_ok(store_scan_new(db.store, &range, &same));
    driven_put(&db, 5, 10);
    assert_ok(store_scan_new(db.store, &range, &after));
    assert_true(store_version_equal(store_scan_position(before), store_scan_position(same)));
    assert_false(store_version_equal(store_scan_position(before), store_scan_position(after)));
    store_scan_free(before);
    store_scan_free(same);
    store_scan_free(after);
    store_scan_free(NULL);
}

static void there_is_a_limit_to_open_scans(void **state)
{
    (void)state;
    static struct store_scan *scans[ENGINE_SCANS_MAX];
    struct store_range range = {.reverse = false};
    struct store_scan *more;
    for (size_t i = 0; i < ENGINE_SCANS_MAX; i++) {
        assert_ok(store_scan_new(db.store, &range, &scans[i]));
    }
    assert_err(ERR_BUSY, store_scan_new(db.store, &range, &more));
    assert_int_equal(db.store->counters.scans_open, ENGINE_SCANS_MAX);
    store_scan_free(scans[0]);
    assert_ok(store_scan_new(db.store, &range, &scans[0]));
    for (size_t i = 0; i < ENGINE_SCANS_MAX; i++) {
        store_scan_free(scans[i]);
    }
    assert_int_equal(db.store->counters.scans_open, 0);
}

static void bounds_longer_than_a_key_are_refused(void **state)
{
    (void)state;
    static const char bound[STORE_KEY_MAX_BYTES + 1];
    struct store_range range = {.start = bytes_of(bound, sizeof bound)};
    struct store_scan *scan;
    assert_err(ERR_INVALID, store_scan_new(db.store, &range, &scan));
    range = (struct store_range){.end = bytes_of(bound, sizeof bound)};
    assert_err(ERR_INVALID, store_scan_new(db.store, &range, &scan));
    range = (struct store_range){.end = bytes_of(bound, sizeof bound - 1)};
    assert_ok(store_scan_new(db.store, &range, &scan));
    store_scan_free(scan);
}

/* The walk ends with an error at the damaged place, and stays there. A value that isn't asked for
 * isn't looked at. */
static void damage_is_an_error_where_it_lies(void **state)
{
    (void)state;
    size_t large = 0;
    for (size_t key = 0; key < KEYS; key++) {
        if (db.keys[key].version == 0) {
            driven_put(&db, key, 20);
        }
        if (large == 0 && key > KEYS / 2) {
            large = key;
            driven_put(&db, key, 150000);
        }
    }
    assert_ok(driven_compact(&db));
    driven_close(&db);
    driven_open(&db);
    const struct view *view = atomic_load(&db.store->view);
    char name[FILES_NAME_BYTES], buffer[DRIVEN_KEY_BYTES];
    struct view_hit hit;
    assert_ok(view_find_in_tables(view, key_of(large, buffer), TABLE_HEAD, &hit));
    uint64_t offset = (uint64_t)((const uint8_t *)record_value(hit.record).data -
                                 (const uint8_t *)table_map(hit.table).data);
    files_name(FILE_TABLE, table_info(hit.table)->number, name);
    vfs_mem_flip_bit(fs, name, 8 * (offset + 100000));
    driven_close(&db); /* mappings that exist don't show the change */
    driven_open(&db);

    struct store_range range = {.reverse = false};
    struct store_scan *scan;
    struct walk walk;
    assert_ok(store_scan_new(db.store, &range, &scan));
    run(scan, SIZE_MAX, &walk);
    assert_err(ERR_CORRUPT, walk.err);
    assert_false(walk.at_end);
    assert_int_equal(walk.n, large);
    run(scan, SIZE_MAX, &walk);
    assert_err(ERR_CORRUPT, walk.err);
    assert_int_equal(walk.n, 0);
    store_scan_free(scan);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);

    range.keys_only = true;
    assert_ok(store_scan_new(db.store, &range, &scan));
    run(scan, SIZE_MAX, &walk);
    assert_ok(walk.err);
    assert_int_equal(walk.n, KEYS);
    store_scan_free(scan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_range_has_its_start_and_not_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stopped_scan_goes_on_and_knows_its_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_scan_shows_its_moment_for_as_long_as_it_lives, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(positions_tell_snapshots_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_is_a_limit_to_open_scans, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounds_longer_than_a_key_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_an_error_where_it_lies, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
