/*
 * table_writer.c - writing a table from front to back. See FORMAT.md for the bytes.
 *
 * Records go through one buffer and are cut into blocks on the way; long ones are written from
 * where they lie. What the regions behind the records need is collected in memory: an index entry
 * and a separator a block, a hash a key.
 *
 * Where blocks are cut: a block of small records ends where its page ends, so that a cold lookup
 * reads one page. If more than TABLE_PAGE_BYTES / 8 of the page would stay empty, the next record
 * begins a block there that reaches over into the next page.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "store/lsm/filter.h"
#include "store/lsm/sections.h"
#include "store/lsm/table_block.h"
#include "store/lsm/table_format.h"

#define BUFFER_BYTES    ((size_t)512 << 10)
#define LONG_BYTES      (BUFFER_BYTES / 2) /* written from where it lies */
#define EMPTY_MAX_BYTES (TABLE_PAGE_BYTES / 8)

/* An array that grows. */
struct array {
    void *items;
    size_t n, capacity;
};

struct table_writer {
    struct vfs_dir *dir;
    struct vfs_file *file;
    char name[FILES_NAME_BYTES];
    uint64_t store_id;
    enum err failed; /* sticky: what is in the file is not known any more */
    bool finished;

    uint8_t *buffer; /* bytes of the file that aren't written yet… */
    size_t buffered;
    uint64_t written; /* …and begin here */

    /* The open block. */
    uint64_t block_offset;
    uint64_t block_limit; /* where it should end at the latest, tail included */
    uint32_t block_records;
    uint16_t offsets[TABLE_BLOCK_RECORDS_MAX];
    uint8_t tags[TABLE_BLOCK_RECORDS_MAX];
    uint32_t checksums[TABLE_BLOCK_RECORDS_MAX];

    struct array hashes;     /* uint64_t a key */
    struct array entries;    /* struct index_entry a block */
    struct array separators; /* bytes */
    struct table_info info;  /* of what was added; largest is the last key */
};

/* --- Growing arrays --------------------------------------------------------------------------- */

/* Room for `n` more items, or NULL. */
static void *array_add(struct array *array, size_t n, size_t item_bytes)
{
    if (n > array->capacity - array->n) {
        size_t capacity = (array->n + n) * 2;
        void *items = realloc(array->items, capacity * item_bytes);
        if (!items) {
            return NULL;
        }
        array->items = items;
        array->capacity = capacity;
    }
    void *at = (uint8_t *)array->items + array->n * item_bytes;
    array->n += n;
    return at;
}

/* --- Bytes to the file ------------------------------------------------------------------------ */

static uint64_t position(const struct table_writer *writer)
{
    return writer->written + writer->buffered;
}

static enum err write_through(struct table_writer *writer, const void *data, size_t size)
{
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    enum err err = size == 0 ? ERR_OK : vfs_write(writer->file, writer->written, &part, 1);
    if (!err) {
        writer->written += size;
    }
    return err;
}

static enum err flush_buffer(struct table_writer *writer)
{
    size_t size = writer->buffered;
    writer->buffered = 0;
    return write_through(writer, writer->buffer, size);
}

static enum err put(struct table_writer *writer, const void *data, size_t size)
{
    if (size >= LONG_BYTES || size > BUFFER_BYTES - writer->buffered) {
        enum err err = flush_buffer(writer);
        if (err || size >= LONG_BYTES) {
            return err ? err : write_through(writer, data, size);
        }
    }
    memcpy(writer->buffer + writer->buffered, data, size);
    writer->buffered += size;
    return ERR_OK;
}

static enum err put_zeros_to(struct table_writer *writer, uint64_t offset)
{
    static const uint8_t zeros[TABLE_PAGE_BYTES];
    assert(offset - position(writer) <= sizeof zeros);
    return put(writer, zeros, offset - position(writer));
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static uint64_t page_after(uint64_t offset)
{
    return (offset / TABLE_PAGE_BYTES + 1) * TABLE_PAGE_BYTES;
}

/* Bytes of the file up to the end of the open block if it ended now. */
static uint64_t block_end(const struct table_writer *writer)
{
    return position(writer) + block_tail_bytes(writer->block_records);
}

static enum err end_block(struct table_writer *writer)
{
    uint8_t tail[TABLE_BLOCK_RECORDS_MAX * 3];
    uint32_t n = writer->block_records;

    _Static_assert(TABLE_BLOCK_RECORDS_MAX * 3 % 8 == 0, "the longest tail needs no zeros");
    if (n == 0) {
        return ERR_OK;
    }
    struct index_entry *entries = writer->entries.items;
    struct index_entry *entry = &entries[writer->entries.n - 1];
    uint64_t tail_bytes = block_make_tail(tail, writer->offsets, writer->tags, n);
    entry->size_units = (uint32_t)((block_end(writer) - writer->block_offset) / 8);
    entry->records = (uint16_t)n;
    entry->checksum =
        block_checksum(writer->info.file_id, writer->block_offset, writer->checksums, n, tail);
    writer->block_records = 0;
    return put(writer, tail, tail_bytes);
}

/* Where a block with this record can begin; *ret_limit is where the block should end. */
static uint64_t place_block(const struct table_writer *writer, const struct record *record,
                            uint64_t *ret_limit)
{
    uint64_t at = position(writer);
    uint64_t needed = record_size(record) + block_tail_bytes(1);

    if (record->value_size >= TABLE_ALIGNED_BYTES) {
        uint64_t value_at = at + record_value_offset(record);
        *ret_limit = 0; /* nothing joins it */
        return at + (page_after(value_at - 1) - value_at);
    }
    if (at + needed > page_after(at) && page_after(at) - at <= EMPTY_MAX_BYTES) {
        at = page_after(at);
    }
    *ret_limit = page_after(at + needed - 1);
    return at;
}

/* The shortest beginning of `key` that is above the key before; the first key whole. */
static struct bytes separator_of(const struct table_writer *writer, struct bytes key)
{
    if (writer->info.records == 0) {
        return key;
    }
    return bytes_of(key.data, table_common_bytes(table_key_bytes(&writer->info.largest), key) + 1);
}

static enum err begin_block(struct table_writer *writer, const struct record *record)
{
    struct bytes separator = separator_of(writer, record_key(record));
    struct index_entry *entry = array_add(&writer->entries, 1, sizeof *entry);
    uint8_t *bytes = array_add(&writer->separators, separator.size, 1);

    if (!entry || !bytes) {
        return ERR_NO_MEMORY;
    }
    if (writer->separators.n > UINT32_MAX) {
        return ERR_TOO_LARGE;
    }
    memcpy(bytes, separator.data, separator.size);
    writer->block_offset = place_block(writer, record, &writer->block_limit);
    *entry = (struct index_entry){
        .offset = writer->block_offset,
        .separator_offset = (uint32_t)(writer->separators.n - separator.size),
        .separator_size = (uint16_t)separator.size,
    };
    return put_zeros_to(writer, writer->block_offset);
}

static bool joins_block(const struct table_writer *writer, const struct record *record)
{
    uint32_t n = writer->block_records;

    return n > 0 && n < TABLE_BLOCK_RECORDS_MAX && record->value_size < TABLE_ALIGNED_BYTES &&
           position(writer) + record_size(record) + block_tail_bytes(n + 1) <= writer->block_limit;
}

/* --- Adding ----------------------------------------------------------------------------------- */

static void count(struct table_info *info, const struct record *record, uint64_t size)
{
    struct bytes key = record_key(record);

    if (info->records == 0 || record->seq < info->min_seq) {
        info->min_seq = record->seq;
    }
    if (record->seq > info->max_seq) {
        info->max_seq = record->seq;
    }
    info->records++;
    info->markers += record->kind == RECORD_DELETE;
    info->data_bytes += size;
    info->largest.size = (uint16_t)key.size;
    memcpy(info->largest.data, key.data, key.size);
    if (info->records == 1) {
        info->smallest = info->largest;
    }
}

static enum err add(struct table_writer *writer, const struct record *record)
{
    uint64_t size;
    struct bytes key = record_key(record);

    if (record_check_shape(record, UINT64_MAX, &size) || record_verify(record)) {
        return ERR_CORRUPT;
    }
    if (bytes_compare(key, table_key_bytes(&writer->info.largest)) <= 0) {
        return ERR_CORRUPT;
    }
    if (!joins_block(writer, record)) {
        enum err err = end_block(writer);
        if (!err) {
            err = begin_block(writer, record);
        }
        if (err) {
            return err;
        }
    }
    uint64_t hash = table_hash(key);
    uint64_t *hashes = array_add(&writer->hashes, 1, sizeof *hashes);
    if (!hashes) {
        return ERR_NO_MEMORY;
    }
    *hashes = hash;
    uint32_t slot = writer->block_records++;
    writer->offsets[slot] = (uint16_t)((position(writer) - writer->block_offset) / 8);
    writer->tags[slot] = (uint8_t)hash;
    writer->checksums[slot] = record->checksum;
    count(&writer->info, record, size);
    return put(writer, record, size);
}

enum err table_writer_add(struct table_writer *writer, const struct record *record)
{
    assert(!writer->finished);
    if (!writer->failed) {
        writer->failed = add(writer, record);
    }
    return writer->failed;
}

uint64_t table_writer_bytes(const struct table_writer *writer)
{
    return position(writer);
}

/* --- Finishing -------------------------------------------------------------------------------- */

static void begin_region(struct table_footer *footer, enum table_region_kind kind, uint64_t offset)
{
    footer->regions[kind].offset = offset;
    footer->checksums[kind] = crc32c(0, &footer->file_id, sizeof footer->file_id);
}

/* Adds to the region at the end of the file. */
static enum err put_region(struct table_writer *writer, struct table_footer *footer,
                           enum table_region_kind kind, const void *data, size_t size)
{
    footer->checksums[kind] = crc32c(footer->checksums[kind], data, size);
    footer->regions[kind].size_bytes += size;
    return size == 0 ? ERR_OK : put(writer, data, size);
}

static enum err put_prefixes(struct table_writer *writer, struct table_footer *footer,
                             uint32_t common)
{
    const struct index_entry *entries = writer->entries.items;
    const uint8_t *separators = writer->separators.items;
    enum err err = ERR_OK;

    for (size_t i = 0; i < writer->entries.n && !err; i++) {
        struct bytes separator =
            bytes_of(separators + entries[i].separator_offset, entries[i].separator_size);
        uint64_t prefix = table_prefix(separator, common);
        err = put_region(writer, footer, REGION_INDEX, &prefix, sizeof prefix);
    }
    return err;
}

static enum err put_index(struct table_writer *writer, struct table_footer *footer)
{
    static const uint8_t zeros[8];
    struct index_header header = {
        .blocks = writer->entries.n,
        .separator_bytes = writer->separators.n,
        .common_bytes = table_common_bytes(table_key_bytes(&writer->info.smallest),
                                           table_key_bytes(&writer->info.largest)),
    };
    begin_region(footer, REGION_INDEX, position(writer));
    enum err err = put_region(writer, footer, REGION_INDEX, &header, sizeof header);
    if (!err) {
        err = put_prefixes(writer, footer, header.common_bytes);
    }
    if (!err) {
        err = put_region(writer, footer, REGION_INDEX, writer->entries.items,
                         writer->entries.n * sizeof(struct index_entry));
    }
    if (!err) {
        err = put_region(writer, footer, REGION_INDEX, writer->separators.items,
                         writer->separators.n);
    }
    if (!err) {
        err = put_region(writer, footer, REGION_INDEX, zeros,
                         align8(writer->separators.n) - writer->separators.n);
    }
    return err;
}

static enum err put_filter(struct table_writer *writer, struct table_footer *footer)
{
    const uint64_t *hashes = writer->hashes.items;
    uint64_t size = filter_size_for(writer->hashes.n);
    uint8_t *filter = calloc(1, size);

    if (!filter) {
        return ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < writer->hashes.n; i++) {
        filter_add(filter, size, hashes[i]);
    }
    begin_region(footer, REGION_FILTER, position(writer));
    enum err err = put_region(writer, footer, REGION_FILTER, filter, size);
    free(filter);
    return err;
}

static void put_section(struct sections *sections, uint32_t tag, const void *data, size_t size)
{
    section_begin(sections, tag);
    section_put(sections, data, size);
    section_end(sections);
}

static enum err put_properties(struct table_writer *writer, struct table_footer *footer)
{
    const struct table_info *info = &writer->info;
    struct table_counts counts = {
        .records = info->records,
        .markers = info->markers,
        .min_seq = info->min_seq,
        .max_seq = info->max_seq,
        .data_bytes = info->data_bytes,
    };
    struct sections sections;

    sections_init(&sections, info->file_id);
    put_section(&sections, TABLE_TAG_COUNTS, &counts, sizeof counts);
    put_section(&sections, TABLE_TAG_SMALLEST, info->smallest.data, info->smallest.size);
    put_section(&sections, TABLE_TAG_LARGEST, info->largest.data, info->largest.size);
    enum err err = sections_finish(&sections);
    if (!err) {
        begin_region(footer, REGION_PROPERTIES, position(writer));
        err = put_region(writer, footer, REGION_PROPERTIES, sections.data, sections.size);
    }
    sections_free(&sections);
    return err;
}

static enum err put_footer(struct table_writer *writer, struct table_footer *footer)
{
    footer->size_bytes = position(writer) + sizeof *footer;
    footer->checksum = crc32c(0, footer, offsetof(struct table_footer, checksum));
    writer->info.size_bytes = footer->size_bytes;
    writer->info.footer_checksum = footer->checksum;
    return put(writer, footer, sizeof *footer);
}

static enum err finish(struct table_writer *writer)
{
    struct table_footer footer = {
        .magic = TABLE_FOOTER_MAGIC,
        .format_version = FILES_FORMAT_VERSION,
        .store_id = writer->store_id,
        .number = writer->info.number,
        .file_id = writer->info.file_id,
    };
    static enum err (*const parts[])(struct table_writer *, struct table_footer *) = {
        put_index, put_filter, put_properties, put_footer};

    enum err err = end_block(writer);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && !err; i++) {
        err = put_zeros_to(writer, table_region_begin(position(writer)));
        if (!err) {
            err = parts[i](writer, &footer);
        }
    }
    if (!err) {
        err = flush_buffer(writer);
    }
    return err ? err : vfs_sync(writer->file);
}

enum err table_writer_finish(struct table_writer *writer, struct table_info *ret_info)
{
    assert(!writer->finished && writer->info.records > 0);
    if (!writer->failed) {
        writer->failed = finish(writer);
    }
    if (writer->failed) {
        return writer->failed;
    }
    assert(table_info_is_plausible(&writer->info));
    writer->finished = true;
    *ret_info = writer->info;
    return ERR_OK;
}

/* --- Beginning and end ------------------------------------------------------------------------ */

enum err table_writer_new(struct vfs_dir *dir, uint64_t number, uint64_t store_id, uint64_t file_id,
                          struct table_writer **ret_writer)
{
    struct file_header header;
    struct table_writer *writer = calloc(1, sizeof *writer);

    if (!writer) {
        return ERR_NO_MEMORY;
    }
    writer->dir = dir;
    writer->store_id = store_id;
    writer->info.number = number;
    writer->info.file_id = file_id;
    files_name(FILE_TABLE, number, writer->name);
    writer->buffer = malloc(BUFFER_BYTES);
    enum err err = writer->buffer ? ERR_OK : ERR_NO_MEMORY;
    if (!err) {
        err = vfs_open(dir, writer->name, VFS_CREATE, &writer->file);
    }
    if (!err) {
        file_header_init(&header, FILE_TABLE, store_id, number, file_id);
        err = put(writer, &header, sizeof header);
    }
    if (!err) {
        err = put_zeros_to(writer, TABLE_DATA_OFFSET);
    }
    if (err) {
        table_writer_free(writer);
        return err;
    }
    *ret_writer = writer;
    return ERR_OK;
}

void table_writer_free(struct table_writer *writer)
{
    if (!writer) {
        return;
    }
    if (writer->file) {
        vfs_close(writer->file);
        if (!writer->finished) {
            /* One that stays is removed at the next open: no manifest names it. */
            (void)!vfs_unlink(writer->dir, writer->name);
        }
    }
    free(writer->hashes.items);
    free(writer->entries.items);
    free(writer->separators.items);
    free(writer->buffer);
    free(writer);
}
