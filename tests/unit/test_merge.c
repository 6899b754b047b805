/* Merges: walks in both directions, from anywhere, against a model. */
#include "store/lsm/merge.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/layers.h"
#include "tests/support/tables.h"

#define ROUNDS 15u

static void assert_item(const struct merge *merge, const struct layers_version *expected)
{
    const struct merge_item *item = merge_item(merge);
    assert_non_null(item);
    assert_true(bytes_equal(item->key, expected->key));
    assert_true(layers_match(expected, item->record));
}

/* From the merge's place to its end: every key that has a version, in order; `at` is the number of
 * the first key that may come. */
static void assert_walk(struct layers *layers, struct merge *merge, uint64_t max_seq, bool reverse,
                        size_t at, size_t steps)
{
    while (reverse ? at > 0 : at < layers->n_keys) {
        at -= reverse;
        const struct layers_version *expected = layers_find(layers, layers->keys[at], max_seq);
        at += !reverse;
        if (!expected) {
            continue;
        }
        if (steps-- == 0) {
            return;
        }
        assert_item(merge, expected);
        assert_ok(merge_next(merge, NULL));
    }
    assert_null(merge_item(merge));
}

/* The number of keys below `key`. */
static size_t rank(const struct layers *layers, struct bytes key)
{
    size_t n = 0;
    while (n < layers->n_keys && bytes_compare(layers->keys[n], key) < 0) {
        n++;
    }
    return n;
}

static void seek_and_walk(struct layers *layers, struct merge *merge, uint64_t max_seq,
                          bool reverse)
{
    uint8_t buffer[40];
    struct bytes key = layers->keys[prng_below(&layers->prng, layers->n_keys)];
    memcpy(buffer, key.data, key.size);
    buffer[key.size] = 0;
    key = bytes_of(buffer, key.size + prng_below(&layers->prng, 2)); /* it, or what follows it */
    assert_ok(merge_seek(merge, key, NULL));
    assert_walk(layers, merge, max_seq, reverse, rank(layers, key),
                prng_chance(&layers->prng, 20) ? SIZE_MAX : prng_below(&layers->prng, 8));
}

static void walk_view(struct layers *layers, bool reverse)
{
    uint64_t span = layers->last_seq - layers->tables_seq;
    uint64_t max_seq = layers->last_seq - prng_below(&layers->prng, span + 1);
    struct merge *merge;
    assert_ok(merge_new_view(layers->view, max_seq, reverse, &merge));
    assert_ok(merge_seek(merge, bytes_of(NULL, 0), NULL));
    assert_walk(layers, merge, max_seq, reverse, reverse ? layers->n_keys : 0, SIZE_MAX);
    for (int i = 0; i < 50; i++) {
        seek_and_walk(layers, merge, max_seq, reverse);
    }
    merge_free(merge);
}

static void a_view_is_walked_forward(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct layers *layers = layers_new(scramble64(test_seed() + round));
        walk_view(layers, false);
        layers_free(layers);
    }
}

static void a_view_is_walked_backward(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct layers *layers = layers_new(scramble64(test_seed() + 100 + round));
        walk_view(layers, true);
        layers_free(layers);
    }
}

static void later_writes_stay_hidden(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        bool reverse = round % 2 == 1;
        struct layers *layers = layers_new(scramble64(test_seed() + 200 + round));
        uint64_t max_seq = layers->last_seq;
        struct merge *merge;
        assert_ok(merge_new_view(layers->view, max_seq, reverse, &merge));
        assert_ok(merge_seek(merge, bytes_of(NULL, 0), NULL));
        for (size_t i = 0; i < layers->n_keys; i++) {
            size_t at = reverse ? layers->n_keys - 1 - i : i;
            layers_write(layers);
            const struct layers_version *expected = layers_find(layers, layers->keys[at], max_seq);
            if (expected) {
                assert_item(merge, expected);
                layers_write(layers);
                assert_ok(merge_next(merge, NULL));
            }
        }
        assert_null(merge_item(merge));
        merge_free(merge);
        layers_free(layers);
    }
}

/* The view's tables as compaction sees them. */
static struct merge *merge_tables(struct layers *layers)
{
    struct merge_run runs[32];
    size_t n = 0;
    const struct view_level *levels = layers->view->levels;
    for (size_t i = 0; i < levels[0].n_tables; i++) {
        runs[n++] = (struct merge_run){.tables = &levels[0].tables[i], .n_tables = 1};
    }
    for (uint32_t l = 1; l < MANIFEST_LEVELS; l++) {
        if (levels[l].n_tables > 0) {
            runs[n++] =
                (struct merge_run){.tables = levels[l].tables, .n_tables = levels[l].n_tables};
        }
    }
    struct merge *merge;
    assert_ok(merge_new_streams(layers->dir, runs, n, &merge));
    return merge;
}

static void tables_are_walked_through_streams(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct layers *layers = layers_new(scramble64(test_seed() + 300 + round));
        struct merge *merge = merge_tables(layers);
        assert_ok(merge_seek(merge, bytes_of(NULL, 0), NULL));
        assert_walk(layers, merge, layers->tables_seq, false, 0, SIZE_MAX);
        uint64_t bytes = 0;
        for (uint32_t l = 0; l < MANIFEST_LEVELS; l++) {
            for (size_t i = 0; i < layers->view->levels[l].n_tables; i++) {
                bytes += table_info(layers->view->levels[l].tables[i])->data_bytes;
            }
        }
        assert_int_equal(merge_read_bytes(merge), bytes);
        merge_free(merge);
        layers_free(layers);
    }
}

static void nothing_is_walked_to_the_end_at_once(void **state)
{
    (void)state;
    struct view *view;
    struct merge *merge;
    assert_ok(view_new(NULL, &view));
    for (int reverse = 0; reverse < 2; reverse++) {
        assert_ok(merge_new_view(view, UINT64_MAX, reverse == 1, &merge));
        assert_null(merge_item(merge));
        assert_ok(merge_seek(merge, bytes_of_text("k"), NULL));
        assert_null(merge_item(merge));
        merge_free(merge);
    }
    view_free(view);
}

/* The walk ends with an error where the damage is; what came before it was right. */
static void damage_ends_a_walk_and_is_named(void **state)
{
    (void)state;
    for (int streams = 0; streams < 2; streams++) {
        struct layers *layers = layers_new(scramble64(test_seed() + 400));
        struct record_set set = {.last_seq = 1000};
        struct table_info info;
        struct table *table;
        for (int i = 0; i < 3000; i++) {
            char key[16];
            snprintf(key, sizeof key, "key%05d", i);
            record_set_add(&set, bytes_of_text(key), 100);
        }
        tables_write(layers->dir, 999, &set, &info);
        char name[FILES_NAME_BYTES];
        files_name(FILE_TABLE, 999, name);
        file_flip_bit(layers->dir, name, 8 * (info.data_bytes / 2));
        assert_ok(table_open(layers->dir, TABLES_STORE_ID, 999, &info, &table, NULL));

        struct view *view;
        struct merge *merge;
        struct merge_run run = {.tables = &table, .n_tables = 1};
        struct err_detail detail = {""};
        assert_ok(view_new(layers->store, &view));
        assert_ok(view_add_table(view, 6, table));
        if (streams) {
            assert_ok(merge_new_streams(layers->dir, &run, 1, &merge));
        } else {
            assert_ok(merge_new_view(view, UINT64_MAX, false, &merge));
        }
        enum err err = merge_seek(merge, bytes_of(NULL, 0), &detail);
        size_t n = 0;
        while (err == ERR_OK) {
            assert_non_null(merge_item(merge));
            assert_true(records_equal(merge_item(merge)->record, set.records[n++]));
            err = merge_next(merge, &detail);
        }
        assert_err(ERR_CORRUPT, err);
        assert_in_range(n, 100, 2900);
        assert_null(merge_item(merge));
        assert_ptr_equal(merge_damaged(merge), table);
        assert_non_null(strstr(detail.text, name));
        merge_free(merge);
        view_release(view);
        record_set_release(&set);
        layers_free(layers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_is_walked_forward),
        cmocka_unit_test(a_view_is_walked_backward),
        cmocka_unit_test(later_writes_stay_hidden),
        cmocka_unit_test(tables_are_walked_through_streams),
        cmocka_unit_test(nothing_is_walked_to_the_end_at_once),
        cmocka_unit_test(damage_ends_a_walk_and_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
