/* Memory that values on their way to clients hold: bounded for small ones, whatever becomes of
 * their keys and memtables, and given back to the last byte. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/pattern.h"
#include "tests/support/vfs_mem.h"

enum { PINS = 340, KEYS = 8, SMALL_BYTES = 500, FILLER_BYTES = 28000 };

#define FILLERS (ARENA_CHUNK_BYTES / FILLER_BYTES + 1) /* that fill a chunk */

static struct vfs_mem *fs;
static struct driven db;

static int set_up(void **state)
{
    (void)state;
    fs = vfs_mem_new(test_seed());
    driven_init(&db, vfs_mem_vfs(fs), "data", KEYS + FILLERS, test_seed());
    driven_open(&db);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    driven_release(&db);
    vfs_mem_free(fs);
    return 0;
}

struct pin {
    char key[DRIVEN_KEY_BYTES];
    uint64_t version;
    struct store_entry entry;
};

static void keep(void *arg, enum err err, const struct store_entry *entry)
{
    assert_ok(err);
    assert_non_null(entry);
    ((struct pin *)arg)->entry = *entry;
}

static void pin(struct pin *ret_pin, size_t key)
{
    int size = snprintf(ret_pin->key, sizeof ret_pin->key, "key/%08zu", key);
    ret_pin->version = db.keys[key].version;
    store_get(db.store, bytes_of(ret_pin->key, (size_t)size), keep, ret_pin);
}

static void assert_pin(const struct pin *pinned)
{
    assert_true(pattern_matches(bytes_of_text(pinned->key), pinned->version, pinned->entry.value));
}

static struct store_stats stats(void)
{
    struct store_stats now;
    store_stats(db.store, &now);
    return now;
}

/* Moves on to other chunks and memtables: what is in memory now gets flushed. */
static void fill_a_chunk(void)
{
    for (size_t i = 0; i < FILLERS; i++) {
        driven_put(&db, KEYS + i, FILLER_BYTES);
    }
    driven_flushes(&db);
}

static void small_values_hold_a_bounded_amount_of_memory(void **state)
{
    (void)state;
    static struct pin pins[PINS];
    const uint64_t copy_bytes = SMALL_BYTES + 64;
    fill_a_chunk();
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < PINS; i++) { /* each in a chunk of its own */
        driven_put(&db, i % KEYS, SMALL_BYTES);
        pin(&pins[i], i % KEYS);
        fill_a_chunk();
        if (i % 10 == 0) {
            driven_settle(&db);
        }
    }
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    print_message("%u pins: %zu KiB of the heap, %lu KiB by the store's account\n", PINS,
                  used >> 10, stats().pinned_bytes >> 10);
    assert_true(PINS * ARENA_CHUNK_BYTES > ENGINE_PINNED_MAX_BYTES * 5 / 4);
    assert_true(stats().pinned_bytes <=
                ENGINE_PINNED_MAX_BYTES + ARENA_CHUNK_BYTES + PINS * copy_bytes);
    assert_true(stats().pinned_bytes > ENGINE_PINNED_MAX_BYTES / 2);
    assert_true(used < ENGINE_PINNED_MAX_BYTES + (UINT64_C(18) << 20)); /* 0 with sanitizers */
    assert_int_equal(stats().pinned_entries, PINS);
    for (size_t i = 0; i < PINS; i++) {
        assert_pin(&pins[i]);
        store_entry_release(&pins[i].entry);
    }
    assert_int_equal(stats().pinned_bytes, 0);
    assert_int_equal(stats().pinned_entries, 0);
}

/* Many clients of one small value, too: each pin counts as what it may hold alone. */
static void in_a_crowd_small_values_are_copied_and_large_ones_are_not(void **state)
{
    (void)state;
    static struct pin pins[ENGINE_PINNED_MAX_BYTES / ARENA_CHUNK_BYTES + 10];
    struct pin large, again;
    driven_put(&db, 0, SMALL_BYTES);
    for (size_t i = 0; i < COUNT_OF(pins); i++) {
        pin(&pins[i], 0);
    }
    uint64_t crowded = stats().pinned_bytes;
    driven_put(&db, 1, 200000);
    pin(&large, 1); /* where it lies: a copy would be no smaller */
    pin(&again, 1);
    assert_ptr_equal(large.entry.value.data, again.entry.value.data);
    assert_true(stats().pinned_bytes > crowded + 2 * UINT64_C(200000));
    store_entry_release(&again.entry);
    assert_ptr_equal(pins[0].entry.value.data, pins[1].entry.value.data);
    assert_ptr_not_equal(pins[0].entry.value.data, pins[COUNT_OF(pins) - 1].entry.value.data);
    driven_put(&db, 0, SMALL_BYTES);
    driven_put(&db, 1, 50);
    driven_flush(&db);
    driven_settle(&db);
    assert_pin(&large);
    store_entry_release(&large.entry);
    assert_int_equal(stats().pinned_bytes, crowded);
    for (size_t i = 0; i < COUNT_OF(pins); i++) {
        assert_pin(&pins[i]);
        store_entry_release(&pins[i].entry);
    }
    assert_int_equal(stats().pinned_bytes, 0);
}

static void values_in_tables_hold_no_memory(void **state)
{
    (void)state;
    struct pin pinned;
    driven_put(&db, 0, SMALL_BYTES);
    driven_flush(&db);
    pin(&pinned, 0);
    assert_int_equal(stats().pinned_entries, 1);
    assert_int_equal(stats().pinned_bytes, 0);
    assert_pin(&pinned);
    store_entry_release(&pinned.entry);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(small_values_hold_a_bounded_amount_of_memory),
        TEST(in_a_crowd_small_values_are_copied_and_large_ones_are_not),
        TEST(values_in_tables_hold_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
