/* Verifying the file of an open table on the disk: whatever rots is found, wherever it lies, and
 * lookups then rely on nothing that was verified before. */
#include <stdio.h>
#include <stdlib.h>

#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/table_case.h"
#include "tests/support/vfs_mem.h"

/* --- On files in memory, whose maps don't show later changes: as pages that stay cached --- */

struct fixture {
    struct vfs_mem *fs;
    struct vfs_dir *dir;
    struct record_set set;
    struct table *table;
    struct table_info info;
    uint64_t largest_read;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    fixture->fs = vfs_mem_new(test_seed());
    assert_ok(vfs_dir_open(vfs_mem_vfs(fixture->fs), "data", true, &fixture->dir));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->table) {
        tables_close(fixture->table);
    }
    vfs_dir_close(fixture->dir);
    vfs_mem_free(fixture->fs);
    record_set_release(&fixture->set);
    free(fixture);
    return 0;
}

static void add(struct fixture *fixture, unsigned n, uint64_t value_bytes)
{
    for (unsigned i = 0; i < n; i++) {
        char key[16];
        int size = snprintf(key, sizeof key, "k%03u", 2 * i);
        record_set_add(&fixture->set, bytes_of(key, (size_t)size), value_bytes);
    }
}

static void make(struct fixture *fixture)
{
    tables_write(fixture->dir, 1, &fixture->set, &fixture->info);
    assert_ok(table_open(fixture->dir, TABLES_STORE_ID, 1, &fixture->info, &fixture->table, NULL));
}

/* Scrubs all of the table in slices; *ret_bytes: how much was verified. */
static enum err scrub(struct vfs_dir *dir, struct table *table, uint64_t slice_bytes,
                      struct table_damage *ret_damage, uint64_t *ret_bytes)
{
    struct table_scrub *scrub;
    bool done = false;
    assert_ok(table_scrub_new(dir, table, &scrub));
    enum err err = ERR_OK;
    while (err == ERR_OK && !done) {
        uint64_t before = table_scrub_bytes(scrub);
        err = table_scrub_step(scrub, slice_bytes, &done, ret_damage);
        /* A piece is at most a chunk or a short block, with what lies between. */
        assert_true(table_scrub_bytes(scrub) - before < slice_bytes + 100000);
    }
    *ret_bytes = table_scrub_bytes(scrub);
    table_scrub_free(scrub);
    return err;
}

static void every_byte_of_the_file_is_verified_whatever_the_slices(void **state)
{
    struct fixture *fixture = *state;
    struct table_damage damage;
    uint64_t bytes;
    add(fixture, 300, 200);
    record_set_add(&fixture->set, bytes_of_text("k1001"), 65535);
    record_set_add(&fixture->set, bytes_of_text("k1002"), 65536);
    record_set_add(&fixture->set, bytes_of_text("k1003"), 65537);
    record_set_add(&fixture->set, bytes_of_text("k1004"), 1234567);
    make(fixture);
    for (uint64_t slice = 1; slice < fixture->info.size_bytes * 2; slice *= 7) {
        assert_ok(scrub(fixture->dir, fixture->table, slice, &damage, &bytes));
        assert_int_equal(bytes, fixture->info.size_bytes);
    }
}

static void flip(struct fixture *fixture, uint64_t bit)
{
    vfs_mem_flip_bit(fixture->fs, TABLE_CASE_NAME, bit);
}

static void assert_flips_are_found(struct fixture *fixture, uint64_t first, uint64_t end,
                                   uint64_t step)
{
    struct table_damage damage;
    uint64_t bytes;
    for (uint64_t bit = first; bit < end; bit += step) {
        flip(fixture, bit);
        enum err err = scrub(fixture->dir, fixture->table, UINT64_MAX / 2, &damage, &bytes);
        if (err != ERR_CORRUPT || !strstr(damage.detail.text, TABLE_CASE_NAME ", offset ")) {
            fail_msg("bit %u of byte %u: %s", (unsigned)(bit % 8), (unsigned)(bit / 8),
                     err_name(err));
        }
        flip(fixture, bit);
    }
    assert_ok(scrub(fixture->dir, fixture->table, UINT64_MAX / 2, &damage, &bytes));
}

static void finds_every_bit_that_flips(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 22, 300);
    make(fixture);
    assert_flips_are_found(fixture, 0, 8 * 64, 1); /* the header */
    assert_flips_are_found(fixture, 8 * 64, 8 * fixture->info.size_bytes, 17);
}

static void finds_bits_that_flip_in_and_around_long_values(void **state)
{
    struct fixture *fixture = *state;
    add(fixture, 4, 10);
    record_set_add(&fixture->set, bytes_of_text("k0021"), 200001);
    record_set_add(&fixture->set, bytes_of_text("k0041"), 65537);
    make(fixture);
    assert_flips_are_found(fixture, 0, 8 * fixture->info.size_bytes, 2503);
    assert_flips_are_found(fixture, UINT64_C(8) * 4096, UINT64_C(8) * 8300, 61);
}

static void finds_a_file_that_was_cut_short(void **state)
{
    struct fixture *fixture = *state;
    struct table_damage damage;
    uint64_t bytes;
    add(fixture, 60, 300);
    make(fixture);
    for (uint64_t size = fixture->info.size_bytes - 1; size > 500; size -= 499) {
        vfs_mem_truncate(fixture->fs, TABLE_CASE_NAME, size);
        assert_err(ERR_CORRUPT, scrub(fixture->dir, fixture->table, 4096, &damage, &bytes));
        assert_non_null(strstr(damage.detail.text, "the file ends"));
    }
}

static void says_where_the_damage_is_and_which_keys_it_may_be_of(void **state)
{
    struct fixture *fixture = *state;
    struct table_damage damage;
    uint64_t bytes;
    add(fixture, 60, 300);
    record_set_add(&fixture->set, bytes_of_text("m"), 500000);
    make(fixture);
    flip(fixture, UINT64_C(8) * (2 * 4096 + 100));
    assert_err(ERR_CORRUPT, scrub(fixture->dir, fixture->table, 4096, &damage, &bytes));
    assert_string_equal(damage.detail.text,
                        TABLE_CASE_NAME ", offset 8192: a record's checksum doesn't agree");
    assert_non_null(strstr(damage.keys.text, "from \"k0"));
    flip(fixture, UINT64_C(8) * (2 * 4096 + 100));

    struct bytes last = record_value(fixture->set.records[fixture->set.n - 1]);
    uint64_t chunk = 3 * RECORD_CHUNK_BYTES;
    uint64_t value_at = fixture->info.size_bytes;
    size_t size;
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    for (uint64_t at = 0; at < size && value_at == size; at += TABLE_PAGE_BYTES) {
        if (size - at >= last.size && memcmp(data + at, last.data, last.size) == 0) {
            value_at = at;
        }
    }
    free(data);
    assert_true(value_at < size);
    flip(fixture, 8 * (value_at + chunk + 70));
    assert_err(ERR_CORRUPT, scrub(fixture->dir, fixture->table, 4096, &damage, &bytes));
    char text[200];
    (void)snprintf(text, sizeof text, TABLE_CASE_NAME ", offset %lu: a value's checksum",
                   value_at + chunk);
    assert_non_null(strstr(damage.detail.text, text));
    assert_string_equal(damage.keys.text, "from \"m\" up to \"\"");
}

static struct vfs_mem_verdict note_size(void *arg, const struct vfs_mem_call *call)
{
    struct fixture *fixture = arg;
    if (call->op == VFS_MEM_READ && call->size_bytes > fixture->largest_read) {
        fixture->largest_read = call->size_bytes;
    }
    return (struct vfs_mem_verdict){.action = VFS_MEM_DO};
}

static void a_long_value_takes_no_more_memory_than_a_short_one(void **state)
{
    struct fixture *fixture = *state;
    struct table_damage damage;
    uint64_t bytes;
    record_set_add(&fixture->set, bytes_of_text("long"), UINT64_C(20) << 20);
    make(fixture);
    vfs_mem_set_hook(fixture->fs, note_size, fixture);
    assert_ok(scrub(fixture->dir, fixture->table, 1 << 20, &damage, &bytes));
    assert_int_equal(bytes, fixture->info.size_bytes);
    assert_in_range(fixture->largest_read, 1, (512 << 10) + 2 * 4096);
}

static void a_file_that_is_gone_is_not_found(void **state)
{
    struct fixture *fixture = *state;
    struct table_scrub *scrub;
    add(fixture, 5, 10);
    make(fixture);
    assert_ok(vfs_unlink(fixture->dir, TABLE_CASE_NAME));
    assert_err(ERR_NOT_FOUND, table_scrub_new(fixture->dir, fixture->table, &scrub));
}

static void unreadable_bytes_are_an_io_error(void **state)
{
    struct fixture *fixture = *state;
    struct vfs_mem_plan plan = {.ops = VFS_MEM_BIT(VFS_MEM_READ),
                                .forever = true,
                                .verdict = {.action = VFS_MEM_FAIL, .err = ERR_IO}};
    struct table_damage damage;
    uint64_t bytes;
    add(fixture, 60, 300);
    make(fixture);
    vfs_mem_set_hook(fixture->fs, vfs_mem_follow_plan, &plan);
    for (plan.nth = 1;; plan.nth++) {
        plan.seen = 0;
        enum err err = scrub(fixture->dir, fixture->table, 4096, &damage, &bytes);
        if (plan.seen < plan.nth) {
            assert_ok(err);
            break;
        }
        assert_err(ERR_IO, err);
    }
    assert_true(plan.nth > 2);
}

/* Memory has the good bytes, the disk hasn't: answers stay right. */
static void good_bytes_in_memory_are_served_though_the_disk_lost_them(void **state)
{
    struct fixture *fixture = *state;
    struct table_damage damage;
    uint64_t bytes;
    add(fixture, 200, 300);
    make(fixture);
    for (uint64_t at = 4100; at < fixture->info.size_bytes; at += 1003) {
        flip(fixture, 8 * at);
        assert_err(ERR_CORRUPT, scrub(fixture->dir, fixture->table, 4096, &damage, &bytes));
        table_set_damaged(fixture->table);
        assert_int_equal(table_case_get_all(fixture->table, &fixture->set), 0);
        flip(fixture, 8 * at);
    }
}

/* --- On real files, whose maps show what the disk has --- */

/* Inverts a byte of the file under the open table, which was read as a whole before. */
static void rot(struct table_case *fixture, uint64_t offset)
{
    size_t size;
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t byte = data[offset] ^ 0x10;
    table_case_overwrite(fixture, offset, &byte, 1);
    free(data);
}

static void make_and_read(struct table_case *fixture, struct table **ret_table)
{
    table_case_add_even_keys(fixture, 400, 100);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, ret_table));
    assert_int_equal(table_case_get_all(*ret_table, &fixture->set), 0);
}

static void what_was_verified_is_verified_anew_once_damage_was_found(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    struct table_damage damage;
    struct table_iter iter;
    uint64_t bytes;
    make_and_read(fixture, &table);
    rot(fixture, 4096 + 60);
    assert_err(ERR_CORRUPT, scrub(fixture->dir, table, 4096, &damage, &bytes));
    assert_true(table_set_damaged(table));
    size_t errors = table_case_get_all(table, &fixture->set);
    assert_in_range(errors, 1, 40); /* of the 400: those of one block */
    assert_err(ERR_CORRUPT, table_iter_seek(&iter, table, bytes_of(NULL, 0), TABLE_WHOLE));

    rot(fixture, 3 * 4096 + 60); /* another one, which nobody has told of */
    assert_true(table_case_get_all(table, &fixture->set) > errors);
    tables_close(table);
}

static void a_long_value_is_verified_anew_too(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    struct table_damage damage;
    const struct record *record;
    struct bytes key = bytes_of_text("long");
    uint64_t bytes;
    record_set_add(&fixture->set, key, 10 * RECORD_CHUNK_BYTES);
    table_case_make(fixture);
    assert_ok(table_case_open(fixture, &table));
    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    rot(fixture, 5 * RECORD_CHUNK_BYTES);
    assert_ok(table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    assert_err(ERR_CORRUPT, scrub(fixture->dir, table, 4096, &damage, &bytes));
    assert_true(table_set_damaged(table));
    assert_err(ERR_CORRUPT, table_get(table, key, table_hash(key), TABLE_WHOLE, &record));
    assert_ok(table_get(table, key, table_hash(key), TABLE_HEAD, &record));
    assert_ok(table_verify_value(table, record, 0, RECORD_CHUNK_BYTES));
    assert_false(table_value_is_verified(table, record, 0, RECORD_CHUNK_BYTES));
    tables_close(table);
}

static struct table_footer footer_of(struct table_case *fixture)
{
    struct table_footer footer;
    size_t size;
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    free(data);
    return footer;
}

/* Every bit of the filter gone: it would say of every key that it isn't there. */
static void a_damaged_filter_hides_no_key(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    struct table_damage damage;
    uint64_t bytes;
    make_and_read(fixture, &table);
    struct table_region filter = footer_of(fixture).regions[REGION_FILTER];
    void *zeros = calloc(1, filter.size_bytes);
    table_case_overwrite(fixture, filter.offset, zeros, filter.size_bytes);
    free(zeros);
    assert_err(ERR_CORRUPT, scrub(fixture->dir, table, 4096, &damage, &bytes));
    assert_string_equal(damage.keys.text, "");
    assert_true(table_set_damaged(table));
    assert_int_equal(table_case_get_all(table, &fixture->set), 0);
    tables_close(table);
}

/* Blocks that are found by damaged separators say "absent" of keys that others have. */
static void a_damaged_index_is_an_error_and_never_an_absence(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    struct table_damage damage;
    struct table_iter iter;
    uint64_t bytes;
    make_and_read(fixture, &table);
    struct table_region index = footer_of(fixture).regions[REGION_INDEX];
    rot(fixture, index.offset + sizeof(struct index_header) + 8 + 1); /* the second prefix */
    assert_err(ERR_CORRUPT, scrub(fixture->dir, table, 4096, &damage, &bytes));
    assert_true(table_set_damaged(table));
    assert_int_equal(table_case_get_all(table, &fixture->set), fixture->set.n);
    assert_err(ERR_CORRUPT, table_iter_seek(&iter, table, bytes_of_text("k1"), TABLE_HEAD));
    assert_err(ERR_CORRUPT, table_iter_seek_before(&iter, table, bytes_of_text("k1"), TABLE_HEAD));
    rot(fixture, index.offset + sizeof(struct index_header) + 8 + 1);
    assert_int_equal(table_case_get_all(table, &fixture->set), 0);
    tables_close(table);
}

#define IN_MEMORY(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define ON_DISK(name)   cmocka_unit_test_setup_teardown(name, table_case_set_up, table_case_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_MEMORY(every_byte_of_the_file_is_verified_whatever_the_slices),
        IN_MEMORY(finds_every_bit_that_flips),
        IN_MEMORY(finds_bits_that_flip_in_and_around_long_values),
        IN_MEMORY(finds_a_file_that_was_cut_short),
        IN_MEMORY(says_where_the_damage_is_and_which_keys_it_may_be_of),
        IN_MEMORY(a_long_value_takes_no_more_memory_than_a_short_one),
        IN_MEMORY(a_file_that_is_gone_is_not_found),
        IN_MEMORY(unreadable_bytes_are_an_io_error),
        IN_MEMORY(good_bytes_in_memory_are_served_though_the_disk_lost_them),
        ON_DISK(what_was_verified_is_verified_anew_once_damage_was_found),
        ON_DISK(a_long_value_is_verified_anew_too),
        ON_DISK(a_damaged_filter_hides_no_key),
        ON_DISK(a_damaged_index_is_an_error_and_never_an_absence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
