/* Views: lookups through all layers against a model, and who keeps which memory and files. */
#include "store/lsm/view.h"

#include <stdlib.h>

#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/layers.h"
#include "tests/support/tables.h"

#define ROUNDS 12u

static void find(const struct view *view, struct bytes key, uint64_t max_seq,
                 struct view_hit *ret_hit)
{
    view_find_in_memtables(view, key, max_seq, ret_hit);
    if (!ret_hit->record) {
        assert_ok(view_find_in_tables(view, key, TABLE_WHOLE, ret_hit));
    }
}

/* A key of the set or, one time in four, another one near it. */
static struct bytes random_key(struct layers *layers, uint8_t buffer[40])
{
    struct bytes key = layers->keys[prng_below(&layers->prng, layers->n_keys)];
    memcpy(buffer, key.data, key.size);
    switch (prng_below(&layers->prng, 8)) {
    case 0:
        buffer[key.size] = 0;
        return bytes_of(buffer, key.size + 1);
    case 1:
        buffer[key.size - 1]++;
        return bytes_of(buffer, key.size);
    default:
        return bytes_of(buffer, key.size);
    }
}

static void assert_lookups_agree(struct layers *layers, const struct view *view, size_t n)
{
    uint64_t span = layers->last_seq - layers->tables_seq;
    for (size_t i = 0; i < n; i++) {
        uint8_t buffer[40];
        struct bytes key = random_key(layers, buffer);
        uint64_t max_seq = layers->last_seq - prng_below(&layers->prng, span + 1);
        const struct layers_version *expected = layers_find(layers, key, max_seq);
        struct view_hit hit;
        find(view, key, max_seq, &hit);
        assert_int_equal(hit.record != NULL, expected != NULL);
        if (expected) {
            assert_true(layers_match(expected, hit.record));
            assert_true((hit.node != NULL) != (hit.table != NULL));
        }
    }
}

static void lookups_agree_with_a_model(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct layers *layers = layers_new(scramble64(test_seed() + round));
        assert_lookups_agree(layers, layers->view, 2000);
        layers_free(layers);
    }
}

static void an_empty_view_has_nothing(void **state)
{
    (void)state;
    struct view *view;
    struct view_hit hit = {.record = (void *)&view};
    assert_ok(view_new(NULL, &view));
    view_find_in_memtables(view, bytes_of_text("k"), UINT64_MAX, &hit);
    assert_null(hit.record);
    assert_ok(view_find_in_tables(view, bytes_of_text("k"), TABLE_WHOLE, &hit));
    assert_null(hit.record);
    view_free(view);
}

static void a_copy_outlives_the_original(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 100));
    struct view *copy;
    assert_ok(view_copy(layers->view, &copy));
    view_release(layers->view);
    layers_reap(layers);
    assert_lookups_agree(layers, copy, 500);
    layers->view = copy;
    layers_free(layers);
}

/* A table with one record, of number `seq`. */
static struct table *small_table(struct layers *layers, const char *key, uint64_t seq)
{
    struct record_set set = {.last_seq = seq - 1};
    struct table_info info;
    struct table *table;
    record_set_add(&set, bytes_of_text(key), 10);
    tables_write(layers->dir, engine_new_number(layers->store), &set, &info);
    record_set_release(&set);
    assert_ok(table_open(layers->dir, TABLES_STORE_ID, info.number, &info, &table, NULL));
    return table;
}

static void a_change_of_a_copy_leaves_the_original_alone(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 200));
    struct view *copy;
    assert_ok(view_copy(layers->view, &copy));
    for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
        while (copy->levels[l].n_tables > 0) {
            size_t at = prng_below(&layers->prng, copy->levels[l].n_tables);
            view_remove_table(copy, l, copy->levels[l].tables[at]);
        }
    }
    assert_ok(view_add_table(copy, 6, small_table(layers, "only", 1)));
    struct view_hit hit;
    assert_ok(view_find_in_tables(copy, bytes_of_text("only"), TABLE_WHOLE, &hit));
    assert_non_null(hit.record);
    assert_lookups_agree(layers, layers->view, 500);
    view_release(copy);
    layers_free(layers);
}

static void tables_come_in_order_whatever_the_order_of_addition(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 300));
    static const char *const keys[] = {"d", "a", "e", "c", "b"};
    struct view *view;
    assert_ok(view_new(layers->store, &view));
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        assert_ok(view_add_table(view, 3, small_table(layers, keys[i], 1)));
        assert_ok(view_add_table(view, 0, small_table(layers, "k", (uint64_t)keys[i][0])));
    }
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        assert_int_equal(table_info(view->levels[3].tables[i])->smallest.data[0], 'a' + i);
        assert_int_equal(table_info(view->levels[0].tables[i])->max_seq, 'e' - i);
    }
    view_release(view);
    layers_free(layers);
}

static void a_table_that_overlaps_is_refused(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 400));
    struct view *view;
    assert_ok(view_new(layers->store, &view));
    assert_ok(view_add_table(view, 2, small_table(layers, "a", 1)));
    assert_ok(view_add_table(view, 2, small_table(layers, "c", 2)));
    assert_ok(view_add_table(view, 0, small_table(layers, "a", 7)));

    struct table *same_key = small_table(layers, "a", 9);
    assert_err(ERR_CORRUPT, view_add_table(view, 2, same_key));
    tables_close(same_key);
    struct table *same_number = small_table(layers, "b", 7);
    assert_err(ERR_CORRUPT, view_add_table(view, 0, same_number));
    tables_close(same_number);

    assert_int_equal(view->levels[2].n_tables, 2);
    assert_int_equal(view->levels[0].n_tables, 1);
    view_release(view);
    layers_free(layers);
}

static bool file_exists(struct layers *layers, const struct table_info *info)
{
    char name[FILES_NAME_BYTES];
    struct vfs_file *file;
    files_name(FILE_TABLE, info->number, name);
    if (vfs_open(layers->dir, name, VFS_READ, &file) != ERR_OK) {
        return false;
    }
    vfs_close(file);
    return true;
}

static void an_obsolete_file_goes_with_its_last_reference(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 500));
    struct view *view;
    struct view_hit hit;
    assert_ok(view_new(layers->store, &view));
    struct table *table = small_table(layers, "k", 1);
    struct table_info info = *table_info(table);
    assert_ok(view_add_table(view, 6, table));
    assert_ok(view_find_in_tables(view, bytes_of_text("k"), TABLE_WHOLE, &hit));
    table_acquire(table); /* an entry that is being sent */
    table_set_obsolete(table);
    view_release(view);
    layers_reap(layers);
    assert_true(file_exists(layers, &info));
    assert_int_equal(record_verify(hit.record), ERR_OK);
    assert_true(table_release(table));
    engine_reap_table(layers->store, table);
    assert_true(file_exists(layers, &info));
    layers_reap(layers);
    assert_false(file_exists(layers, &info));
    assert_int_equal(layers->store->counters.filter_lookups, 1);
    layers_free(layers);
}

/* Below a damaged table there is an older version: it must not show up. */
static void damage_is_an_error_and_not_a_reason_to_look_further(void **state)
{
    (void)state;
    struct layers *layers = layers_new(scramble64(test_seed() + 600));
    struct view *view;
    assert_ok(view_new(layers->store, &view));
    assert_ok(view_add_table(view, 6, small_table(layers, "k", 1)));
    struct table *damaged = small_table(layers, "k", 2);
    char name[FILES_NAME_BYTES];
    files_name(FILE_TABLE, table_info(damaged)->number, name);
    file_flip_bit(layers->dir, name, 8 * (4096 + 48));
    assert_ok(view_add_table(view, 1, damaged));
    struct view_hit hit;
    assert_err(ERR_CORRUPT, view_find_in_tables(view, bytes_of_text("k"), TABLE_WHOLE, &hit));
    assert_ptr_equal(hit.table, damaged);
    view_release(view);
    layers_free(layers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_agree_with_a_model),
        cmocka_unit_test(an_empty_view_has_nothing),
        cmocka_unit_test(a_copy_outlives_the_original),
        cmocka_unit_test(a_change_of_a_copy_leaves_the_original_alone),
        cmocka_unit_test(tables_come_in_order_whatever_the_order_of_addition),
        cmocka_unit_test(a_table_that_overlaps_is_refused),
        cmocka_unit_test(an_obsolete_file_goes_with_its_last_reference),
        cmocka_unit_test(damage_is_an_error_and_not_a_reason_to_look_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
