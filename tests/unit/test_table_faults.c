/* Tables on a disk that fails: calls, pages, and bytes that change behind our back. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/table_case.h"

/* --- Pages that can't be read ----------------------------------------------------------------- */

static void cut_file(struct table_case *fixture, off_t size)
{
    char path[TEMP_DIR_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/" TABLE_CASE_NAME, fixture->path);
    assert_int_equal(truncate(path, size), 0);
}

/* What happens when somebody truncates the file, or when the disk fails under the map. */
static void unreadable_pages_are_an_error_not_an_absence(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    struct table_iter iter;
    const struct record *record;
    size_t errors = 0;
    char text[200];

    table_case_add_even_keys(fixture, 200, 100);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, &table));
    struct bytes first = record_key(fixture->set.records[0]);
    struct bytes last = record_key(fixture->set.records[fixture->set.n - 1]);
    assert_ok(table_get(table, last, table_hash(last), TABLE_WHOLE, &record));

    /* Filter and index, which lie at the end, go too: then no key can be told. */
    cut_file(fixture, 12288);
    assert_err(ERR_IO, table_get(table, last, table_hash(last), TABLE_WHOLE, &record));
    table_error_text(table, text, sizeof text);
    assert_non_null(strstr(text, TABLE_CASE_NAME ", offset "));
    assert_err(ERR_IO, table_iter_seek(&iter, table, first, TABLE_WHOLE));
    assert_null(iter.record);
    assert_err(ERR_IO, table_iter_seek_before(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE));
    assert_err(ERR_IO, table_iter_seek(&iter, table, last, TABLE_WHOLE));
    for (size_t i = 0; i < fixture->set.n; i++) {
        struct bytes key = record_key(fixture->set.records[i]);
        errors += table_get(table, key, table_hash(key), TABLE_WHOLE, &record) == ERR_IO;
    }
    assert_int_equal(errors, fixture->set.n);
    assert_err(ERR_CORRUPT, table_verify(fixture->dir, table, NULL, NULL, &fixture->detail));
    tables_close(table);
}

static void an_unreadable_value_is_an_error_of_its_part_only(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    const struct record *record;
    struct bytes key = bytes_of_text("long");
    const uint64_t size = 40 * RECORD_CHUNK_BYTES;

    record_set_add(&fixture->set, key, size);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, &table));
    assert_ok(table_get(table, key, table_hash(key), TABLE_HEAD, &record));
    cut_file(fixture, (off_t)(20 * RECORD_CHUNK_BYTES));
    assert_ok(table_verify_value(table, record, 0, 18 * RECORD_CHUNK_BYTES));
    assert_err(ERR_IO, table_verify_value(table, record, 0, size));
    assert_err(ERR_IO, table_verify_value(table, record, size - 1, 1));
    assert_true(table_value_is_verified(table, record, 0, 18 * RECORD_CHUNK_BYTES));
    assert_false(table_value_is_verified(table, record, 0, size));
    tables_close(table);
}

/* --- Bytes that change under the map -----------------------------------------------------------
 */

static void a_block_is_verified_once(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    const struct record *record;

    table_case_add_even_keys(fixture, 20, 100);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, &table));
    struct bytes key = record_key(fixture->set.records[0]);
    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    /* Another checksum: nothing but verifying looks at it. */
    uint64_t offset = (uint64_t)((const uint8_t *)record - (const uint8_t *)table_map(table).data);
    table_case_overwrite(fixture, offset, "\0\0\0", 4);
    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    tables_close(table);
    assert_ok(table_case_open(fixture, &table));
    assert_err(ERR_CORRUPT, table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    tables_close(table);
}

/* A page that was verified may leave memory and come back with other bytes. Answers can't be right
 * then, but nothing may be followed out of the map. */
static void bytes_that_change_after_they_were_verified_lead_nowhere(void **state)
{
    struct table_case *fixture = *state;
    struct table_footer footer;
    size_t size;

    table_case_add_even_keys(fixture, 200, 100);
    record_set_add(&fixture->set, bytes_of_text("k0031"), 70000);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t *noise = malloc(size);
    assert_non_null(noise);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    uint64_t index = footer.regions[REGION_INDEX].offset;
    for (unsigned round = 0; round < 300; round++) {
        struct table *table;
        struct table_iter iter;
        assert_ok(table_case_open(fixture, &table));
        assert_int_equal(table_case_get_all(table, &fixture->set), 0);
        /* Of the blocks or of the index. */
        uint64_t begin = round % 2 == 0 ? TABLE_DATA_OFFSET : index;
        uint64_t end = round % 2 == 0 ? index : index + footer.regions[REGION_INDEX].size_bytes;
        uint64_t offset = begin + prng_below(&fixture->prng, end - begin);
        uint64_t part = 1 + prng_below(&fixture->prng, end - offset);
        prng_fill(&fixture->prng, noise, part);
        table_case_overwrite(fixture, offset, noise, part);
        for (size_t i = 0; i < fixture->set.n; i++) {
            const struct record *record = NULL;
            struct bytes key = record_key(fixture->set.records[i]);
            struct bytes map = table_map(table);
            enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &record);
            if (!err && record) {
                struct bytes value = record_value(record);
                assert_true((const uint8_t *)value.data + value.size <=
                            (const uint8_t *)map.data + map.size);
            }
            err = table_iter_seek(&iter, table, key, TABLE_WHOLE);
            if (!err && iter.record) {
                err = i % 2 == 0 ? table_iter_next(&iter) : table_iter_prev(&iter);
            }
            assert_true(!err || is_damage(err));
        }
        (void)!table_verify(fixture->dir, table, NULL, NULL, NULL);
        tables_close(table);
        table_case_overwrite(fixture, offset, data + offset, part);
    }
    free(noise);
    free(data);
}

/* --- Failing calls ---------------------------------------------------------------------------- */

static void a_bad_sector_is_an_error_of_its_block_only(void **state)
{
    struct table_case *fixture = *state;
    struct table_reports reports = {.n = 0};
    struct table *table;

    table_case_add_even_keys(fixture, 200, 100);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, &table));
    table_case_bad_begin = UINT64_C(3) * 4096 + 512;
    table_case_bad_end = table_case_bad_begin + 512;
    assert_err(ERR_IO, table_verify(fixture->dir, table, table_report, &reports, &fixture->detail));
    assert_int_equal(reports.n, 1);
    assert_int_equal(reports.offsets[0], 3 * 4096);
    assert_false(table_case_stream(fixture, table));
    table_case_bad_begin = table_case_bad_end = 0;
    assert_true(table_case_stream(fixture, table));
    tables_close(table);
}

static enum err try_to_write(struct table_case *fixture)
{
    struct table_writer *writer;

    enum err err = table_writer_new(fixture->dir, 1, TABLES_STORE_ID, 1001, &writer);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < fixture->set.n && !err; i++) {
        err = table_writer_add(writer, fixture->set.records[i]);
    }
    enum err finished = table_writer_finish(writer, &fixture->info);
    if (err) {
        assert_err(err, finished); /* a failed writer stays so */
    }
    table_writer_free(writer);
    return finished;
}

static void a_failed_write_or_sync_leaves_no_file(void **state)
{
    struct table_case *fixture = *state;
    struct vfs_file *file;
    unsigned failed = 0;
    enum err last = ERR_OK;

    table_case_add_even_keys(fixture, 100, 100);
    record_set_add(&fixture->set, bytes_of_text("a"), 1000000);
    record_set_add(&fixture->set, bytes_of_text("z"), 1000000);
    for (int64_t n = 0;; n++, failed++) {
        table_case_fails_at = n;
        enum err err = try_to_write(fixture);
        if (!err) {
            break;
        }
        assert_true(err == ERR_NO_SPACE || err == ERR_IO);
        last = err;
        assert_err(ERR_NOT_FOUND, vfs_open(fixture->dir, TABLE_CASE_NAME, VFS_READ, &file));
    }
    table_case_fails_at = -1;
    assert_in_range(failed, 4, 100);
    assert_err(ERR_IO, last); /* the last call is the sync */
    table_case_assert_intact(fixture);
}

static void a_failed_read_or_map_is_an_error_of_opening(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    unsigned failed = 0;

    table_case_add_even_keys(fixture, 100, 100);
    table_case_make(fixture);
    for (int64_t n = 0;; n++, failed++) {
        table_case_fails_at = n;
        enum err err = table_case_open(fixture, &table);
        if (!err) {
            break;
        }
        assert_true(err == ERR_NO_MEMORY || err == ERR_IO);
    }
    table_case_fails_at = -1;
    assert_int_equal(failed, 4); /* header, footer, properties, map */
    tables_close(table);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, table_case_set_up, table_case_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unreadable_pages_are_an_error_not_an_absence),
        TEST(an_unreadable_value_is_an_error_of_its_part_only),
        TEST(a_block_is_verified_once),
        TEST(bytes_that_change_after_they_were_verified_lead_nowhere),
        TEST(a_bad_sector_is_an_error_of_its_block_only),
        TEST(a_failed_write_or_sync_leaves_no_file),
        TEST(a_failed_read_or_map_is_an_error_of_opening),
    };
    return cmocka_run_group_tests_name("table_faults", tests, NULL, NULL);
}
