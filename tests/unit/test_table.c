/* Tables: what goes in comes out, by lookup, by walk and by stream. */
#include "store/lsm/table.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/crc32c.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/pattern.h"
#include "tests/support/tables.h"
#include "tests/support/temp_dir.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

struct fixture {
    char path[TEMP_DIR_BYTES];
    struct vfs_dir *dir;
    struct prng prng;
    struct record_set set;
    struct table_info info;
    struct table *table;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    temp_dir_make(fixture->path);
    prng_init(&fixture->prng, test_seed());
    assert_ok(vfs_dir_open(vfs_posix(), fixture->path, false, &fixture->dir));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->table) {
        tables_close(fixture->table);
    }
    record_set_release(&fixture->set);
    vfs_dir_close(fixture->dir);
    temp_dir_remove(fixture->path);
    free(fixture);
    return 0;
}

/* Makes table 1 of the set and opens it. */
static void make(struct fixture *fixture)
{
    struct err_detail detail;
    tables_write(fixture->dir, 1, &fixture->set, &fixture->info);
    enum err err =
        table_open(fixture->dir, TABLES_STORE_ID, 1, &fixture->info, &fixture->table, &detail);
    if (err) {
        fail_msg("%s: %s", err_name(err), detail.text);
    }
}

static void assert_finds(struct table *table, const struct record *expected)
{
    const struct record *found = NULL;
    struct bytes key = record_key(expected);

    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &found));
    assert_non_null(found);
    assert_true(records_equal(found, expected));
}

static void assert_agrees(struct table *table, const struct record_set *set, struct bytes key)
{
    const struct record *expected = record_set_find(set, key);
    const struct record *found = NULL;

    if (expected) {
        assert_finds(table, expected);
        return;
    }
    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &found));
    assert_null(found);
}

static void assert_iter_at(const struct table_iter *iter, const struct record_set *set, size_t rank)
{
    if (rank >= set->n) { /* below the first, too: SIZE_MAX */
        assert_null(iter->record);
        return;
    }
    assert_non_null(iter->record);
    assert_true(records_equal(iter->record, set->records[rank]));
}

static void assert_seeks(struct table *table, const struct record_set *set, struct bytes key)
{
    struct table_iter iter;
    size_t rank = record_set_rank(set, key);

    assert_ok(table_iter_seek(&iter, table, key, TABLE_WHOLE));
    assert_iter_at(&iter, set, rank);
    if (iter.record) {
        assert_ok(table_iter_prev(&iter));
        assert_iter_at(&iter, set, rank - 1);
    }
    assert_ok(table_iter_seek_before(&iter, table, key, TABLE_WHOLE));
    assert_iter_at(&iter, set, rank - 1);
    if (iter.record) {
        assert_ok(table_iter_next(&iter));
        assert_iter_at(&iter, set, rank);
    }
}

static void assert_walks(struct table *table, const struct record_set *set)
{
    struct table_iter iter;

    assert_ok(table_iter_seek(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE));
    for (size_t i = 0; i < set->n; i++) {
        assert_iter_at(&iter, set, i);
        assert_ok(table_iter_next(&iter));
    }
    assert_null(iter.record);

    assert_ok(table_iter_seek_before(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE));
    for (size_t i = set->n; i-- > 0;) {
        assert_iter_at(&iter, set, i);
        assert_ok(table_iter_prev(&iter));
    }
    assert_null(iter.record);
}

static void assert_streams(struct vfs_dir *dir, struct table *table, const struct record_set *set)
{
    struct table_stream *stream;
    const struct record *record;

    assert_ok(table_stream_new(dir, table, &stream));
    for (size_t i = 0; i < set->n; i++) {
        assert_ok(table_stream_next(stream, &record, NULL));
        assert_non_null(record);
        assert_true(records_equal(record, set->records[i]));
    }
    for (int i = 0; i < 2; i++) {
        assert_ok(table_stream_next(stream, &record, NULL));
        assert_null(record);
    }
    table_stream_free(stream);
}

static void assert_verifies(struct vfs_dir *dir, struct table *table)
{
    struct err_detail detail = {.text = ""};
    enum err err = table_verify(dir, table, NULL, NULL, &detail);
    if (err) {
        fail_msg("%s: %s", err_name(err), detail.text);
    }
}

/* Keys around `key`: just below, just above, a beginning of it, something longer. */
static void assert_agrees_around(struct table *table, const struct record_set *set,
                                 struct bytes key)
{
    uint8_t near[RECORD_KEY_MAX_BYTES];

    memcpy(near, key.data, key.size);
    near[key.size - 1]++;
    assert_agrees(table, set, bytes_of(near, key.size));
    assert_seeks(table, set, bytes_of(near, key.size));
    near[key.size - 1] = (uint8_t)(near[key.size - 1] - 2);
    assert_agrees(table, set, bytes_of(near, key.size));
    assert_seeks(table, set, bytes_of(near, key.size));
    if (key.size > 1) {
        assert_agrees(table, set, bytes_of(key.data, key.size - 1));
        assert_seeks(table, set, bytes_of(key.data, key.size - 1));
    }
    if (key.size < sizeof near) {
        memcpy(near, key.data, key.size);
        near[key.size] = 0;
        assert_agrees(table, set, bytes_of(near, key.size + 1));
        assert_seeks(table, set, bytes_of(near, key.size + 1));
    }
}

static void assert_all(struct fixture *fixture)
{
    struct table *table = fixture->table;
    const struct record_set *set = &fixture->set;

    for (size_t i = 0; i < set->n; i++) {
        struct bytes key = record_key(set->records[i]);
        assert_agrees(table, set, key);
        assert_seeks(table, set, key);
        assert_agrees_around(table, set, key);
    }
    assert_walks(table, set);
    assert_streams(fixture->dir, table, set);
    assert_verifies(fixture->dir, table);
}

static void returns_what_was_put_in(void **state)
{
    struct fixture *fixture = *state;
    record_set_add_random(&fixture->set, &fixture->prng, 3000, 3000);
    make(fixture);
    assert_all(fixture);
}

static void holds_a_single_record(void **state)
{
    struct fixture *fixture = *state;
    record_set_add(&fixture->set, bytes_of_text("only"), 10);
    make(fixture);
    assert_all(fixture);
}

static void holds_keys_of_every_length(void **state)
{
    struct fixture *fixture = *state;
    uint8_t key[RECORD_KEY_MAX_BYTES];

    memset(key, 'k', sizeof key);
    for (size_t size = 1; size <= sizeof key; size++) {
        record_set_add(&fixture->set, bytes_of(key, size), size % 50);
    }
    make(fixture);
    assert_all(fixture);
}

/* Sizes from far below to above a page, each with every offset of the page before it. */
static void holds_records_of_every_size_around_a_page(void **state)
{
    struct fixture *fixture = *state;
    char key[32];

    for (unsigned i = 0; i < 2500; i++) {
        int size = snprintf(key, sizeof key, "%08u", i);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), (uint64_t)i * 7919 % 9000);
    }
    make(fixture);
    assert_all(fixture);
}

static void holds_large_values_among_small_ones(void **state)
{
    struct fixture *fixture = *state;
    static const uint64_t sizes[] = {64 * KIB - 1, 64 * KIB,   64 * KIB + 1, 128 * KIB,
                                     200000,       1000 * KIB, 3 * MIB + 5,  65536 * 2 + 1};

    record_set_add_random(&fixture->set, &fixture->prng, 300, 500);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "tenants/1/large%zu", i);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), sizes[i]);
    }
    make(fixture);
    assert_all(fixture);
}

static void puts_large_values_on_page_boundaries(void **state)
{
    struct fixture *fixture = *state;
    char key[32];

    for (unsigned i = 0; i < 60; i++) {
        int size = snprintf(key, sizeof key, "%04u", i);
        uint64_t bytes =
            i % 3 == 0 ? UINT64_C(13) * i : 64 * KIB + prng_below(&fixture->prng, 100000);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), bytes);
    }
    make(fixture);
    const uint8_t *map = table_map(fixture->table).data;
    for (size_t i = 0; i < fixture->set.n; i++) {
        const struct record *record;
        struct bytes k = record_key(fixture->set.records[i]);
        assert_ok(table_get(fixture->table, k, table_hash(k), TABLE_HEAD, &record));
        struct bytes value = record_value(record);
        if (value.size >= TABLE_ALIGNED_BYTES) {
            assert_int_equal(((const uint8_t *)value.data - map) % 4096, 0);
        }
    }
}

/* So that a cold lookup reads one page. */
static void keeps_small_records_from_crossing_pages(void **state)
{
    struct fixture *fixture = *state;
    char key[32];

    for (unsigned i = 0; i < 5000; i++) {
        int size = snprintf(key, sizeof key, "user%012u", i);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), 100);
    }
    make(fixture);
    const uint8_t *map = table_map(fixture->table).data;
    for (size_t i = 0; i < fixture->set.n; i++) {
        const struct record *record;
        struct bytes k = record_key(fixture->set.records[i]);
        assert_ok(table_get(fixture->table, k, table_hash(k), TABLE_HEAD, &record));
        uint64_t begin = (uint64_t)((const uint8_t *)record - map);
        assert_int_equal(begin / 4096, (begin + record_size(record) - 1) / 4096);
    }
    /* …and that at little cost of space. */
    assert_in_range(fixture->info.size_bytes, fixture->info.data_bytes,
                    fixture->info.data_bytes * 110 / 100);
}

static void tells_what_it_holds(void **state)
{
    struct fixture *fixture = *state;
    uint64_t markers = 0;
    uint64_t bytes = 0;

    record_set_add_random(&fixture->set, &fixture->prng, 500, 1000);
    for (size_t i = 0; i < fixture->set.n; i++) {
        markers += fixture->set.records[i]->kind == RECORD_DELETE;
        bytes += record_size(fixture->set.records[i]);
    }
    make(fixture);
    const struct table_info *info = table_info(fixture->table);
    assert_memory_equal(info, &fixture->info, offsetof(struct table_info, smallest));
    assert_int_equal(info->number, 1);
    assert_int_equal(info->file_id, 1001);
    assert_int_equal(info->records, fixture->set.n);
    assert_int_equal(info->markers, markers);
    assert_int_equal(info->min_seq, 1);
    assert_int_equal(info->max_seq, fixture->set.last_seq);
    assert_int_equal(info->data_bytes, bytes);
    assert_int_equal(info->size_bytes, table_map(fixture->table).size);
    struct bytes first = record_key(fixture->set.records[0]);
    struct bytes last = record_key(fixture->set.records[fixture->set.n - 1]);
    assert_true(bytes_equal(bytes_of(info->smallest.data, info->smallest.size), first));
    assert_true(bytes_equal(bytes_of(info->largest.data, info->largest.size), last));
}

static void counts_what_the_filter_said(void **state)
{
    struct fixture *fixture = *state;
    enum { N = 20000 };
    char key[32];

    for (unsigned i = 0; i < 1000; i++) {
        int size = snprintf(key, sizeof key, "present%06u", i);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), 10);
    }
    make(fixture);
    for (size_t i = 0; i < fixture->set.n; i++) {
        assert_finds(fixture->table, fixture->set.records[i]);
    }
    for (unsigned i = 0; i < N; i++) {
        int size = snprintf(key, sizeof key, "present%06ux", i % 1000000);
        assert_agrees(fixture->table, &fixture->set, bytes_of(key, (size_t)size));
    }
    struct table_filter_counts counts = table_filter_counts(fixture->table);
    assert_int_equal(counts.lookups, 1000 + N);
    assert_int_equal(counts.positives, 1000 + counts.false_positives);
    assert_in_range(counts.false_positives, 0, N / 50);
}

static void verifies_a_long_value_part_by_part(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t size = 10 * RECORD_CHUNK_BYTES + 100;
    struct bytes key = bytes_of_text("long");
    const struct record *record;

    record_set_add(&fixture->set, key, size);
    record_set_add(&fixture->set, bytes_of_text("short"), 65536);
    make(fixture);
    struct table *table = fixture->table;
    assert_ok(table_get(table, key, table_hash(key), TABLE_HEAD, &record));
    assert_false(table_value_is_verified(table, record, 0, 1));
    assert_true(table_value_is_verified(table, record, 5, 0));

    assert_ok(table_verify_value(table, record, RECORD_CHUNK_BYTES, 1));
    assert_true(table_value_is_verified(table, record, RECORD_CHUNK_BYTES, RECORD_CHUNK_BYTES));
    assert_false(table_value_is_verified(table, record, RECORD_CHUNK_BYTES - 1, 2));
    assert_false(
        table_value_is_verified(table, record, RECORD_CHUNK_BYTES, RECORD_CHUNK_BYTES + 1));

    assert_ok(table_verify_value(table, record, size - 1, 1));
    assert_true(table_value_is_verified(table, record, size - 100, 100));
    assert_false(table_value_is_verified(table, record, size - 101, 1));

    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    assert_true(table_value_is_verified(table, record, 0, size));
    assert_true(records_equal(record, record_set_find(&fixture->set, key)));

    key = bytes_of_text("short");
    assert_ok(table_get(table, key, table_hash(key), TABLE_HEAD, &record));
    assert_true(table_value_is_verified(table, record, 0, 65536));
}

static void refuses_keys_out_of_order_and_damaged_records(void **state)
{
    struct fixture *fixture = *state;
    struct table_writer *writer;
    struct vfs_file *file;

    record_set_add(&fixture->set, bytes_of_text("a"), 10);
    record_set_add(&fixture->set, bytes_of_text("b"), 10);
    struct record *a = fixture->set.records[0];
    struct record *b = fixture->set.records[1];
    const struct record *const wrong[][2] = {{b, a}, {a, a}};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        assert_ok(table_writer_new(fixture->dir, 9, TABLES_STORE_ID, 1, &writer));
        assert_ok(table_writer_add(writer, wrong[i][0]));
        assert_err(ERR_CORRUPT, table_writer_add(writer, wrong[i][1]));
        table_writer_free(writer);
    }
    for (size_t byte = 0; byte < record_size(b); byte++) {
        uint8_t *bytes = (uint8_t *)b;
        assert_ok(table_writer_new(fixture->dir, 9, TABLES_STORE_ID, 1, &writer));
        assert_ok(table_writer_add(writer, a));
        /* Not the high bytes of sizes, which would send it beyond the memory of this test. */
        if (byte >= 9 && byte < 24) {
            table_writer_free(writer);
            continue;
        }
        bytes[byte] ^= 1;
        assert_err(ERR_CORRUPT, table_writer_add(writer, b));
        bytes[byte] ^= 1;
        assert_err(ERR_CORRUPT, table_writer_add(writer, b)); /* it stays failed */
        table_writer_free(writer);
    }
    /* What isn't finished is removed. */
    assert_err(ERR_NOT_FOUND, vfs_open(fixture->dir, "0000000000000009.table", VFS_READ, &file));
}

static void unlinks_the_file_of_an_obsolete_table_with_the_last_reference(void **state)
{
    struct fixture *fixture = *state;
    struct vfs_file *file;

    record_set_add(&fixture->set, bytes_of_text("a"), 10);
    make(fixture);
    table_acquire(fixture->table);
    table_set_obsolete(fixture->table);
    assert_false(table_release(fixture->table));
    assert_finds(fixture->table, fixture->set.records[0]);
    assert_ok(vfs_open(fixture->dir, "0000000000000001.table", VFS_READ, &file));
    vfs_close(file);
    tables_close(fixture->table);
    fixture->table = NULL;
    assert_err(ERR_NOT_FOUND, vfs_open(fixture->dir, "0000000000000001.table", VFS_READ, &file));
}

static void marks_a_damaged_table_once(void **state)
{
    struct fixture *fixture = *state;
    record_set_add(&fixture->set, bytes_of_text("a"), 10);
    make(fixture);
    assert_false(table_is_damaged(fixture->table));
    assert_true(table_set_damaged(fixture->table));
    assert_false(table_set_damaged(fixture->table));
    assert_true(table_is_damaged(fixture->table));
}

static void opens_without_a_manifest(void **state)
{
    struct fixture *fixture = *state;
    struct table *table;

    record_set_add_random(&fixture->set, &fixture->prng, 50, 100);
    make(fixture);
    assert_ok(table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    assert_walks(table, &fixture->set);
    tables_close(table);
}

/* Files outlive versions. Where this fails, either the format has changed (then so must its
 * version), or only the choice of where blocks are cut: then the new number may take the old one's
 * place. */
static void writes_the_bytes_that_it_always_wrote(void **state)
{
    struct fixture *fixture = *state;
    size_t size;

    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        int key_size = snprintf(key, sizeof key, "key%04u", i);
        if (i % 7 == 3) {
            record_set_add_marker(&fixture->set, bytes_of(key, (size_t)key_size));
        } else {
            uint64_t bytes = i == 50 ? 70000 : UINT64_C(11) * i;
            record_set_add(&fixture->set, bytes_of(key, (size_t)key_size), bytes);
        }
    }
    make(fixture);
    uint8_t *data = file_read_all(fixture->dir, "0000000000000001.table", &size);
    assert_int_equal(crc32c(0, data, size), 0x396F10BF);
    free(data);
}

/* --- Threads ---------------------------------------------------------------------------------- */

struct reader {
    struct fixture *fixture;
    uint64_t seed;
    bool ok;
};

static void *read_all(void *arg)
{
    struct reader *reader = arg;
    const struct record_set *set = &reader->fixture->set;
    struct prng prng;

    prng_init(&prng, reader->seed);
    reader->ok = true;
    for (size_t i = 0; i < 4 * set->n && reader->ok; i++) {
        const struct record *expected = set->records[prng_below(&prng, set->n)];
        struct bytes key = record_key(expected);
        const struct record *found = NULL;
        enum err err = table_get(reader->fixture->table, key, table_hash(key), TABLE_WHOLE, &found);
        reader->ok = err == ERR_OK && found && records_equal(found, expected);
    }
    return NULL;
}

static void is_read_by_many_threads_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct reader readers[4];
    pthread_t threads[COUNT_OF(readers)];

    record_set_add_random(&fixture->set, &fixture->prng, 1000, 1000);
    record_set_add(&fixture->set, bytes_of_text("long"), 300000);
    make(fixture);
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        readers[i] = (struct reader){.fixture = fixture, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(readers[i].ok);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(returns_what_was_put_in),
        TEST(holds_a_single_record),
        TEST(holds_keys_of_every_length),
        TEST(holds_records_of_every_size_around_a_page),
        TEST(holds_large_values_among_small_ones),
        TEST(puts_large_values_on_page_boundaries),
        TEST(keeps_small_records_from_crossing_pages),
        TEST(tells_what_it_holds),
        TEST(counts_what_the_filter_said),
        TEST(verifies_a_long_value_part_by_part),
        TEST(refuses_keys_out_of_order_and_damaged_records),
        TEST(unlinks_the_file_of_an_obsolete_table_with_the_last_reference),
        TEST(marks_a_damaged_table_once),
        TEST(opens_without_a_manifest),
        TEST(writes_the_bytes_that_it_always_wrote),
        TEST(is_read_by_many_threads_at_once),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
