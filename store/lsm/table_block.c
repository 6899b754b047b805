/* table_block.c - one block of a table. See FORMAT.md for the bytes. */
#include "store/lsm/table_block.h"

#include <assert.h>
#include <string.h>

#include "store/base/crc32c.h"

const char *block_fault_text(enum block_fault fault)
{
#define TEXT(code, text) [code] = (text),
    static const char *const texts[] = {BLOCK_FAULT_TABLE(TEXT)};
#undef TEXT
    return (size_t)fault < sizeof texts / sizeof texts[0] ? texts[fault] : "an unknown fault";
}

enum err block_fault_err(enum block_fault fault)
{
    if (fault == BLOCK_OK) {
        return ERR_OK;
    }
    return fault == BLOCK_UNREADABLE ? ERR_IO : ERR_CORRUPT;
}

struct block block_of(const uint8_t *data, const struct index_entry *entry)
{
    uint64_t size = (uint64_t)entry->size_units * 8;
    return (struct block){
        .data = data,
        .tail = data + size - block_tail_bytes(entry->records),
        .records_bytes = size - block_tail_bytes(entry->records),
        .size_bytes = size,
        .records = entry->records,
    };
}

static uint64_t record_offset(struct block block, uint32_t slot)
{
    return UINT64_C(8) * load_u16(block.tail + UINT64_C(2) * slot);
}

static const uint8_t *block_tags(struct block block)
{
    return block.tail + UINT64_C(2) * block.records;
}

/* --- Making ----------------------------------------------------------------------------------- */

uint64_t block_make_tail(uint8_t into[], const uint16_t offsets[], const uint8_t tags[], uint32_t n)
{
    uint64_t size = block_tail_bytes(n);
    memset(into, 0, size);
    memcpy(into, offsets, n * sizeof offsets[0]);
    memcpy(into + n * sizeof offsets[0], tags, n);
    return size;
}

uint32_t block_checksum(uint64_t file_id, uint64_t offset, const uint32_t record_checksums[],
                        uint32_t n, const uint8_t *tail)
{
    const uint64_t place[] = {file_id, offset};
    uint32_t crc = crc32c(0, place, sizeof place);
    crc = crc32c(crc, record_checksums, n * sizeof record_checksums[0]);
    return crc32c(crc, tail, block_tail_bytes(n));
}

/* --- Verifying -------------------------------------------------------------------------------- */

static bool begins_with(struct bytes key, struct bytes beginning)
{
    return key.size >= beginning.size && bytes_equal(bytes_of(key.data, beginning.size), beginning);
}

/* A long value begins on a page of the file, in a block of its own: what remembers which of its
 * chunks were verified relies on that. */
static bool is_well_placed(const struct record *record, const struct index_entry *entry)
{
    return record->value_size < TABLE_ALIGNED_BYTES ||
           (entry->records == 1 &&
            (entry->offset + record_value_offset(record)) % TABLE_PAGE_BYTES == 0);
}

/* The record where the one before ended, whose key must be above `before` (empty for the first). */
static enum block_fault verify_record(struct block block, uint32_t slot, uint64_t offset,
                                      struct bytes before, uint64_t *ret_size)
{
    const struct record *record = (const struct record *)(block.data + offset);

    if (record_offset(block, slot) != offset) {
        return BLOCK_BAD_TAIL;
    }
    if (record_check_shape(record, block.records_bytes - offset, ret_size)) {
        return BLOCK_BAD_SHAPE;
    }
    if (record_verify_head(record)) {
        return BLOCK_BAD_RECORD;
    }
    if (bytes_compare(before, record_key(record)) >= 0) {
        return BLOCK_BAD_ORDER;
    }
    if (block_tags(block)[slot] != (uint8_t)table_hash(record_key(record))) {
        return BLOCK_BAD_TAIL;
    }
    return BLOCK_OK;
}

enum block_fault block_verify(struct block block, const struct index_entry *entry,
                              struct block_range range, uint64_t file_id)
{
    uint32_t checksums[TABLE_BLOCK_RECORDS_MAX];
    struct bytes key = bytes_of(NULL, 0);
    uint64_t offset = 0;

    assert(block.records >= 1 && block.records <= TABLE_BLOCK_RECORDS_MAX);
    for (uint32_t slot = 0; slot < block.records; slot++) {
        uint64_t size;
        enum block_fault fault = verify_record(block, slot, offset, key, &size);
        if (fault) {
            return fault;
        }
        const struct record *record = (const struct record *)(block.data + offset);
        key = record_key(record);
        checksums[slot] = record->checksum;
        if (!is_well_placed(record, entry)) {
            return BLOCK_BAD_SHAPE;
        }
        if (slot == 0 && !begins_with(key, range.separator)) {
            return BLOCK_BAD_ORDER;
        }
        offset += size;
    }
    if (offset != block.records_bytes) {
        return BLOCK_BAD_SHAPE;
    }
    if (range.next_separator.size > 0 && bytes_compare(key, range.next_separator) >= 0) {
        return BLOCK_BAD_ORDER;
    }
    if (block_checksum(file_id, entry->offset, checksums, block.records, block.tail) !=
        entry->checksum) {
        return BLOCK_BAD_CHECKSUM;
    }
    uint64_t used = UINT64_C(3) * block.records;
    return bytes_are_zero(block.tail + used, block_tail_bytes(block.records) - used)
               ? BLOCK_OK
               : BLOCK_BAD_TAIL;
}

/* --- Finding ---------------------------------------------------------------------------------- */

enum block_fault block_record(struct block block, uint32_t slot, const struct record **ret_record)
{
    uint64_t offset = record_offset(block, slot);
    uint64_t size;

    if (offset >= block.records_bytes ||
        record_check_shape(block.data + offset, block.records_bytes - offset, &size)) {
        return BLOCK_CHANGED;
    }
    *ret_record = (const struct record *)(block.data + offset);
    return BLOCK_OK;
}

enum block_fault block_find(struct block block, struct bytes key, uint64_t hash,
                            const struct record **ret_record)
{
    const uint8_t *tags = block_tags(block);
    const uint8_t *end = tags + block.records;
    const uint8_t *at = tags;

    while ((at = memchr(at, (uint8_t)hash, (size_t)(end - at))) != NULL) {
        const struct record *record;
        enum block_fault fault = block_record(block, (uint32_t)(at - tags), &record);
        if (fault) {
            return fault;
        }
        if (bytes_equal(record_key(record), key)) {
            *ret_record = record;
            return BLOCK_OK;
        }
        at++;
    }
    *ret_record = NULL;
    return BLOCK_OK;
}

enum block_fault block_rank(struct block block, struct bytes key, uint32_t *ret_rank)
{
    uint32_t low = 0;
    uint32_t high = block.records;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct record *record;
        enum block_fault fault = block_record(block, middle, &record);
        if (fault) {
            return fault;
        }
        if (bytes_compare(record_key(record), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_rank = low;
    return BLOCK_OK;
}
