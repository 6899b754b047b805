/* Opening and closing: what a crash or an earlier life has left is made good or refused. */
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/commit.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/vfs_mem.h"

static struct vfs_mem *fs;
static struct driven db;

static int set_up(void **state)
{
    (void)state;
    fs = vfs_mem_new(test_seed());
    driven_init(&db, vfs_mem_vfs(fs), "data", 20, test_seed());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

static void leave_manifest(const struct manifest *manifest)
{
    enum manifest_stage stage;
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", true, &dir));
    assert_ok(manifest_store(dir, manifest, &stage));
    vfs_dir_close(dir);
}

/* A directory whose last version has that number. */
static void leave_last_seq(uint64_t seq)
{
    struct manifest manifest = {
        .store_id = 1, .epoch = 2, .number = 1, .next_file = 1, .covered_seq = seq, .clock_ms = 1};
    leave_manifest(&manifest);
}

/* --- Ballast --- */

static size_t ballast_bytes(void)
{
    size_t size;
    free(vfs_mem_get(fs, FILES_BALLAST, &size));
    return size;
}

/* The machine stopped after the file was created and before its space was reserved. */
static void a_ballast_that_a_crash_left_empty_is_filled(void **state)
{
    (void)state;
    driven_open(&db);
    driven_put(&db, 1, 100);
    driven_close(&db);
    size_t whole = ballast_bytes();
    assert_true(whole > db.options.memtable_bytes);
    vfs_mem_put(fs, FILES_BALLAST, "", 0);
    driven_open(&db);
    assert_int_equal(ballast_bytes(), whole);
    assert_int_equal(db.store->ballast_bytes, whole);
}

/* --- The clock --- */

static void load_manifest(struct manifest *ret_manifest)
{
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", false, &dir));
    assert_ok(manifest_load(dir, ret_manifest, NULL));
    vfs_dir_close(dir);
}

/* Regression: it was the time of the last manifest, also where the clock had been set back. */
static void the_greatest_time_known_never_falls(void **state)
{
    (void)state;
    struct manifest manifest;
    uint64_t ahead_ms = engine_wall_ms() + UINT64_C(86400000);
    struct manifest earlier = {.store_id = 1,
                               .epoch = 2,
                               .number = 1,
                               .next_file = 1,
                               .covered_seq = 1,
                               .clock_ms = ahead_ms};
    leave_manifest(&earlier);
    driven_open(&db);
    driven_put(&db, 1, 100);
    driven_close(&db);
    load_manifest(&manifest);
    assert_true(manifest.number > 2);
    assert_int_equal(manifest.clock_ms, ahead_ms);
    manifest_release(&manifest);
}

static void it_follows_the_clock(void **state)
{
    (void)state;
    struct manifest manifest;
    uint64_t began_ms = engine_wall_ms();
    leave_last_seq(1);
    driven_open(&db);
    load_manifest(&manifest);
    assert_true(manifest.clock_ms >= began_ms);
    manifest_release(&manifest);
}

/* --- The end of the numbers --- */

static void on_refused(void *arg, enum err err, struct store_write *write)
{
    assert_null(write);
    *(enum err *)arg = err;
}

static enum err ask_for_a_write(void)
{
    struct store_write_size size = {.ops = 1, .bytes = 100};
    enum err err = ERR_OK;
    store_write_new(db.store, &size, on_refused, &err);
    return err;
}

static void writes_end_long_before_the_numbers_do(void **state)
{
    (void)state;
    leave_last_seq(ENGINE_SEQ_LIMIT - 6);
    driven_open(&db);
    for (size_t key = 0; key < 4; key++) {
        driven_put(&db, key, 100);
    }
    assert_int_equal(store_state(db.store), STORE_WRITABLE);
    assert_int_equal(db.events[STORE_EVENT_NUMBERS_USED_UP], 0);
    driven_put(&db, 4, 100); /* the last one */
    assert_int_equal(store_state(db.store), STORE_READ_ONLY);
    assert_int_equal(db.events[STORE_EVENT_NUMBERS_USED_UP], 1);
    assert_err(ERR_READ_ONLY, ask_for_a_write());
    driven_check(&db);

    driven_close(&db);
    driven_open(&db);
    assert_int_equal(store_state(db.store), STORE_READ_ONLY);
    assert_int_equal(db.events[STORE_EVENT_NUMBERS_USED_UP], 2);
    assert_err(ERR_READ_ONLY, ask_for_a_write());
    driven_check(&db);
}

static void a_number_beyond_the_last_is_refused_as_damage(void **state)
{
    (void)state;
    struct err_detail detail;
    struct store *store;
    leave_last_seq(RECORD_SEQ_MAX);
    rcu_door_set_manual(true);
    assert_err(ERR_CORRUPT, store_open(&db.options, &store, &detail));
    rcu_door_set_manual(false);
    assert_non_null(strstr(detail.text, FILES_MANIFEST));
}

/* --- Openings that fail --- */

static bool count_name(void *arg, const char *name)
{
    (void)name;
    (*(size_t *)arg)++;
    return true;
}

static size_t count_files(void)
{
    size_t n = 0;
    struct vfs_dir *dir;
    assert_ok(vfs_dir_open(vfs_mem_vfs(fs), "data", false, &dir));
    assert_ok(vfs_dir_list(dir, count_name, &n));
    vfs_dir_close(dir);
    return n;
}

static struct vfs_mem_verdict fail_new_segments(void *arg, const struct vfs_mem_call *call)
{
    (void)arg;
    bool fails = call->op == VFS_MEM_CREATE && strstr(call->name, ".log") != NULL;
    return (struct vfs_mem_verdict){.action = fails ? VFS_MEM_FAIL : VFS_MEM_DO, .err = ERR_IO};
}

/* What was replayed is in a new table when the new segment can't be made: that is left behind, but
 * not one more at each attempt. */
static void an_opening_that_fails_again_leaves_no_more_files(void **state)
{
    (void)state;
    struct store *store;
    driven_open(&db);
    driven_put(&db, 1, 100);
    rcu_door_set_manual(true);
    engine_abandon(db.store);
    size_t first = 0;
    for (unsigned i = 0; i < 5; i++) {
        vfs_mem_set_hook(fs, fail_new_segments, NULL);
        assert_err(ERR_IO, store_open(&db.options, &store, NULL));
        vfs_mem_set_hook(fs, NULL, NULL);
        first = i == 0 ? count_files() : first;
        assert_int_equal(count_files(), first);
    }
    rcu_door_set_manual(false);
    driven_open(&db);
    driven_check(&db);
}

/* An old manifest that somebody has put back names files that are gone. What came after it is all
 * there is of the later writes, and stays: a salvage, or the right manifest, has a use for it. */
static void an_old_manifest_is_refused_and_costs_no_later_file(void **state)
{
    (void)state;
    struct store *store;
    size_t old_size, last_size;
    driven_open(&db);
    driven_put(&db, 1, 100);
    unsigned char *old = vfs_mem_get(fs, FILES_MANIFEST, &old_size);
    for (size_t key = 2; key < 6; key++) {
        driven_put(&db, key, 100);
        driven_flush(&db);
    }
    driven_put(&db, 6, 100);
    engine_abandon(db.store);
    while (rcu_door_reclaim()) {
    }
    unsigned char *last = vfs_mem_get(fs, FILES_MANIFEST, &last_size);
    size_t files = count_files();
    vfs_mem_put(fs, FILES_MANIFEST, old, old_size);
    for (unsigned i = 0; i < 3; i++) {
        assert_err(ERR_CORRUPT, store_open(&db.options, &store, NULL));
        assert_int_equal(count_files(), files);
    }
    vfs_mem_put(fs, FILES_MANIFEST, last, last_size);
    free(old);
    free(last);
    driven_open(&db);
    driven_check(&db);
}

/* The same, though nothing is missing that it names: a copy of before a segment was begun. */
static void an_old_manifest_does_not_hide_a_later_log(void **state)
{
    (void)state;
    for (unsigned closed = 0; closed < 2; closed++) {
        size_t old_size, last_size;
        struct store *store;
        struct err_detail detail;
        driven_open(&db);
        if (closed) {
            driven_put(&db, 3, 100);
            driven_close(&db);
        }
        unsigned char *old = vfs_mem_get(fs, FILES_MANIFEST, &old_size);
        if (closed) {
            driven_open(&db);
        }
        atomic_store(&db.store->spare_wanted, true);
        driven_flushes(&db);
        driven_put(&db, 1, 200000);
        driven_put(&db, 2, 100);
        assert_int_equal(atomic_load(&db.store->view)->n_sealed, 1);
        engine_abandon(db.store);
        while (rcu_door_reclaim()) {
        }
        unsigned char *last = vfs_mem_get(fs, FILES_MANIFEST, &last_size);
        size_t files = count_files();
        vfs_mem_put(fs, FILES_MANIFEST, old, old_size);
        assert_err(ERR_CORRUPT, store_open(&db.options, &store, &detail));
        assert_non_null(strstr(detail.text, "data/MANIFEST is an old one"));
        assert_int_equal(count_files(), files);
        vfs_mem_put(fs, FILES_MANIFEST, last, last_size);
        free(old);
        free(last);
        driven_open(&db);
        driven_check(&db);
        driven_close(&db);
    }
}

/* --- Closing --- */

static void nothing_is_looked_up_once_it_is_being_closed(void **state)
{
    (void)state;
    driven_open(&db);
    driven_put(&db, 1, 100);
    atomic_store(&db.store->closing, true); /* as store_close() begins */
    assert_err(ERR_CLOSED, driven_get(&db, 1));
    assert_err(ERR_CLOSED, ask_for_a_write());
    struct store_range all = {.reverse = false};
    struct store_scan *scan;
    assert_err(ERR_CLOSED, store_scan_new(db.store, &all, &scan));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_ballast_that_a_crash_left_empty_is_filled),
        TEST(the_greatest_time_known_never_falls),
        TEST(it_follows_the_clock),
        TEST(writes_end_long_before_the_numbers_do),
        TEST(a_number_beyond_the_last_is_refused_as_damage),
        TEST(an_opening_that_fails_again_leaves_no_more_files),
        TEST(an_old_manifest_is_refused_and_costs_no_later_file),
        TEST(an_old_manifest_does_not_hide_a_later_log),
        TEST(nothing_is_looked_up_once_it_is_being_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
