/*
 * Readers, preempted at each instruction of their begin and at many later ones: meanwhile the key
 * that they look for is written again, the memtable is sealed, flushed and merged away. A lookup
 * must show what was there at a moment since it began; a snapshot must be one, with the number that
 * belongs to it.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/rcu.h"
#include "store/lsm/engine.h"
#include "tests/support/check.h"
#include "tests/support/stepper.h"
#include "tests/support/vfs_mem.h"

static struct vfs_mem *fs;
static struct store *store;
static const struct bytes key = {.data = (const uint8_t *)"key", .size = 3};

static int begin(void **state)
{
    struct store_options options = store_options_default();
    (void)state;
    rcu_door_set_manual(true);
    fs = vfs_mem_new(1);
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 1000;
    options.max_inflight_bytes = UINT64_C(128) << 10;
    options.manual = true;
    assert_ok(store_open(&options, &store, NULL));
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    vfs_mem_free(fs);
    rcu_door_set_manual(false);
    return 0;
}

/* --- What happens meanwhile, in a signal handler ---------------------------------------------- */

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    assert(err == ERR_OK);
    *(struct store_write **)arg = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    assert(err == ERR_OK);
    *(uint64_t *)arg = written->ops[0].version.number;
}

/* Returns its number. */
static uint64_t put(void)
{
    struct store_put what = {.key = key, .value_bytes = 1};
    struct store_write_size size = {.ops = 1, .bytes = 100};
    struct store_write *write = NULL;
    uint64_t number = 0;
    void *value;
    store_write_new(store, &size, on_ready, &write);
    assert(write && store_write_put(write, &what, &value) == ERR_OK);
    *(char *)value = 'v';
    store_write_commit(write, on_written, &number);
    while (engine_log_step(store)) {
    }
    assert(number != 0);
    return number;
}

static void on_done(void *arg, enum err err)
{
    assert(err == ERR_OK);
    *(bool *)arg = true;
}

/* Without reclaiming: the reader's section is open. */
static void upkeep(void (*ask)(struct store *, store_done_fn *, void *))
{
    bool done = false;
    ask(store, on_done, &done);
    while (!done) {
        engine_log_step(store);
        engine_flush_step(store);
        engine_compaction_step(store);
    }
}

static void reclaim(void)
{
    while (engine_reclaim_step(store)) {
    }
}

/* --- Lookups and snapshots -------------------------------------------------------------------- */

struct reading {
    /* The key's newest number when it begins; and if it is interrupted, in the memtable that was
     * sealed then, and in the one after that. */
    uint64_t before, sealed, after;
    bool merges;
    uint64_t shown; /* by the lookup; 0: nothing */
    struct view *view;
    uint64_t number; /* of the snapshot */
};

static void write_and_seal(void *arg)
{
    struct reading *reading = arg;
    reading->sealed = put();
    upkeep(store_flush);
    if (reading->merges) {
        upkeep(store_compact);
    }
    reading->after = put();
}

static void on_got(void *arg, enum err err, const struct store_entry *entry)
{
    struct reading *reading = arg;
    assert(err == ERR_OK);
    if (entry) {
        struct store_entry mine = *entry;
        reading->shown = entry->version.number;
        store_entry_release(&mine);
    }
}

static void look_up(void *arg)
{
    store_get(store, key, on_got, arg);
}

static void take_snapshot(void *arg)
{
    struct reading *reading = arg;
    reading->view = engine_snapshot(store, &reading->number);
}

/* The numbers are loaded early; the search behind that is long, and stepping costs time. */
static unsigned long next_place(unsigned long at)
{
    return at < 200 ? at + 1 : at + at / 16;
}

static void at_many_instructions(void (*body)(void *), void (*check)(struct reading *))
{
    unsigned long at = 0;
    bool interrupted = true;
    for (unsigned merges = 0; merges < 2; merges++) {
        for (at = 1, interrupted = true; interrupted; at = next_place(at)) {
            struct reading reading = {.merges = merges};
            reading.before = reading.sealed = reading.after = put();
            interrupted = stepper_run(body, write_and_seal, &reading, at);
            check(&reading);
            reclaim();
        }
    }
    assert_true(at > 100);
}

static void check_shown(struct reading *reading)
{
    assert_true(reading->shown == reading->before || reading->shown == reading->sealed ||
                reading->shown == reading->after);
}

static void a_lookup_shows_what_was_there_since_it_began(void **state)
{
    (void)state;
    at_many_instructions(look_up, check_shown);
}

/* Everything up to its number is in its view, and nothing above is in its tables. */
static void check_snapshot(struct reading *reading)
{
    struct view_hit hit;
    uint64_t newest = reading->number >= reading->after    ? reading->after
                      : reading->number >= reading->sealed ? reading->sealed
                                                           : reading->before;
    assert_true(reading->number >= reading->before);
    assert_true(reading->view->covered_seq <= reading->number);
    view_find_in_memtables(reading->view, key, reading->number, &hit);
    if (!hit.record) {
        assert_ok(view_find_in_tables(reading->view, key, TABLE_WHOLE, &hit));
    }
    assert_non_null(hit.record);
    assert_int_equal(hit.record->seq, newest);
    view_release(reading->view);
}

static void a_snapshot_has_all_up_to_its_number_and_nothing_more(void **state)
{
    (void)state;
    at_many_instructions(take_snapshot, check_snapshot);
}

int main(void)
{
    if (!stepper_works()) {
        printf("not on this processor, or not with ThreadSanitizer\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lookup_shows_what_was_there_since_it_began, begin, end),
        cmocka_unit_test_setup_teardown(a_snapshot_has_all_up_to_its_number_and_nothing_more, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
