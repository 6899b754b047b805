/* Compaction: whatever is merged, moved or dropped, and whatever fails on the way, the store says
 * what the model says, and its levels keep their order. */
#include "store/lsm/compaction.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/lsm/compaction_pick.h"
#include "store/lsm/files.h"
#include "store/store_sync.h"
#include "tests/support/check.h"
#include "tests/support/driven.h"
#include "tests/support/pattern.h"
#include "tests/support/tables.h"
#include "tests/support/vfs_mem.h"

#define LARGE_VALUE_BYTES 100000u

static struct vfs_mem *fs;
static struct driven db;

static void begin(size_t n_keys, uint64_t salt)
{
    uint64_t seed = scramble64(test_seed() + salt);
    fs = vfs_mem_new(seed);
    driven_init(&db, vfs_mem_vfs(fs), "data", n_keys, seed);
    driven_open(&db);
}

static void end(void)
{
    driven_release(&db);
    vfs_mem_free(fs);
}

/* --- What must hold of the levels --- */

static const struct view *view_now(void)
{
    return atomic_load(&db.store->view);
}

static const struct table_info *info_of(uint32_t level, size_t i)
{
    return table_info(view_now()->levels[level].tables[i]);
}

static struct bytes key_bytes(const struct table_key *key)
{
    return bytes_of(key->data, key->size);
}

static void assert_levels_in_order(void)
{
    for (uint32_t l = 1; l < MANIFEST_LEVELS; l++) {
        for (size_t i = 1; i < view_now()->levels[l].n_tables; i++) {
            assert_true(bytes_compare(key_bytes(&info_of(l, i - 1)->largest),
                                      key_bytes(&info_of(l, i)->smallest)) < 0);
        }
    }
    for (size_t i = 0; i < view_now()->levels[COMPACTION_LAST_LEVEL].n_tables; i++) {
        assert_int_equal(info_of(COMPACTION_LAST_LEVEL, i)->markers, 0);
    }
}

/* No table of a merge is much larger than it should be: by a value, index and filter. */
static void assert_tables_were_cut(void)
{
    for (uint32_t l = 1; l < MANIFEST_LEVELS; l++) {
        for (size_t i = 0; i < view_now()->levels[l].n_tables; i++) {
            assert_true(info_of(l, i)->size_bytes <
                        db.options.memtable_bytes + LARGE_VALUE_BYTES + 30000);
        }
    }
}

/* The levels with tables, as bits. */
static unsigned levels_in_use(void)
{
    unsigned bits = 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        bits |= view_now()->levels[l].n_tables > 0 ? 1u << l : 0;
    }
    return bits;
}

static bool count_tables_each(void *arg, const char *name)
{
    enum file_kind kind;
    uint64_t number;
    *(size_t *)arg += files_parse_name(name, &kind, &number) && kind == FILE_TABLE;
    return true;
}

static size_t table_files(void)
{
    size_t n = 0;
    assert_ok(vfs_dir_list(db.store->dir, count_tables_each, &n));
    return n;
}

static size_t tables_in_view(void)
{
    size_t n = 0;
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        n += view_now()->levels[l].n_tables;
    }
    return n;
}

/* --- Workloads --- */

static void random_write_upto(unsigned delete_percent, size_t value_max)
{
    size_t key = prng_below(&db.prng, db.n_keys);
    if (prng_chance(&db.prng, delete_percent)) {
        driven_delete(&db, key);
    } else {
        driven_put(&db, key, 8 + prng_below(&db.prng, value_max - 8));
    }
}

static void random_write(unsigned delete_percent)
{
    random_write_upto(delete_percent, prng_chance(&db.prng, 99) ? 800 : LARGE_VALUE_BYTES);
}

#define SNAPSHOTS 6u

/* Snapshots come and go; each must show its own moment for as long as it lives. */
static void use_snapshot(struct driven_snapshot *snapshots[SNAPSHOTS])
{
    struct driven_snapshot **at = &snapshots[prng_below(&db.prng, SNAPSHOTS)];
    if (!*at) {
        *at = driven_snapshot(&db, prng_chance(&db.prng, 50), prng_chance(&db.prng, 50));
    } else if (prng_chance(&db.prng, 30)) {
        driven_snapshot_walk(*at, SIZE_MAX);
        driven_snapshot_free(*at);
        *at = NULL;
    } else {
        driven_snapshot_walk(*at, 1 + prng_below(&db.prng, 50));
    }
}

static void three_levels_hold_what_was_written(void **state)
{
    (void)state;
    struct driven_snapshot *snapshots[SNAPSHOTS] = {NULL};
    unsigned most_at_once = 0;
    begin(5000, 1);
    for (unsigned i = 0; i < 30000; i++) {
        /* It grows, is overwritten, shrinks below what the levels were made for, grows again. */
        random_write(i < 15000 ? 10 : i < 20000 ? 25 : i < 27000 ? 90 : 10);
        driven_step(&db);
        driven_step(&db);
        if (i % 100 == 0) {
            use_snapshot(snapshots);
            driven_check_key(&db, prng_below(&db.prng, db.n_keys));
        }
        if (i % 1000 == 0) {
            assert_levels_in_order();
            unsigned n = (unsigned)__builtin_popcount(levels_in_use());
            most_at_once = n > most_at_once ? n : most_at_once;
        }
        if (i % 5000 == 0) {
            driven_check(&db);
        }
        if (i % 10000 == 9999) {
            for (size_t s = 0; s < SNAPSHOTS; s++) {
                if (snapshots[s]) {
                    driven_snapshot_free(snapshots[s]);
                    snapshots[s] = NULL;
                }
            }
            driven_close(&db);
            driven_open(&db);
        }
    }
    assert_tables_were_cut();
    assert_true(most_at_once >= 3);
    driven_settle(&db);
    assert_levels_in_order();
    driven_check(&db);
    assert_int_equal(table_files(), tables_in_view());
    assert_int_equal(db.events[STORE_EVENT_BACKGROUND_FAILED], 0);
    end();
}

/* Up to `steps` of compactions as on a full disk, which hasn't even room for an output if `fails`.
 * Returns how many views came beside those of compactions that ended. */
static uint64_t compact_in_steps(uint64_t steps, bool fails)
{
    struct store_stats before, after;
    store_stats(db.store, &before);
    if (fails) {
        vfs_mem_set_capacity(fs, vfs_mem_used(fs));
    }
    atomic_store(&db.store->no_space, true);
    do {
        atomic_store(&db.store->loan, SPACE_LENT);
    } while (engine_compaction_step(db.store) && steps-- > 0);
    atomic_store(&db.store->loan, SPACE_OWN);
    atomic_store(&db.store->no_space, false);
    vfs_mem_set_capacity(fs, UINT64_MAX);
    store_stats(db.store, &after);
    return after.view_swaps - before.view_swaps - (after.compactions - before.compactions);
}

static void in_steps_it_comes_to_the_same_wherever_it_ends(void **state)
{
    (void)state;
    uint64_t steps = 0;
    begin(2000, 1);
    for (unsigned round = 0; round < 120; round++) {
        for (unsigned i = 0; i < 150; i++) {
            random_write(round < 60 ? 10 : 50);
        }
        driven_flush(&db);
        steps += compact_in_steps(prng_below(&db.prng, 400), false);
        driven_check_keys(&db);
        steps += compact_in_steps(10, prng_chance(&db.prng, 50));
        assert_levels_in_order();
        driven_check(&db);
        if (prng_chance(&db.prng, 20)) {
            driven_close(&db);
            driven_open(&db);
        }
    }
    printf("%llu steps\n", (unsigned long long)steps);
    assert_true(steps > 0);
    end();
}

static void what_was_deleted_stays_so(void **state)
{
    (void)state;
    begin(600, 2);
    for (size_t key = 0; key < db.n_keys; key++) {
        driven_put(&db, key, 1000);
    }
    driven_flush(&db);
    driven_settle(&db);
    for (size_t key = 0; key < db.n_keys; key += 2) {
        driven_delete(&db, key);
    }
    driven_check(&db);
    driven_flush(&db);
    driven_check(&db);
    driven_close(&db);
    driven_open(&db);
    driven_check(&db);
    assert_ok(driven_compact(&db));
    assert_levels_in_order();
    driven_check(&db);
    driven_close(&db);
    driven_open(&db);
    driven_check(&db);
    end();
}

static void everything_deleted_leaves_no_table(void **state)
{
    (void)state;
    begin(300, 3);
    for (size_t key = 0; key < db.n_keys; key++) {
        driven_put(&db, key, 500);
    }
    assert_ok(driven_compact(&db));
    for (size_t key = 0; key < db.n_keys; key++) {
        driven_delete(&db, key);
    }
    assert_ok(driven_compact(&db));
    driven_reclaims(&db);
    assert_int_equal(tables_in_view(), 0);
    assert_int_equal(table_files(), 0);
    driven_check(&db);
    driven_put(&db, 7, 100);
    driven_close(&db);
    driven_open(&db);
    driven_check(&db);
    end();
}

static void a_full_compaction_leaves_one_clean_run(void **state)
{
    (void)state;
    begin(3000, 4);
    for (unsigned i = 0; i < 6000; i++) {
        random_write(20);
        driven_step(&db);
    }
    assert_ok(driven_compact(&db));
    assert_int_equal(levels_in_use() & ~1u, 1u << COMPACTION_LAST_LEVEL);
    assert_levels_in_order();
    driven_check(&db);

    driven_flush(&db);
    assert_ok(driven_compact(&db));
    assert_int_equal(levels_in_use(), 1u << COMPACTION_LAST_LEVEL);
    uint64_t compactions = db.store->counters.compactions;
    assert_ok(driven_compact(&db)); /* nothing to do */
    assert_int_equal(db.store->counters.compactions, compactions);
    driven_check(&db);
    end();
}

static void tables_in_order_are_moved_and_not_rewritten(void **state)
{
    (void)state;
    begin(4000, 5);
    for (size_t key = 0; key < db.n_keys; key++) {
        driven_put(&db, key, 300);
        driven_step(&db);
    }
    driven_flush(&db);
    driven_settle(&db);
    assert_true(db.store->counters.compactions > 5);
    assert_int_equal(db.store->counters.compaction_written_bytes, 0);
    assert_levels_in_order();
    assert_int_equal(table_files(), tables_in_view());
    driven_check(&db);
    driven_close(&db);
    driven_open(&db);
    driven_check(&db);
    end();
}

/* A few keys all over a large level below: merging one table of them would rewrite all of it. */
static void an_output_ends_where_it_spans_much_of_the_level_below(void **state)
{
    (void)state;
    begin(3000, 11);
    for (size_t key = 0; key < db.n_keys; key++) {
        driven_put(&db, key, 800);
    }
    driven_put(&db, 0, 800); /* so that there is something to merge */
    assert_ok(driven_compact(&db));
    assert_int_equal(levels_in_use(), 1u << COMPACTION_LAST_LEVEL);
    for (unsigned i = 0; i < ENGINE_LEVEL0_TRIGGER; i++) {
        for (size_t key = i; key < db.n_keys; key += 50) {
            driven_put(&db, key, 10);
        }
        driven_flush(&db);
    }
    while (view_now()->levels[0].n_tables >= ENGINE_LEVEL0_TRIGGER) {
        assert_true(engine_compaction_step(db.store));
    }
    size_t n = view_now()->levels[COMPACTION_LAST_LEVEL - 1].n_tables;
    assert_in_range(n, 3, 6);
    driven_check(&db);
    end();
}

/* A marker in level 0 alone has nothing to hide at the bottom and must not be moved there. */
static void markers_do_not_move_to_the_bottom(void **state)
{
    (void)state;
    begin(100, 6);
    for (int round = 0; round < 5; round++) {
        for (size_t key = 0; key < 20; key++) {
            driven_put(&db, (size_t)round * 20 + key, 100);
            driven_delete(&db, (size_t)round * 20 + key);
        }
        driven_flush(&db);
    }
    driven_settle(&db);
    assert_levels_in_order();
    assert_true(view_now()->levels[0].n_tables < ENGINE_LEVEL0_TRIGGER);
    driven_check(&db);
    end();
}

static void writes_wait_while_level_0_is_too_long(void **state)
{
    (void)state;
    begin(50, 7);
    for (unsigned i = 0; i < ENGINE_LEVEL0_STOP; i++) {
        assert_false(atomic_load(&db.store->gates) & ENGINE_GATE_LEVEL0);
        driven_put(&db, prng_below(&db.prng, db.n_keys), 100);
        driven_flush(&db);
    }
    assert_int_equal(view_now()->levels[0].n_tables, ENGINE_LEVEL0_STOP);
    assert_true(engine_compaction_step(db.store));
    assert_true(atomic_load(&db.store->gates) & ENGINE_GATE_LEVEL0);
    driven_put(&db, 1, 100); /* drives compaction until it is let in */
    assert_false(atomic_load(&db.store->gates) & ENGINE_GATE_LEVEL0);
    driven_check(&db);
    end();
}

/* A view of `db`'s store with one small table in the level. */
/* Drives compaction until one more has ended. */
static void compact_once(void)
{
    uint64_t before = atomic_load(&db.store->counters.compactions);
    while (atomic_load(&db.store->counters.compactions) == before) {
        assert_true(engine_compaction_step(db.store));
    }
    driven_reclaims(&db);
}

/* Level 0 is due all the time, as under a steady load. */
static void every_level_gets_its_turn_while_level_0_is_due(void **state)
{
    (void)state;
    begin(4000, 16);
    for (unsigned round = 0; round < 150; round++) {
        while (view_now()->levels[0].n_tables < 2 * ENGINE_LEVEL0_TRIGGER) {
            for (unsigned i = 0; i < 60; i++) {
                random_write_upto(0, 800);
            }
            driven_flush(&db);
        }
        compact_once();
    }
    struct compaction_shape shape;
    compaction_shape_of(view_now(), db.options.memtable_bytes, &shape);
    for (uint32_t l = shape.base_level; l < COMPACTION_LAST_LEVEL; l++) {
        assert_true(shape.weight_bytes[l] <= 3 * shape.target_bytes[l]);
    }
    assert_true(shape.base_level < COMPACTION_LAST_LEVEL);
    driven_check(&db);
    end();
}

static void add_small_table(struct view *view, uint32_t level)
{
    struct record_set set = {.n = 0};
    struct table_info info;
    struct table *table;
    record_set_add(&set, bytes_of_text("k"), 100);
    tables_write(db.store->dir, engine_new_number(db.store), &set, &info);
    record_set_release(&set);
    assert_ok(table_open(db.store->dir, TABLES_STORE_ID, info.number, &info, &table, NULL));
    table_set_obsolete(table);
    assert_ok(view_add_table(view, level, table));
}

/* Else what comes from level 0 would land below older versions. */
static void the_base_level_is_never_below_one_with_tables(void **state)
{
    (void)state;
    begin(1, 13);
    struct compaction_shape shape;
    struct view *view;
    assert_ok(view_new(db.store, &view));
    compaction_shape_of(view, UINT64_C(1) << 20, &shape);
    assert_int_equal(shape.base_level, COMPACTION_LAST_LEVEL);
    for (uint32_t level = COMPACTION_LAST_LEVEL; level > 0; level--) {
        add_small_table(view, level);
        compaction_shape_of(view, UINT64_C(1) << 20, &shape);
        assert_int_equal(shape.base_level, level);
        assert_true(shape.target_bytes[level] > 0);
    }
    view_release(view);
    end();
}

/* --- Failures --- */

/* A store with something to do at every level; its files are the image that failures start from. */
static struct vfs_mem *make_image(struct driven *model)
{
    begin(1500, 8);
    for (unsigned i = 0; i < 3000; i++) {
        random_write_upto(15, 800);
        driven_step(&db);
    }
    while (view_now()->levels[0].n_tables < ENGINE_LEVEL0_TRIGGER) {
        for (unsigned i = 0; i < 120; i++) {
            random_write_upto(15, 800);
        }
        driven_flush(&db);
    }
    driven_reclaims(&db);
    driven_close(&db);
    *model = db;
    return fs;
}

/* The image again, with the model's contents. */
static void begin_from(struct vfs_mem *image, const struct driven *model, uint64_t salt)
{
    uint64_t seed = scramble64(test_seed() + salt);
    fs = vfs_mem_crash_clone(image, MEM_KEEP_ALL, seed);
    driven_init(&db, vfs_mem_vfs(fs), "data", model->n_keys, seed);
    memcpy(db.keys, model->keys, model->n_keys * sizeof model->keys[0]);
    db.last_version = model->last_version;
    driven_open(&db);
}

struct failure {
    struct vfs_mem_plan plan;
    bool of_unlink; /* then a file may stay until the next open */
};

static struct vfs_mem_verdict fail_as_planned(void *arg, const struct vfs_mem_call *call)
{
    struct failure *failure = arg;
    struct vfs_mem_verdict verdict = vfs_mem_follow_plan(&failure->plan, call);
    failure->of_unlink =
        failure->of_unlink || (verdict.action != VFS_MEM_DO && call->op == VFS_MEM_UNLINK);
    return verdict;
}

/* Lets operation `nth` of a compaction fail. False: it has fewer. */
static bool fail_at(struct vfs_mem *image, const struct driven *model, uint64_t nth, enum err err,
                    bool forever)
{
    struct failure failure = {.plan = {.ops = VFS_MEM_ANY,
                                       .nth = nth,
                                       .forever = forever,
                                       .verdict = {.action = VFS_MEM_FAIL, .err = err}}};
    begin_from(image, model, nth);
    vfs_mem_set_hook(fs, fail_as_planned, &failure);
    driven_compactions(&db);
    driven_reclaims(&db);
    bool reached = failure.plan.seen >= nth;
    vfs_mem_set_hook(fs, NULL, NULL);

    assert_levels_in_order();
    driven_check(&db);
    if (store_state(db.store) == STORE_WRITABLE) {
        driven_settle(&db);
        assert_true(view_now()->levels[0].n_tables < ENGINE_LEVEL0_TRIGGER);
        assert_true(failure.of_unlink || table_files() == tables_in_view());
        random_write(15);
    } else {
        assert_int_equal(db.events[STORE_EVENT_MANIFEST_FAILED], 1);
    }
    driven_close(&db);
    driven_open(&db);
    assert_levels_in_order();
    driven_check_keys(&db);
    driven_settle(&db);
    assert_int_equal(table_files(), tables_in_view());
    driven_check_keys(&db);
    end();
    return reached;
}

static void no_failing_operation_loses_anything(void **state)
{
    (void)state;
    struct driven model;
    struct vfs_mem *image = make_image(&model);
    uint64_t nth = 1;
    while (fail_at(image, &model, nth, nth % 3 == 0 ? ERR_NO_SPACE : ERR_IO, nth % 2 == 0)) {
        nth++;
    }
    assert_true(nth > 30);
    driven_release(&model);
    vfs_mem_free(image);
}

static void a_full_disk_is_waited_for(void **state)
{
    (void)state;
    struct driven model;
    struct vfs_mem *image = make_image(&model);
    begin_from(image, &model, 9);
    vfs_mem_set_capacity(fs, vfs_mem_used(fs) + 2 * db.options.memtable_bytes);
    driven_compactions(&db);
    driven_compactions(&db);
    driven_reclaims(&db);
    assert_int_equal(db.events[STORE_EVENT_BACKGROUND_FAILED], 1); /* said once */
    assert_true(view_now()->levels[0].n_tables >= ENGINE_LEVEL0_TRIGGER);
    assert_int_equal(table_files(), tables_in_view());
    driven_check(&db);
    vfs_mem_set_capacity(fs, UINT64_MAX);
    driven_settle(&db);
    assert_true(view_now()->levels[0].n_tables < ENGINE_LEVEL0_TRIGGER);
    driven_check(&db);
    end();
    driven_release(&model);
    vfs_mem_free(image);
}

/* It isn't rewritten, is told once, and what can be merged without it still is. */
static void a_damaged_input_is_left_alone(void **state)
{
    (void)state;
    begin(400, 10);
    for (unsigned i = 0; i < ENGINE_LEVEL0_TRIGGER; i++) {
        for (size_t key = 0; key < 40; key++) {
            driven_put(&db, key, 500);
        }
        driven_flush(&db);
    }
    char name[FILES_NAME_BYTES];
    uint64_t damaged = info_of(0, 1)->number;
    files_name(FILE_TABLE, damaged, name);
    vfs_mem_flip_bit(fs, name, 8 * 6000);
    driven_compactions(&db);
    driven_compactions(&db);
    assert_int_equal(db.events[STORE_EVENT_TABLE_DAMAGED], 1);
    assert_non_null(strstr(db.last_text[STORE_EVENT_TABLE_DAMAGED], name));
    assert_int_equal(db.events[STORE_EVENT_COMPACTED], 0);
    assert_int_equal(view_now()->levels[0].n_tables, ENGINE_LEVEL0_TRIGGER);

    for (unsigned i = 0; i < ENGINE_LEVEL0_STOP; i++) { /* more than would close the gate */
        for (size_t key = 100 + 10 * i; key < 110 + 10 * i; key++) {
            driven_put(&db, key, 500);
        }
        driven_flush(&db);
        driven_compactions(&db);
    }
    assert_true(db.events[STORE_EVENT_COMPACTED] > 0);
    assert_int_equal(view_now()->levels[0].n_tables, ENGINE_LEVEL0_TRIGGER);
    for (unsigned i = 0; i < ENGINE_LEVEL0_STOP; i++) { /* these can't be merged: writes go on */
        driven_put(&db, 20, 500);
        driven_flush(&db);
        driven_compactions(&db);
    }
    assert_true(view_now()->levels[0].n_tables > ENGINE_LEVEL0_STOP);
    for (size_t key = 100; key < db.n_keys; key++) {
        driven_check_key(&db, key);
    }
    assert_int_equal(driven_compact(&db), ERR_CORRUPT);
    end();
}

/* The disk lies about what was written: the inputs are still there. */
static void an_output_that_reads_back_damaged_is_not_used(void **state)
{
    (void)state;
    begin(50, 12);
    for (unsigned i = 0; i < ENGINE_LEVEL0_TRIGGER; i++) {
        for (size_t key = 0; key < 5; key++) {
            driven_put(&db, key, 100);
        }
        driven_flush(&db);
    }
    assert_true(engine_compaction_step(db.store)); /* picks */
    assert_true(engine_compaction_step(db.store)); /* merges and writes all of it */
    assert_int_equal(table_files(), tables_in_view() + 1);
    char name[FILES_NAME_BYTES];
    files_name(FILE_TABLE, atomic_load(&db.store->next_file) - 1, name);
    vfs_mem_flip_bit(fs, name, 8 * (4096 + 60));
    driven_compactions(&db);
    driven_reclaims(&db);
    assert_int_equal(db.events[STORE_EVENT_BACKGROUND_FAILED], 1);
    assert_int_equal(db.events[STORE_EVENT_COMPACTED], 0);
    assert_int_equal(table_files(), tables_in_view());
    driven_check(&db);
    driven_compactions(&db);
    assert_int_equal(db.events[STORE_EVENT_COMPACTED], 1);
    driven_check(&db);
    end();
}

/* --- With threads --- */

#define WRITERS         2u
#define KEYS_PER_WRITER 150u
#define PUTS_PER_WRITER 2500u

struct race {
    struct store *store;
    _Atomic unsigned writing;                 /* writers that aren't done */
    uint64_t seen[WRITERS * KEYS_PER_WRITER]; /* version that the scanner saw last; 0: none */
    size_t n_seen;
    uint64_t scans;
};

struct writer {
    struct race *race;
    unsigned number;
};

static struct bytes race_key(size_t key, char buffer[16])
{
    return bytes_of(buffer, (size_t)snprintf(buffer, 16, "%05zu", key));
}

/* Versions of a key only grow. */
static void *write_on(void *arg)
{
    struct writer *writer = arg;
    struct prng prng;
    prng_init(&prng, test_seed() + writer->number);
    for (uint64_t version = 1; version <= PUTS_PER_WRITER; version++) {
        char buffer[16], value[400];
        size_t key = writer->number * KEYS_PER_WRITER + prng_below(&prng, KEYS_PER_WRITER);
        struct store_put put = {.key = race_key(key, buffer)};
        size_t size = 8 + prng_below(&prng, sizeof value - 8);
        pattern_fill(put.key, version, value, size);
        enum err err = store_put_sync(writer->race->store, &put, bytes_of(value, size), NULL);
        assert(err == ERR_OK);
    }
    atomic_fetch_sub(&writer->race->writing, 1);
    return NULL;
}

static bool race_entry(void *arg, const struct store_entry *entry)
{
    struct race *race = arg;
    char text[16] = "";
    uint64_t version;
    assert(entry->key.size == 5);
    memcpy(text, entry->key.data, 5);
    size_t key = strtoul(text, NULL, 10);
    bool whole = pattern_version(entry->key, entry->value, &version);
    assert(whole && version >= race->seen[key]);
    race->seen[key] = version;
    race->n_seen++;
    return true;
}

static void race_scanned(void *arg, enum err err, bool at_end)
{
    struct race *race = arg;
    size_t known = 0;
    assert(err == ERR_OK && at_end);
    for (size_t i = 0; i < COUNT_OF(race->seen); i++) {
        known += race->seen[i] != 0;
    }
    assert(race->n_seen == known); /* nothing that was seen is ever gone */
    race->scans++;
}

static void scan_once(struct race *race, bool reverse)
{
    struct store_range range = {.reverse = reverse};
    struct store_scan *scan;
    race->n_seen = 0;
    assert_ok(store_scan_new(race->store, &range, &scan));
    store_scan_run(scan, race_entry, race_scanned, race);
    store_scan_free(scan);
}

static void scans_and_writes_go_on_while_tables_are_merged(void **state)
{
    (void)state;
    static struct race race;
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    fs = vfs_mem_new(test_seed());
    struct store_options options = store_options_default();
    options.dir = "data";
    options.vfs = vfs_mem_vfs(fs);
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    race = (struct race){.writing = WRITERS};
    assert_ok(store_open(&options, &race.store, NULL));
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.race = &race, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, &writers[i]), 0);
    }
    while (atomic_load(&race.writing) > 0) {
        scan_once(&race, race.scans % 2 == 1);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_ok(store_compact_sync(race.store));
    struct store_stats stats;
    store_stats(race.store, &stats);
    assert_true(stats.compactions > 3);
    assert_int_equal(stats.level_tables[0], 0);
    scan_once(&race, false);
    store_close(race.store);
    vfs_mem_free(fs);
}

static void the_rate_is_not_exceeded(void **state)
{
    (void)state;
    const uint64_t rate = 2000000, burst_us = 100000;
    struct driven model;
    struct vfs_mem *image = make_image(&model);
    fs = vfs_mem_crash_clone(image, MEM_KEEP_ALL, 1);
    struct store_options options = model.options;
    struct store *store;
    struct store_stats stats;
    options.vfs = vfs_mem_vfs(fs);
    options.manual = false;
    options.on_event = NULL;
    options.compaction_rate = rate;
    uint64_t began_us = engine_now_us();
    assert_ok(store_open(&options, &store, NULL));
    assert_ok(store_compact_sync(store));
    uint64_t took_us = engine_now_us() - began_us;
    store_stats(store, &stats);
    uint64_t bytes = stats.compaction_read_bytes + stats.compaction_written_bytes;
    assert_true(bytes > rate / 4);
    assert_true(took_us + burst_us >= bytes * 1000000 / rate);
    store_close(store);
    vfs_mem_free(fs);
    driven_release(&model);
    vfs_mem_free(image);
}

static void closing_does_not_wait_for_a_slow_compaction(void **state)
{
    (void)state;
    struct driven model;
    struct vfs_mem *image = make_image(&model);
    fs = vfs_mem_crash_clone(image, MEM_KEEP_ALL, 1);
    struct store_options options = model.options;
    struct store *store;
    options.vfs = vfs_mem_vfs(fs);
    options.manual = false;
    options.on_event = NULL;
    options.compaction_rate = 1; /* a byte a second: it would take years */
    assert_ok(store_open(&options, &store, NULL));
    struct store_put put = {.key = bytes_of_text("k")};
    assert_ok(store_put_sync(store, &put, bytes_of_text("v"), NULL));
    store_close(store);
    vfs_mem_free(fs);
    driven_release(&model);
    vfs_mem_free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_levels_hold_what_was_written),
        cmocka_unit_test(in_steps_it_comes_to_the_same_wherever_it_ends),
        cmocka_unit_test(what_was_deleted_stays_so),
        cmocka_unit_test(everything_deleted_leaves_no_table),
        cmocka_unit_test(a_full_compaction_leaves_one_clean_run),
        cmocka_unit_test(tables_in_order_are_moved_and_not_rewritten),
        cmocka_unit_test(an_output_ends_where_it_spans_much_of_the_level_below),
        cmocka_unit_test(markers_do_not_move_to_the_bottom),
        cmocka_unit_test(writes_wait_while_level_0_is_too_long),
        cmocka_unit_test(every_level_gets_its_turn_while_level_0_is_due),
        cmocka_unit_test(the_base_level_is_never_below_one_with_tables),
        cmocka_unit_test(no_failing_operation_loses_anything),
        cmocka_unit_test(a_full_disk_is_waited_for),
        cmocka_unit_test(a_damaged_input_is_left_alone),
        cmocka_unit_test(an_output_that_reads_back_damaged_is_not_used),
        cmocka_unit_test(scans_and_writes_go_on_while_tables_are_merged),
        cmocka_unit_test(the_rate_is_not_exceeded),
        cmocka_unit_test(closing_does_not_wait_for_a_slow_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
