/* table_rescue.c - the intact records of a damaged table, with and without its index. */
#include "store/lsm/table_rescue.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "store/lsm/filter.h"
#include "store/lsm/table_block.h"
#include "store/lsm/table_format.h"

#define WINDOW_BYTES UINT64_C(524288)

struct table_rescue {
    struct vfs_file *file;
    uint64_t size_bytes;
    uint64_t limit; /* no record lies from here on */
    bool has_info;
    struct table_info info;
    uint64_t file_id;
    struct table_footer footer; /* all zeros: it can't be used */
    uint8_t *filter;            /* NULL: it wasn't needed so far, or can't be used */

    uint8_t *window; /* [window_begin, window_begin + window_filled) of the file */
    uint64_t window_capacity, window_begin, window_filled;

    /* With an index: the block at hand. */
    uint8_t *index; /* the region; NULL: it can't be used */
    const struct index_entry *entries;
    uint64_t blocks, block; /* block: the next one */
    struct index_entry entry;
    const struct record *records[TABLE_BLOCK_RECORDS_MAX]; /* NULL: damaged */
    uint64_t record_offsets[TABLE_BLOCK_RECORDS_MAX];      /* of damaged ones, where known… */
    uint8_t record_tags[TABLE_BLOCK_RECORDS_MAX];          /* …and their tags */
    uint32_t n_records, slot;

    /* Without: the block at hand as far as it was read. */
    uint64_t at;
    uint16_t offsets[TABLE_BLOCK_RECORDS_MAX];
    uint8_t tags[TABLE_BLOCK_RECORDS_MAX];
    bool bad[TABLE_BLOCK_RECORDS_MAX];
    uint64_t block_begin;
    uint32_t n_in_block;
    bool incomplete; /* records are missing: any gap may have held some */

    const struct record *ahead; /* found behind the damaged place */
    bool at_end;
    struct rescue_item damage; /* text NULL: none */
    struct table_key last;     /* key of the last record handed out; size 0: none yet */
    uint8_t first_key[RECORD_KEY_MAX_BYTES + 1], end_key[RECORD_KEY_MAX_BYTES + 1];
    struct table_key reads; /* key of the last damaged record; size 0: it can't be its key */
    bool reads_proven;      /* it is: only the value is damaged */
    uint64_t seen;          /* records met, damaged ones too */
};

/* --- Reading ---------------------------------------------------------------------------------- */

/* Makes `size` bytes from `offset` (8-aligned) be in memory, where they may be changed. ERR_IO if
 * the file ends before. */
static enum err load(struct table_rescue *rescue, uint64_t offset, uint64_t size, uint8_t **ret)
{
    size_t got = 0;

    if (offset > rescue->size_bytes || size > rescue->size_bytes - offset) {
        return ERR_IO;
    }
    if (offset < rescue->window_begin ||
        offset + size > rescue->window_begin + rescue->window_filled) {
        uint64_t left = rescue->size_bytes - offset;
        uint64_t wanted = size > WINDOW_BYTES ? size : left < WINDOW_BYTES ? left : WINDOW_BYTES;
        rescue->window_filled = 0;
        if (wanted > rescue->window_capacity) {
            free(rescue->window);
            rescue->window = malloc(wanted);
            rescue->window_capacity = rescue->window ? wanted : 0;
            if (!rescue->window) {
                return ERR_NO_MEMORY;
            }
        }
        enum err err = vfs_read(rescue->file, offset, rescue->window, wanted, &got);
        if (err == ERR_IO && wanted > size) {
            /* A bad place further on is another block's. */
            err = vfs_read(rescue->file, offset, rescue->window, size, &got);
        }
        if (err != ERR_OK || got < size) {
            return err == ERR_NO_MEMORY ? err : ERR_IO;
        }
        rescue->window_begin = offset;
        rescue->window_filled = got;
    }
    *ret = rescue->window + (offset - rescue->window_begin);
    return ERR_OK;
}

/* A region of the file on the heap, if the footer leads to it and its checksum there agrees; else
 * NULL. */
static enum err read_region(const struct table_rescue *rescue, enum table_region_kind kind,
                            uint8_t **ret_data)
{
    const struct table_region *region = &rescue->footer.regions[kind];
    size_t got = 0;

    *ret_data = NULL;
    if (memcmp(rescue->footer.magic, TABLE_FOOTER_MAGIC, sizeof rescue->footer.magic) != 0 ||
        region->offset < TABLE_DATA_OFFSET || region->offset % TABLE_REGION_ALIGN != 0 ||
        region->offset > rescue->size_bytes || region->size_bytes == 0 ||
        region->size_bytes > rescue->size_bytes - region->offset) {
        return ERR_OK;
    }
    uint8_t *data = malloc(region->size_bytes);
    if (!data) {
        return ERR_NO_MEMORY;
    }
    enum err err = vfs_read(rescue->file, region->offset, data, region->size_bytes, &got);
    uint32_t crc = crc32c(0, &rescue->file_id, sizeof rescue->file_id);
    if (err != ERR_OK || got < region->size_bytes ||
        crc32c(crc, data, got) != rescue->footer.checksums[kind]) {
        free(data);
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    *ret_data = data;
    return ERR_OK;
}

/* --- The index -------------------------------------------------------------------------------- */

/* Points into the index, if it can be used. */
static enum err take_index(struct table_rescue *rescue)
{
    const struct table_region *region = &rescue->footer.regions[REGION_INDEX];
    struct index_header header;
    uint8_t *index;

    enum err err = read_region(rescue, REGION_INDEX, &index);
    if (err != ERR_OK || !index) {
        return err;
    }
    memcpy(&header, index, sizeof header);
    if (region->size_bytes < sizeof header ||
        header.blocks > (region->size_bytes - sizeof header) /
                            (sizeof(uint64_t) + sizeof(struct index_entry))) {
        free(index);
        return ERR_OK;
    }
    rescue->index = index;
    rescue->blocks = header.blocks;
    rescue->entries =
        (const struct index_entry *)(index + sizeof header + header.blocks * sizeof(uint64_t));
    rescue->limit = region->offset;
    return ERR_OK;
}

/* Finds the file's id and its index, as far as they are there. */
static enum err find_index(struct table_rescue *rescue)
{
    struct file_header header;
    struct table_footer footer;
    uint8_t *bytes;

    enum err err = load(rescue, 0, sizeof header, &bytes);
    if (err == ERR_OK) {
        memcpy(&header, bytes, sizeof header);
        rescue->file_id = file_header_is_intact(&header) ? header.file_id : 0;
        if (rescue->file_id != 0 && rescue->has_info && rescue->file_id != rescue->info.file_id) {
            return ERR_CORRUPT;
        }
    }
    if (err == ERR_NO_MEMORY || rescue->size_bytes < TABLE_DATA_OFFSET + sizeof footer) {
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    err = load(rescue, (rescue->size_bytes - sizeof footer) & ~UINT64_C(7), sizeof footer, &bytes);
    if (err != ERR_OK) {
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    memcpy(&footer, bytes, sizeof footer);
    rescue->footer = footer;
    if (rescue->has_info) {
        rescue->file_id = rescue->info.file_id;
    } else if (rescue->file_id == 0) {
        rescue->file_id = footer.file_id;
    }
    return take_index(rescue);
}

/* --- Damaged places --------------------------------------------------------------------------- */

static const struct rescue_tags all_tags = {
    {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
};

/* A place that adjoins the one before it becomes a part of it. */
static void add_damage(struct table_rescue *rescue, uint64_t offset, uint64_t records,
                       const struct rescue_tags *tags, enum block_fault fault)
{
    struct rescue_item *damage = &rescue->damage;
    if (!damage->text) {
        *damage = (struct rescue_item){.offset = offset, .text = block_fault_text(fault)};
    }
    damage->records += records;
    for (size_t i = 0; i < sizeof tags->words / sizeof tags->words[0]; i++) {
        damage->tags.words[i] |= tags->words[i];
    }
}

/* A damaged record among others of its block that tell its place and its tag. */
static void add_damaged_record(struct table_rescue *rescue, uint32_t slot)
{
    uint8_t tag = rescue->record_tags[slot];
    uint64_t offset = rescue->record_offsets[slot];
    struct rescue_tags tags = {{0}};
    const struct record *record =
        (const struct record *)(rescue->window + (offset - rescue->window_begin));

    tags.words[tag / 64] |= UINT64_C(1) << tag % 64;
    add_damage(rescue, offset, 1, &tags, BLOCK_BAD_RECORD);
    uint64_t left = rescue->window_begin + rescue->window_filled - offset;
    uint64_t size;
    rescue->reads.size = 0;
    rescue->reads_proven = false;
    if (record_check_shape(record, left, &size) == ERR_OK &&
        (uint8_t)table_hash(record_key(record)) == tag) {
        rescue->reads_proven = record_verify_head(record) == ERR_OK;
        rescue->reads.size = record->key_size;
        memcpy(rescue->reads.data, record->payload, record->key_size);
    }
}

static struct bytes key_after(struct bytes key, uint8_t into[RECORD_KEY_MAX_BYTES + 1])
{
    memcpy(into, key.data, key.size);
    into[key.size] = 0;
    return bytes_of(into, key.size + 1);
}

/* From behind the last record up to the one that was found ahead, or to the end. */
static enum err bound_damage(struct table_rescue *rescue)
{
    struct rescue_item *damage = &rescue->damage;
    const struct table_info *info = &rescue->info;

    damage->first_key = bytes_of(NULL, 0);
    damage->end_key = bytes_of(NULL, 0);
    if (rescue->last.size > 0) {
        damage->first_key = key_after(table_key_bytes(&rescue->last), rescue->first_key);
    } else if (rescue->has_info) {
        damage->first_key = table_key_bytes(&info->smallest);
    }
    if (rescue->ahead) {
        struct bytes key = record_key(rescue->ahead);
        memcpy(rescue->end_key, key.data, key.size);
        damage->end_key = bytes_of(rescue->end_key, key.size);
    } else if (rescue->has_info) {
        damage->end_key = key_after(table_key_bytes(&info->largest), rescue->end_key);
    }
    if (damage->records == 1 && rescue->reads.size > 0) {
        damage->reads = table_key_bytes(&rescue->reads);
    }
    if (damage->reads.size > 0 && rescue->reads_proven) {
        damage->first_key = damage->reads;
        damage->end_key = key_after(damage->reads, rescue->end_key);
        damage->reads.size = 0;
    }
    rescue->reads.size = 0;
    return rescue->filter ? ERR_OK : read_region(rescue, REGION_FILTER, &rescue->filter);
}

/* --- With the index --------------------------------------------------------------------------- */

/* A long value's list of checksums may be what is damaged: it is made anew, and then all of it
 * must agree with the record's checksum. */
static bool is_intact(struct record *record, uint64_t size)
{
    uint64_t needed;
    if (record_check_shape(record, size, &needed) != ERR_OK || needed != size) {
        return false;
    }
    if (record_verify(record) == ERR_OK) {
        return true;
    }
    if (record->value_size <= RECORD_CHUNK_BYTES || record_verify_head(record) == ERR_OK) {
        return false;
    }
    (void)record_payload_checksum(record);
    return record_verify(record) == ERR_OK;
}

/* The tail tells where records begin, and the block's checksum agrees with their checksums: each of
 * them can be judged alone. False if it doesn't. */
static bool judge_records(struct table_rescue *rescue, struct block block, uint8_t *data)
{
    uint32_t checksums[TABLE_BLOCK_RECORDS_MAX] = {0};
    const uint8_t *tail = data + block.records_bytes;
    uint64_t offsets[TABLE_BLOCK_RECORDS_MAX + 1];

    for (uint32_t i = 0; i < block.records; i++) {
        offsets[i] = UINT64_C(8) * load_u16(tail + UINT64_C(2) * i);
        if (offsets[i] + sizeof(struct record) > block.records_bytes ||
            (i == 0 ? offsets[i] != 0 : offsets[i] <= offsets[i - 1])) {
            return false;
        }
        checksums[i] = load_u32(data + offsets[i]);
    }
    offsets[block.records] = block.records_bytes;
    if (block_checksum(rescue->file_id, rescue->entry.offset, checksums, block.records, tail) !=
        rescue->entry.checksum) {
        return false;
    }
    for (uint32_t i = 0; i < block.records; i++) {
        struct record *record = (struct record *)(data + offsets[i]);
        rescue->record_offsets[i] = rescue->entry.offset + offsets[i];
        rescue->record_tags[i] = tail[UINT64_C(2) * block.records + i];
        rescue->records[i] = is_intact(record, offsets[i + 1] - offsets[i]) ? record : NULL;
    }
    return true;
}

/* Perhaps only checksums or the tail are damaged: they are made anew from the records, and if they
 * agree with the index then every byte of the records is as it was. */
static bool repair_block(struct table_rescue *rescue, struct block block, uint8_t *data)
{
    uint32_t checksums[TABLE_BLOCK_RECORDS_MAX] = {0};
    uint16_t offsets[TABLE_BLOCK_RECORDS_MAX] = {0};
    uint8_t tags[TABLE_BLOCK_RECORDS_MAX] = {0};
    uint8_t tail[(2 + 1) * TABLE_BLOCK_RECORDS_MAX + 8];
    uint64_t offset = 0;

    for (uint32_t i = 0; i < block.records; i++) {
        struct record *record = (struct record *)(data + offset);
        uint64_t size;
        if (record_check_shape(record, block.records_bytes - offset, &size) != ERR_OK) {
            return false;
        }
        record_seal(record, record_payload_checksum(record), record->seq, record->flags);
        rescue->records[i] = record;
        checksums[i] = record->checksum;
        offsets[i] = (uint16_t)(offset / 8);
        tags[i] = (uint8_t)table_hash(record_key(record));
        offset += size;
    }
    (void)block_make_tail(tail, offsets, tags, block.records);
    return offset == block.records_bytes &&
           block_checksum(rescue->file_id, rescue->entry.offset, checksums, block.records, tail) ==
               rescue->entry.checksum;
}

/* Reads the next block; of a lost one no record is left. */
static enum err next_block(struct table_rescue *rescue)
{
    struct index_entry *entry = &rescue->entry;
    uint8_t *data = NULL;

    rescue->entry = rescue->entries[rescue->block++];
    rescue->n_records = 0;
    rescue->slot = 0;
    uint64_t size = UINT64_C(8) * entry->size_units;
    bool sane = entry->offset % 8 == 0 && entry->offset < rescue->limit &&
                size <= rescue->limit - entry->offset && entry->records >= 1 &&
                entry->records <= TABLE_BLOCK_RECORDS_MAX &&
                size >= block_tail_bytes(entry->records) + entry->records * sizeof(struct record);
    enum err err = sane ? load(rescue, entry->offset, size, &data) : ERR_CORRUPT;
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    if (err != ERR_OK) {
        add_damage(rescue, entry->offset, entry->records, &all_tags,
                   sane ? BLOCK_UNREADABLE : BLOCK_BAD_SHAPE);
        return ERR_OK;
    }
    struct block block = block_of(data, entry);
    if (judge_records(rescue, block, data) || repair_block(rescue, block, data)) {
        rescue->n_records = entry->records;
    } else {
        add_damage(rescue, entry->offset, entry->records, &all_tags, BLOCK_BAD_CHECKSUM);
    }
    return ERR_OK;
}

static enum err find_indexed(struct table_rescue *rescue)
{
    while (!rescue->ahead) {
        if (rescue->slot < rescue->n_records) {
            uint32_t slot = rescue->slot++;
            rescue->ahead = rescue->records[slot];
            if (!rescue->ahead) {
                add_damaged_record(rescue, slot);
            } else if (bytes_compare(table_key_bytes(&rescue->last), record_key(rescue->ahead)) >=
                       0) {
                add_damage(rescue, rescue->entry.offset, 1, &all_tags, BLOCK_BAD_ORDER);
                rescue->ahead = NULL;
            }
        } else if (rescue->block < rescue->blocks) {
            enum err err = next_block(rescue);
            if (err != ERR_OK) {
                return err;
            }
        } else {
            rescue->at_end = true;
            return ERR_OK;
        }
    }
    return ERR_OK;
}

/* --- Without ---------------------------------------------------------------------------------- */

/* A record at rescue->at: *ret_size 0 if there is none, *ret_record NULL if it is damaged. */
static enum err record_here(struct table_rescue *rescue, struct record **ret_record,
                            uint64_t *ret_size)
{
    uint64_t size;
    uint8_t *data;
    uint64_t left = rescue->limit - rescue->at;

    *ret_size = 0;
    *ret_record = NULL;
    if (left < sizeof(struct record)) {
        return ERR_OK;
    }
    enum err err = load(rescue, rescue->at, sizeof(struct record), &data);
    if (err != ERR_OK || record_check_shape(data, left, &size) != ERR_OK) {
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    err = load(rescue, rescue->at, size, &data);
    if (err == ERR_NO_MEMORY) {
        return err;
    }
    *ret_size = size;
    struct record *record = (struct record *)data;
    const struct table_info *info = &rescue->info;
    if (err == ERR_OK && is_intact(record, size) &&
        bytes_compare(table_key_bytes(&rescue->last), record_key(record)) < 0 &&
        (!rescue->has_info || (record->seq >= info->min_seq && record->seq <= info->max_seq))) {
        *ret_record = record;
    }
    return ERR_OK;
}

/* Goes behind the zeros before a block. */
static enum err pass_gap(struct table_rescue *rescue)
{
    enum err err = ERR_OK;
    uint64_t begin = rescue->at;
    uint8_t *data;

    for (uint64_t gap = 0; gap < TABLE_PAGE_BYTES && rescue->limit - rescue->at >= 8; gap += 8) {
        err = load(rescue, rescue->at, 8, &data);
        if (err != ERR_OK || load_u64(data) != 0) {
            break;
        }
        rescue->at += 8;
    }
    if (rescue->incomplete && rescue->at > begin) {
        add_damage(rescue, begin, 0, &all_tags, BLOCK_BAD_GAP);
    }
    return err == ERR_NO_MEMORY ? err : ERR_OK;
}

/* Whether the records since block_begin are all of a block, whose tail stands at rescue->at: then
 * goes behind it and the zeros that follow. */
static enum err pass_tail(struct table_rescue *rescue, bool *ret_passed)
{
    uint32_t n = rescue->n_in_block;
    uint64_t size = block_tail_bytes(n);
    uint8_t *data;

    *ret_passed = false;
    if (n == 0 || rescue->limit - rescue->at < size) {
        return ERR_OK;
    }
    enum err err = load(rescue, rescue->at, size, &data);
    if (err != ERR_OK) {
        return err == ERR_NO_MEMORY ? err : ERR_OK;
    }
    if (memcmp(data, rescue->offsets, n * sizeof rescue->offsets[0]) != 0) {
        return ERR_OK;
    }
    const uint8_t *tags = data + n * sizeof rescue->offsets[0];
    for (uint32_t i = 0; i < n; i++) {
        if (tags[i] != rescue->tags[i] && !rescue->bad[i]) {
            return ERR_OK;
        }
    }
    *ret_passed = true;
    rescue->n_in_block = 0;
    rescue->at += size;
    return pass_gap(rescue);
}

static void note_in_block(struct table_rescue *rescue, const struct record *record)
{
    if (rescue->n_in_block == 0) {
        rescue->block_begin = rescue->at;
    }
    uint32_t n = rescue->n_in_block++;
    rescue->offsets[n] = (uint16_t)((rescue->at - rescue->block_begin) / 8);
    rescue->bad[n] = !record;
    rescue->tags[n] = record ? (uint8_t)table_hash(record_key(record)) : 0;
}

/* Steps over what is a record or a tail. What is neither ends it: the records' end, or a place that
 * can't be stepped over. */
static enum err find_unindexed(struct table_rescue *rescue)
{
    if (rescue->at == TABLE_DATA_OFFSET) {
        enum err err = pass_gap(rescue);
        if (err != ERR_OK) {
            return err;
        }
    }
    while (!rescue->ahead && !rescue->at_end) {
        struct record *record = NULL;
        uint64_t size = 0;
        bool passed = false;
        enum err err = rescue->n_in_block < TABLE_BLOCK_RECORDS_MAX
                           ? record_here(rescue, &record, &size)
                           : ERR_OK;
        if (err == ERR_OK && !record) {
            err = pass_tail(rescue, &passed);
        }
        if (err != ERR_OK) {
            return err;
        }
        if (passed) {
            continue;
        }
        if (size == 0) {
            rescue->at_end = true;
            continue;
        }
        note_in_block(rescue, record);
        if (!record) {
            add_damage(rescue, rescue->at, 1, &all_tags, BLOCK_BAD_RECORD);
        }
        rescue->seen++;
        rescue->at += size;
        rescue->ahead = record;
    }
    /* Records behind that place: as many as are said to be there. */
    if (rescue->at_end && (!rescue->has_info || rescue->seen < rescue->info.records)) {
        add_damage(rescue, rescue->at, rescue->has_info ? rescue->info.records - rescue->seen : 0,
                   &all_tags, BLOCK_BAD_SHAPE);
    }
    return ERR_OK;
}

/* --- The rescue ------------------------------------------------------------------------------- */

/* Without an index, a page of zeros looks like a gap. So all is read once before: whether as many
 * records are there as should be. */
static enum err find_whether_complete(struct table_rescue *rescue)
{
    struct rescue_item item = {.text = NULL};
    enum err err;

    do {
        err = table_rescue_next(rescue, &item);
    } while (err == ERR_OK && (item.record || item.text));
    rescue->incomplete = rescue->seen < rescue->info.records;
    rescue->at = TABLE_DATA_OFFSET;
    rescue->n_in_block = 0;
    rescue->seen = 0;
    rescue->last.size = 0;
    rescue->at_end = false;
    return err;
}

enum err table_rescue_open(struct vfs_dir *dir, const char *name, const struct table_info *info,
                           struct table_rescue **ret_rescue, struct err_detail *detail)
{
    struct table_rescue *rescue = calloc(1, sizeof *rescue);

    if (!rescue) {
        return ERR_NO_MEMORY;
    }
    rescue->at = TABLE_DATA_OFFSET;
    if (info) {
        rescue->has_info = true;
        rescue->info = *info;
    }
    enum err err = vfs_open(dir, name, VFS_READ, &rescue->file);
    if (err == ERR_OK) {
        vfs_advise(rescue->file, 0, 0, VFS_ADVICE_SEQUENTIAL);
        err = vfs_size(rescue->file, &rescue->size_bytes);
    }
    if (err == ERR_OK) {
        rescue->limit =
            rescue->size_bytes > TABLE_DATA_OFFSET ? rescue->size_bytes : TABLE_DATA_OFFSET;
        err = find_index(rescue);
    }
    if (err == ERR_OK && !rescue->index && info) {
        err = find_whether_complete(rescue);
    }
    if (err != ERR_OK) {
        err_detail_set(detail, "%s: %s", name, err_text(err));
        table_rescue_free(rescue);
        return err;
    }
    *ret_rescue = rescue;
    return ERR_OK;
}

enum err table_rescue_next(struct table_rescue *rescue, struct rescue_item *ret_item)
{
    if (!rescue->ahead && !rescue->at_end) {
        enum err err = rescue->index ? find_indexed(rescue) : find_unindexed(rescue);
        if (err != ERR_OK) {
            return err;
        }
    }
    *ret_item = (struct rescue_item){.record = NULL};
    if (rescue->damage.text) {
        enum err err = bound_damage(rescue);
        if (err != ERR_OK) {
            return err;
        }
        *ret_item = rescue->damage;
        rescue->damage = (struct rescue_item){.text = NULL};
    } else if (rescue->ahead) {
        struct bytes key = record_key(rescue->ahead);
        rescue->last.size = (uint16_t)key.size;
        memcpy(rescue->last.data, key.data, key.size);
        ret_item->record = rescue->ahead;
        rescue->ahead = NULL;
    }
    return ERR_OK;
}

bool table_rescue_may_hold(const struct table_rescue *rescue, const struct rescue_tags *tags,
                           struct bytes key)
{
    uint64_t hash = table_hash(key);
    uint64_t filter_bytes = rescue->footer.regions[REGION_FILTER].size_bytes;

    return (tags->words[(uint8_t)hash / 64] >> hash % 64 & 1) != 0 &&
           (!rescue->filter || filter_bytes % FILTER_LINE_BYTES != 0 ||
            filter_may_contain(rescue->filter, filter_bytes, hash));
}

bool table_rescue_is_proven(const struct table_rescue *rescue)
{
    return rescue->index != NULL;
}

void table_rescue_free(struct table_rescue *rescue)
{
    if (rescue) {
        vfs_close(rescue->file);
        free(rescue->window);
        free(rescue->index);
        free(rescue->filter);
        free(rescue);
    }
}
