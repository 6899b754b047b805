/* Damaged tables: an error, or the right bytes; never wrong ones, and never "absent" wrongly. */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/table_case.h"

/* What a byte of the file belongs to: that decides when its damage is seen. */
enum place {
    IN_GAP,   /* zeros between blocks or regions, which only table_verify() reads */
    IN_BLOCK, /* by lookups */
    OUTSIDE,  /* header, regions, footer: at open */
};

static enum place place_of(const struct table_footer *footer, const struct index_entry *entries,
                           uint64_t n, uint64_t byte)
{
    for (uint64_t i = 0; i < n; i++) {
        if (byte >= entries[i].offset &&
            byte < entries[i].offset + UINT64_C(8) * entries[i].size_units) {
            return IN_BLOCK;
        }
    }
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer->regions[i];
        if (byte >= region->offset && byte < region->offset + region->size_bytes) {
            return OUTSIDE;
        }
    }
    return byte >= TABLE_DATA_OFFSET && byte < footer->size_bytes - sizeof *footer ? IN_GAP
                                                                                   : OUTSIDE;
}

static void write_byte(struct vfs_file *file, uint64_t offset, unsigned byte)
{
    uint8_t data = (uint8_t)byte;
    struct iovec part = {.iov_base = &data, .iov_len = 1};
    assert_ok(vfs_write(file, offset, &part, 1));
}

/* Flips every `step`th bit of [begin, end) in turn. */
static void flip_bits(struct table_case *fixture, uint64_t begin, uint64_t end, uint64_t step)
{
    size_t size;
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    struct vfs_file *file;
    struct table_footer footer;
    struct index_header header;

    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    memcpy(&header, data + footer.regions[REGION_INDEX].offset, sizeof header);
    const struct index_entry *entries =
        (const struct index_entry *)(data + footer.regions[REGION_INDEX].offset + sizeof header +
                                     8 * header.blocks);
    assert_ok(vfs_open(fixture->dir, TABLE_CASE_NAME, VFS_WRITE, &file));
    for (uint64_t bit = begin; bit < end && bit < size * 8; bit += step) {
        uint64_t byte = bit / 8;
        write_byte(file, byte, data[byte] ^ 1u << bit % 8);
        bool thorough = bit % 3 == 0;
        struct table_seen seen = table_case_read(fixture, thorough);
        enum place place = place_of(&footer, entries, header.blocks, byte);
        if (seen.at_open != (place == OUTSIDE) || seen.by_lookups != (place == IN_BLOCK) ||
            seen.by_verify != (thorough && place != OUTSIDE)) {
            fail_msg("bit %u of byte %u", (unsigned)(bit % 8), (unsigned)byte);
        }
        write_byte(file, byte, data[byte]);
    }
    vfs_close(file);
    free(data);
    table_case_assert_intact(fixture);
}

static void no_flipped_bit_of_a_small_table_goes_unnoticed(void **state)
{
    struct table_case *fixture = *state;
    table_case_add_even_keys(fixture, 22, 300);
    table_case_make(fixture);
    assert_in_range(fixture->info.size_bytes, 12000, 16384);
    flip_bits(fixture, 0, UINT64_MAX, 1);
}

static void no_flipped_bit_of_a_table_of_64_KiB_goes_unnoticed(void **state)
{
    struct table_case *fixture = *state;
    table_case_add_even_keys(fixture, 180, 300);
    table_case_make(fixture);
    assert_in_range(fixture->info.size_bytes, 65536, 73728);
    uint64_t bits = 8 * fixture->info.size_bytes;
    flip_bits(fixture, 0, UINT64_MAX, test_flips(bits, 1) == bits ? 1 : 1009);
}

static void no_flipped_bit_of_a_long_value_goes_unnoticed(void **state)
{
    struct table_case *fixture = *state;
    table_case_add_even_keys(fixture, 4, 10);
    record_set_add(&fixture->set, bytes_of_text("k0021"), 200000);
    record_set_add(&fixture->set, bytes_of_text("k0041"), 65536);
    table_case_make(fixture);
    flip_bits(fixture, 0, UINT64_MAX, 1009);
    /* Around where the long values begin and end. */
    flip_bits(fixture, UINT64_C(8) * 4096, UINT64_C(8) * 8300, 5);
}

/* --- Cut short, mixed up ---------------------------------------------------------------------- */

static void no_shorter_file_is_opened(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    size_t size;

    table_case_add_even_keys(fixture, 60, 300);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    for (size_t cut = 0; cut < size; cut += cut % 4096 < 4032 ? 64 : 1) {
        file_write_all(fixture->dir, TABLE_CASE_NAME, data, cut);
        assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
        assert_non_null(strstr(fixture->detail.text, "the manifest says"));
        assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    }
    data[size] = 0;
    file_write_all(fixture->dir, TABLE_CASE_NAME, data, size + 1);
    assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
    assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
    free(data);
}

static void a_missing_file_is_not_found(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    assert_err(ERR_NOT_FOUND, table_case_open(fixture, &table));
}

static void blocks_that_changed_places_are_noticed(void **state)
{
    struct table_case *fixture = *state;
    size_t size;

    table_case_add_even_keys(fixture, 200, 100);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t *swapped = malloc(size);
    assert_non_null(swapped);
    for (uint64_t a = 4096; a < 16384; a += 4096) {
        memcpy(swapped, data, size);
        memcpy(swapped + a, data + a + 4096, 4096);
        memcpy(swapped + a + 4096, data + a, 4096);
        file_write_all(fixture->dir, TABLE_CASE_NAME, swapped, size);
        table_case_assert_damaged(fixture);
        /* A lost write: the block before once more. */
        memcpy(swapped + a, data + a, 4096);
        file_write_all(fixture->dir, TABLE_CASE_NAME, swapped, size);
        table_case_assert_damaged(fixture);
    }
    free(swapped);
    free(data);
}

/* Another version of the same keys at the same places: as if a write of this block got lost. */
static void blocks_of_another_table_are_noticed(void **state)
{
    struct table_case *fixture = *state;
    size_t size, other_size;
    struct table_info other_info;

    table_case_add_even_keys(fixture, 200, 100);
    struct record_set other = fixture->set;
    fixture->set = (struct record_set){.last_seq = 5000};
    table_case_add_even_keys(fixture, 200, 100);
    table_case_make(fixture);
    tables_write(fixture->dir, 2, &other, &other_info);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t *other_data = file_read_all(fixture->dir, "0000000000000002.table", &other_size);
    assert_int_equal(size, other_size);
    for (uint64_t at = 4096; at < 20480; at += 4096) {
        uint8_t page[4096];
        memcpy(page, data + at, sizeof page);
        memcpy(data + at, other_data + at, sizeof page);
        file_write_all(fixture->dir, TABLE_CASE_NAME, data, size);
        table_case_assert_damaged(fixture);
        memcpy(data + at, page, sizeof page);
    }
    free(data);
    free(other_data);
    record_set_release(&other);
}

static void another_file_under_its_name_is_refused(void **state)
{
    struct table_case *fixture = *state;
    struct table_info other;
    struct table *table;

    table_case_add_even_keys(fixture, 20, 100);
    table_case_make(fixture);
    tables_write(fixture->dir, 2, &fixture->set, &other);
    assert_ok(vfs_rename(fixture->dir, "0000000000000002.table", TABLE_CASE_NAME));
    assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
    assert_err(ERR_CORRUPT, table_open(fixture->dir, 0, 1, NULL, &table, NULL));
}

static void another_store_s_file_is_refused(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;

    table_case_add_even_keys(fixture, 20, 100);
    table_case_make(fixture);
    assert_err(ERR_CORRUPT, table_open(fixture->dir, TABLES_STORE_ID + 1, 1, NULL, &table, NULL));
}

static void a_table_that_the_manifest_does_not_mean_is_refused(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    const size_t fields[] = {
        offsetof(struct table_info, file_id),    offsetof(struct table_info, size_bytes),
        offsetof(struct table_info, records),    offsetof(struct table_info, markers),
        offsetof(struct table_info, min_seq),    offsetof(struct table_info, max_seq),
        offsetof(struct table_info, data_bytes), offsetof(struct table_info, footer_checksum),
        offsetof(struct table_info, smallest),   offsetof(struct table_info, largest.data),
    };

    table_case_add_even_keys(fixture, 20, 100);
    table_case_make(fixture);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        uint8_t *byte = (uint8_t *)&fixture->info + fields[i];
        *byte ^= 1;
        assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
        *byte ^= 1;
    }
    assert_ok(table_case_open(fixture, &table));
    tables_close(table);
}

/* --- Refused at open, with the place ---------------------------------------------------------- */

static void damage_outside_the_records_is_refused_at_open_and_told(void **state)
{
    struct table_case *fixture = *state;
    struct table_footer footer;
    struct table *table;
    size_t size;
    char place[64];

    table_case_add_even_keys(fixture, 100, 100);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    free(data);
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer.regions[i];
        uint64_t bit = 8 * (region->offset + region->size_bytes / 2);
        file_flip_bit(fixture->dir, TABLE_CASE_NAME, bit);
        assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
        (void)snprintf(place, sizeof place,
                       TABLE_CASE_NAME ", offset %llu: ", (unsigned long long)region->offset);
        if (!strstr(fixture->detail.text, place)) {
            fail_msg("\"%s\" doesn't say \"%s\"", fixture->detail.text, place);
        }
        file_flip_bit(fixture->dir, TABLE_CASE_NAME, bit);
    }
    file_flip_bit(fixture->dir, TABLE_CASE_NAME, 8 * (size - 1));
    assert_err(ERR_CORRUPT, table_case_open(fixture, &table));
    (void)snprintf(place, sizeof place, TABLE_CASE_NAME ", offset %zu: ", size - sizeof footer);
    assert_non_null(strstr(fixture->detail.text, place));
}

static void a_later_format_version_is_refused(void **state)
{
    struct table_case *fixture = *state;
    struct table *table;
    size_t size;

    table_case_add_even_keys(fixture, 20, 100);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    store_u32(data + 8, FILES_FORMAT_VERSION + 1);
    store_u32(data + 60, crc32c(0, data, 60));
    file_write_all(fixture->dir, TABLE_CASE_NAME, data, size);
    free(data);
    assert_err(ERR_FORMAT, table_case_open(fixture, &table));
}

static void reports_every_damaged_block_with_its_keys(void **state)
{
    struct table_case *fixture = *state;
    struct table_reports reports = {.n = 0};
    struct table *table;

    table_case_add_even_keys(fixture, 200, 100);
    table_case_make(fixture);
    file_flip_bit(fixture->dir, TABLE_CASE_NAME, 8 * UINT64_C(4196));
    file_flip_bit(fixture->dir, TABLE_CASE_NAME, 8 * UINT64_C(12388));
    assert_ok(table_case_open(fixture, &table));
    assert_err(ERR_CORRUPT,
               table_verify(fixture->dir, table, table_report, &reports, &fixture->detail));
    assert_int_equal(reports.n, 2);
    assert_int_equal(reports.offsets[0], 4096);
    assert_int_equal(reports.offsets[1], 3 * 4096);
    assert_string_equal(reports.first_keys[0], "k000");
    for (size_t i = 0; i < fixture->set.n; i++) {
        const struct record *record;
        struct bytes key = record_key(fixture->set.records[i]);
        enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &record);
        bool said = false;
        for (size_t r = 0; r < reports.n; r++) {
            said = said || (bytes_compare(key, bytes_of_text(reports.first_keys[r])) >= 0 &&
                            bytes_compare(key, bytes_of_text(reports.end_keys[r])) < 0);
        }
        assert_int_equal(err == ERR_CORRUPT, said);
    }
    assert_non_null(strstr(fixture->detail.text, TABLE_CASE_NAME ", offset 4096: "));
    assert_non_null(strstr(fixture->detail.text, "\"k000\""));
    tables_close(table);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, table_case_set_up, table_case_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_flipped_bit_of_a_small_table_goes_unnoticed),
        TEST(no_flipped_bit_of_a_table_of_64_KiB_goes_unnoticed),
        TEST(no_flipped_bit_of_a_long_value_goes_unnoticed),
        TEST(no_shorter_file_is_opened),
        TEST(a_missing_file_is_not_found),
        TEST(blocks_that_changed_places_are_noticed),
        TEST(blocks_of_another_table_are_noticed),
        TEST(another_file_under_its_name_is_refused),
        TEST(another_store_s_file_is_refused),
        TEST(a_table_that_the_manifest_does_not_mean_is_refused),
        TEST(damage_outside_the_records_is_refused_at_open_and_told),
        TEST(a_later_format_version_is_refused),
        TEST(reports_every_damaged_block_with_its_keys),
    };
    return cmocka_run_group_tests_name("table_damage", tests, NULL, NULL);
}
