/* Tables whose checksums are right, made by a wrong writer or a hostile one. */
#include <stdlib.h>

#include "store/base/crc32c.h"
#include "store/lsm/table_format.h"
#include "tests/support/check.h"
#include "tests/support/table_case.h"

/* --- Intact checksums around lies ------------------------------------------------------------- */

/* Makes the checksums of regions and footer right. */
static void reseal(uint8_t *data, size_t size)
{
    struct table_footer footer;

    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer.regions[i];
        footer.checksums[i] = crc32c(crc32c(0, &footer.file_id, sizeof footer.file_id),
                                     data + region->offset, region->size_bytes);
    }
    footer.checksum = crc32c(0, &footer, offsetof(struct table_footer, checksum));
    memcpy(data + size - sizeof footer, &footer, sizeof footer);
}

/* Where things are in a table's bytes. */
struct parts {
    uint8_t *data;
    size_t size;
    struct table_footer *footer;
    struct index_header *header;
    uint64_t *prefixes;
    struct index_entry *entries;
    uint8_t *separators;
};

static struct parts parts_of(uint8_t *data, size_t size)
{
    struct parts parts = {.data = data, .size = size};

    parts.footer = (struct table_footer *)(data + size - sizeof *parts.footer);
    parts.header = (struct index_header *)(data + parts.footer->regions[REGION_INDEX].offset);
    parts.prefixes = (uint64_t *)(parts.header + 1);
    parts.entries = (struct index_entry *)(parts.prefixes + parts.header->blocks);
    parts.separators = (uint8_t *)(parts.entries + parts.header->blocks);
    return parts;
}

static uint8_t *tail_of(const struct parts *parts, size_t block)
{
    const struct index_entry *entry = &parts->entries[block];
    return parts->data + entry->offset + UINT64_C(8) * entry->size_units -
           align8(UINT64_C(3) * entry->records);
}

static struct record *record_at(const struct parts *parts, size_t block, size_t slot)
{
    uint64_t offset = UINT64_C(8) * load_u16(tail_of(parts, block) + 2 * slot);
    return (struct record *)(parts->data + parts->entries[block].offset + offset);
}

/* Makes the checksums of blocks right. */
static void reseal_blocks(struct parts *parts)
{
    for (size_t i = 0; i < parts->header->blocks; i++) {
        struct index_entry *entry = &parts->entries[i];
        uint32_t crc = crc32c(0, &parts->footer->file_id, 8);
        crc = crc32c(crc, &entry->offset, 8);
        uint64_t offset = entry->offset;
        for (size_t slot = 0; slot < entry->records; slot++) {
            const struct record *record = (const struct record *)(parts->data + offset);
            crc = crc32c(crc, &record->checksum, 4);
            offset += record_size(record);
        }
        entry->checksum = crc32c(crc, tail_of(parts, i), align8(UINT64_C(3) * entry->records));
    }
}

static void reseal_record(struct record *record)
{
    record_seal(record, record_payload_checksum(record), record->seq, 0);
}

static void lie_offsets(struct parts *parts)
{
    uint8_t *tail = tail_of(parts, 1);
    uint16_t first = load_u16(tail);
    store_u16(tail, load_u16(tail + 2));
    store_u16(tail + 2, first);
}

static uint8_t *tag_at(const struct parts *parts, size_t block, size_t slot)
{
    return tail_of(parts, block) + UINT64_C(2) * parts->entries[block].records + slot;
}

/* Another key of the same length, with a record and a tag that fit. */
static void change_key(struct parts *parts, size_t slot, const void *key)
{
    struct record *record = record_at(parts, 1, slot);
    memcpy(record->payload, key, record->key_size);
    *tag_at(parts, 1, slot) = (uint8_t)table_hash(record_key(record));
    reseal_record(record);
}

static void lie_tags(struct parts *parts)
{
    ++*tag_at(parts, 1, 0);
}

static void lie_tail_zeros(struct parts *parts)
{
    assert_int_not_equal(parts->entries[1].records % 8, 0); /* there are some */
    *tag_at(parts, 1, parts->entries[1].records) = 1;
}

static void lie_order(struct parts *parts)
{
    change_key(parts, 1, record_at(parts, 1, 3)->payload);
}

static void lie_range(struct parts *parts)
{
    change_key(parts, parts->entries[1].records - UINT64_C(1), "kzzz");
}

/* One byte longer than needed, and still right for every lookup. */
static void lie_separator(struct parts *parts)
{
    struct index_entry *entry = &parts->entries[1];
    assert_int_equal(entry->separator_size, 3);
    uint64_t at = entry->separator_offset + UINT64_C(3);
    memmove(parts->separators + at + 1, parts->separators + at,
            parts->header->separator_bytes - at);
    parts->separators[at] = '0';
    entry->separator_size++;
    parts->header->separator_bytes++;
    for (size_t i = 2; i < parts->header->blocks; i++) {
        parts->entries[i].separator_offset++;
    }
    parts->prefixes[1] = bytes_prefix(
        bytes_of(parts->separators + entry->separator_offset + parts->header->common_bytes,
                 entry->separator_size - parts->header->common_bytes));
}

static void lie_filter(struct parts *parts)
{
    memset(parts->data + parts->footer->regions[REGION_FILTER].offset, 0, 64);
}

static void lie_counts(struct parts *parts)
{
    /* In the first section: behind its header and the number of records, the delete markers. */
    uint8_t *section = parts->data + parts->footer->regions[REGION_PROPERTIES].offset;
    store_u64(section + 16 + 8, load_u64(section + 16 + 8) + 1);
    uint32_t crc = crc32c(0, &parts->footer->file_id, 8);
    crc = crc32c(crc, section, 4);
    store_u32(section + 4, crc32c(crc, section + 8, 8 + 40));
}

static void lie_section(struct parts *parts)
{
    uint8_t *section = parts->data + parts->footer->regions[REGION_PROPERTIES].offset;
    store_u64(section + 16 + 8, load_u64(section + 16 + 8) + 1);
}

/* Bytes that no version of varve writes, with all checksums right that the lie leaves alone. */
static void lies_of_a_wrong_writer_are_reported(void **state)
{
    static const struct {
        const char *what;
        void (*tell)(struct parts *parts);
        const char *expected; /* what table_verify() says; NULL: not even opened */
    } lies[] = {
        {"offsets", lie_offsets, "record offsets or tags are wrong"},
        {"tags", lie_tags, "record offsets or tags are wrong"},
        {"tail zeros", lie_tail_zeros, "record offsets or tags are wrong"},
        {"order", lie_order, "keys are out of order or out of the block's range"},
        {"range", lie_range, "keys are out of order or out of the block's range"},
        {"separator", lie_separator, "the index has another separator than the keys say"},
        {"filter", lie_filter, "a key isn't in the filter"},
        {"counts", lie_counts, "the properties don't agree with the records"},
        {"section", lie_section, NULL},
    };
    struct table_case *fixture = *state;
    struct table *table;
    size_t size;

    table_case_add_even_keys(fixture, 100, 100);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t *lie = malloc(size);
    assert_non_null(lie);
    memcpy(lie, data, size);
    struct parts parts = parts_of(lie, size);
    assert_true(parts.header->blocks >= 3);
    reseal_blocks(&parts);
    reseal(lie, size);
    assert_memory_equal(lie, data, size);
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct table_reports reports = {.n = 0};
        memcpy(lie, data, size);
        lies[i].tell(&parts);
        reseal_blocks(&parts);
        reseal(lie, size);
        file_write_all(fixture->dir, TABLE_CASE_NAME, lie, size);
        enum err err = table_open(fixture->dir, 0, 1, NULL, &table, &fixture->detail);
        if (!lies[i].expected) {
            assert_err(ERR_CORRUPT, err);
            continue;
        }
        if (err) {
            fail_msg("%s: %s", lies[i].what, fixture->detail.text);
        }
        assert_err(ERR_CORRUPT, table_verify(fixture->dir, table, table_report, &reports, NULL));
        assert_true(reports.n > 0);
        assert_string_equal(reports.texts[0], lies[i].expected);
        tables_close(table);
    }
    free(lie);
    free(data);
}

/* Random bytes of everything but the records change, and the checksums are made to agree: what a
 * hostile file looks like. Nothing crashes, and no lookup gives bytes that aren't the record's. */
static void lies_with_right_checksums_do_no_harm(void **state)
{
    struct table_case *fixture = *state;
    struct table_footer footer;
    size_t size;
    unsigned opened = 0;

    table_case_add_even_keys(fixture, 100, 100);
    record_set_add(&fixture->set, bytes_of_text("k0030"), 70000);
    table_case_make(fixture);
    uint8_t *data = file_read_all(fixture->dir, TABLE_CASE_NAME, &size);
    uint8_t *lie = malloc(size);
    assert_non_null(lie);
    memcpy(&footer, data + size - sizeof footer, sizeof footer);
    uint64_t begin = footer.regions[REGION_INDEX].offset;
    for (unsigned round = 0; round < 3000; round++) {
        struct table *table;
        memcpy(lie, data, size);
        /* Of the index in most rounds, or anywhere up to the properties' end. */
        uint64_t most = round % 3 != 0 ? footer.regions[REGION_INDEX].size_bytes
                                       : footer.regions[REGION_PROPERTIES].offset +
                                             footer.regions[REGION_PROPERTIES].size_bytes - begin;
        for (uint64_t n = 1 + prng_below(&fixture->prng, 3); n > 0; n--) {
            lie[begin + prng_below(&fixture->prng, most)] = (uint8_t)prng_next(&fixture->prng);
        }
        reseal(lie, size);
        file_write_all(fixture->dir, TABLE_CASE_NAME, lie, size);
        if (table_open(fixture->dir, 0, 1, NULL, &table, NULL)) {
            continue;
        }
        opened++;
        for (size_t i = 0; i < fixture->set.n; i++) {
            const struct record *record = NULL;
            struct bytes key = record_key(fixture->set.records[i]);
            enum err err = table_get(table, key, table_hash(key), TABLE_WHOLE, &record);
            assert_true(err || !record || records_equal(record, fixture->set.records[i]));
        }
        enum err err = table_verify(fixture->dir, table, NULL, NULL, NULL);
        assert_true(
            is_damage(err) || memcmp(lie, data, size) == 0 ||
            memcmp(lie + begin, data + begin, footer.regions[REGION_FILTER].offset - begin) == 0);
        tables_close(table);
    }
    print_message("%u of 3000 opened\n", opened);
    free(lie);
    free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, table_case_set_up, table_case_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lies_of_a_wrong_writer_are_reported),
        TEST(lies_with_right_checksums_do_no_harm),
    };
    return cmocka_run_group_tests_name("table_lies", tests, NULL, NULL);
}
