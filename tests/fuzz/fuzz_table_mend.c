/*
 * fuzz_table_mend.c - from the inside out: records, blocks, what index, filter and properties say
 * of them, regions, footer.
 */
#include "tests/fuzz/fuzz_table_mend.h"

#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/filter.h"
#include "store/lsm/sections.h"
#include "store/lsm/table_block.h"

/* A table's bytes and where its parts are; parts that would lie outside are empty. */
struct parts {
    struct forged *forged;
    uint8_t *data;
    size_t size;
    struct table_footer *footer;
    uint8_t *regions[REGIONS];
    size_t sizes[REGIONS];

    struct table_counts counts; /* of the blocks */
    struct bytes first, last;   /* keys; data NULL: none yet */
};

static bool leaves(const struct parts *parts, enum forge_leave what)
{
    return (parts->forged->settings.leave & what) != 0;
}

/* --- Blocks ------------------------------------------------------------------------------------
 */

static void note_record(struct parts *parts, const struct record *record)
{
    struct table_counts *counts = &parts->counts;

    counts->min_seq =
        counts->records == 0 || record->seq < counts->min_seq ? record->seq : counts->min_seq;
    counts->max_seq = record->seq > counts->max_seq ? record->seq : counts->max_seq;
    counts->records++;
    counts->markers += record->kind == RECORD_DELETE;
    counts->data_bytes += record_size(record);
    parts->last = record_key(record);
    parts->first = parts->first.data ? parts->first : parts->last;
}

static void mend_block(struct parts *parts, struct index_entry *entry, uint64_t file_id)
{
    uint64_t begin = entry->offset;
    struct block block = block_of(parts->data + begin, entry);
    uint8_t *at = parts->data + begin;
    uint8_t *tail = at + block.records_bytes;
    uint32_t checksums[TABLE_BLOCK_RECORDS_MAX] = {0};
    uint64_t offset = 0;

    for (uint32_t slot = 0; slot < block.records; slot++) {
        struct record *record = (struct record *)(at + offset);
        uint64_t size = forge_record(parts->forged, at + offset, block.records_bytes - offset);
        if (size == 0) {
            break;
        }
        checksums[slot] = record->checksum;
        uint64_t hash = table_hash(record_key(record));
        if (!leaves(parts, FORGE_LEAVE_SIZES)) {
            store_u16(tail + UINT64_C(2) * slot, (uint16_t)(offset / 8));
            tail[UINT64_C(2) * block.records + slot] = (uint8_t)hash;
        }
        if (!leaves(parts, FORGE_LEAVE_KEYS) && parts->sizes[REGION_FILTER] > 0) {
            filter_add(parts->regions[REGION_FILTER], parts->sizes[REGION_FILTER], hash);
        }
        note_record(parts, record);
        offset += size;
    }
    forge_checksum(parts->forged, &entry->checksum,
                   block_checksum(file_id, begin, checksums, block.records, tail));
}

static bool block_is_inside(const struct parts *parts, const struct index_entry *entry)
{
    uint64_t size = (uint64_t)entry->size_units * 8;

    uint64_t end = parts->size - sizeof *parts->footer;

    return entry->offset % 8 == 0 && entry->offset <= end && size <= end - entry->offset &&
           entry->records >= 1 && entry->records <= TABLE_BLOCK_RECORDS_MAX &&
           size >= block_tail_bytes(entry->records);
}

/* --- Index -------------------------------------------------------------------------------------
 */

/* The parts of the index. What they say is copied before it is used: parts of a hostile table can
 * lie on top of each other, so that mending one changes another. */
struct index {
    struct index_header *header;
    uint64_t blocks;
    uint64_t *prefixes;
    struct index_entry *entries;
    uint8_t *separators;
    uint64_t separator_bytes;
};

static bool index_find(const struct parts *parts, struct index *ret_index)
{
    const uint64_t per_block = sizeof(uint64_t) + sizeof(struct index_entry);
    size_t size = parts->sizes[REGION_INDEX];
    struct index_header *header = (struct index_header *)parts->regions[REGION_INDEX];

    if (size < sizeof *header || header->blocks > (size - sizeof *header) / per_block) {
        return false;
    }
    uint64_t blocks = header->blocks;
    *ret_index =
        (struct index){.header = header, .blocks = blocks, .prefixes = (uint64_t *)(header + 1)};
    ret_index->entries = (struct index_entry *)(ret_index->prefixes + blocks);
    ret_index->separators = (uint8_t *)(ret_index->entries + blocks);
    ret_index->separator_bytes = size - sizeof *header - blocks * per_block;
    return true;
}

/* A block's separator becomes the beginning of its first key, as long as it was. */
static void mend_separator(const struct parts *parts, struct index *index, uint64_t i,
                           uint32_t common)
{
    const struct index_entry entry = index->entries[i];
    uint64_t end = (uint64_t)entry.separator_offset + entry.separator_size;

    if (block_is_inside(parts, &entry) && end <= index->separator_bytes &&
        entry.size_units * UINT64_C(8) >= sizeof(struct record) + entry.separator_size &&
        entry.separator_size >= common) {
        uint8_t *separator = index->separators + entry.separator_offset;
        memmove(separator, parts->data + entry.offset + sizeof(struct record),
                entry.separator_size);
        index->prefixes[i] = table_prefix(bytes_of(separator, entry.separator_size), common);
    }
}

static void mend_index(struct parts *parts, uint64_t file_id)
{
    struct index index;

    if (!index_find(parts, &index)) {
        return;
    }
    for (uint64_t i = 0; i < index.blocks; i++) {
        if (block_is_inside(parts, &index.entries[i])) {
            mend_block(parts, &index.entries[i], file_id);
        }
    }
    if (!leaves(parts, FORGE_LEAVE_KEYS) && parts->first.data) {
        uint32_t common = table_common_bytes(parts->first, parts->last);
        index.header->common_bytes = common;
        for (uint64_t i = 0; i < index.blocks; i++) {
            mend_separator(parts, &index, i, common);
        }
    }
}

/* --- Properties --------------------------------------------------------------------------------
 */

static void mend_property(const struct parts *parts, uint32_t tag, uint8_t *contents, uint64_t size)
{
    struct bytes key = tag == TABLE_TAG_SMALLEST ? parts->first : parts->last;

    if (tag == TABLE_TAG_COUNTS && size == sizeof parts->counts &&
        !leaves(parts, FORGE_LEAVE_NUMBERS)) {
        memcpy(contents, &parts->counts, sizeof parts->counts);
    }
    if ((tag == TABLE_TAG_SMALLEST || tag == TABLE_TAG_LARGEST) && key.size == size &&
        !leaves(parts, FORGE_LEAVE_KEYS)) {
        memmove(contents, key.data, size);
    }
}

static void mend_properties(struct parts *parts, uint64_t file_id)
{
    uint8_t *run = parts->regions[REGION_PROPERTIES];
    size_t left = parts->sizes[REGION_PROPERTIES];
    size_t at = 0;

    while (parts->first.data && left - at >= SECTION_HEADER_BYTES) {
        uint64_t contents = load_u64(run + at + 8);
        size_t room = left - at - SECTION_HEADER_BYTES;
        if (contents > room || align8(contents) > room) {
            break;
        }
        mend_property(parts, load_u32(run + at), run + at + SECTION_HEADER_BYTES, contents);
        at += SECTION_HEADER_BYTES + align8(contents);
    }
    forge_sections(parts->forged, run, left, file_id);
}

/* --- Footer ------------------------------------------------------------------------------------
 */

static void find_regions(struct parts *parts)
{
    size_t end = parts->size - sizeof(struct table_footer);

    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &parts->footer->regions[i];
        if (region->offset % 64 == 0 && region->offset <= end &&
            region->size_bytes <= end - region->offset) {
            parts->regions[i] = parts->data + region->offset;
            parts->sizes[i] = region->size_bytes;
        }
    }
    parts->sizes[REGION_FILTER] -= parts->sizes[REGION_FILTER] % FILTER_LINE_BYTES;
}

static void mend_footer(struct parts *parts)
{
    struct table_footer *footer = parts->footer;
    const struct file_header *header = (const struct file_header *)parts->data;

    if (!leaves(parts, FORGE_LEAVE_IDS)) {
        footer->store_id = header->store_id;
        footer->number = header->number;
        footer->file_id = header->file_id;
    }
    if (!leaves(parts, FORGE_LEAVE_SIZES)) {
        footer->size_bytes = parts->size;
    }
}

void mend_table(struct forged *forged, uint8_t *data, size_t size)
{
    struct parts parts = {.forged = forged, .data = data, .size = size};
    uint64_t file_id = forge_header(forged, data, size, 1);

    if (size < TABLE_DATA_OFFSET + sizeof *parts.footer || size % 8 != 0) {
        return;
    }
    parts.footer = (struct table_footer *)(data + size - sizeof *parts.footer);
    mend_footer(&parts);
    find_regions(&parts);
    mend_index(&parts, file_id);
    mend_properties(&parts, file_id);
    for (int i = 0; i < REGIONS; i++) {
        uint32_t crc = crc32c(0, &file_id, sizeof file_id);
        if (parts.sizes[i] > 0) {
            crc = crc32c(crc, parts.regions[i], parts.footer->regions[i].size_bytes);
        }
        forge_checksum(forged, &parts.footer->checksums[i], crc);
    }
    forge_checksum(forged, &parts.footer->checksum,
                   crc32c(0, parts.footer, offsetof(struct table_footer, checksum)));
}
