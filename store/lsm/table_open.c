/*
 * table_open.c - opening a table: all of it but the records is verified here; references; the end.
 *
 * Header, footer and properties are read as any file is; index and filter are used in the map, so
 * they are verified there.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "store/base/crc32c.h"
#include "store/base/sigbus.h"
#include "store/lsm/filter.h"
#include "store/lsm/sections.h"
#include "store/lsm/table_map.h"

#define READ_AHEAD_BYTES UINT64_C(524288) /* kernels cut single requests at about this size */

static bool key_is_plausible(const struct table_key *key)
{
    return key->size >= 1 && key->size <= RECORD_KEY_MAX_BYTES;
}

bool table_info_is_plausible(const struct table_info *info)
{
    return info->number > 0 && info->file_id != 0 && info->size_bytes >= TABLE_DATA_OFFSET &&
           info->records >= 1 && info->markers <= info->records && info->min_seq >= 1 &&
           info->min_seq <= info->max_seq && key_is_plausible(&info->smallest) &&
           key_is_plausible(&info->largest) &&
           bytes_compare(table_key_bytes(&info->smallest), table_key_bytes(&info->largest)) <= 0;
}

/* --- Through ordinary reads ------------------------------------------------------------------- */

/* A table on its way to being open. */
struct opening {
    struct vfs_file *file;
    uint64_t size_bytes;
    struct table *table; /* gets what was verified */
    struct err_detail *detail;
};

static enum err corrupt(const struct opening *opening, uint64_t offset, const char *text)
{
    err_detail_set(opening->detail, "%s, offset %" PRIu64 ": %s", opening->table->name, offset,
                   text);
    return ERR_CORRUPT;
}

static enum err read_at(const struct opening *opening, uint64_t offset, void *into, size_t size)
{
    size_t got;
    enum err err = vfs_read(opening->file, offset, into, size, &got);

    if (err) {
        err_detail_set(opening->detail, "%s, offset %" PRIu64 ": can't be read: %s",
                       opening->table->name, offset, err_text(err));
        return err;
    }
    return got == size ? ERR_OK : corrupt(opening, offset + got, "the file ends here");
}

static enum err check_header(const struct opening *opening, uint64_t store_id,
                             struct file_header *ret_header)
{
    _Alignas(8) uint8_t page[TABLE_DATA_OFFSET];
    const struct table *table = opening->table;

    enum err err = read_at(opening, 0, page, sizeof page);
    if (err) {
        return err;
    }
    memcpy(ret_header, page, sizeof *ret_header);
    err = file_header_check(ret_header, FILE_TABLE, store_id, table->info.number, table->name,
                            opening->detail);
    if (err) {
        return err;
    }
    if (!bytes_are_zero(page + sizeof *ret_header, sizeof page - sizeof *ret_header)) {
        return corrupt(opening, sizeof *ret_header, "bytes behind the header aren't zero");
    }
    return ERR_OK;
}

/* Whether the regions lie one behind the other, up to the footer. */
static bool regions_join(const struct table_footer *footer)
{
    uint64_t size = footer->size_bytes;
    uint64_t at = footer->regions[REGION_INDEX].offset;

    if (at <= TABLE_DATA_OFFSET || at > size || at % TABLE_REGION_ALIGN != 0) {
        return false;
    }
    for (int i = 0; i < REGIONS; i++) {
        const struct table_region *region = &footer->regions[i];
        if (region->offset != at || region->size_bytes > size - at || region->size_bytes == 0 ||
            region->size_bytes % 8 != 0) {
            return false;
        }
        at = table_region_begin(at + region->size_bytes);
    }
    return at + sizeof *footer == size &&
           footer->regions[REGION_FILTER].size_bytes % FILTER_LINE_BYTES == 0;
}

static enum err check_footer(const struct opening *opening, const struct file_header *header)
{
    struct table_footer *footer = &opening->table->footer;
    uint64_t offset = opening->size_bytes - sizeof *footer;

    enum err err = read_at(opening, offset, footer, sizeof *footer);
    if (err) {
        return err;
    }
    if (memcmp(footer->magic, TABLE_FOOTER_MAGIC, sizeof footer->magic) != 0) {
        return corrupt(opening, offset, "the file doesn't end with a footer");
    }
    if (footer->checksum != crc32c(0, footer, offsetof(struct table_footer, checksum))) {
        return corrupt(opening, offset, "the footer's checksum doesn't agree");
    }
    if (footer->format_version != FILES_FORMAT_VERSION || footer->store_id != header->store_id ||
        footer->number != header->number || footer->file_id != header->file_id) {
        return corrupt(opening, offset, "the footer is another file's");
    }
    if (footer->size_bytes != opening->size_bytes || footer->reserved0 != 0 ||
        footer->reserved1 != 0 || footer->reserved2 != 0 || footer->reserved3 != 0 ||
        !regions_join(footer)) {
        return corrupt(opening, offset, "the footer's fields don't agree");
    }
    return ERR_OK;
}

static bool take_counts(struct bytes contents, struct table_info *info)
{
    struct table_counts counts;

    if (contents.size != sizeof counts) {
        return false;
    }
    memcpy(&counts, contents.data, sizeof counts);
    info->records = counts.records;
    info->markers = counts.markers;
    info->min_seq = counts.min_seq;
    info->max_seq = counts.max_seq;
    info->data_bytes = counts.data_bytes;
    return true;
}

static bool take_key(struct bytes contents, struct table_key *key)
{
    if (contents.size < 1 || contents.size > RECORD_KEY_MAX_BYTES) {
        return false;
    }
    key->size = (uint16_t)contents.size;
    memcpy(key->data, contents.data, contents.size);
    return true;
}

static enum err take_property(const struct opening *opening, const struct section *section,
                              uint64_t offset)
{
    struct table_info *info = &opening->table->info;
    bool taken;

    switch (section->tag) {
    case TABLE_TAG_COUNTS:
        taken = take_counts(section->contents, info);
        break;
    case TABLE_TAG_SMALLEST:
        taken = take_key(section->contents, &info->smallest);
        break;
    case TABLE_TAG_LARGEST:
        taken = take_key(section->contents, &info->largest);
        break;
    default:
        taken = (section->tag & SECTION_MAY_SKIP) != 0;
        if (!taken) {
            err_detail_set(opening->detail,
                           "%s, offset %" PRIu64 ": a property that this varve doesn't know (tag "
                           "%" PRIu32 "): use the version of varve that wrote it",
                           opening->table->name, offset, section->tag);
            return ERR_FORMAT;
        }
        break;
    }
    return taken ? ERR_OK : corrupt(opening, offset, "a property is impossible");
}

static enum err take_properties(const struct opening *opening, struct bytes run)
{
    struct table *table = opening->table;
    uint64_t begin = table->footer.regions[REGION_PROPERTIES].offset;
    struct section_reader reader;
    struct section section;

    section_reader_init(&reader, run, table->footer.file_id);
    do {
        uint64_t offset = begin + reader.at;
        enum err err = section_next(&reader, &section);
        if (err) {
            return corrupt(opening, offset, "a property is damaged");
        }
        err = section.tag == 0 ? ERR_OK : take_property(opening, &section, offset);
        if (err) {
            return err;
        }
    } while (section.tag != 0);
    /* Of a section that is missing the fields are 0. */
    return table_info_is_plausible(&table->info)
               ? ERR_OK
               : corrupt(opening, begin, "the properties are impossible");
}

static enum err check_properties(const struct opening *opening)
{
    struct table *table = opening->table;
    const struct table_region *region = &table->footer.regions[REGION_PROPERTIES];
    uint64_t file_id = table->footer.file_id;
    uint8_t *data = malloc(region->size_bytes);

    if (!data) {
        return ERR_NO_MEMORY;
    }
    table->info.file_id = file_id;
    table->info.size_bytes = table->footer.size_bytes;
    table->info.footer_checksum = table->footer.checksum;
    enum err err = read_at(opening, region->offset, data, region->size_bytes);
    if (!err && crc32c(crc32c(0, &file_id, sizeof file_id), data, region->size_bytes) !=
                    table->footer.checksums[REGION_PROPERTIES]) {
        err = corrupt(opening, region->offset, "the properties' checksum doesn't agree");
    }
    if (!err) {
        err = take_properties(opening, bytes_of(data, region->size_bytes));
    }
    free(data);
    return err;
}

static bool keys_equal(const struct table_key *a, const struct table_key *b)
{
    return bytes_equal(table_key_bytes(a), table_key_bytes(b));
}

static bool infos_agree(const struct table_info *a, const struct table_info *b)
{
    return a->number == b->number && a->file_id == b->file_id && a->size_bytes == b->size_bytes &&
           a->records == b->records && a->markers == b->markers && a->min_seq == b->min_seq &&
           a->max_seq == b->max_seq && a->data_bytes == b->data_bytes &&
           a->footer_checksum == b->footer_checksum && keys_equal(&a->smallest, &b->smallest) &&
           keys_equal(&a->largest, &b->largest);
}

static enum err check_file(struct opening *opening, uint64_t store_id,
                           const struct table_info *info)
{
    struct file_header header;
    struct table *table = opening->table;
    uint64_t size = opening->size_bytes;

    if (info && size != info->size_bytes) {
        err_detail_set(opening->detail,
                       "%s: has %" PRIu64 " bytes, the manifest says %" PRIu64 " bytes",
                       table->name, size, info->size_bytes);
        return ERR_CORRUPT;
    }
    if (size < TABLE_DATA_OFFSET + sizeof table->footer || size % TABLE_REGION_ALIGN != 0 ||
        size > INT64_MAX) {
        return corrupt(opening, size, "the file ends here, but no table can");
    }
    enum err err = check_header(opening, store_id, &header);
    if (!err) {
        err = check_footer(opening, &header);
    }
    if (!err) {
        err = check_properties(opening);
    }
    if (!err && info && !infos_agree(&table->info, info)) {
        err_detail_set(opening->detail, "%s: is not the file that the manifest means", table->name);
        err = ERR_CORRUPT;
    }
    return err;
}

/* --- In the map ------------------------------------------------------------------------------- */

void table_read_ahead(const struct table *table, uint64_t offset, uint64_t size)
{
    uint64_t begin = offset - offset % TABLE_PAGE_BYTES;
    uint64_t end = offset + size;

    if (end > table->info.size_bytes) {
        end = table->info.size_bytes;
    }
    /* The kernel takes it as advice about the file behind the map; other memory ignores it. */
    for (uint64_t at = begin; at < end; at += READ_AHEAD_BYTES) {
        uint64_t part = end - at < READ_AHEAD_BYTES ? end - at : READ_AHEAD_BYTES;
        (void)madvise((void *)(table->map + at), part, MADV_WILLNEED);
    }
}

static uint32_t region_checksum(const struct table *table, const struct table_region *region)
{
    uint64_t end = region->offset + region->size_bytes;
    uint32_t crc = crc32c(0, &table->footer.file_id, sizeof table->footer.file_id);

    table_read_ahead(table, region->offset, READ_AHEAD_BYTES);
    for (uint64_t at = region->offset; at < end; at += READ_AHEAD_BYTES) {
        uint64_t part = end - at < READ_AHEAD_BYTES ? end - at : READ_AHEAD_BYTES;
        table_read_ahead(table, at + part, READ_AHEAD_BYTES);
        crc = crc32c(crc, table->map + at, part);
    }
    return crc;
}

enum block_fault table_check_index(struct table *table, volatile uint64_t *at)
{
    const struct table_region *region = &table->footer.regions[REGION_INDEX];

    if (!table_region_is_distrusted(table, REGION_INDEX)) {
        return BLOCK_OK;
    }
    *at = region->offset;
    return region_checksum(table, region) == table->footer.checksums[REGION_INDEX]
               ? BLOCK_OK
               : BLOCK_BAD_REGION;
}

/* Sets the pointers into the index. NULL if its parts fill it. */
static const char *lay_out_index(struct table *table)
{
    const struct table_region *region = &table->footer.regions[REGION_INDEX];
    const uint8_t *at = table->map + region->offset;
    struct index_header header;

    if (region->size_bytes < sizeof header) {
        return "the index is too short";
    }
    memcpy(&header, at, sizeof header);
    uint64_t per_block = sizeof(uint64_t) + sizeof(struct index_entry);
    if (header.blocks == 0 || header.blocks > region->size_bytes / per_block ||
        header.separator_bytes > region->size_bytes ||
        sizeof header + header.blocks * per_block + align8(header.separator_bytes) !=
            region->size_bytes ||
        header.reserved0 != 0 || header.reserved1 != 0) {
        return "the index has impossible sizes";
    }
    table->blocks = header.blocks;
    table->common_bytes = header.common_bytes;
    table->prefixes = (const uint64_t *)(at + sizeof header);
    table->entries = (const struct index_entry *)(table->prefixes + header.blocks);
    table->separators = (const uint8_t *)(table->entries + header.blocks);
    table->separator_bytes = header.separator_bytes;
    return bytes_are_zero(table->separators + header.separator_bytes,
                          align8(header.separator_bytes) - header.separator_bytes)
               ? NULL
               : "the index ends with bytes that aren't zero";
}

/* Whether a block can begin where its entry says, behind `end`. */
static bool entry_is_well_placed(const struct table *table, const struct index_entry *entry,
                                 uint64_t end)
{
    return entry->offset >= end && entry->offset - end <= TABLE_GAP_MAX_BYTES &&
           table_entry_is_sane(table, entry);
}

/* Whether the separator of block `i` is behind the one before it, in the file and in order. */
static bool separator_is_right(const struct table *table, uint64_t i, uint64_t used)
{
    const struct index_entry *entry = &table->entries[i];
    struct bytes smallest = table_key_bytes(&table->info.smallest);
    uint32_t common = table->common_bytes;

    if (entry->separator_offset != used || entry->separator_size == 0 ||
        entry->separator_size > table->separator_bytes - used ||
        entry->separator_size > RECORD_KEY_MAX_BYTES || entry->separator_size < common) {
        return false;
    }
    struct bytes separator = table_separator(table, i);
    if (memcmp(separator.data, smallest.data, common) != 0 ||
        table->prefixes[i] != table_prefix(separator, common)) {
        return false;
    }
    return i == 0 ? bytes_equal(separator, smallest)
                  : bytes_compare(table_separator(table, i - 1), separator) < 0;
}

static const char *check_index(struct table *table)
{
    uint64_t end = TABLE_DATA_OFFSET;
    uint64_t records = 0;
    uint64_t used = 0;
    struct bytes largest = table_key_bytes(&table->info.largest);

    const char *wrong = lay_out_index(table);
    if (wrong) {
        return wrong;
    }
    if (table->common_bytes !=
        table_common_bytes(table_key_bytes(&table->info.smallest), largest)) {
        return "the index is of other keys";
    }
    for (uint64_t i = 0; i < table->blocks; i++) {
        const struct index_entry *entry = &table->entries[i];
        if (!entry_is_well_placed(table, entry, end)) {
            return "a block of the index is impossible";
        }
        if (!separator_is_right(table, i, used)) {
            return "a separator of the index is impossible";
        }
        end = entry->offset + (uint64_t)entry->size_units * 8;
        records += entry->records;
        used += entry->separator_size;
    }
    if (used != table->separator_bytes || records != table->info.records ||
        table_region_begin(end) != table->footer.regions[REGION_INDEX].offset ||
        bytes_compare(table_separator(table, table->blocks - 1), largest) > 0) {
        return "the index doesn't agree with the properties";
    }
    return NULL;
}

/* What was found in the map. */
struct map_check {
    const char *wrong; /* NULL: nothing */
    enum table_region_kind region;
};

static enum block_fault check_map(struct table *table, void *arg, volatile uint64_t *at)
{
    struct map_check *check = arg;
    const struct table_region *regions = table->footer.regions;

    check->region = REGION_INDEX;
    *at = regions[REGION_INDEX].offset;
    if (region_checksum(table, &regions[REGION_INDEX]) != table->footer.checksums[REGION_INDEX]) {
        check->wrong = "the index' checksum doesn't agree";
        return BLOCK_OK;
    }
    check->wrong = check_index(table);
    if (check->wrong) {
        return BLOCK_OK;
    }
    check->region = REGION_FILTER;
    *at = regions[REGION_FILTER].offset;
    if (region_checksum(table, &regions[REGION_FILTER]) != table->footer.checksums[REGION_FILTER]) {
        check->wrong = "the filter's checksum doesn't agree";
    }
    table->filter = table->map + regions[REGION_FILTER].offset;
    table->filter_bytes = regions[REGION_FILTER].size_bytes;
    return BLOCK_OK;
}

static _Atomic uint64_t *new_bits(uint64_t n)
{
    return calloc((n + 63) / 64, sizeof(_Atomic uint64_t));
}

static enum err map_file(struct opening *opening)
{
    struct table *table = opening->table;
    const void *map;
    struct map_check check = {.wrong = NULL};

    enum err err = vfs_map(opening->file, opening->size_bytes, &map);
    if (err) {
        err_detail_set(opening->detail, "%s: can't be mapped: %s", table->name, err_text(err));
        return err;
    }
    table->map = map;
    if (table_guarded(table, check_map, &check)) {
        err_detail_set(opening->detail, "%s, offset %" PRIu64 ": can't be read", table->name,
                       table->footer.regions[check.region].offset);
        return ERR_IO;
    }
    if (check.wrong) {
        return corrupt(opening, table->footer.regions[check.region].offset, check.wrong);
    }
    table->verified_blocks = new_bits(table->blocks);
    table->verified_chunks = new_bits(opening->size_bytes / TABLE_PAGE_BYTES + 1);
    return table->verified_blocks && table->verified_chunks ? ERR_OK : ERR_NO_MEMORY;
}

/* --- Opening and the end ---------------------------------------------------------------------- */

static void free_table(struct table *table)
{
    if (table->map) {
        vfs_unmap(table->dir->vfs, table->map, table->footer.size_bytes);
    }
    free(table->verified_blocks);
    free(table->verified_chunks);
    free(table);
}

static enum err open_file(struct opening *opening)
{
    struct table *table = opening->table;

    enum err err = vfs_open(table->dir, table->name, VFS_READ, &opening->file);
    if (!err) {
        err = vfs_size(opening->file, &opening->size_bytes);
    }
    if (err) {
        err_detail_set(opening->detail, "%s: %s", table->name, err_text(err));
    }
    return err;
}

enum err table_open(struct vfs_dir *dir, uint64_t store_id, uint64_t number,
                    const struct table_info *info, struct table **ret_table,
                    struct err_detail *detail)
{
    struct table *table = aligned_alloc(_Alignof(struct table), sizeof *table);
    struct opening opening = {.table = table, .detail = detail};

    sigbus_install();
    if (!table) {
        return ERR_NO_MEMORY;
    }
    memset(table, 0, sizeof *table);
    table->dir = dir;
    table->references = 1;
    table->info.number = number;
    files_name(FILE_TABLE, number, table->name);

    enum err err = open_file(&opening);
    if (!err) {
        err = check_file(&opening, store_id, info);
    }
    if (!err) {
        err = map_file(&opening);
    }
    vfs_close(opening.file);
    if (err) {
        free_table(table);
        return err;
    }
    *ret_table = table;
    return ERR_OK;
}

void table_acquire(struct table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
}

bool table_release(struct table *table)
{
    /* Whoever frees it comes after everything that others did with it. */
    uint64_t before = atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel);
    assert(before > 0);
    return before == 1;
}

void table_free(struct table *table)
{
    if (!table) {
        return;
    }
    assert(table->references <= 1); /* one that nobody else ever had, where opening a store fails */
    if (table->obsolete) {
        /* If it stays, the next open removes it: no manifest names it. */
        (void)!vfs_unlink(table->dir, table->name);
    }
    free_table(table);
}

void table_set_obsolete(struct table *table)
{
    table->obsolete = true;
}

bool table_is_obsolete(const struct table *table)
{
    return atomic_load_explicit(&table->obsolete, memory_order_relaxed);
}

void table_set_verified_at(struct table *table, uint64_t moment)
{
    atomic_store_explicit(&table->verified_at, moment, memory_order_relaxed);
}

uint64_t table_verified_at(const struct table *table)
{
    return atomic_load_explicit(&table->verified_at, memory_order_relaxed);
}

bool table_set_damaged(struct table *table)
{
    return !atomic_exchange_explicit(&table->damaged, true, memory_order_relaxed);
}

bool table_is_damaged(const struct table *table)
{
    return atomic_load_explicit(&table->damaged, memory_order_relaxed);
}

struct table **table_link(struct table *table)
{
    return &table->link;
}

const struct table_info *table_info(const struct table *table)
{
    return &table->info;
}

struct bytes table_map(const struct table *table)
{
    return bytes_of(table->map, table->info.size_bytes);
}
